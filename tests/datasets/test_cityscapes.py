"""Cityscapes from disk: the official layout, batches by a loader, crops, the stand-in, the official evaluation."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from fastls.datasets.cityscapes import MEAN, STD, find_source, load_cityscapes
from fastls.datasets.common import DataError
from fastls.datasets.scene_files import CLASSES, THINGS
from fastls.datasets.street_scenes import write_scenes

SIZE = (16, 32)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder in which the stand-in passes for Cityscapes, drawn at twice the size that is read."""
    root = tmp_path_factory.mktemp("data")
    write_scenes(root / "cityscapes", 5, 3, (32, 64), seed=3)
    return root


@pytest.fixture
def own_root(tmp_path) -> Path:
    """As `root`, to be damaged."""
    write_scenes(tmp_path / "cityscapes", 2, 1, (32, 64))
    return tmp_path


def load(root: Path, n_train=5, n_test=3, **options):
    return load_cityscapes(n_train, n_test, "cityscapes", root=root, **({"size": SIZE} | options))


def batches_of(split, order, batch_size, training=False):
    return [
        (images.clone(), {task: target.clone() for task, target in targets.items()})
        for images, targets in split.batches(torch.tensor(order), batch_size, training)
    ]


def same(first, second) -> bool:
    return all(
        torch.equal(a, b) and all(torch.equal(y[task].nan_to_num(-99), z[task].nan_to_num(-99)) for task in y)
        for (a, y), (b, z) in zip(first, second, strict=True)
    )


