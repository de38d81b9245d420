"""One image and its targets: the official table of classes, offsets to centres, disparities, resizing, bad files."""

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels as official_labels
from PIL import Image
from torchvision.datasets import Cityscapes

from fastls.datasets.common import DataError
from fastls.datasets.scene_files import CLASSES, IGNORE, LABEL_IDS, THINGS, SceneFiles, read_scene

HEIGHT, WIDTH = 6, 8
CAR = 26


def write_files(folder, labels=None, instances=None, disparity=None, image=None) -> SceneFiles:
    """One image of 6 × 8 pixels: road, with a car of 2 × 4 pixels in its middle at a disparity of 3."""
    road = np.full((HEIGHT, WIDTH), 7, np.uint8)
    car = (slice(2, 4), slice(2, 6))
    with_car = road.copy()
    with_car[car] = CAR
    numbered = with_car.astype(np.uint16)
    numbered[car] = 1000 * CAR
    depth = np.full((HEIGHT, WIDTH), 1 + 256, np.uint16)
    depth[car] = 1 + 3 * 256
    depth[0] = 0
    arrays = {
        "image": np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3) if image is None else image,
        "labels": with_car if labels is None else labels,
        "instances": numbered if instances is None else instances,
        "disparity": depth if disparity is None else disparity,
    }
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        Image.fromarray(array).save(folder / f"{name}.png")
    return SceneFiles(*(folder / f"{name}.png" for name in ("image", "labels", "instances", "disparity")))


@pytest.mark.parametrize("table", [official_labels, Cityscapes.classes], ids=["cityscapesscripts", "torchvision"])
def test_classes_are_the_official_ones(table):
    def get(entry, *names):
        return next(getattr(entry, name) for name in names if hasattr(entry, name))

    evaluated = [entry for entry in table if not get(entry, "ignoreInEval", "ignore_in_eval")]
    by_training_label = sorted(evaluated, key=lambda entry: get(entry, "trainId", "train_id"))
    assert [(entry.id, entry.name) for entry in by_training_label] == list(CLASSES.items())
    assert [get(entry, "trainId", "train_id") for entry in by_training_label] == list(range(19))
    assert {entry.id for entry in evaluated if get(entry, "hasInstances", "has_instances")} == set(THINGS)
    assert {entry.id for entry in table} == {-1, *range(LABEL_IDS)}


def test_every_label_id_becomes_its_training_label(tmp_path):
    ids = np.resize(np.arange(LABEL_IDS, dtype=np.uint8), (HEIGHT, WIDTH))
    _, targets = read_scene(write_files(tmp_path, labels=ids, instances=ids.astype(np.uint16)), (HEIGHT, WIDTH))
    expected = {entry.id: entry.trainId for entry in official_labels}
    assert targets["semantic"].tolist() == [[expected[label] for label in row] for row in ids.tolist()]


def test_targets_at_full_size(tmp_path):
    image, targets = read_scene(write_files(tmp_path), (HEIGHT, WIDTH))
    assert image.shape == (3, HEIGHT, WIDTH) and image[:, 0, 1].tolist() == [3, 4, 5]
    assert targets["semantic"][3, 3] == list(CLASSES).index(CAR) and targets["semantic"][0, 0] == 0
    offsets, things = targets["instance"], targets["semantic"] == list(CLASSES).index(CAR)
    assert torch.equal(~offsets.isnan(), things.expand(2, -1, -1))
    assert offsets[0, 2].tolist()[2:6] == [1.5, 0.5, -0.5, -1.5]  # right
    assert offsets[1, 2:4, 2].tolist() == [0.5, -0.5]  # down
    assert targets["disparity"].shape == (1, HEIGHT, WIDTH)
    assert targets["disparity"][0, 0].isnan().all() and targets["disparity"][0, 3].tolist()[1:3] == [1.0, 3.0]


