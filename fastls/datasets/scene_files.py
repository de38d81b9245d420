"""One image of Cityscapes with its maps, from the files of the official layout to targets of the three dense tasks."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import Cityscapes

from fastls.datasets.common import DataError, open_image

IGNORE = 255  # training label of the pixels that the evaluation ignores
EVALUATED = [entry for entry in Cityscapes.classes if not entry.ignore_in_eval]  # index = training label
CLASSES = {entry.id: entry.name for entry in EVALUATED}  # label id -> name
THINGS = [entry.id for entry in EVALUATED if entry.has_instances]
ADVICE = "Fetch it anew."
LABEL_IDS = 34  # 0..33, including those without a class


class SceneFiles(NamedTuple):
    """The four files of one image."""

    image: Path
    labels: Path
    instances: Path
    disparity: Path


def read_scene(files: SceneFiles, size: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
    """One image and its targets at a height and width of `size`.

    Args:
        files: of the image.
        size: height and width of the result. Images are averaged, maps take the nearest pixel.

    Returns:
        The image (3, H, W) uint8, and the targets

        - "semantic": (H, W) uint8, the training label, or `IGNORE` where the official evaluation has no class;
        - "instance": (2, H, W) float32, for pixels of things the offset to the centre of gravity of their instance,
          right and down, in pixels of the result; NaN elsewhere;
        - "disparity": (1, H, W) float32, in pixels of the result; NaN where it is not known.

    Raises:
        DataError: a map has another size or depth than it should, or labels that are no label ids.
    """
    image = open_image(files.image, ADVICE).convert("RGB")
    labels = _open_map(files.labels, 8, image.size)
    instances = _open_map(files.instances, 16, image.size)
    disparity = _open_map(files.disparity, 16, image.size)
    _check_labels(_nearest(labels, size), _nearest(instances, size), files)
    height, width = size
    scales = np.array([width / image.width, height / image.height], dtype=np.float32)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), {
        "semantic": torch.from_numpy(_to_classes(_nearest(labels, size))),
        "instance": torch.from_numpy(_to_offsets(instances, size, scales)),
        "disparity": torch.from_numpy(_to_pixels(_nearest(disparity, size), scales[0]))[None],
    }


def _open_map(path: Path, bits: int, size: tuple[int, int]) -> np.ndarray:
    layer = open_image(path, ADVICE)
    if layer.mode not in {8: ("L",), 16: ("I", "I;16")}[bits]:  # Pillow's names of grey levels of 8 and 16 bits
        raise DataError(f"{path} must be a grey PNG of {bits} bits, found one of mode {layer.mode!r}. {ADVICE}")
    if layer.size != size:
        raise DataError(f"{path} must have {size} pixels, as its image has, found {layer.size}. {ADVICE}")
    return np.asarray(layer)


def _nearest(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixel under the centre of each pixel of the result."""
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(size, pixels.shape, strict=True))
    return pixels[rows[:, None], columns]


def _check_labels(labels: np.ndarray, instances: np.ndarray, files: SceneFiles) -> None:
    """Instance numbers contain the label id, so a comparison of both maps finds training ids (0 to 18) among labels."""
    if labels.max() >= LABEL_IDS:
        raise DataError(f"{files.labels} must hold label ids from 0 to {LABEL_IDS - 1}, found {labels.max()}. {ADVICE}")
    differ = (labels != np.where(instances < 1000, instances, instances // 1000)).mean()
    if differ > 0.5:
        raise DataError(
            f"{files.labels} must hold the label ids that {files.instances.name} is made of, found others in "
            f"{differ:.0%} of the pixels. Training ids (labelTrainIds) are not label ids. {ADVICE}"
        )


def _to_classes(labels: np.ndarray) -> np.ndarray:
    table = np.full(LABEL_IDS, IGNORE, dtype=np.uint8)
    table[list(CLASSES)] = np.arange(len(CLASSES))
    return table[labels]


def _to_offsets(instances: np.ndarray, size: tuple[int, int], scales: np.ndarray) -> np.ndarray:
    """Centres are computed from the whole instance at full size: a crop or a small size does not move them."""
    ids, number = np.unique(instances, return_inverse=True)
    number = number.reshape(instances.shape)
    count = np.bincount(number.ravel())
    rows, columns = np.mgrid[: instances.shape[0], : instances.shape[1]] + 0.5
    centres = np.stack([np.bincount(number.ravel(), place.ravel()) / count for place in (columns, rows)])
    centres[:, ~np.isin(ids // 1000, THINGS)] = np.nan  # ids below 1000 are labels: no instance, or a group of them
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    offsets = centres[:, _nearest(number, size)] * scales[:, None, None] - np.stack([columns, rows])
    return offsets.astype(np.float32)


def _to_pixels(coded: np.ndarray, scale: float) -> np.ndarray:
    """(value − 1) / 256, the official coding, scaled to the width of the result; NaN for the value 0."""
    coded = coded.astype(np.float32)
    return np.where(coded > 0, (coded - 1) / 256 * scale, np.nan).astype(np.float32)
