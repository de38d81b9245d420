"""A folder of images, ``<split>/<class>/*.{jpg,png}``, decoded once into tensors that are kept in one cached file."""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from fastls.datasets.common import DataError
from fastls.paths import write_atomically

SUFFIXES = (".jpg", ".png")
SPLITS = ("train", "test")


def read_image_folder(
    folder: Path, classes: Sequence[str], side: int, cache: Path, advice: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """All images of a folder: split -> images (N, 3, side, side) uint8 and labels (N,) int64, by class and file name.

    Args:
        folder: holds a folder a split, each with a folder a class.
        classes: their names; a label is a place in them.
        side: height and width in pixels that every image must have.
        cache: file for what was decoded; made anew when a name, size or time of the images has changed.
        advice: what to do about a damaged folder, for the messages.

    Raises:
        DataError: the folder of a class is missing or empty, or an image cannot be decoded or has another size.
    """
    files = {split: [_list_images(folder / split / name, advice) for name in classes] for split in SPLITS}
    fingerprint = _compute_fingerprint(folder, files)
    cached = _read_cache(cache)
    if cached.get("fingerprint") != fingerprint:
        cached = {"fingerprint": fingerprint}
        for split, by_class in files.items():
            images = torch.stack([_decode(path, side, advice) for paths in by_class for path in paths])
            labels = torch.tensor([label for label, paths in enumerate(by_class) for _ in paths])
            cached[split] = (images, labels)
        content = BytesIO()
        torch.save(cached, content)
        write_atomically(cache, content.getbuffer())
    return {split: cached[split] for split in SPLITS}


def _list_images(folder: Path, advice: str) -> list[Path]:
    paths = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    if not paths:
        what = "is missing" if not folder.is_dir() else f"holds no {' or '.join(SUFFIXES)}"
        raise DataError(f"{folder} must hold the images of its class, found that it {what}. {advice}")
    return paths


def _compute_fingerprint(folder: Path, files: dict[str, list[list[Path]]]) -> str:
    digest = hashlib.sha256()
    for by_class in files.values():
        for path in (path for paths in by_class for path in paths):
            status = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path) -> dict:
    """What was decoded before; nothing where the file is missing or damaged, since it can be made again."""
    try:
        return torch.load(path, weights_only=True)
    except Exception:
        return {}


def _decode(path: Path, side: int, advice: str) -> Tensor:
    try:
        with Image.open(path) as image:
            pixels = pil_to_tensor(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # PIL raises SyntaxError for a broken PNG
        raise DataError(f"{path} must be an image, found one that cannot be decoded ({error}). {advice}") from error
    if pixels.shape[1:] != (side, side):
        height, width = pixels.shape[1:]
        raise DataError(f"{path} must have {side} × {side} pixels, found {width} × {height}. {advice}")
    return pixels
