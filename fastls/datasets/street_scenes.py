"""Street scenes drawn by rule, the stand-in for Cityscapes, written to disk in its official layout.

A pinhole camera looks down a street: road and pavement are the ground plane, buildings and hedges stand on two planes
beside it, and trees, poles, signs, people and cars are flat figures at a depth of their own. Class, instance and
disparity maps come from the same geometry as the image, so they agree to the pixel.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

VERSION = 1  # raise it when a scene changes: scenes on disk are then drawn anew
CITY = "synthetic"
FOCAL = 1.1  # focal length in image widths, as of Cityscapes' cameras
BASELINE = 0.22  # metres between the two cameras
CAMERA = 1.3  # metres above the ground
BLOCK = 9.0  # metres of street that one building takes
FAR = 150.0  # metres: the largest depth
# Cityscapes' own ids
LABELS = {"road": 7, "sidewalk": 8, "building": 11, "vegetation": 21, "sky": 23, "person": 24, "car": 26}
LABELS |= {"pole": 17, "traffic light": 19, "traffic sign": 20}
HAZE = np.array([185, 195, 205])


class Scene(NamedTuple):
    """One view with its ground truth.

    Attributes:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8, Cityscapes' label ids.
        instances: (H, W) uint16, 1000 · label + number on cars and people, the label elsewhere.
        disparity: (H, W) uint16, 256 · pixels + 1, and 0 where it is unknown: in the sky.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    disparity: np.ndarray


