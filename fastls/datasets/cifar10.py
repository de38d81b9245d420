"""CIFAR-10 as ten one-vs-rest tasks: is it an airplane, is it an automobile, ...

After Filatov and Merkulov (2021), who "use ten classes for creating ten synthetic 'one vs rest' classification
problems". The images come from the original batches or from a folder of images. If both are missing, they come from
`shapes`, whose ten classes replace those of CIFAR-10 in the same tasks.
"""

import pickle
import tarfile
import zlib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fastls.datasets.common import (
    DataError,
    ImageSplit,
    MultiTaskData,
    check_files,
    check_request,
    check_sizes,
    download,
    holds_files,
    permutation,
    warn_of_unused,
)
from fastls.datasets.image_folder import read_image_folder
from fastls.datasets.shapes import draw_shapes
from fastls.paths import DATA

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_TASKS = 20
SIDE = 32  # pixels
BATCHES = "cifar-10-batches-py"  # folder of the original files
ARCHIVE = "cifar-10-python.tar.gz"  # which holds that folder
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the channels of the training images, as usual
SOURCES = {  # the stand-in last
    "cifar10": "CIFAR-10",
    "cifar10-jpeg": "CIFAR-10 (JPEG copy)",
    "shapes": "synthetic shapes (stand-in for CIFAR-10)",
}
DOWNLOAD = "python -m fastls data download cifar10"
LOOKS_LIKE_IT = r"cifar.?10[^0].*\.(tar|gz|tgz|zip|mat|parquet)$|data_batch_\d"  # names of files that are not read
HOW_TO_GET = f"CIFAR-10 belongs in data/{BATCHES}, packed as data/{ARCHIVE} or, as images, in data/cifar10: {DOWNLOAD}"
ADVICE = f"Run `{DOWNLOAD}` to fetch CIFAR-10 anew, or delete the folder to use the synthetic shapes."

Arrays = tuple[Tensor, Tensor]  # images (N, 3, 32, 32) uint8 and labels (N,) int64


def load_cifar10(
    n_train: int = 50_000,
    n_test: int = 10_000,
    source: str = "auto",
    tasks: int = 10,
    augment: bool = False,
    seed: int = 0,
    root: Path = DATA,
) -> MultiTaskData:
    """Colour images with one target per task: 1 if the image belongs to the task's classes, else 0.

    Args:
        n_train, n_test: number of images, from the start of a seeded order in which the classes take turns.
        source: "cifar10" (the original batches), "cifar10-jpeg" (a folder of images), "shapes", or "auto": the first
            of these that lies under `root`.
        tasks: T from 1 to 20: the first T of ten one-vs-rest tasks and ten groupings, see `task_classes`.
        augment: flip and crop the images of training, see `flip_and_crop`.
        seed: of the order of the images.
        root: folder with ``cifar-10-batches-py``, or ``cifar-10-python.tar.gz``, which is unpacked beside it, or
            ``cifar10/{train,test}/<class>/*.{jpg,jpeg,png}``.

    Returns:
        MultiTaskData with images (N, 3, 32, 32) and targets (N,) float32.

    Raises:
        DataError: files are missing, damaged or not CIFAR-10's, or more images are asked for than there are.
        ValueError: an unknown source, a number of tasks outside 1..20, or no images asked for.

    Example:
        >>> data = load_cifar10(n_train=100, n_test=10, source="shapes")
        >>> data.train.images.shape, data.train.targets["bird"].mean()
        (torch.Size([100, 3, 32, 32]), tensor(0.1000))
    """
    source = find_source(root) if source == "auto" else source
    check_request(source, SOURCES, n_train, n_test)
    groups = task_classes(tasks)
    if source == "shapes":
        train, test = _draw(n_train, (seed, 0)), _draw(n_test, (seed, 1))
    else:
        all_train, all_test = _read_batches(root) if source == "cifar10" else _read_folder(root)
        check_sizes("CIFAR-10", n_train, n_test, len(all_train[1]), len(all_test[1]))
        train, test = _take(all_train, n_train, (seed, 0)), _take(all_test, n_test, (seed, 1))
    splits = _make_split(*train, groups, flip_and_crop if augment else None), _make_split(*test, groups, None)
    return MultiTaskData(source, SOURCES[source], *splits)


def task_classes(tasks: int = 10) -> dict[str, tuple[int, ...]]:
    """Name of a task -> the labels whose target is 1.

    The first ten tasks ask for one class each. The others serve to measure cost for T > 10: they ask whether an image
    belongs to a group of five classes. The groups are seeded, and no two are the same.

    Raises:
        ValueError: `tasks` outside 1..20.

    Example:
        >>> task_classes(3)
        {'airplane': (0,), 'automobile': (1,), 'bird': (2,)}
    """
    if not 1 <= tasks <= MAX_TASKS:
        raise ValueError(f"`tasks` must be from 1 to {MAX_TASKS}, found {tasks}.")
    single = {name: (label,) for label, name in enumerate(CLASSES)}
    fives = list(combinations(range(len(CLASSES)), 5))
    chosen = permutation(len(fives), (0,))[: MAX_TASKS - len(CLASSES)]
    grouped = {f"grouping_{i + 1}": fives[k] for i, k in enumerate(chosen)}
    return dict(list((single | grouped).items())[:tasks])


