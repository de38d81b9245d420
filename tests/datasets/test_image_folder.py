"""A folder of images: what is read, the cache, damaged folders; and CIFAR-10 in that layout."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastls.datasets import image_folder
from fastls.datasets.cifar10 import CLASSES, load_cifar10
from fastls.datasets.common import DataError
from fastls.datasets.image_folder import read_image_folder

NAMES = ("cat", "dog")


def write_images(folder: Path, names=NAMES, count: int = 3, suffix: str = "png", side: int = 8) -> None:
    """Random images, the same for the same place."""
    for split in ("train", "test"):
        for label, name in enumerate(names):
            place = folder / split / name
            place.mkdir(parents=True)
            generator = np.random.default_rng([label, len(split)])
            for i in range(count):
                pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i:04d}.{suffix}")


@pytest.fixture
def folder(tmp_path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


def read(folder: Path):
    return read_image_folder(folder, NAMES, 8, folder.parent / "cache.pt", "Advice.")


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The files that are decoded from here on."""
    paths, decode = [], image_folder._decode
    monkeypatch.setattr(
        image_folder, "_decode", lambda path, side, advice: (paths.append(path), decode(path, side, advice))[1]
    )
    return paths


def test_images_come_by_class_and_name(folder):
    for split, (images, labels) in read(folder).items():
        paths = sorted((folder / split).glob("*/*"))
        expected = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
        assert images.dtype == torch.uint8 and np.array_equal(images, expected)
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_grey_image_gets_three_channels(folder):
    Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(folder / "train" / "cat" / "0000.png")
    images, _ = read(folder)["train"]
    assert images.shape == (6, 3, 8, 8) and (images[0] == 7).all()


def test_other_spellings_of_suffixes_are_images_and_hidden_files_are_not(folder):
    expected = read(folder)
    for path, suffix in zip(sorted((folder / "train" / "cat").iterdir()), (".PNG", ".Png", ".png"), strict=True):
        path.rename(path.with_suffix(suffix))
        path.with_name(f"._{path.name}").write_bytes(b"written by macOS")
    found = read(folder)
    assert torch.equal(found["train"][0], expected["train"][0]) and torch.equal(found["test"][0], expected["test"][0])


def test_a_second_reading_decodes_nothing(folder, decoded):
    first = read(folder)
    assert len(decoded) == 12
    again = read(folder)
    assert len(decoded) == 12
    assert all(torch.equal(a, b) for split in first for a, b in zip(first[split], again[split], strict=True))


def replace_image(folder: Path) -> None:
    """Another image of the same size and file length, later."""
    path = folder / "train" / "cat" / "0000.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    os.utime(path, (1, 1))


def add_image(folder: Path) -> None:
    (folder / "test" / "dog" / "9999.png").write_bytes((folder / "test" / "dog" / "0000.png").read_bytes())


def remove_image(folder: Path) -> None:
    (folder / "test" / "dog" / "0001.png").unlink()


def rename_image(folder: Path) -> None:
    (folder / "test" / "dog" / "0000.png").rename(folder / "test" / "dog" / "0005.png")


@pytest.mark.parametrize("change", [replace_image, add_image, remove_image, rename_image])
def test_a_changed_folder_is_read_anew(folder, decoded, change):
    before = read(folder)
    change(folder)
    decoded.clear()
    after = read(folder)
    assert len(decoded) == len(list(folder.glob("*/*/*")))
    assert any(not torch.equal(before[split][0], after[split][0]) for split in before)


def test_a_damaged_cache_is_made_anew(folder, decoded):
    first = read(folder)
    cache = folder.parent / "cache.pt"
    cache.write_bytes(cache.read_bytes()[:100])
    again = read(folder)
    assert len(decoded) == 24 and torch.equal(first["train"][0], again["train"][0])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_text(path: Path) -> None:
    path.write_text("<html>not found</html>")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("damage", [truncate, write_text])
def test_a_corrupt_image_is_refused_and_nothing_is_cached(tmp_path, suffix, damage):
    folder = tmp_path / "images"
    write_images(folder, suffix=suffix)
    path = folder / "train" / "dog" / f"0001.{suffix}"
    damage(path)
    with pytest.raises(DataError) as caught:
        read(folder)
    for part in (str(path), "cannot be decoded", "Advice."):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == [folder]


def test_an_image_of_another_size_is_refused(folder):
    Image.fromarray(np.zeros((4, 9, 3), dtype=np.uint8)).save(folder / "test" / "cat" / "0000.png")
    with pytest.raises(DataError, match="0000.png must have 8 × 8 pixels, found 9 × 4. Advice."):
        read(folder)


@pytest.mark.parametrize("suffix", [None, ".gif"])
def test_a_class_without_images_is_refused(folder, suffix):
    for path in (folder / "train" / "dog").iterdir():
        path.rename(path.with_suffix(suffix)) if suffix else path.unlink()
    with pytest.raises(DataError, match="train/dog must hold the images of its class, .jpg or .jpeg or .png, found"):
        read(folder)


def test_cifar10_from_a_folder_of_images(tmp_path):
    write_images(tmp_path / "cifar10", CLASSES, count=2, suffix="jpg", side=32)
    data = load_cifar10(20, 10, root=tmp_path)
    assert (data.source, data.description) == ("cifar10-jpeg", "CIFAR-10 (JPEG copy)")
    labels = torch.stack(list(data.train.targets.values())).argmax(0)
    assert labels.tolist() == list(range(10)) * 2
    for image, label in zip(data.train.images, labels.tolist(), strict=True):
        candidates = [Image.open(path) for path in (tmp_path / "cifar10" / "train" / CLASSES[label]).iterdir()]
        assert any(np.array_equal(image.permute(1, 2, 0), candidate) for candidate in candidates)