def write_scenes(root: Path, n_train: int, n_val: int, size: tuple[int, int], seed: int = 0) -> Path:
    """Draw scenes and write them in the layout of Cityscapes: ``leftImg8bit``, ``gtFine`` and ``disparity``.

    Args:
        root: the folder; it appears when all scenes are written, or not at all.
        n_train, n_val: number of scenes of the splits "train" and "val".
        size: height and width in pixels.
        seed: of the scenes; scene i of a split does not depend on the number of scenes.

    Returns:
        The folder.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".scenes-", dir=root.parent) as temporary:
        for split_number, (split, n) in enumerate((("train", n_train), ("val", n_val))):
            for i in range(n):
                scene = render_scene(size, np.random.RandomState([seed, split_number, i]))
                _write_scene(Path(temporary) / "scenes", split, i, scene)
        try:
            os.replace(Path(temporary) / "scenes", root)
        except OSError:
            if not root.exists():  # else another process has just written the same scenes
                raise
    return root


def _write_scene(root: Path, split: str, number: int, scene: Scene) -> None:
    name = f"{CITY}_{number:06d}_000019"
    for folder, kind, pixels in (
        ("leftImg8bit", "leftImg8bit", scene.image),
        ("gtFine", "gtFine_labelIds", scene.labels),
        ("gtFine", "gtFine_instanceIds", scene.instances),
        ("disparity", "disparity", scene.disparity),
    ):
        path = root / folder / split / CITY / f"{name}_{kind}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def render_scene(size: tuple[int, int], random: np.random.RandomState) -> Scene:
    """One scene of height and width `size`. It uses RandomState, whose stream NumPy never changes.

    Example:
        >>> scene = render_scene((64, 128), np.random.RandomState(0))
        >>> scene.image.shape, scene.disparity.dtype
        ((64, 128, 3), dtype('uint16'))
    """
    street = Street(size, random)
    canvas = Canvas(street, *street.draw_planes())
    for _, draw, arguments in sorted(street.place_figures(), key=lambda figure: -figure[0]):
        draw(canvas, *arguments)
    return canvas.finish()


class Street:
    """The camera and the proportions of a street; x to the right, y up from the ground, z ahead, in metres."""

    def __init__(self, size: tuple[int, int], random: np.random.RandomState):
        self.height, self.width = size
        self.random = random
        self.focal = FOCAL * self.width
        self.centre = self.width * random.uniform(0.42, 0.58)
        self.horizon = self.height * random.uniform(0.40, 0.50)
        self.kerb = random.uniform(4.0, 6.0)  # from the middle of the road
        self.wall = self.kerb + random.uniform(2.0, 4.0)
        self.light = random.uniform(0.65, 1.1)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Column and row of a point."""
        return self.centre + self.focal * x / z, self.horizon + self.focal * (CAMERA - y) / z

    def draw_planes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ground, buildings and sky: colours (H, W, 3), labels and inverse depths (H, W)."""
        random = self.random
        rows, columns = np.mgrid[: self.height, : self.width] + 0.5
        across, down = (columns - self.centre) / self.focal, (rows - self.horizon) / self.focal  # of a ray, at z = 1
        # 1/z of the three planes that a ray may hit; the largest is the nearest.
        inverse = np.stack([down / CAMERA, np.abs(across) / self.wall])
        surface, inverse = inverse.argmax(0), inverse.max(0).clip(1 / FAR)
        z = 1 / inverse
        x, y = across * z, CAMERA - down * z
        block = (z / BLOCK).astype(int)  # number of the building or hedge on its side
        side = (x > 0).astype(int)
        heights = random.uniform(6, 16, (2, block.max() + 1))
        hedge = random.uniform(0, 1, heights.shape) < 0.25
        heights[hedge] /= 4
        tints = random.uniform(60, 190, (*heights.shape, 1)) * random.uniform(0.8, 1.1, (*heights.shape, 3))
        tints[hedge] = (60, 105, 45)
        window = (z % 3 < 1.6) & (y % 3.2 > 1.4) & ~hedge[side, block]
        walls = tints[side, block] * np.where(window, 0.55, 1.0)[..., None]
        marking = (np.abs(x) < 0.12) & (z % 6 < 3)
        on_road = np.abs(x) < self.kerb
        ground = np.where(on_road, np.where(marking, 210, 95), 150)[..., None] * np.array([1.0, 0.98, 0.97])
        standing = (surface == 1) & (y < heights[side, block])
        labels = np.where(on_road, LABELS["road"], LABELS["sidewalk"])
        labels = np.where(surface == 1, LABELS["sky"], labels)
        labels = np.where(standing, np.where(hedge[side, block], LABELS["vegetation"], LABELS["building"]), labels)
        sky = np.array([120, 165, 215]) + 60 * (rows / self.horizon).clip(0, 1)[..., None]
        colours = np.where((surface == 0)[..., None], ground, np.where(standing[..., None], walls, sky))
        is_sky = labels == LABELS["sky"]
        return np.where(is_sky[..., None], colours, fade(colours, z)), labels, np.where(is_sky, 0, inverse)

    def place_figures(self) -> list[tuple]:
        """(depth, drawing function, its arguments) of every figure on the street, in no order."""
        random, uniform = self.random, self.random.uniform
        figures = []
        for side in (-1, 1):
            edge = side * (self.kerb + 0.6)
            for z in np.arange(uniform(7, 14), 90, uniform(10, 18)):
                figures.append((z, draw_tree, (edge + side * 0.5, z, uniform(4, 7), uniform(1.2, 2.2))))
            for z in np.arange(uniform(5, 10), 80, uniform(12, 22)):
                figures.append((z, draw_pole, (edge, z, random.choice(["traffic sign", "traffic light", "lamp"]))))
            for _ in range(random.randint(0, 5)):
                x, z = side * uniform(self.kerb + 0.3, self.wall - 0.3), uniform(5, 40)
                figures.append((z, draw_person, (x, z, uniform(1.5, 1.9), uniform(30, 220, 3))))
            for z in np.arange(uniform(6, 15), 80, uniform(7, 16)):
                lane = side * uniform(self.kerb - 1.4, self.kerb - 1.1) if random.rand() < 0.7 else side * 1.8
                figures.append((z, draw_car, (lane, z, uniform(1.35, 1.7), uniform(20, 235, 3))))
        return figures


def fade(colours: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Colours as they appear through z metres of haze."""
    near = np.exp(-z / 70)[..., None]
    return near * colours + (1 - near) * HAZE