def flip_and_crop(images: Tensor, margin: int = 4) -> Tensor:
    """Mirror every image with probability ½ and shift it by up to `margin` pixels each way; zeros fill the gap.

    Args:
        images: (B, C, H, W), normalised, so that zero is the mean colour.
        margin: pixels.

    Returns:
        New tensor of the same shape; the random numbers come from torch's generator on the images' device.
    """
    n, _, height, width = images.shape

    def draw(bound: int) -> Tensor:
        return torch.randint(bound, (n, 1), device=images.device)

    rows = draw(2 * margin + 1) + torch.arange(height, device=images.device)
    columns = draw(2 * margin + 1) + torch.arange(width, device=images.device)
    columns = torch.where(draw(2) == 1, columns.flip(1), columns)
    one_each = torch.arange(n, device=images.device)[:, None, None]
    moved = pad(images, (margin,) * 4)[one_each, :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return moved.permute(0, 3, 1, 2)


def find_source(root: Path = DATA) -> str:
    """ "cifar10" or "cifar10-jpeg" if it lies under `root`, else "shapes", with a warning if files look like it."""
    if holds_files(root / BATCHES) or (root / ARCHIVE).exists():
        return "cifar10"
    if holds_files(root / "cifar10"):
        return "cifar10-jpeg"
    warn_of_unused(root, LOOKS_LIKE_IT, SOURCES["shapes"], HOW_TO_GET)
    return "shapes"


def download_cifar10(root: Path = DATA) -> Path:
    """Fetch CIFAR-10 (170 MB) by torchvision, check it, and return its folder.

    Raises:
        DataError: no network, or files that are not CIFAR-10's; the files in the folder are unchanged.
    """
    from torchvision.datasets import CIFAR10

    def fetch(temporary: Path) -> Path:
        CIFAR10(temporary, download=True)
        return temporary / BATCHES

    advice = (
        f"On a machine with a network, run `{DOWNLOAD}`, or unpack {CIFAR10.url} into {root}. "
        "Without it the synthetic shapes stand in."
    )
    return download(root / BATCHES, _batch_files(), fetch, advice)


def _batch_files() -> dict[str, str]:
    """Name -> md5 of the files of the Python version of CIFAR-10, as torchvision lists them."""
    from torchvision.datasets import CIFAR10

    return dict([*CIFAR10.train_list, *CIFAR10.test_list])


def _read_batches(root: Path) -> tuple[Arrays, Arrays]:
    if not holds_files(root / BATCHES) and (root / ARCHIVE).exists():
        _unpack(root / ARCHIVE)
    check_files(root / BATCHES, _batch_files(), ADVICE)  # before unpickling, which may run code
    batches = {name: _unpickle(root / BATCHES / name) for name in _batch_files()}
    test = batches.pop("test_batch")
    return tuple(torch.cat(parts) for parts in zip(*batches.values(), strict=True)), test


def _unpack(archive: Path) -> None:
    try:
        with tarfile.open(archive, "r:gz") as file:
            file.extractall(archive.parent, filter="data")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} must be CIFAR-10's archive, found another file ({error}). {ADVICE}") from error


def _unpickle(path: Path) -> Arrays:
    batch = pickle.loads(path.read_bytes(), encoding="latin1")
    return torch.from_numpy(batch["data"]).view(-1, 3, SIDE, SIDE), torch.tensor(batch["labels"])


def _read_folder(root: Path) -> tuple[Arrays, Arrays]:
    splits = read_image_folder(root / "cifar10", CLASSES, SIDE, root / "cache" / "cifar10.pt", ADVICE)
    return splits["train"], splits["test"]


def _take(arrays: Arrays, n: int, seed: tuple[int, int]) -> Arrays:
    """The first n in a seeded order; the classes take turns as long as each has images left."""
    images, labels = arrays
    shuffled = permutation(len(labels), seed)
    classes = labels.numpy()[shuffled]
    turns = np.empty(len(classes), dtype=np.int64)
    for label in range(len(CLASSES)):
        members = np.flatnonzero(classes == label)
        turns[members] = np.arange(len(members))
    chosen = torch.from_numpy(shuffled[np.lexsort((classes, turns))[:n]])
    return images[chosen], labels[chosen]


def _draw(n: int, seed: tuple[int, int]) -> Arrays:
    images, labels = draw_shapes(n, seed)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def _make_split(
    images: Tensor, labels: Tensor, groups: dict[str, tuple[int, ...]], augment: Callable[[Tensor], Tensor] | None
) -> ImageSplit:
    targets = {task: torch.isin(labels, torch.tensor(group)).float() for task, group in groups.items()}
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ImageSplit(images, targets, mean, std, augment)