def test_batches(root):
    data = load(root)
    (images, targets), (last, _) = batches_of(data.train, [4, 0, 1, 2, 3], 4)
    assert images.shape == (4, 3, *SIZE) and images.dtype == torch.float32 and last.shape[0] == 1
    assert targets["semantic"].shape == (4, *SIZE) and targets["semantic"].dtype == torch.int64
    assert targets["instance"].shape == (4, 2, *SIZE) and targets["disparity"].shape == (4, 1, *SIZE)
    with Image.open(data.train.files[4].image) as image:
        pixels = np.asarray(image.resize((SIZE[1], SIZE[0]), Image.Resampling.BOX)).transpose(2, 0, 1) / 255
    expected = (pixels - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    np.testing.assert_allclose(images[0], expected, rtol=1e-5, atol=1e-5)


def test_a_hidden_file_is_no_image(own_root):
    for path in (own_root / "cityscapes").rglob("*_leftImg8bit.png"):
        path.with_name(f"._{path.name}").write_bytes(b"written by macOS")
    assert len(load(own_root, 2, 1).train) == 2
    with pytest.raises(DataError, match="has 2 images"):
        load(own_root, 3, 1)


def test_a_batch_is_its_examples(root):
    split = load(root).train
    together = batches_of(split, [3, 1], 2)
    for i, index in enumerate((3, 1)):
        alone = batches_of(split, [index], 1)
        assert same(alone, [(x[i : i + 1], {task: y[task][i : i + 1] for task in y}) for x, y in together])


def test_worker_processes_read_the_same(root):
    """Twice, since they stay for the next epoch; with crops, which the seed of the caller decides."""
    alone, shared = (load(root, crop=(16, 16), workers=workers).train for workers in (0, 2))
    for epoch, order in enumerate(([0, 1, 2, 3, 4], [4, 2, 0])):
        torch.manual_seed(epoch)
        expected = batches_of(alone, order, 2, training=True)
        torch.manual_seed(epoch)
        assert same(batches_of(shared, order, 2, training=True), expected)
    assert shared.loader._iterator._workers[0].is_alive()


def test_crops_are_windows_of_the_scene(root):
    split = load(root, crop=(8 + 8, 24)).train
    whole = batches_of(split, [0], 1)
    torch.manual_seed(0)
    crops = [batches_of(split, [0], 1, training=True) for _ in range(20)]
    places = set()
    for crop in crops:
        windows = [
            [(x[..., left : left + 24], {t: y[t][..., left : left + 24] for t in y}) for x, y in whole]
            for left in range(9)
        ]
        (left,) = [left for left, window in enumerate(windows) if same(crop, window)]
        places.add(left)
    assert len(places) > 4  # of nine
    assert same(batches_of(split, [0], 1), whole)  # evaluation sees all of it


def test_crops_are_seeded(root):
    split = load(root, crop=(16, 16)).train
    torch.manual_seed(5)
    first = batches_of(split, [0, 1, 2, 3, 4], 5, training=True)
    second = batches_of(split, [0, 1, 2, 3, 4], 5, training=True)
    torch.manual_seed(5)
    assert same(batches_of(split, [0, 1, 2, 3, 4], 5, training=True), first)
    assert not same(second, first)


def test_each_image_is_read_once(root, monkeypatch):
    from fastls.datasets import cityscapes

    real, reads = cityscapes.read_scene, []
    monkeypatch.setattr(cityscapes, "read_scene", lambda files, size: reads.append(files) or real(files, size))
    split = load(root).train
    for _ in range(2):
        batches_of(split, range(5), 2)
        batches_of(split.first(3).to("cpu"), range(3), 2)  # as the training metrics of every epoch look at the first
    assert len(reads) == 5


def test_images_of_different_sizes_share_a_batch(own_root, tmp_path):
    write_scenes(tmp_path / "others", 1, 1, (48, 64), seed=1)
    for path in (tmp_path / "others").rglob("train/*/*.png"):
        target = tmp_path / "cityscapes" / path.relative_to(tmp_path / "others")
        path.rename(target.with_name(target.name.replace("synthetic_000000", "synthetic_000009")))
    ((images, targets),) = batches_of(load(own_root, 3, 1).train, [0, 1, 2], 3)
    assert images.shape == (3, 3, *SIZE) and targets["semantic"].shape == (3, *SIZE)


def test_the_order_is_that_of_hashed_names(root):
    names = [files.image.name for files in load(root).train.files]
    assert names == sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert [files.image.name for files in load(root, 2, 1).train.files] == names[:2]


def test_fingerprint(root, own_root):
    reference = load(root).fingerprint
    assert load(root).fingerprint == reference
    assert load(root, size=(32, 32)).fingerprint != reference and load(root, crop=(16, 16)).fingerprint != reference
    before = load(own_root, 2, 1).fingerprint
    path = load(own_root, 2, 1).train.files[0].disparity
    pixels = np.array(Image.open(path))
    pixels[0, 0] += 1
    Image.fromarray(pixels).save(path)
    assert load(own_root, 2, 1).fingerprint != before


def test_an_empty_file_has_no_fingerprint(own_root):
    data = load(own_root, 2, 1)
    data.train.files[1].labels.write_bytes(b"")
    with pytest.raises(DataError, match="labelIds.png must be a PNG, found 0 bytes"):
        _ = data.fingerprint


def test_torchvision_reads_the_same_folder(root):
    data = load(root, size=(32, 64))
    for split, name in ((data.train, "train"), (data.test, "val")):
        reference = torchvision.datasets.Cityscapes(
            root / "cityscapes", split=name, mode="fine", target_type=["semantic", "instance"]
        )
        assert len(reference) == len(split)
        to_training = {entry.id: entry.train_id for entry in reference.classes}
        index = {Path(path).name: i for i, path in enumerate(reference.images)}
        for i, files in enumerate(split.files):
            image, (labels, instances) = reference[index[files.image.name]]
            ((inputs, targets),) = batches_of(split, [i], 1)
            shown = inputs[0] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
            assert np.array_equal((255 * shown).round().byte().permute(1, 2, 0), np.asarray(image))
            expected = np.vectorize(to_training.get)(np.asarray(labels))
            assert np.array_equal(targets["semantic"][0], expected)
            is_thing = np.isin(np.asarray(instances) // 1000, THINGS)
            assert np.array_equal(~targets["instance"][0, 0].isnan(), is_thing)


def test_the_official_evaluation_runs_on_predictions(root, tmp_path, monkeypatch):
    """Truth scores 1; the same with all cars taken for road scores what the definition says."""
    monkeypatch.setenv("CITYSCAPES_DATASET", str(root / "cityscapes"))
    monkeypatch.setenv("CITYSCAPES_EXPORT_DIR", str(tmp_path))
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # the script still calls what NumPy 2.4 has dropped
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    data = load(root, size=(32, 64))
    ids = np.array(list(CLASSES), dtype=np.uint8)
    car, road = list(CLASSES).index(26), list(CLASSES).index(7)
    for name, value in (("quiet", True), ("JSONOutput", False), ("evalInstLevelScore", True)):
        monkeypatch.setattr(official.args, name, value)
    truths, perfect, mistaken = [], [], []
    for i, files in enumerate(data.test.files):
        ((_, targets),) = batches_of(data.test, [i], 1)
        classes = targets["semantic"][0].numpy()
        truths.append(str(files.labels))
        for name, prediction, paths in (("perfect", classes, perfect), ("mistaken", None, mistaken)):
            prediction = np.where(classes == car, road, classes) if prediction is None else prediction
            paths.append(tmp_path / f"{name}-{files.image.name}")
            Image.fromarray(ids[prediction]).save(paths[-1])
    whole = official.evaluateImgLists([str(path) for path in perfect], truths, official.args)
    assert whole["averageScoreClasses"] == whole["averageScoreInstClasses"] == 1
    scores = official.evaluateImgLists([str(path) for path in mistaken], truths, official.args)["classScores"]
    labels = np.stack([np.asarray(Image.open(path)) for path in truths])
    assert scores["car"] == 0
    assert scores["road"] == pytest.approx((labels == 7).sum() / ((labels == 7) | (labels == 26)).sum())


def test_auto_takes_cityscapes_where_it_is(root, tmp_path):
    assert find_source(root) == "cityscapes" and find_source(tmp_path) == "synthetic"
    assert load_cityscapes(2, 1, size=SIZE, root=root).description == "Cityscapes"


def test_the_stand_in_is_drawn_once(tmp_path):
    data = load_cityscapes(2, 1, size=SIZE, root=tmp_path)
    assert (data.source, len(data.train), len(data.test)) == ("synthetic", 2, 1)
    assert "synthetic" in data.description and "stand-in for Cityscapes" in data.description
    assert Image.open(data.train.files[0].image).size == (64, 32)  # twice the size
    files = {path: path.stat().st_ino for path in tmp_path.rglob("*.png")}
    assert load_cityscapes(2, 1, size=SIZE, root=tmp_path).fingerprint == data.fingerprint
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*.png")} == files
    load_cityscapes(2, 1, size=(16, 16), root=tmp_path)  # another size is another folder
    assert len(list((tmp_path / "street-scenes").iterdir())) == 2


def test_a_missing_set_is_explained(tmp_path):
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    for part in (
        str(tmp_path / "cityscapes"),
        "https://www.cityscapes-dataset.com",
        "leftImg8bit_trainvaltest.zip",
        "gtFine_trainvaltest.zip",
        "disparity_trainvaltest.zip",
        "synthetic",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["gtFine_labelIds", "gtFine_instanceIds", "disparity"])
def test_a_missing_map_is_named(own_root, kind):
    (path,) = own_root.rglob(f"synthetic_000001_000019_{kind}.png")
    path.unlink()
    with pytest.raises(DataError, match="synthetic_000001_000019_leftImg8bit.png needs it") as caught:
        load(own_root, 2, 1)
    assert str(path) in str(caught.value)


def test_a_damaged_stand_in_can_be_drawn_anew(tmp_path):
    scene = load_cityscapes(1, 1, "synthetic", size=SIZE, root=tmp_path).train.files[0]
    scene.disparity.unlink()
    with pytest.raises(DataError, match=f"disparity.png is missing.*Delete {tmp_path}.*drawn anew"):
        load_cityscapes(1, 1, "synthetic", size=SIZE, root=tmp_path)


@pytest.mark.parametrize("sizes, found", [((6, 3), "5 images of the split 'train', found 6"), ((5, 4), "3 images.*4")])
def test_too_many_images_are_refused(root, sizes, found):
    with pytest.raises(DataError, match=f"{found}.*take fewer"):
        load(root, *sizes)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": (60, 128)}, r"`size`.*multiples of 8 from 16, found \(60, 128\)"),
        ({"size": (8, 128)}, r"`size`.*found \(8, 128\)"),
        ({"size": (64,)}, r"`size`.*found \(64,\)"),
        ({"crop": (20, 32)}, r"`crop`.*multiples of 8 from 16, found \(20, 32\)"),
        ({"crop": (24, 32)}, r"`crop` must lie within `size`, \(16, 32\), found \(24, 32\)"),
    ],
)
def test_bad_options_are_refused(root, options, message):
    defaults = {"n_train": 5, "n_test": 3, "source": "cityscapes", "size": SIZE}
    with pytest.raises(ValueError, match=message):
        load_cityscapes(**(defaults | options), root=root)
