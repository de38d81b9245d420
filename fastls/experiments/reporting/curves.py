"""Figures from rows. Every function returns the figure and the table that it draws, so that tests look at numbers."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastls.experiments.reporting.frames import CONSTANT, METRICS, end_of_training, last_epochs
from fastls.experiments.reporting.style import (
    draw_with_band,
    hide_axes,
    line_style,
    new_figure,
    plain_ticks,
    share_legend,
    share_limits,
    sign,
    spread_markers,
    whole_epochs,
)

LABELS = {metric: metric.replace("_", " ") for metric in METRICS}
FEW = 4  # up to so many step sizes are ticks of the axis; there may be no power of ten between them


def draw_samples(images: np.ndarray, captions: list[str], source: str) -> tuple[Figure, pd.DataFrame]:
    """A row of images, (N, H, W) grey or (N, H, W, 3) colour in 0..255, each under its caption."""
    figure, axes = new_figure(len(images), height=1.8)
    for panel, image, caption in zip(axes, images, captions, strict=True):
        panel.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        hide_axes(panel)
        panel.set_title(caption)
    sign(figure, source)
    return figure, pd.DataFrame({"caption": captions, "mean pixel": images.reshape(len(images), -1).mean(axis=1)})


def draw_constant_steps(frame: pd.DataFrame, source: str) -> tuple[Figure, pd.DataFrame]:
    """Metrics at the end of training against the constant step size; the searches as horizontal lines.

    Points and lines are means over seeds; error bars and bands span all seeds. Seeds that diverged are left out. A
    dagger marks them: above a constant step, or, for a search, at the right edge in the colour of the search.
    """
    final = end_of_training(frame)
    table = _summarize(final, ["variant", "lr"])
    failed = final[final["diverged"]]
    steps = sorted(final.loc[final["variant"].isin(CONSTANT), "lr"].unique())
    figure, axes = new_figure(4)
    for panel, metric in zip(axes, METRICS, strict=True):
        for name in [name for name in CONSTANT if name in set(final["variant"])]:
            rows = table.loc[name].sort_index()
            spread = [rows[(metric, "mean")] - rows[(metric, "min")], rows[(metric, "max")] - rows[(metric, "mean")]]
            panel.errorbar(rows.index, rows[(metric, "mean")], yerr=spread, capsize=2, label=name, **line_style(name))
        for name in sorted(set(final["variant"]) - set(CONSTANT)):
            row = table.loc[name].iloc[0]
            style = line_style(name)
            panel.axhline(row[(metric, "mean")], color=style["color"], linestyle=style["linestyle"], label=name)
            panel.axhspan(row[(metric, "min")], row[(metric, "max")], color=style["color"], alpha=0.15, linewidth=0)
        for step in failed.loc[failed["variant"].isin(CONSTANT), "lr"].unique():
            panel.text(step, 0.98, "†", transform=panel.get_xaxis_transform(), ha="center", va="top")
        for i, name in enumerate(sorted(set(failed["variant"]) - set(CONSTANT))):
            place = {"transform": panel.transAxes, "ha": "right", "va": "top", "color": line_style(name)["color"]}
            panel.text(1.0, 0.98 - 0.09 * i, f"† {name}", fontsize=7, **place)
        panel.set(xscale="log", yscale="log", xlabel="constant step size", title=LABELS[metric])
        if len(steps) <= FEW:
            panel.set_xticks(steps, [f"{step:.2g}" for step in steps])
            panel.xaxis.minorticks_off()
    share_limits(axes)
    plain_ticks(axes)
    share_legend(figure, axes[0])
    window = last_epochs(int(frame["epochs"].max()))
    late = "the last epoch" if window == 1 else f"the last {window} epochs"
    caption = f"mean of the tasks and of {late} over {_describe_counts(table)}"
    shown = "bars and bands from the lowest to the highest" + (" · † some seeds diverged" if len(failed) else "")
    sign(figure, f"{caption}, {shown}\n{source}")
    return figure, table


def draw_learning_curves(frame: pd.DataFrame, source: str, lines: dict[str, str]) -> tuple[Figure, pd.DataFrame]:
    """Metrics against epochs, one line for each label of `lines`: mean over runs, band from the lowest to the highest.

    Args:
        frame: epochs of runs, with a column ``label``.
        source: provenance.
        lines: label -> variant whose style it takes.
    """
    figure, axes = new_figure(4)
    table = draw_lines(axes, frame, lines, LABELS)
    for panel in axes:
        panel.set_yscale("log")
    plain_ticks(axes)
    share_legend(figure, axes[0])
    sign(figure, f"mean of the tasks, bands from the lowest to the highest run · {count_runs(frame, lines)}\n{source}")
    return figure, table


def draw_lines(
    axes: Sequence[Axes], frame: pd.DataFrame, lines: dict[str, str | dict], titles: dict[str, str]
) -> pd.DataFrame:
    """Draw one metric of `titles`, metric -> title, into each panel, as `draw_learning_curves` does.

    A line is given by the variant whose style it takes, or by its style.
    """
    table = _summarize(frame[~frame["diverged"]], ["label", "epoch"], titles)
    for panel, (metric, title) in zip(axes, titles.items(), strict=True):
        for label, name in _drawn(lines, table):
            rows = table.loc[label]
            look = line_style(name) if isinstance(name, str) else name
            style = look | spread_markers(len(rows)) | {"label": label}
            draw_with_band(panel, rows[(metric, "mean")], rows[(metric, "min")], rows[(metric, "max")], style)
        panel.set(xlabel="epoch", title=title)
    whole_epochs(axes)
    return table


def draw_step_sizes(frame: pd.DataFrame, source: str, lines: dict[str, str]) -> tuple[Figure, pd.DataFrame]:
    """Step size (median, band from 5 % to 95 %), share of steps at the bound, trials and median gain, by epoch."""
    columns = ["step_median", "step_p05", "step_p95", "share_at_bound", "trials", "gain_median", "accepted"]
    table = frame[~frame["diverged"]].groupby(["label", "epoch"])[columns].mean()
    figure, axes = new_figure(4)
    for label, name in _drawn(lines, table):
        rows = table.loc[label]
        style = line_style(name) | spread_markers(len(rows)) | {"label": label}
        draw_with_band(axes[0], rows["step_median"], rows["step_p05"], rows["step_p95"], style)
        axes[1].plot(rows.index, rows["share_at_bound"], **style)
        axes[2].plot(rows.index, rows["trials"], **style)
        axes[3].plot(rows.index, rows["gain_median"].astype(float), **style)  # parameter-space methods have none
    axes[0].set(xlabel="epoch", yscale="log", title="step size η (median, 5-95 %)")
    least = table["step_median"].min() / 100
    cut = ""
    if axes[0].get_ylim()[0] < least:  # where searches failed, at the floor
        axes[0].set_ylim(bottom=least)
        label, failed = table["accepted"].idxmin()[0], 1 - table["accepted"].min()
        cut = f" · the first panel ends at {least:.1g}; up to {failed:.0%} of an epoch's searches of {label} failed"
    axes[1].set(xlabel="epoch", ylim=(-0.03, 1.03), title="share of steps at the bound")
    axes[2].set(xlabel="epoch", ylim=(0, None), title="trials per step")
    axes[3].set(xlabel="epoch", yscale="log", title=r"median gain $\|J^T d_z\|^2/\|d_z\|^2$")
    whole_epochs(axes)
    share_legend(figure, axes[0])
    sign(figure, f"steps of an epoch, mean over runs · {count_runs(frame, lines)}{cut}\n{source}")
    return figure, table


def _describe_counts(table: pd.DataFrame) -> str:
    counts = table[(METRICS[0], "count")]
    counts = counts[counts > 0]
    several = f" to {counts.max()}" if counts.max() > counts.min() else ""
    return f"n = {counts.min()}{several} seed{'s' if counts.max() > 1 else ''}"


def _drawn(lines: dict, table: pd.DataFrame) -> list[tuple]:
    """The lines that have an epoch to show; a line whose runs all diverged in the first epoch has none."""
    return [(label, name) for label, name in lines.items() if label in table.index.get_level_values(0)]


def count_runs(frame: pd.DataFrame, lines: dict[str, str]) -> str:
    """The number of runs behind each line, and the lines that end early or are absent, since runs diverged."""
    counts = frame[frame["epoch"] == 1].groupby("label").size()
    diverged = frame[frame["diverged"]].groupby("label").size()
    said = ", ".join(f"{label} ({diverged[label]} of {counts[label]})" for label in lines if label in diverged)
    said = f" · diverged: {said}" if said else ""
    if counts.nunique() == 1:
        return f"n = {counts.iloc[0]} run{'s' if counts.iloc[0] > 1 else ''} a line{said}"
    return "runs: " + ", ".join(f"{label} ({counts[label]})" for label in lines) + said


def _summarize(frame: pd.DataFrame, by: list[str], metrics: Iterable[str] = METRICS) -> pd.DataFrame:
    """Mean, lowest, highest and number of runs of every metric."""
    return frame.groupby(by)[list(metrics)].agg(["mean", "min", "max", "count"])
