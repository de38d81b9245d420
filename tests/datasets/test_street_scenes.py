"""The rendered scenes: maps that agree with each other, files in the official layout, the same for the same seed."""

import numpy as np
import pytest
from PIL import Image

from fastls.datasets import street_scenes
from fastls.datasets.street_scenes import (
    BASELINE,
    CAMERA,
    FAR,
    FOCAL,
    LABELS,
    Canvas,
    Street,
    render_scene,
    write_scenes,
)

SIZE = (48, 96)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(SIZE, np.random.RandomState([0, 0, i])) for i in range(24)]


def test_shapes_and_types(scenes):
    for scene in scenes:
        assert scene.image.shape == (*SIZE, 3) and scene.image.dtype == np.uint8
        for layer, kind in ((scene.labels, np.uint8), (scene.instances, np.uint16), (scene.disparity, np.uint16)):
            assert layer.shape == SIZE and layer.dtype == kind


def test_every_class_occurs_and_no_other(scenes):
    found = set(np.unique([scene.labels for scene in scenes]))
    assert found == set(LABELS.values())


def test_instances_agree_with_labels(scenes):
    for scene in scenes:
        things = np.isin(scene.labels, (LABELS["car"], LABELS["person"]))
        assert np.array_equal(scene.instances[things] // 1000, scene.labels[things])
        assert np.array_equal(scene.instances[~things], scene.labels[~things])
    assert any(len(np.unique(scene.instances[scene.instances >= 1000])) > 3 for scene in scenes)


def test_disparity_agrees_with_labels(scenes):
    """None in the sky and some elsewhere; one value a car or person, larger for the one in front."""
    for scene in scenes:
        assert np.array_equal(scene.disparity == 0, scene.labels == LABELS["sky"])
        for instance in np.unique(scene.instances[scene.instances >= 1000]):
            assert len(np.unique(scene.disparity[scene.instances == instance])) == 1


def test_the_road_lies_on_the_ground():
    """On the plane y = 0 depth is f · camera / (row − horizon) up to the far end, disparity f · baseline / depth."""
    street = Street(SIZE, np.random.RandomState(0))
    _, labels, inverse = street.draw_planes()
    rows, _ = np.nonzero(labels == LABELS["road"])
    depth = np.minimum(street.focal * CAMERA / (rows + 0.5 - street.horizon), FAR)
    np.testing.assert_allclose(inverse[labels == LABELS["road"]], 1 / depth)
    canvas = Canvas(street, *street.draw_planes())
    coded = canvas.finish().disparity[labels == LABELS["road"]].astype(float)
    np.testing.assert_allclose((coded - 1) / 256, FOCAL * SIZE[1] * BASELINE / depth, atol=0.51 / 256)


def test_what_is_near_hides_what_is_far():
    street = Street(SIZE, np.random.RandomState(0))
    canvas = Canvas(street, *street.draw_planes())
    before = np.asarray(canvas.layers[3]).copy()
    canvas.draw("rectangle", 0.0, 0.0, 1.0, 1.0, 4.0, (200, 0, 0), "car", 26000)
    covered = np.asarray(canvas.layers[2]) == 26000
    assert covered.any() and np.array_equal(covered, np.asarray(canvas.layers[1]) == LABELS["car"])
    np.testing.assert_allclose(np.asarray(canvas.layers[3])[covered], 0.25)
    np.testing.assert_array_equal(np.asarray(canvas.layers[3])[~covered], before[~covered])


def test_the_seed_decides_and_the_number_does_not(tmp_path):
    def content(name, *sizes, seed=0):
        root = write_scenes(tmp_path / name, *sizes, SIZE, seed)
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.png")}

    many, few, other = content("many", 3, 2), content("few", 2, 1), content("other", 2, 1, seed=1)
    assert len(many) == 4 * 5 and len(few) == 4 * 3
    assert all(many[path] == pixels for path, pixels in few.items())
    assert all(other[path] != pixels for path, pixels in few.items())
    assert len(set(many.values())) == len(many)  # no two scenes alike, train and val neither


def test_the_files_hold_the_maps(tmp_path):
    root = write_scenes(tmp_path / "scenes", 1, 1, SIZE)
    expected = render_scene(SIZE, np.random.RandomState([0, 1, 0]))
    name = "val/synthetic/synthetic_000000_000019"
    for path, pixels in (
        (f"leftImg8bit/{name}_leftImg8bit.png", expected.image),
        (f"gtFine/{name}_gtFine_labelIds.png", expected.labels),
        (f"gtFine/{name}_gtFine_instanceIds.png", expected.instances),
        (f"disparity/{name}_disparity.png", expected.disparity),
    ):
        assert np.array_equal(np.asarray(Image.open(root / path)), pixels)


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    real, calls = street_scenes._write_scene, []

    def fail_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("disk full")
        real(*arguments)

    monkeypatch.setattr(street_scenes, "_write_scene", fail_at_the_third)
    with pytest.raises(OSError, match="disk full"):
        write_scenes(tmp_path / "scenes", 4, 1, SIZE)
    assert not list(tmp_path.iterdir())


def test_two_writers_at_once(tmp_path):
    """The second finds the folder of the first in its place, and lets it be."""
    first = write_scenes(tmp_path / "scenes", 1, 1, SIZE)
    files = {path: path.stat().st_ino for path in first.rglob("*.png")}
    assert write_scenes(tmp_path / "scenes", 1, 1, SIZE) == first
    assert {path: path.stat().st_ino for path in first.rglob("*.png")} == files
