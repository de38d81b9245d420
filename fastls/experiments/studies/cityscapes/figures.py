"""Figures of Cityscapes: curves by task, sample images with their classes, predictions beside the truth."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torchvision.datasets import Cityscapes

from fastls.datasets.scene_files import CLASSES
from fastls.experiments.reporting.curves import draw_lines
from fastls.experiments.reporting.frames import describe_seeds, find_best_step
from fastls.experiments.reporting.style import (
    hide_axes,
    line_style,
    new_figure,
    plain_ticks,
    share_legend,
    share_limits,
    sign,
)

LOSSES = {
    "semantic": "semantic, cross-entropy",
    "instance": "instance, l1 (pixels)",
    "disparity": "disparity, l1 (pixels)",
}
COLOURS = np.array([entry.color for entry in Cityscapes.classes if entry.id in CLASSES]) / 255  # the official ones
NOTHING = 0.92  # grey of pixels without a target
MARKERS = ("o", "s", "^", "P", "*")

Maps = dict[str, np.ndarray]


def draw_dense_curves(frame: pd.DataFrame, source: str) -> tuple[Figure, pd.DataFrame]:
    """Train losses above, test losses below, one column per task: SGD at each step, the best EqualWeight, searches.

    Lines are means over seeds, bands span all seeds; a diverged run counts up to the epoch before.

    Args:
        frame: epochs of runs, with columns ``train_loss_<task>`` and ``test_loss_<task>``.
        source: provenance.
    """
    frame, styles = label_lines(frame)
    splits = ("train", "test")
    titles = {f"{split}_loss_{task}": f"{split}: {name}" for split in splits for task, name in LOSSES.items()}
    figure, axes = new_figure(len(LOSSES), 5.2, rows=2)
    table = draw_lines(axes.ravel(), frame, styles, titles)
    for above, below in axes.T:
        above.set(xlabel="", yscale="log")
        below.set_yscale("log")
        share_limits((above, below), ((0, 1),))
    plain_ticks(axes.flat)
    share_legend(figure, axes[0, 0])
    sign(figure, f"mean over {describe_seeds(frame, 'bands')}{_describe_diverged(frame)}\n{source}")
    return figure, table


def label_lines(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The runs of Figure 7 with a column ``label``, and label -> style: shades and markers tell SGD's steps apart."""
    steps = sorted(frame.loc[frame["variant"] == "SGD", "lr"].unique())
    shades = sns.color_palette("Blues", len(steps) + 2)[2:]
    parts, styles = [], {}
    for step, shade, marker in zip(steps, shades, cycle(MARKERS), strict=False):
        label = f"SGD {step:g}"
        parts.append(frame[(frame["variant"] == "SGD") & (frame["lr"] == step)].assign(label=label))
        styles[label] = line_style("SGD") | {"color": shade, "marker": marker}
    equal = frame[frame["variant"] == "EqualWeight"]
    best = find_best_step(frame[frame["final"]], "EqualWeight")
    shown, said = (equal["lr"].min(), "smallest") if best is None else (best, "best")
    said += f" of {equal['lr'].nunique()}{', all diverged' if best is None else ''}"
    label = f"EqualWeight {shown:g} ({said})"
    parts.append(equal[equal["lr"] == shown].assign(label=label))
    styles[label] = line_style("EqualWeight")
    for name in ("FBLS", "FBLS+decay"):
        parts.append(frame[frame["variant"] == name].assign(label=name))
        styles[name] = line_style(name)
    return pd.concat(parts, ignore_index=True), styles


def _describe_diverged(frame: pd.DataFrame) -> str:
    diverged = frame[frame["diverged"]].groupby("label").size()
    return "".join(f" · {label}: {n} diverged" for label, n in diverged.items())


