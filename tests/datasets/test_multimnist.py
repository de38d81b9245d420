"""MultiMNIST: the overlay and its pairing, the two sources, damaged files, the download."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from fastls.datasets import multimnist
from fastls.datasets.common import DataError
from fastls.datasets.multimnist import MNIST_FILES, SHIFT, download_multimnist, find_source, load_multimnist
from fastls.paths import DATA

SIZES = {"train": 30, "t10k": 12}  # of the fabricated MNIST


def fabricate() -> dict[str, np.ndarray]:
    """Images without an empty margin, each different from all others, and their labels."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, n in SIZES.items():
        arrays[f"{split}-images-idx3-ubyte"] = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}-labels-idx1-ubyte"] = generator.integers(0, 10, n, dtype=np.uint8)
    return arrays


def write_mnist(root: Path) -> Path:
    """The fabricated set in torchvision's layout."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in fabricate().items():
        header = np.array([2048 + array.ndim, *array.shape], dtype=">i4")
        (raw / name).write_bytes(header.tobytes() + array.tobytes())
    return raw


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    """A fabricated MNIST under tmp_path that counts as the true one."""
    raw = write_mnist(tmp_path)
    contents = {name: (raw / name).read_bytes() for name in MNIST_FILES}
    fabricated = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(multimnist, "MNIST_FILES", fabricated)
    return raw


def overlay(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pixel by pixel, from the definition."""
    image = np.zeros((28, 28), dtype=np.uint8)
    for column in range(28):
        shifted_left = left[:, column + SHIFT] if column + SHIFT < 28 else 0
        shifted_right = right[:, column - SHIFT] if column >= SHIFT else 0
        image[:, column] = np.maximum(shifted_left, shifted_right)
    return image


def find_partners(images: np.ndarray, labels: np.ndarray, split) -> list[int]:
    """For every overlaid image the one base image on its right; checks overlay and labels on the way."""
    partners = []
    for i, image in enumerate(split.images[:, 0].numpy()):
        left = i % len(images)
        (partner,) = [j for j, right in enumerate(images) if np.array_equal(image, overlay(images[left], right))]
        assert split.targets["left"][i] == labels[left]
        assert split.targets["right"][i] == labels[partner]
        partners.append(partner)
    return partners


def partners_of(data) -> list[list[int]]:
    arrays = fabricate()
    return [
        find_partners(arrays[f"{name}-images-idx3-ubyte"], arrays[f"{name}-labels-idx1-ubyte"], split)
        for name, split in (("train", data.train), ("t10k", data.test))
    ]


def test_shapes():
    data = load_multimnist(n_train=20, n_test=10, source="digits")
    for split, n in ((data.train, 20), (data.test, 10)):
        assert len(split) == n
        assert split.images.shape == (n, 1, 28, 28) and split.images.dtype == torch.uint8
        assert list(split.targets) == ["left", "right"]
        assert all(y.shape == (n,) and y.dtype == torch.int64 for y in split.targets.values())
        assert all(0 <= y.min() and y.max() <= 9 for y in split.targets.values())
    assert data.source == "digits" and "scikit-learn digits" in data.description


def test_overlay(raw, tmp_path):
    """Left digit four pixels to the left, right digit four to the right, brighter pixel, each partner once."""
    data = load_multimnist(30, 12, source="mnist", root=tmp_path)
    train, test = partners_of(data)
    assert sorted(train) == list(range(30)) and sorted(test) == list(range(12))
    assert data.source == "mnist" and data.description == "MNIST"


def test_pairing_is_seeded(raw, tmp_path):
    pairings = [partners_of(load_multimnist(30, 12, source="mnist", seed=seed, root=tmp_path)) for seed in (0, 0, 1)]
    assert pairings[0] == pairings[1]
    assert pairings[0][0] != pairings[2][0] and pairings[0][1] != pairings[2][1]
    assert pairings[0][0][:12] != pairings[0][1]  # train and test are paired apart


def test_fewer_images_are_the_first(raw, tmp_path):
    many, few = (load_multimnist(n, n, source="mnist", root=tmp_path) for n in (12, 5))
    assert torch.equal(many.train.first(5).images, few.train.images)
    assert torch.equal(many.test.first(5).targets["right"], few.test.targets["right"])


def test_pairing_is_pinned():
    """The same pairs on every platform and with every NumPy: stored runs depend on them."""
    assert multimnist.permutation(10, (0, 0, 0)).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert multimnist.permutation(1437, (7, 0, 3))[:5].tolist() == [144, 574, 1026, 643, 1006]
    assert load_multimnist(50, 20, source="digits").fingerprint == "bfdb434d76f102e0"


def test_fingerprint_depends_on_seed():
    fingerprints = {load_multimnist(50, 20, source="digits", seed=seed).fingerprint for seed in range(4)}
    assert len(fingerprints) == 4


def test_more_images_than_base_digits_are_new_pairs():
    arrays = fabricate()
    images, labels = arrays["train-images-idx3-ubyte"][:10], arrays["train-labels-idx1-ubyte"][:10]
    split = multimnist._overlay_pairs(images, labels, 27, (0, 0))
    partners = find_partners(images, labels, split)
    blocks = [partners[start : start + 10] for start in (0, 10, 20)]
    assert [len(set(block)) for block in blocks] == [10, 10, 7]  # nobody twice within a block
    assert blocks[0] != blocks[1] and blocks[0][:7] != blocks[2]