def test_a_smaller_size_scales_offsets_and_disparity(tmp_path):
    """Half as high and half as wide: the same way in half the pixels, labels that were there before."""
    files = write_files(tmp_path)
    image, targets = read_scene(files, (HEIGHT // 2, WIDTH // 2))
    assert image.shape == (3, HEIGHT // 2, WIDTH // 2)
    pixels = np.asarray(Image.open(files.image)).astype(float)
    averages = pixels.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(image, averages, atol=0.51)
    assert set(targets["semantic"].unique().tolist()) == {0, list(CLASSES).index(CAR)}
    assert targets["instance"][0, 1, 1:3].tolist() == [0.5, -0.5] and targets["instance"][1, 1, 1] == 0
    assert targets["disparity"][0, 1].tolist() == [0.5, 1.5, 1.5, 0.5]


def test_width_and_height_have_scales_of_their_own(tmp_path):
    _, targets = read_scene(write_files(tmp_path), (HEIGHT, 2 * WIDTH))
    assert targets["instance"][0, 2, 4:12].tolist() == [3.5, 2.5, 1.5, 0.5, -0.5, -1.5, -2.5, -3.5]
    assert targets["instance"][1, 2:4, 4].tolist() == [0.5, -0.5]
    assert targets["disparity"][0, 3, 4] == 6.0


def test_offsets_lead_to_the_centre_of_each_instance(tmp_path):
    """Two cars that touch, one of them in two parts; a group of cars (an id below 1000) has no centre."""
    labels = np.full((HEIGHT, WIDTH), CAR, np.uint8)
    instances = np.full((HEIGHT, WIDTH), CAR, np.uint16)
    instances[:2, :4] = 1000 * CAR
    instances[:2, 4:] = 1000 * CAR + 1
    instances[4, [0, 7]] = 1000 * CAR + 2
    _, targets = read_scene(write_files(tmp_path, labels=labels, instances=instances), (HEIGHT, WIDTH))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ends = targets["instance"].numpy() + np.stack([columns, rows])
    for instance, centre in ((26000, (2, 1)), (26001, (6, 1)), (26002, (4, 4.5))):
        assert (ends[:, instances == instance].T == centre).all()
    assert np.isnan(ends[:, instances == CAR]).all()


def test_things_without_a_class_have_no_centre(tmp_path):
    """Caravans and trailers come in instances, but no class is asked of them."""
    caravans = np.full((HEIGHT, WIDTH), 29, np.uint8)
    files = write_files(tmp_path, labels=caravans, instances=caravans.astype(np.uint16) * 1000)
    _, targets = read_scene(files, (HEIGHT, WIDTH))
    assert targets["instance"].isnan().all() and (targets["semantic"] == IGNORE).all()


def test_a_disparity_that_is_nowhere_known(tmp_path):
    files = write_files(tmp_path, disparity=np.zeros((HEIGHT, WIDTH), np.uint16))
    assert read_scene(files, (HEIGHT, WIDTH))[1]["disparity"].isnan().all()


def test_training_ids_are_not_taken_for_label_ids(tmp_path):
    """The official labelTrainIds of the scene under the name of its labelIds: each is some class's label id, too."""
    to_training = {entry.id: entry.trainId for entry in official_labels}
    labels = np.asarray(Image.open(write_files(tmp_path).labels))
    training_ids = np.vectorize(to_training.get)(labels).astype(np.uint8)
    with pytest.raises(DataError, match=r"labels.png must hold the label ids that instances.png is made of.*100%"):
        read_scene(write_files(tmp_path, labels=training_ids), (HEIGHT, WIDTH))


SMALLER = np.zeros((HEIGHT, WIDTH - 1))


@pytest.mark.parametrize(
    "damaged, name, message",
    [
        ({"labels": np.full((HEIGHT, WIDTH), 34, np.uint8)}, "labels", "label ids from 0 to 33, found 34"),
        ({"labels": np.full((HEIGHT, WIDTH), 255, np.uint8)}, "labels", "label ids from 0 to 33, found 255"),
        ({"disparity": np.ones((HEIGHT, WIDTH), np.uint8)}, "disparity", "grey PNG of 16 bits, found one of mode 'L'"),
        ({"instances": np.ones((HEIGHT, WIDTH), np.uint8)}, "instances", "grey PNG of 16 bits, found one of mode 'L'"),
        ({"labels": np.ones((HEIGHT, WIDTH, 3), np.uint8)}, "labels", "grey PNG of 8 bits, found one of mode 'RGB'"),
        ({"labels": SMALLER.astype(np.uint8)}, "labels", r"\(8, 6\) pixels, as its image has, found \(7, 6\)"),
        ({"instances": SMALLER.astype(np.uint16)}, "instances", r"\(8, 6\) pixels.*found \(7, 6\)"),
        ({"disparity": SMALLER.astype(np.uint16)}, "disparity", r"\(8, 6\) pixels.*found \(7, 6\)"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path, damaged, name, message):
    files = write_files(tmp_path, **damaged)
    with pytest.raises(DataError, match=message) as caught:
        read_scene(files, (HEIGHT, WIDTH))
    assert str(tmp_path / f"{name}.png") in str(caught.value)


@pytest.mark.parametrize("name", ["image", "labels", "instances", "disparity"])
@pytest.mark.parametrize("content", [b"", b"no picture", "half"])
def test_a_broken_file_is_named(tmp_path, name, content):
    files = write_files(tmp_path)
    path = tmp_path / f"{name}.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        read_scene(files, (HEIGHT, WIDTH))
    assert str(path) in str(caught.value)