def draw_scenes(scenes: list[Maps], source: str) -> tuple[Figure, pd.DataFrame]:
    """Images above, their classes below, with the classes that occur and their share of the labelled pixels."""
    figure, axes = new_figure(len(scenes), 3.4, rows=2, squeeze=False)
    for column, maps in zip(axes.T, scenes, strict=True):
        column[0].imshow(_to_image(maps["image"]))
        column[1].imshow(colour_classes(maps["semantic"]))
    for panel in axes.flat:
        hide_axes(panel)
    labels = np.concatenate([maps["semantic"][np.isfinite(maps["semantic"])] for maps in scenes]).astype(int)
    shares = np.bincount(labels, minlength=len(CLASSES)) / len(labels)
    table = pd.DataFrame({"class": list(CLASSES.values()), "share of pixels": shares})
    patches = [Patch(color=COLOURS[i], label=name) for i, name in enumerate(CLASSES.values()) if shares[i]]
    figure.legend(handles=patches, loc="outside upper center", ncols=min(len(patches), 10), fontsize=8)
    sign(figure, source)
    return figure, table


def draw_predictions(scenes: list[Maps], source: str) -> tuple[Figure, pd.DataFrame]:
    """One row per image: input, then truth and prediction of the three tasks.

    Offsets are shown where the truth has an instance: the hue shows the direction to its centre, the strength of the
    colour the distance. Disparities in a row share their scale.
    """
    figure, axes = new_figure(7, 0.75 * len(scenes) + 0.75, rows=len(scenes), squeeze=False)
    colours = plt.get_cmap("viridis").with_extremes(bad=str(NOTHING))
    errors = []
    for row, maps in zip(axes, scenes, strict=True):
        row[0].imshow(_to_image(maps["image"]))
        farthest = np.nanmax(np.hypot(*maps["instance"]), initial=1.0)
        nearest = np.nanmax(maps["disparity"], initial=0.0)
        for place, prefix in ((1, ""), (2, "predicted_")):
            row[place].imshow(colour_classes(maps[f"{prefix}semantic"]))
            known = np.where(np.isnan(maps["instance"]), np.nan, maps[f"{prefix}instance"])
            row[place + 2].imshow(colour_offsets(known, farthest))
            row[place + 4].imshow(maps[f"{prefix}disparity"][0], cmap=colours, vmin=0, vmax=nearest)
        errors.append({task: _mean_error(maps, task) for task in LOSSES})
    titles = ("input", *(f"{task},\n{kind}" for task in LOSSES for kind in ("truth", "prediction")))
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=8)
    for panel in axes.flat:
        hide_axes(panel)
    sign(
        figure,
        f"offsets: hue is the direction to the instance's centre, strength the distance, drawn where the truth has an "
        f"instance · grey: no target\n{source}",
    )
    return figure, pd.DataFrame(errors)


def colour_classes(labels: np.ndarray) -> np.ndarray:
    """(H, W) training labels, NaN for none, to official colours (H, W, 3)."""
    known = np.isfinite(labels)
    return np.where(known[..., None], COLOURS[np.where(known, labels, 0).astype(int)], NOTHING)


def colour_offsets(offsets: np.ndarray, farthest: float) -> np.ndarray:
    """(2, H, W) right and down, NaN for none, to colours (H, W, 3): hue by direction, saturation by distance."""
    known = np.isfinite(offsets).all(0)
    right, down = np.nan_to_num(offsets)
    hue = np.arctan2(down, right) / (2 * np.pi) % 1
    strength = (np.hypot(right, down) / farthest).clip(0, 1)
    return np.where(known[..., None], hsv_to_rgb(np.stack([hue, strength, np.ones_like(hue)], axis=-1)), NOTHING)


def _mean_error(maps: Maps, task: str) -> float:
    """Share of wrong classes, or mean l1 error, over the pixels that have a target; NaN if no pixel has one."""
    truth, predicted = maps[task], maps[f"predicted_{task}"]
    known = np.isfinite(truth)
    wrong = predicted != truth if task == "semantic" else np.abs(predicted - truth)
    return float(wrong[known].mean()) if known.any() else np.nan


def _to_image(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(1, 2, 0).clip(0, 255).astype(np.uint8)