def test_digits_repeat_in_new_pairs():
    train = load_multimnist(n_train=3000, n_test=10, source="digits").train
    left, right = (train.targets[task].split(1437)[:2] for task in ("left", "right"))
    assert len(train) == 3000
    assert torch.equal(left[0], left[1])
    assert torch.equal(right[0].sort()[0], left[0].sort()[0]) and torch.equal(right[1].sort()[0], left[0].sort()[0])
    assert len(train.images.flatten(1).unique(dim=0)) > 2990


def test_digits_of_train_and_test_are_disjoint():
    from sklearn.datasets import load_digits

    (train, train_labels), (test, test_labels) = multimnist._read_digits()
    assert train.shape == (1437, 28, 28) and test.shape == (360, 28, 28)
    train_set, test_set = ({image.tobytes() for image in images} for images in (train, test))
    assert not train_set & test_set
    everything = np.bincount(np.concatenate([train_labels, test_labels]))
    assert everything.tolist() == np.bincount(load_digits().target).tolist()


def test_digits_are_scaled_like_mnist():
    """20 × 20 pixels in the middle of 28 × 28, grey levels over the whole range."""
    (images, _), _ = multimnist._read_digits()
    assert images.dtype == np.uint8 and images.max() == 255
    assert images[:, 4:24, 4:24].sum(dtype=int) == images.sum(dtype=int) > 0


def test_reads_what_torchvision_reads(raw, tmp_path):
    for (images, labels), train in zip(multimnist._read_mnist(tmp_path), (True, False), strict=True):
        expected = torchvision.datasets.MNIST(tmp_path, train=train)
        assert np.array_equal(images, expected.data.numpy()) and np.array_equal(labels, expected.targets.numpy())


@pytest.mark.data
@pytest.mark.skipif(find_source() != "mnist", reason="needs MNIST under data/MNIST/raw")
def test_real_mnist_is_what_torchvision_reads():
    for (images, labels), train in zip(multimnist._read_mnist(DATA), (True, False), strict=True):
        expected = torchvision.datasets.MNIST(DATA, train=train)
        assert len(images) == (60_000 if train else 10_000)
        assert np.array_equal(images, expected.data.numpy()) and np.array_equal(labels, expected.targets.numpy())


def test_auto_takes_mnist_where_it_is(raw, tmp_path):
    assert find_source(tmp_path) == "mnist"
    assert load_multimnist(5, 5, root=tmp_path).source == "mnist"


def test_auto_takes_digits_without_mnist(tmp_path):
    assert find_source(tmp_path) == "digits"
    assert load_multimnist(5, 5, root=tmp_path).source == "digits"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("folder", ["MNIST/raw", "MNIST", "mnist", "."])
def test_other_names_of_the_files_are_found(raw, tmp_path, folder, separator, packed):
    expected = load_multimnist(30, 12, root=tmp_path).fingerprint
    other = tmp_path / "other"
    (other / folder).mkdir(parents=True)
    for path in raw.iterdir():
        content = gzip.compress(path.read_bytes()) if packed else path.read_bytes()
        (other / folder / (path.name.replace("-idx", f"{separator}idx") + ".gz" * packed)).write_bytes(content)
    found = load_multimnist(30, 12, root=other)
    assert (found.source, found.fingerprint) == ("mnist", expected)


def test_a_packed_file_is_checked(raw, tmp_path):
    path = raw / "t10k-labels-idx1-ubyte"
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes())[:20])
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}.gz must be a file that gzip packed.*{multimnist.DOWNLOAD}"):
        load_multimnist(5, 5, root=tmp_path)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"])
def test_auto_does_not_pass_over_a_part_of_mnist(raw, tmp_path, name):
    """Files that are packed, incomplete or renamed: the stand-in would hide that they lie there."""
    for path in raw.iterdir():
        path.unlink()
    (raw / name).touch()
    with pytest.raises(DataError, match=f"fetch MNIST anew.*delete the folder|{multimnist.DOWNLOAD}"):
        load_multimnist(5, 5, root=tmp_path)


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage, rule", [(flip_bit, "sha256 must be"), (Path.unlink, "is missing: 4 files")])
@pytest.mark.parametrize("name", MNIST_FILES)
def test_damaged_mnist_is_refused(raw, tmp_path, damage, rule, name):
    damage(raw / name)
    with pytest.raises(DataError) as caught:
        load_multimnist(5, 5, source="mnist", root=tmp_path)
    for part in (str(raw / name), rule, multimnist.DOWNLOAD, "digits"):
        assert part in str(caught.value)


def test_too_many_images_are_refused(raw, tmp_path):
    for sizes in ((31, 12), (30, 13)):
        with pytest.raises(DataError, match="MNIST has 30 training and 12 test examples here"):
            load_multimnist(*sizes, root=tmp_path)


def fake_mnist(monkeypatch, write) -> None:
    """Put `write(root)` in the place of torchvision's download."""
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda root, train, download: write(Path(root)))


def test_download_without_network(tmp_path, monkeypatch):
    def fail(root):
        raise RuntimeError("Error downloading train-images")

    fake_mnist(monkeypatch, fail)
    with pytest.raises(DataError) as caught:
        download_multimnist(tmp_path)
    for part in ("Error downloading", str(tmp_path / "MNIST" / "raw"), multimnist.DOWNLOAD, *MNIST_FILES):
        assert part in str(caught.value)
    assert find_source(tmp_path) == "digits"


def test_download(raw, tmp_path, monkeypatch):
    expected = {path.name: path.read_bytes() for path in raw.iterdir()}
    flip_bit(raw / "train-images-idx3-ubyte")
    (raw / "t10k-labels-idx1-ubyte").unlink()
    fake_mnist(monkeypatch, write_mnist)
    assert download_multimnist(tmp_path) == raw
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == expected