class Canvas:
    """Image, labels, instances and inverse depth; a shape is drawn into all four and covers the same pixels."""

    def __init__(self, street: Street, colours: np.ndarray, labels: np.ndarray, inverse: np.ndarray):
        self.street = street
        colours = (street.light * colours).clip(0, 255).astype(np.uint8)
        maps = (labels.astype(np.int32), labels.astype(np.int32), inverse.astype(np.float32))
        self.layers = [Image.fromarray(pixels) for pixels in (colours, *maps)]
        self.pens = [ImageDraw.Draw(layer) for layer in self.layers]
        self.count = 0

    def start_instance(self, label: str) -> int:
        """A new instance id in the official form."""
        self.count += 1
        return 1000 * LABELS[label] + self.count - 1

    def draw(self, shape: str, x: float, low: float, high: float, half: float, z: float, colour, label, instance=None):
        """A "rectangle" or "ellipse" at depth z, centred at x, from `low` to `high` above the ground."""
        left, top = self.street.project(x - half, high, z)
        right, bottom = self.street.project(x + half, low, z)
        shade = self.street.light * fade(np.asarray(colour), np.asarray(z))
        fill = tuple(int(value) for value in shade.clip(0, 255))
        values = (fill, LABELS[label], instance or LABELS[label], 1 / z)
        for pen, value in zip(self.pens, values, strict=True):
            getattr(pen, shape)((left, top, right, bottom), fill=value)

    def finish(self) -> Scene:
        """The maps in the official encodings; the image with a little noise."""
        image, labels, instances, inverse = (np.asarray(layer) for layer in self.layers)
        noise = self.street.random.normal(0, 5, image.shape)
        disparity = self.street.focal * BASELINE * inverse
        coded = np.where(inverse > 0, np.rint(256 * disparity) + 1, 0).clip(0, 2**16 - 1)
        return Scene(
            (image + noise).clip(0, 255).astype(np.uint8),
            labels.astype(np.uint8),
            instances.astype(np.uint16),
            coded.astype(np.uint16),
        )


def draw_tree(canvas: Canvas, x: float, z: float, height: float, half: float) -> None:
    canvas.draw("rectangle", x, 0, height / 2, 0.15, z, (85, 65, 45), "vegetation")
    for lift, width, green in ((0.35, 1.0, 85), (0.5, 0.75, 110)):
        canvas.draw("ellipse", x, lift * height, height, width * half, z, (55, green, 40), "vegetation")


def draw_pole(canvas: Canvas, x: float, z: float, kind: str) -> None:
    height = 5.0 if kind == "lamp" else 3.0
    canvas.draw("rectangle", x, 0, height, 0.06, z, (110, 110, 115), "pole")
    if kind == "traffic sign":
        canvas.draw("ellipse", x, 2.3, 3.1, 0.4, z, (200, 40, 40), kind)
    elif kind == "traffic light":
        canvas.draw("rectangle", x, 2.2, 3.2, 0.2, z, (40, 45, 40), kind)
        canvas.draw("ellipse", x, 2.8, 3.1, 0.15, z, (240, 80, 40), kind)


def draw_person(canvas: Canvas, x: float, z: float, height: float, colour: np.ndarray) -> None:
    instance = canvas.start_instance("person")
    parts = (("rectangle", 0, 0.5, 0.16, (45, 45, 60)), ("ellipse", 0.42, 0.88, 0.26, colour))
    for shape, low, high, half, tint in (*parts, ("ellipse", 0.85, 1.0, 0.12, (205, 160, 130))):
        canvas.draw(shape, x, low * height, high * height, half, z, tint, "person", instance)


def draw_car(canvas: Canvas, x: float, z: float, height: float, colour: np.ndarray) -> None:
    instance = canvas.start_instance("car")
    for wheel in (-0.65, 0.65):
        canvas.draw("rectangle", x + wheel, 0, 0.5, 0.13, z, (25, 25, 25), "car", instance)
    canvas.draw("rectangle", x, 0.25, 0.6 * height, 0.88, z, colour, "car", instance)
    canvas.draw("ellipse", x, 0.4 * height, height, 0.75, z, colour, "car", instance)
    canvas.draw("ellipse", x, 0.62 * height, 0.93 * height, 0.6, z, (50, 60, 75), "car", instance)
    for lamp in (-0.7, 0.7):
        canvas.draw("rectangle", x + lamp, 0.4 * height, 0.5 * height, 0.1, z, (190, 25, 25), "car", instance)
