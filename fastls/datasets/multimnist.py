"""MultiMNIST: two handwritten digits in one image, one shifted left, one shifted right; the tasks are the two digits.

After Filatov (thesis, section 5.1): both images are shifted by four pixels and overlaid. The digits come from MNIST if
its files are on this machine, else from the 1,797 handwritten digits bundled with scikit-learn.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from fastls.datasets.common import (
    DataError,
    ImageSplit,
    MultiTaskData,
    check_content,
    check_request,
    check_sizes,
    download,
    holds_files,
    permutation,
    warn_of_unused,
)
from fastls.paths import DATA

SHIFT = 4  # pixels
MEAN, STD = 0.1307, 0.3081  # of MNIST's pixels, as usual
SOURCES = {  # the stand-in last
    "mnist": "MNIST",
    "digits": "scikit-learn digits (stand-in for MNIST)",
}
# sha256 of the unpacked files of https://yann.lecun.com/exdb/mnist, in torchvision's layout.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
DOWNLOAD = "python -m fastls data download multimnist"
LOOKS_LIKE_IT = r"mnist.*\.(npz|zip|gz|tar|parquet)$|(train|t10k)-(images|labels)"  # names of files that are not read
HOW_TO_GET = f"MNIST's four files, packed (.gz) or not, belong in data/MNIST/raw: {DOWNLOAD}"
FOLDERS = ("MNIST/raw", "MNIST", "mnist", ".")  # below the root; torchvision's first
ADVICE = f"Run `{DOWNLOAD}` to fetch MNIST anew, or delete the folder to use the scikit-learn digits."

Arrays = tuple[np.ndarray, np.ndarray]  # images (N, 28, 28) and labels (N,), both uint8


def load_multimnist(
    n_train: int = 60_000, n_test: int = 10_000, source: str = "auto", seed: int = 0, root: Path = DATA
) -> MultiTaskData:
    """Overlaid pairs of digits, the same on every platform.

    Args:
        n_train, n_test: number of images. With scikit-learn's digits each split repeats its digits in new pairs.
        source: "mnist", "digits", or "auto": MNIST if it lies under `root`, else the digits.
        seed: of the random pairs.
        root: folder with ``MNIST/raw``, as ``torchvision.datasets.MNIST(root)`` reads it, or with the files
            themselves, see `find_file`.

    Returns:
        MultiTaskData with tasks "left" and "right", images of shape (N, 1, 28, 28).

    Raises:
        DataError: files of MNIST are missing, truncated or not MNIST's, or more images are asked for than there are.
        ValueError: an unknown source, or no images asked for.

    Example:
        >>> data = load_multimnist(n_train=100, n_test=10, source="digits")
        >>> data.train.images.shape, sorted(data.train.targets)
        (torch.Size([100, 1, 28, 28]), ['left', 'right'])
    """
    source = find_source(root) if source == "auto" else source
    check_request(source, SOURCES, n_train, n_test)
    train, test = _read_mnist(root) if source == "mnist" else _read_digits()
    if source == "mnist":
        check_sizes("MNIST", n_train, n_test, len(train[1]), len(test[1]))
    splits = _overlay_pairs(*train, n_train, (seed, 0)), _overlay_pairs(*test, n_test, (seed, 1))
    return MultiTaskData(source, SOURCES[source], *splits)


def find_source(root: Path = DATA) -> str:
    """ "mnist" if files of MNIST lie under `root`, else "digits", with a warning if other files look like MNIST's."""
    if holds_files(root / "MNIST" / "raw") or any(find_file(root, name) for name in MNIST_FILES):
        return "mnist"
    warn_of_unused(root, LOOKS_LIKE_IT, SOURCES["digits"], HOW_TO_GET)
    return "digits"


def find_file(root: Path, name: str) -> Path | None:
    """A file of MNIST under `root`, plain or packed (.gz), "idx3" after a hyphen or a dot; None if it is missing."""
    names = [spelling + end for spelling in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    paths = [root / folder / spelling for folder in FOLDERS for spelling in names]
    return next((path for path in paths if path.is_file()), None)


def download_multimnist(root: Path = DATA) -> Path:
    """Fetch MNIST (11 MB) by torchvision, check it, and return its folder.

    Raises:
        DataError: no network, or files that are not MNIST's; the files in the folder are unchanged.
    """
    from torchvision.datasets import MNIST  # imported here: training does not need it

    def fetch(temporary: Path) -> Path:
        MNIST(temporary, train=True, download=True)
        return temporary / "MNIST" / "raw"

    folder = root / "MNIST" / "raw"
    advice = (
        f"On a machine with a network, run `{DOWNLOAD}`, or put these files, unpacked, into {folder}: "
        f"{', '.join(MNIST_FILES)}. Without them the scikit-learn digits stand in."
    )
    return download(folder, MNIST_FILES, fetch, advice)


def _read_mnist(root: Path) -> tuple[Arrays, ...]:
    def read(name: str, header: int) -> np.ndarray:
        return np.frombuffer(_read_file(root, name), dtype=np.uint8, offset=header)

    return tuple(
        (read(f"{split}-images-idx3-ubyte", 16).reshape(-1, 28, 28), read(f"{split}-labels-idx1-ubyte", 8))
        for split in ("train", "t10k")
    )


def _read_file(root: Path, name: str) -> bytes:
    path = find_file(root, name)
    if path is None:
        raise DataError(f"{root / 'MNIST' / 'raw' / name} is missing: {len(MNIST_FILES)} files are needed. {ADVICE}")
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} must be a file that gzip packed, found another ({error}). {ADVICE}") from error
    check_content(path, content, MNIST_FILES[name], ADVICE)
    return content


def _read_digits() -> tuple[Arrays, Arrays]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    # 8 → 40 → 20 pixels in whole numbers: the same bytes on every platform; then MNIST's margin of four pixels.
    large = np.kron(digits.images.astype(np.int64), np.ones((1, 5, 5), dtype=np.int64))
    small = large.reshape(-1, 20, 2, 20, 2).sum(axis=(2, 4)) * 255 // (4 * 16)
    images = np.pad(small, ((0, 0), (4, 4), (4, 4))).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    order = permutation(len(images), (0, 2))
    train, test = order[: 4 * len(order) // 5], order[4 * len(order) // 5 :]
    return (images[train], labels[train]), (images[test], labels[test])


def _overlay_pairs(images: np.ndarray, labels: np.ndarray, n: int, seed: tuple[int, int]) -> ImageSplit:
    """Image i on the left, its partner by a seeded permutation on the right; each pixel is the brighter of the two."""
    repeats = -(-n // len(images))
    left = np.tile(np.arange(len(images)), repeats)[:n]
    right = np.concatenate([permutation(len(images), (*seed, block)) for block in range(repeats)])[:n]
    overlaid = np.zeros((n, 28, 28), dtype=np.uint8)
    overlaid[:, :, :-SHIFT] = images[left][:, :, SHIFT:]
    np.maximum(overlaid[:, :, SHIFT:], images[right][:, :, :-SHIFT], out=overlaid[:, :, SHIFT:])
    targets = {"left": torch.from_numpy(labels[left].astype(np.int64))}
    targets["right"] = torch.from_numpy(labels[right].astype(np.int64))
    return ImageSplit(torch.from_numpy(overlaid)[:, None], targets, MEAN, STD)
