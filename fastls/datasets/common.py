"""What all data sets share: the interface of a split, image splits in memory, fingerprints, checked files."""

import functools
import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image


class DataError(Exception):
    """A data set that is missing or not what it should be. The message says which file, what was found, what to do."""


class Split(Protocol):
    """The interface of one split of a data set, for training, evaluation and the store."""

    def __len__(self) -> int: ...

    def batches(self, order: Tensor, batch_size: int, training: bool) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        """The examples of `order` in batches: inputs of the encoder, and targets by task; `training` augments."""

    def first(self, n: int) -> "Split":
        """The first n examples."""

    def to(self, device: str | torch.device) -> "Split":
        """The split with its batches on a device."""

    def hash_into(self, digest: "hashlib._Hash") -> None:
        """Feed the digest with all examples and targets, not with how they are normalised and augmented."""


@dataclass(frozen=True)
class ImageSplit:
    """All images and labels of one split, on one device: a small network does not wait for a loader.

    Attributes:
        images: (N, C, H, W) uint8.
        targets: task name -> (N,).
        mean, std: normalisation of pixels in [0, 1]; numbers, or tensors of shape (C, 1, 1).
        augment: images (B, C, H, W) -> images, applied once to every batch of training; None for none.
    """

    images: Tensor
    targets: dict[str, Tensor]
    mean: float | Tensor
    std: float | Tensor
    augment: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised float32 images and the targets of these examples."""
        images = self.images[index].float().div_(255).sub_(self.mean).div_(self.std)
        return images, {task: target[index] for task, target in self.targets.items()}

    def batches(self, order: Tensor, batch_size: int, training: bool) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for index in order.to(self.images.device).split(batch_size):
            images, targets = self.batch(index)
            yield self.augment(images) if training and self.augment else images, targets

    def first(self, n: int) -> "ImageSplit":
        return replace(self, images=self.images[:n], targets={task: y[:n] for task, y in self.targets.items()})

    def to(self, device: str | torch.device) -> "ImageSplit":
        targets = {task: target.to(device) for task, target in self.targets.items()}
        mean, std = (value.to(device) if isinstance(value, Tensor) else value for value in (self.mean, self.std))
        return replace(self, images=self.images.to(device), targets=targets, mean=mean, std=std)

    def hash_into(self, digest: "hashlib._Hash") -> None:
        hash_tensors(digest, (self.images, *self.targets.values()))


def hash_tensors(digest: "hashlib._Hash", tensors: Iterable[Tensor]) -> None:
    """Feed the digest with shapes and values."""
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())


@dataclass(frozen=True)
class MultiTaskData:
    """A data set with its provenance.

    Attributes:
        source: short name that is part of every run's key, such as "mnist" or "digits".
        description: what figures and tables print, such as "scikit-learn digits (stand-in for MNIST)".
        train, test: the splits.
    """

    source: str
    description: str
    train: Split
    test: Split

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of all inputs and targets, sixteen hexadecimal digits."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            split.hash_into(digest)
        return digest.hexdigest()[:16]

    def to(self, device: str | torch.device) -> "MultiTaskData":
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def permutation(n: int, seed: tuple[int, ...]) -> np.ndarray:
    """A permutation of 0..n-1 from raw 64-bit draws, which NumPy never changes; `Generator.permutation` may change."""
    return np.argsort(np.random.PCG64(list(seed)).random_raw(n), kind="stable")


def check_request(source: str, sources: Mapping[str, str], n_train: int, n_test: int) -> None:
    """Raise `ValueError` unless the source is known and both splits have an example."""
    if source not in sources:
        raise ValueError(f"`source` must be 'auto' or one of {sorted(sources)}, found {source!r}.")
    if min(n_train, n_test) < 1:
        raise ValueError(f"`n_train` and `n_test` must be at least 1, found {n_train} and {n_test}.")


def check_sizes(name: str, n_train: int, n_test: int, most_train: int, most_test: int) -> None:
    """Raise `DataError` where more examples are asked for than the files hold."""
    if n_train > most_train or n_test > most_test:
        raise DataError(
            f"{name} has {most_train:,} training and {most_test:,} test examples here, "
            f"found n_train={n_train:,} and n_test={n_test:,}: ask for fewer."
        )


def holds_files(folder: Path) -> bool:
    """Whether the folder holds anything but hidden files: a damaged data set must not count as a missing one."""
    return any(not path.name.startswith(".") for path in folder.glob("*"))


def warn_of_unused(root: Path, names: str, stand_in: str, how_to_get: str) -> None:
    """Warn that a stand-in is used although files lie in `root`, or a folder in it, that look like the real set.

    Args:
        root: folder of the data sets.
        names: regular expression that matches the start of the names of such files and folders, in any case.
        stand_in: description of the stand-in.
        how_to_get: where the real files belong, and under which names.
    """
    paths = sorted(path for pattern in ("*", "*/*") for path in root.glob(pattern))
    seen = [str(path) for path in paths if re.match(names, path.name, re.IGNORECASE)]
    if seen:
        warnings.warn(f"Not used: {', '.join(seen)}. The {stand_in} is used instead. {how_to_get}", stacklevel=3)


def check_files(folder: Path, hashes: Mapping[str, str | None], advice: str) -> None:
    """Raise `DataError` unless the folder holds these files.

    Args:
        folder: of the files.
        hashes: name -> md5 or sha256, which differ in length; None for any content.
        advice: what to do about a missing or damaged file.
    """
    for name, expected in hashes.items():
        path = folder / name
        if not path.exists():
            raise DataError(f"{path} is missing: {len(hashes)} files are needed. {advice}")
        if expected is not None:
            check_content(path, path.read_bytes(), expected, advice)


def check_content(path: Path, content: bytes, expected: str, advice: str) -> None:
    """Raise `DataError` unless a file's content, unpacked if it was packed, has this md5 or sha256."""
    algorithm = "md5" if len(expected) == 32 else "sha256"
    found = hashlib.new(algorithm, content).hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is not the file it should be: {algorithm} must be {expected}, found {found} "
            f"({len(content):,} bytes). {advice}"
        )


def open_image(path: Path, advice: str) -> "Image.Image":
    """An image, read whole; a broken one raises `DataError`."""
    from PIL import Image  # only image folders need it: the algorithms install without it

    try:
        image = Image.open(path)
        image.load()
        return image
    except (OSError, SyntaxError) as error:  # PIL raises SyntaxError for a broken PNG
        raise DataError(f"{path} must be an image, found one that cannot be decoded ({error}). {advice}") from error


def download(folder: Path, hashes: Mapping[str, str | None], fetch: Callable[[Path], Path], advice: str) -> Path:
    """Fetch files into a temporary folder, check them there, and only then move them to `folder`.

    Args:
        folder: where the files belong.
        hashes: of the files, as `check_files` takes them.
        fetch: function of a temporary folder: fetches the files into it and returns the folder that holds them.
        advice: what to do without a network.

    Raises:
        DataError: no network, or wrong files; the files in `folder` are unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        try:
            fetched = fetch(Path(temporary))
        except (RuntimeError, OSError) as error:  # RuntimeError is torchvision's for a file that arrived damaged
            raise DataError(f"The files of {folder} could not be fetched ({error}). {advice}") from error
        check_files(fetched, hashes, "Try again; if it stays so, the source has changed.")
        for name in hashes:
            os.replace(fetched / name, folder / name)
    return folder
