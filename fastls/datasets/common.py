"""What all data sets share: splits held as tensors on the training device, fingerprints, checked files."""

import functools
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor


class DataError(Exception):
    """A data set that is missing or not what it should be. The message says which file, what was found, what to do."""


@dataclass(frozen=True)
class Split:
    """Images and labels of one split, whole, on one device: no loader stands between them and a small network.

    Attributes:
        images: (N, C, H, W) uint8.
        targets: task name -> (N,) int64.
        mean, std: normalisation of pixels in [0, 1].
    """

    images: Tensor
    targets: dict[str, Tensor]
    mean: float
    std: float

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised float32 images and the targets of these examples."""
        images = self.images[index].float().div_(255).sub_(self.mean).div_(self.std)
        return images, {task: target[index] for task, target in self.targets.items()}

    def first(self, n: int) -> "Split":
        return replace(self, images=self.images[:n], targets={task: y[:n] for task, y in self.targets.items()})

    def to(self, device: str | torch.device) -> "Split":
        targets = {task: target.to(device) for task, target in self.targets.items()}
        return replace(self, images=self.images.to(device), targets=targets)


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
        """sha256 of all images and labels, sixteen hexadecimal digits."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.images, *split.targets.values()):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def to(self, device: str | torch.device) -> "MultiTaskData":
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def check_sha256(path: Path, expected: str, advice: str) -> None:
    """Raise `DataError` unless the file has this hash."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is not the file it should be: sha256 must be {expected}, found {found} "
            f"({path.stat().st_size:,} bytes). {advice}"
        )
