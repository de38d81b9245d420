"""Splits on a device, fingerprints, checked files."""

import hashlib
from dataclasses import replace
from urllib.error import URLError

import pytest
import torch

from fastls.datasets import cifar10, cityscapes, multimnist, stsb
from fastls.datasets.common import (
    DataError,
    ImageSplit,
    MultiTaskData,
    check_files,
    check_sizes,
    download,
    holds_files,
)


def make_split(n: int, seed: int = 0) -> ImageSplit:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)
    targets = {task: torch.randint(0, 10, (n,), generator=generator) for task in ("left", "right")}
    return ImageSplit(images, targets, mean=0.25, std=0.5)


@pytest.mark.parametrize("index", [slice(2, 5), torch.tensor([4, 0, 4])])
def test_batch_normalises(index):
    split = make_split(6)
    before = split.images.clone()
    images, targets = split.batch(index)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, (before[index].float() / 255 - 0.25) / 0.5)
    assert {task: y.tolist() for task, y in targets.items()} == {
        task: y[index].tolist() for task, y in split.targets.items()
    }
    assert torch.equal(split.images, before)


def test_normalises_by_channel():
    images = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    split = ImageSplit(images, {}, mean.view(3, 1, 1), std.view(3, 1, 1))
    normalised, _ = split.batch(slice(None))
    for channel in range(3):
        expected = (images[:, channel].float() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(normalised[:, channel], expected)
    assert split.to("meta").mean.device.type == "meta"


@pytest.mark.parametrize("training", [True, False])
def test_batches_keep_the_order_and_augment_in_training_alone(training):
    split = replace(make_split(7), augment=lambda images: -images)
    order = torch.tensor([6, 0, 3, 3, 1])
    batches = list(split.batches(order, 2, training))
    assert [len(images) for images, _ in batches] == [2, 2, 1]
    plain, targets = split.batch(order)
    assert torch.equal(torch.cat([images for images, _ in batches]), -plain if training else plain)
    for task in targets:
        assert torch.equal(torch.cat([targets[task] for _, targets in batches]), targets[task])


def test_first():
    split = make_split(6)
    first = split.first(4)
    assert len(first) == 4 and torch.equal(first.images, split.images[:4])
    assert all(torch.equal(first.targets[task], split.targets[task][:4]) for task in split.targets)
    assert (first.mean, first.std) == (split.mean, split.std)


def test_to_moves_images_and_targets():
    data = MultiTaskData("source", "description", make_split(3), make_split(2)).to("meta")
    for split in (data.train, data.test):
        assert {tensor.device.type for tensor in (split.images, *split.targets.values())} == {"meta"}


def test_fingerprint_depends_on_content_alone():
    data = MultiTaskData("source", "description", make_split(3), make_split(2))
    again = MultiTaskData("other", "words", make_split(3), make_split(2))
    assert data.fingerprint == again.fingerprint
    assert len(data.fingerprint) == 16 and int(data.fingerprint, 16) >= 0


def change_pixel(split: ImageSplit) -> ImageSplit:
    images = split.images.clone()
    images[1, 0, 2, 3] ^= 1
    return replace(split, images=images)


def change_label(split: ImageSplit) -> ImageSplit:
    right = split.targets["right"].clone()
    right[0] += 1
    return replace(split, targets=split.targets | {"right": right})


def exchange_tasks(split: ImageSplit) -> ImageSplit:
    return replace(split, targets={"left": split.targets["right"], "right": split.targets["left"]})


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("change", [change_pixel, change_label, exchange_tasks, lambda split: split.first(2)])
def test_fingerprint_changes_with(part, change):
    data = MultiTaskData("source", "description", make_split(3), make_split(3, seed=1))
    changed = replace(data, **{part: change(getattr(data, part))})
    assert changed.fingerprint != data.fingerprint


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_files_are_checked_by_their_hashes(tmp_path, algorithm):
    path = tmp_path / "file"
    right, found = (hashlib.new(algorithm, content).hexdigest() for content in (b"content", b"Content"))
    path.write_bytes(b"content")
    check_files(tmp_path, {"file": right}, "Advice.")
    path.write_bytes(b"Content")
    check_files(tmp_path, {"file": None}, "Advice.")
    with pytest.raises(DataError) as caught:
        check_files(tmp_path, {"file": right}, "Advice.")
    for part in (str(path), f"{algorithm} must be {right}", found, "(7 bytes)", "Advice."):
        assert part in str(caught.value)
    with pytest.raises(DataError, match=f"{tmp_path}/other is missing: 2 files are needed. Advice."):
        check_files(tmp_path, {"file": None, "other": None}, "Advice.")


def test_a_hidden_file_is_no_data(tmp_path):
    assert not holds_files(tmp_path / "missing") and not holds_files(tmp_path)
    (tmp_path / ".DS_Store").touch()
    assert not holds_files(tmp_path)
    (tmp_path / "something").touch()
    assert holds_files(tmp_path)


@pytest.mark.parametrize(
    "data_set, name",
    [
        (multimnist, "mnist.npz"),
        (multimnist, "digits/train-images.zip"),
        (cifar10, "cifar-10-matlab.tar.gz"),
        (cifar10, "cifar/data_batch_1"),
        (stsb, "STS-B/train.tsv"),
        (stsb, "stsbenchmark/sts-dev.csv"),
        (cityscapes, "gtFine_trainvaltest.zip"),
        (cityscapes, "scenes/leftImg8bit"),
    ],
)
def test_a_stand_in_is_used_aloud_where_files_look_like_the_real_set(tmp_path, data_set, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    stand_in = list(data_set.SOURCES)[-1]
    with pytest.warns(UserWarning) as caught:
        assert data_set.find_source(tmp_path) == stand_in
    (message,) = [str(warning.message) for warning in caught]
    assert str(tmp_path / name) in message and data_set.SOURCES[stand_in] in message and data_set.HOW_TO_GET in message


def test_a_stand_in_is_used_in_silence_where_nothing_looks_like_the_real_set(tmp_path, recwarn):
    """Files that other data sets, the store and the cache keep there."""
    for name in ("cifar100.tar.gz", "cache/cifar10.pt", "runs/cityscapes-FBLS-0.jsonl", "runs/stsb-FBLS-0.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for data_set in (multimnist, cifar10, stsb, cityscapes):
        assert data_set.find_source(tmp_path) == list(data_set.SOURCES)[-1]
    assert len(recwarn) == 0


@pytest.mark.parametrize("sizes", [(31, 12), (30, 13)])
def test_too_many_examples_are_refused(sizes):
    check_sizes("It", 30, 12, 30, 12)
    found = f"n_train={sizes[0]} and n_test={sizes[1]}: ask for fewer"
    with pytest.raises(DataError, match=f"It has 30 training and 12 test examples here, found {found}"):
        check_sizes("It", *sizes, 30, 12)


HASHES = {name: hashlib.md5(name.encode()).hexdigest() for name in ("one", "two")}


def fetch(folder):
    (folder / "below").mkdir()
    for name in (*HASHES, "more"):
        (folder / "below" / name).write_text(name)
    return folder / "below"


def fail(folder):
    fetch(folder)
    raise URLError("no network")


def damage(folder):
    (fetch(folder) / "two").write_text("half")
    return folder / "below"


def test_a_download_puts_the_files_in_their_places(tmp_path):
    folder = tmp_path / "data" / "set"
    folder.mkdir(parents=True)
    (folder / "one").write_text("old")
    assert download(folder, HASHES, fetch, "Advice.") == folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"one": "one", "two": "two"}


@pytest.mark.parametrize("fetch, message", [(fail, "no network.*Advice"), (damage, "two is not the file")])
def test_a_failed_download_leaves_things_as_they_were(tmp_path, fetch, message):
    (tmp_path / "one").write_text("old")
    with pytest.raises(DataError, match=message):
        download(tmp_path, HASHES, fetch, "Advice.")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one": "old"}
