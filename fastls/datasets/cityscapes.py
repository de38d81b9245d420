"""Cityscapes with three dense tasks: the class of each pixel, the centre of its car or person, and its disparity.

After Filatov and Merkulov (2021) and Sener and Koltun (2018): semantic segmentation, instance segmentation by
regression, and disparity. The images lie in Cityscapes' official layout under ``data/cityscapes``. If they are missing,
`street_scenes` writes synthetic scenes in the same layout, and the same code reads them.
"""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastls.datasets import street_scenes
from fastls.datasets.common import DataError, MultiTaskData, check_request, holds_files, warn_of_unused
from fastls.datasets.scene_files import SceneFiles, read_scene
from fastls.paths import DATA

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as its weights expect
SOURCES = {
    "cityscapes": "Cityscapes",
    "synthetic": "synthetic street scenes (stand-in for Cityscapes)",
}
SCALE = 2  # the stand-in's scenes are drawn this much larger than they are read
LOOKS_LIKE_IT = r"(leftImg8bit|gtFine|disparity)(_|$)|cityscapes.*\.(zip|tar|gz)$"  # names of files that are not read
HOW_TO_GET = (
    "Cityscapes may not be passed on: register at https://www.cityscapes-dataset.com, fetch "
    "leftImg8bit_trainvaltest.zip (11 GB), gtFine_trainvaltest.zip (241 MB) and disparity_trainvaltest.zip (3.5 GB), "
    "and unpack all three into data/cityscapes. Without that folder synthetic street scenes stand in."
)


def load_cityscapes(
    n_train: int = 2975,
    n_test: int = 500,
    source: str = "auto",
    size: tuple[int, int] = (256, 512),
    crop: tuple[int, int] | None = None,
    workers: int = 0,
    root: Path = DATA,
) -> MultiTaskData:
    """Street scenes with the tasks "semantic", "instance" and "disparity"; the test split is Cityscapes' "val".

    Args:
        n_train, n_test: number of images, from the start of an order that mixes the cities.
        source: "cityscapes", "synthetic", or "auto": Cityscapes if it lies under `root`, else synthetic scenes.
        size: height and width to which images and maps are resized.
        crop: height and width of a random window of every training image; None for the whole image.
        workers: number of processes that read images. With 0 every image is read once and kept: the set must fit into
            memory. Otherwise images are read anew each time, and the processes live as long as the split.
        root: folder that contains ``cityscapes``; ``street-scenes`` are written there.

    Returns:
        MultiTaskData whose batches are normalised images (B, 3, H, W), and by task the targets (B, H, W) int64,
        (B, 2, H, W) and (B, 1, H, W) float32, see `read_scene`.

    Raises:
        DataError: a file is missing, or not what it should be, or more images are asked for than there are.
        ValueError: an unknown source, no images asked for, a size or crop whose sides are not multiples of 8.

    Example:
        >>> data = load_cityscapes(n_train=2975, n_test=500, source="cityscapes")  # doctest: +SKIP
        >>> len(data.train)                                                        # doctest: +SKIP
        2975
    """
    source = find_source(root) if source == "auto" else source
    check_request(source, SOURCES, n_train, n_test)
    _check_window("size", size, largest=None)
    if crop is not None:
        _check_window("crop", crop, largest=size)
    folder = root / "cityscapes" if source == "cityscapes" else _make_scenes(n_train, n_test, size, root)
    advice = HOW_TO_GET if source == "cityscapes" else f"Delete {folder}: its scenes are then drawn anew."
    train, test = (
        SceneSplit(_list_scenes(folder, split, n, advice), tuple(size), window, workers)
        for split, n, window in (("train", n_train, tuple(crop) if crop else None), ("val", n_test, None))
    )
    return MultiTaskData(source, SOURCES[source], train, test)


def find_source(root: Path = DATA) -> str:
    """ "cityscapes" if its folder under `root` holds files, else "synthetic", with a warning if files look like it."""
    if holds_files(root / "cityscapes"):
        return "cityscapes"
    warn_of_unused(root, LOOKS_LIKE_IT, SOURCES["synthetic"], HOW_TO_GET)
    return "synthetic"


def _check_window(name: str, window: tuple[int, int], largest: tuple[int, int] | None) -> None:
    if len(window) != 2 or any(side < 16 or side % 8 for side in window):
        raise ValueError(f"`{name}` must be a height and a width, multiples of 8 from 16, found {tuple(window)}.")
    if largest and any(side > limit for side, limit in zip(window, largest, strict=True)):
        raise ValueError(f"`{name}` must lie within `size`, {tuple(largest)}, found {tuple(window)}.")


def _make_scenes(n_train: int, n_test: int, size: tuple[int, int], root: Path) -> Path:
    """The folder of the synthetic scenes; they are drawn if the folder is missing."""
    height, width = size
    folder = root / "street-scenes" / f"v{street_scenes.VERSION}-{height}x{width}-{n_train}-{n_test}"
    if not folder.exists():
        street_scenes.write_scenes(folder, n_train, n_test, (SCALE * height, SCALE * width))
    return folder


