"""CIFAR-10: its two layouts, the tasks, the order of the images, damaged files, the download."""

import hashlib
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from fastls.datasets import cifar10
from fastls.datasets.cifar10 import CLASSES, download_cifar10, find_source, flip_and_crop, load_cifar10, task_classes
from fastls.datasets.common import DataError

BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def fabricate(name: str) -> dict:
    """Twelve random images a batch, every class at least once, the last two more often."""
    generator = np.random.default_rng(len(name) + ord(name[-1]))
    return {
        "data": generator.integers(0, 256, (12, 3072), dtype=np.uint8),
        "labels": [*generator.permutation(10).tolist(), 8, 9],
    }


def write_cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*BATCHES, "test_batch"):
        (folder / name).write_bytes(pickle.dumps(fabricate(name)))
    return folder


def accept_hashes(monkeypatch, folder: Path) -> None:
    """The files in the folder count as the true ones."""
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in (*BATCHES, "test_batch")}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", [[name, md5[name]] for name in BATCHES])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])


@pytest.fixture
def batches(tmp_path, monkeypatch) -> Path:
    """A fabricated CIFAR-10 under tmp_path that counts as the true one."""
    folder = write_cifar10(tmp_path)
    accept_hashes(monkeypatch, folder)
    return folder


def as_set(images, labels) -> set:
    return {(np.asarray(image).tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def labels_of(split) -> torch.Tensor:
    return torch.stack([split.targets[name] for name in CLASSES]).argmax(0)


def test_reads_what_torchvision_reads(batches, tmp_path, monkeypatch):
    meta = {"filename": "batches.meta", "key": "label_names"}
    content = pickle.dumps({"label_names": list(CLASSES)})
    (batches / "batches.meta").write_bytes(content)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta | {"md5": hashlib.md5(content).hexdigest()})
    data = load_cifar10(60, 12, source="cifar10", root=tmp_path)
    assert (data.source, data.description) == ("cifar10", "CIFAR-10")
    for split, train in ((data.train, True), (data.test, False)):
        expected = torchvision.datasets.CIFAR10(tmp_path, train=train)
        images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        assert as_set(images, labels_of(split)) == as_set(expected.data, expected.targets)


def test_the_archive_is_unpacked(batches, tmp_path):
    expected = load_cifar10(60, 12, source="cifar10", root=tmp_path)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(batches, batches.name)
    shutil.rmtree(batches)
    found = load_cifar10(60, 12, root=tmp_path)
    assert (found.source, found.fingerprint) == ("cifar10", expected.fingerprint)


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half an archive")
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz must be CIFAR-10's archive.*data download cifar10"):
        load_cifar10(10, 10, root=tmp_path)


@pytest.mark.parametrize("source", ["cifar10", "shapes"])
def test_targets_are_one_vs_rest(batches, tmp_path, source):
    data = load_cifar10(20, 10, source=source, root=tmp_path)
    assert list(data.train.targets) == list(CLASSES)
    answers = torch.stack(list(data.train.targets.values()))
    assert answers.dtype == torch.float32 and answers.unique().tolist() == [0, 1]
    assert answers.sum(0).tolist() == [1] * 20
    assert data.train.images.shape == (20, 3, 32, 32) and data.train.images.dtype == torch.uint8


def test_subsets_are_balanced_shuffled_and_nested(batches, tmp_path):
    many, few = (load_cifar10(n, 10, source="cifar10", root=tmp_path) for n in (50, 30))
    assert torch.bincount(labels_of(few.train)).tolist() == [3] * 10
    assert torch.equal(many.train.first(30).images, few.train.images)
    other = load_cifar10(30, 10, source="cifar10", root=tmp_path, seed=1)
    assert torch.equal(labels_of(other.train), labels_of(few.train))
    assert not torch.equal(other.train.images, few.train.images)


def test_a_class_that_runs_out_leaves_its_turns_to_the_others(batches, tmp_path):
    labels = labels_of(load_cifar10(60, 12, source="cifar10", root=tmp_path).train)
    assert torch.bincount(labels).tolist() == [5] * 8 + [10] * 2
    assert labels[:50].tolist() == list(range(10)) * 5 and labels[50:].tolist() == [8, 9] * 5


def test_tasks_beyond_ten_are_different_groups_of_five():
    groups = list(task_classes(20).values())
    assert groups[:10] == [(label,) for label in range(10)]
    assert {len(group) for group in groups[10:]} == {5} and len(set(groups)) == 20
    assert list(task_classes(12)) == list(task_classes(20))[:12]  # fewer tasks are the first of many


def test_targets_of_groups(tmp_path):
    train = load_cifar10(100, 10, source="shapes", tasks=20).train
    classes = torch.arange(100) % 10
    for task, group in task_classes(20).items():
        assert train.targets[task].tolist() == [float(label in group) for label in classes.tolist()]


@pytest.mark.parametrize("tasks", [0, 21])
def test_other_numbers_of_tasks_are_refused(tasks):
    with pytest.raises(ValueError, match=f"`tasks` must be from 1 to 20, found {tasks}"):
        load_cifar10(10, 10, source="shapes", tasks=tasks)


def test_flip_and_crop_is_a_flip_and_a_crop_of_each_image():
    torch.manual_seed(0)
    images = torch.randn(64, 3, 32, 32)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    found = set()
    for image, source in zip(flip_and_crop(images), padded, strict=True):
        windows = {
            (row, column, flip): window.flip(2) if flip else window
            for row in range(9)
            for column in range(9)
            for flip in (False, True)
            for window in [source[:, row : row + 32, column : column + 32]]
        }
        (place,) = [place for place, window in windows.items() if torch.equal(image, window)]
        found.add(place)
    rows, columns, flips = (set(values) for values in zip(*found, strict=True))
    assert flips == {False, True} and min(len(rows), len(columns)) >= 8
    assert len(found) > 30  # images are moved apart from each other


def test_augmentation_is_seeded_and_for_training_alone():
    plain, moved = (load_cifar10(20, 10, source="shapes", augment=augment) for augment in (False, True))
    order = torch.arange(20)

    def first(split, training):
        torch.manual_seed(5)
        return next(split.batches(order, 20, training))[0]

    assert torch.equal(first(moved.train, False), first(plain.train, True))
    assert torch.equal(first(moved.train, True), first(moved.train, True))
    assert not torch.equal(first(moved.train, True), first(plain.train, True))
    assert moved.test.augment is None


def test_auto_takes_the_best_source_there_is(batches, tmp_path):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train").mkdir()
    assert find_source(tmp_path) == "cifar10"
    for path in batches.iterdir():
        path.unlink()
    assert find_source(tmp_path) == "cifar10-jpeg"
    (tmp_path / "cifar10" / "train").rmdir()
    assert find_source(tmp_path) == "shapes"
    assert load_cifar10(10, 10, root=tmp_path).description == "synthetic shapes (stand-in for CIFAR-10)"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage, rule", [(Path.unlink, "is missing: 6 files"), (truncate, "md5 must be")])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_damaged_batches_are_refused(batches, tmp_path, damage, rule, name):
    damage(batches / name)
    with pytest.raises(DataError) as caught:
        load_cifar10(10, 10, root=tmp_path)
    for part in (str(batches / name), rule, cifar10.DOWNLOAD, "synthetic shapes"):
        assert part in str(caught.value)


def test_too_many_images_are_refused(batches, tmp_path):
    for sizes in ((61, 12), (60, 13)):
        with pytest.raises(DataError, match="CIFAR-10 has 60 training and 12 test examples here"):
            load_cifar10(*sizes, root=tmp_path)


def fake_download(monkeypatch, write) -> None:
    """Put `write(root)` in the place of torchvision's download."""

    def fetch(self, root, download):
        write(Path(root))

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "__init__", fetch)


def test_download_without_network(tmp_path, monkeypatch):
    def fail(root):
        raise RuntimeError("File not found or corrupted.")

    fake_download(monkeypatch, fail)
    with pytest.raises(DataError) as caught:
        download_cifar10(tmp_path)
    for part in ("File not found or corrupted.", cifar10.DOWNLOAD, torchvision.datasets.CIFAR10.url):
        assert part in str(caught.value)
    assert find_source(tmp_path) == "shapes"


def test_download(batches, tmp_path, monkeypatch):
    expected = {path.name: path.read_bytes() for path in batches.iterdir()}
    truncate(batches / "data_batch_1")
    (batches / "test_batch").unlink()
    fake_download(monkeypatch, write_cifar10)
    assert download_cifar10(tmp_path) == batches
    assert {path.name: path.read_bytes() for path in batches.iterdir()} == expected
