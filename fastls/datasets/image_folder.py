"""A folder of images, ``<split>/<class>/*.{jpg,jpeg,png}``, decoded once and kept in one cached file."""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from fastls.datasets.common import DataError, open_image
from fastls.paths import write_atomically

SUFFIXES = (".jpg", ".jpeg", ".png")
SPLITS = ("train", "test")


def read_image_folder(
    folder: Path, classes: Sequence[str], side: int, cache: Path, advice: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """All images of a folder: split -> images (N, 3, side, side) uint8 and labels (N,) int64, by class and file name.

    Args:
        folder: holds one folder per split, each with one folder per class.
        classes: their names; a label is an index into them.
        side: height and width in pixels that every image must have.
        cache: file for the decoded images; rewritten if the name, size or time of an image has changed.
        advice: what to do about a damaged folder, for the messages.

    Raises:
        DataError: the folder of a class is missing or empty, or an image cannot be decoded or has another size.
    """
    samples = {split: _list_images(folder / split, classes, advice) for split in SPLITS}
    fingerprint = _compute_fingerprint(folder, [path for paths in samples.values() for path, _ in paths])
    cached = _read_cache(cache)
    if cached.get("fingerprint") != fingerprint:
        cached = {"fingerprint": fingerprint}
        for split, pairs in samples.items():
            images = torch.stack([_decode(path, side, advice) for path, _ in pairs])
            cached[split] = images, torch.tensor([label for _, label in pairs])
        content = BytesIO()
        torch.save(cached, content)
        write_atomically(cache, content.getbuffer())
    return {split: cached[split] for split in SPLITS}


def _list_images(folder: Path, classes: Sequence[str], advice: str) -> list[tuple[Path, int]]:
    """Files with their labels, by class and name, without hidden files, such as macOS's ``._bird.png``."""
    samples = []
    for label, name in enumerate(classes):
        paths = sorted(path for path in (folder / name).glob("[!.]*") if path.suffix.lower() in SUFFIXES)
        if not paths:
            kinds = " or ".join(SUFFIXES)
            raise DataError(f"{folder / name} must hold the images of its class, {kinds}, found none. {advice}")
        samples += [(path, label) for path in paths]
    return samples


def _compute_fingerprint(folder: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path) -> dict:
    """The images decoded before; an empty dict if the file is missing or damaged, since it can be made again."""
    try:
        return torch.load(path, weights_only=True)
    except Exception:
        return {}


def _decode(path: Path, side: int, advice: str) -> Tensor:
    pixels = pil_to_tensor(open_image(path, advice).convert("RGB"))
    height, width = pixels.shape[1:]
    if (height, width) != (side, side):
        raise DataError(f"{path} must have {side} × {side} pixels, found {width} × {height}. {advice}")
    return pixels
