"""Ten classes of 32 × 32 colour shapes and textures, drawn from a seed: the stand-in for CIFAR-10.

Place, size, colours and noise vary within a class: no single pixel reveals the class, and a linear model fails. A
convolutional network learns the classes within minutes. Whole numbers only: the same bytes on every platform.
"""

import numpy as np

CLASSES = (
    "disc",
    "ring",
    "square",
    "frame",
    "triangle",
    "cross",
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "chequers",
)
SIDE = 32
CHUNK = 1000  # images drawn at once
NOISE = 24  # grey levels either way
CONTRAST = 96  # smallest difference of a colour channel, modulo 256 levels


def draw_shapes(n: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The first n images of an endless seeded sequence in which the classes take turns.

    Args:
        n: number of images.
        seed: whole numbers that fix the sequence.

    Returns:
        Images (n, 32, 32, 3) uint8 and labels (n,) int64, the places in `CLASSES`.

    Example:
        >>> images, labels = draw_shapes(20, (0, 0))
        >>> images.shape, labels[:3].tolist()
        ((20, 32, 32, 3), [0, 1, 2])
    """
    draws = np.random.PCG64(list(seed))  # raw draws, which NumPy never changes
    chunks = [_draw_chunk(min(CHUNK, n - start), start, draws) for start in range(0, n, CHUNK)]
    return np.concatenate(chunks), np.arange(n, dtype=np.int64) % len(CLASSES)


def _draw_chunk(n: int, start: int, draws: np.random.PCG64) -> np.ndarray:
    # A fixed number of draws per image: the images do not depend on how many are drawn.
    raw = draws.random_raw(n * (10 + SIDE * SIDE * 3 // 8)).reshape(n, -1)
    noise = raw[:, 10:].astype("<u8").view(np.uint8).reshape(n, SIDE, SIDE, 3)
    choices = (raw[:, :10] >> 11).astype(np.int64)[:, :, None, None]
    inside = np.empty((n, SIDE, SIDE), dtype=bool)
    for label, mask in enumerate((*_SHAPES, *_TEXTURES)):
        which = slice((label - start) % len(CLASSES), None, len(CLASSES))
        inside[which] = mask(*_place(choices[which]))
    background = choices[:, 4:7, 0, 0] % 256
    foreground = (background + CONTRAST + choices[:, 7:10, 0, 0] % (257 - 2 * CONTRAST)) % 256
    colours = np.where(inside[..., None], foreground[:, None, None], background[:, None, None])
    return (colours + noise % (2 * NOISE + 1) - NOISE).clip(0, 255).astype(np.uint8)


def _place(choices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates about a random centre, and a random radius of 6 to 10 pixels."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return columns - 11 - choices[:, 0] % 10, rows - 11 - choices[:, 1] % 10, 6 + choices[:, 2] % 5


# Masks: x, y and the radius r -> whether a pixel belongs to the shape. Stripes are r // 2 pixels wide, 3 to 5.
_SHAPES = (
    lambda x, y, r: x * x + y * y <= r * r,
    lambda x, y, r: (x * x + y * y <= r * r) & (3 * (x * x + y * y) >= r * r),
    lambda x, y, r: np.maximum(abs(x), abs(y)) <= r,
    lambda x, y, r: (np.maximum(abs(x), abs(y)) <= r) & (2 * np.maximum(abs(x), abs(y)) >= r + 2),
    lambda x, y, r: (abs(y) <= r) & (2 * abs(x) <= y + r),
    lambda x, y, r: (np.maximum(abs(x), abs(y)) <= r) & (3 * np.minimum(abs(x), abs(y)) <= r),
)
_TEXTURES = (
    lambda x, y, r: (y // (r // 2) + 0 * x) % 2 == 0,
    lambda x, y, r: (x // (r // 2) + 0 * y) % 2 == 0,
    lambda x, y, r: (x + y) // (r // 2) % 2 == 0,
    lambda x, y, r: (x // (r // 2) + y // (r // 2)) % 2 == 0,
)