def _list_scenes(root: Path, split: str, n: int, advice: str) -> tuple[SceneFiles, ...]:
    folder = root / "leftImg8bit" / split
    images = list(folder.glob("*/[!.]*_leftImg8bit.png"))  # macOS puts a hidden file beside each
    if not images:
        raise DataError(f"{folder} must hold the images of Cityscapes, found none. {advice}")
    if n > len(images):
        raise DataError(f"{root} has {len(images):,} images of the split {split!r}, found {n:,} asked for: take fewer.")
    # Sorted by the hash of the name: otherwise the first thousand images would show only a few cities.
    images.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    scenes = [_find_maps(root, split, image) for image in images[:n]]
    for scene in scenes:
        for path in scene:
            if not path.exists():
                raise DataError(f"{path} is missing: {scene.image.name} needs it. {advice}")
    return tuple(scenes)


def _find_maps(root: Path, split: str, image: Path) -> SceneFiles:
    city, name = image.parent.name, image.name.removesuffix("_leftImg8bit.png")
    truth = root / "gtFine" / split / city
    return SceneFiles(
        image,
        truth / f"{name}_gtFine_labelIds.png",
        truth / f"{name}_gtFine_instanceIds.png",
        root / "disparity" / split / city / f"{name}_disparity.png",
    )


@dataclass(frozen=True)
class SceneSplit:
    """One split on disk, see `load_cityscapes`; reads through a `DataLoader`.

    Attributes:
        files: of every image.
        size, crop, workers: as in `load_cityscapes`.
        device: of the batches.
        kept: the images read so far, if ``workers`` is 0.
    """

    files: tuple[SceneFiles, ...]
    size: tuple[int, int]
    crop: tuple[int, int] | None = None
    workers: int = 0
    device: str | torch.device = "cpu"
    kept: dict = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    @functools.cached_property
    def loader(self) -> DataLoader:
        """The loader, kept: to start its processes can take longer than to read an epoch.

        Its sampler is a list that `batches` fills for each pass: (index, place of the crop) of every image, by batch.
        """
        return DataLoader(
            Scenes(self.files, self.size, self.crop, None if self.workers else self.kept),
            batch_sampler=[],
            num_workers=self.workers,
            pin_memory=torch.device(self.device).type == "cuda",
            generator=torch.Generator(),  # its own: each pass draws from it, which must not change dropout
            persistent_workers=self.workers > 0,
        )

    def batches(self, order: Tensor, batch_size: int, training: bool) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """As in `Split`; torch's global generator decides where the crops of training lie."""
        places = torch.rand(len(order), 2) if training and self.crop else [None] * len(order)
        examples = list(zip(order.tolist(), places, strict=True))
        self.loader.batch_sampler[:] = [examples[i : i + batch_size] for i in range(0, len(examples), batch_size)]
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in (MEAN, STD))
        for images, targets in self.loader:
            images = images.to(self.device, non_blocking=True).float().div_(255).sub_(mean).div_(std)
            targets = {task: target.to(self.device, non_blocking=True) for task, target in targets.items()}
            yield images, targets | {"semantic": targets["semantic"].long()}

    def first(self, n: int) -> "SceneSplit":
        return replace(self, files=self.files[:n])

    def to(self, device: str | torch.device) -> "SceneSplit":
        return replace(self, device=device)

    def hash_into(self, digest: "hashlib._Hash") -> None:
        """Feed the names, and each file's Adler-32 of its pixels: a PNG ends with it, so megabytes need not be read."""
        digest.update(f"{self.size} {self.crop}".encode())
        for scene in self.files:
            digest.update(scene.image.name.encode())
            for path in scene:
                digest.update(_read_checksum(path))


def _read_checksum(path: Path) -> bytes:
    if path.stat().st_size < 20:
        raise DataError(f"{path} must be a PNG, found {path.stat().st_size} bytes. Fetch it anew.")
    with path.open("rb") as file:
        file.seek(-20, 2)  # after it come the checksum of its chunk (4 bytes) and the chunk IEND (12)
        return file.read(4)


@dataclass
class Scenes(Dataset):
    """Scenes by (index, place of the crop), as uint8 images and targets; if `kept` is None, images are read anew."""

    files: tuple[SceneFiles, ...]
    size: tuple[int, int]
    crop: tuple[int, int] | None
    kept: dict | None

    def __getitem__(self, example: tuple[int, Tensor | None]) -> tuple[Tensor, dict[str, Tensor]]:
        index, place = example
        image, targets = self._read(self.files[index])
        if place is None:
            return image, targets
        slack = [side - window for side, window in zip(self.size, self.crop, strict=True)]
        top, left = (int(share * (room + 1)) for share, room in zip(place.tolist(), slack, strict=True))
        window = (..., slice(top, top + self.crop[0]), slice(left, left + self.crop[1]))
        return image[window], {task: target[window] for task, target in targets.items()}

    def _read(self, files: SceneFiles) -> tuple[Tensor, dict[str, Tensor]]:
        if self.kept is None:
            return read_scene(files, self.size)
        if files not in self.kept:
            self.kept[files] = read_scene(files, self.size)
        return self.kept[files]
