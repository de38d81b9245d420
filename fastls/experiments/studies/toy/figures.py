"""Figures of the toy problems. Every function returns the figure and the table that it draws."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from fastls.experiments.reporting.style import (
    COLOURS,
    line_style,
    new_figure,
    share_legend,
    sign,
    spread_markers,
)
from fastls.experiments.studies.toy.toy import THETA, TOLERANCE, Toy, losses_at, weigh_passes

# of a task: pale colours, since the trajectories have the strong ones
CONTOUR_STYLES = [(COLOURS[0], "solid"), (COLOURS[4], "dashed"), (COLOURS[5], "dotted")]
SEARCH_STYLES = {
    "Backtracking": {"color": COLOURS[0], "linestyle": "-", "marker": "o"},
    "Backtracking, γ = 0.1": {"color": COLOURS[9], "linestyle": ":", "marker": "x"},
    "GoldenSection": {"color": COLOURS[1], "linestyle": "--", "marker": "s"},
    "Parabolic": {"color": COLOURS[2], "linestyle": "-.", "marker": "^"},
}
# How a run ended -> marker of its last point.
OUTCOMES = {
    "arrived": {"marker": "o", "color": "black"},
    "out of steps": {"marker": "o", "markerfacecolor": "white", "markeredgecolor": "black"},
    "refused": {"marker": "X", "color": COLOURS[3]},
    "diverged": {"marker": "^", "color": COLOURS[3]},
}
START_COLOURS = ("black", *sns.color_palette("dark")[1:4])  # one colour per start
GAP_LABEL = "stationarity gap"


def _draw_plane(panel, toy: Toy, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Contours of every loss over θ and the Pareto set, as a curve or an area."""
    X, Y = np.meshgrid(np.linspace(*x, 101), np.linspace(*y, 101))
    losses = losses_at(toy, torch.from_numpy(np.stack([X.ravel(), Y.ravel()], axis=1)))
    for loss, (colour, line) in zip(losses.T.numpy(), CONTOUR_STYLES, strict=False):
        levels = np.quantile(loss, [0.03, 0.12, 0.3, 0.6])
        panel.contour(X, Y, loss.reshape(X.shape), levels, colors=[colour], linestyles=line, linewidths=0.8, alpha=0.8)
    pareto = toy.to_theta(toy.pareto_z)
    if torch.equal(pareto[0], pareto[-1]):
        panel.fill(*pareto.T.numpy(), color="0.75", zorder=1)
    panel.plot(*pareto.T.numpy(), color="0.45", linewidth=3, zorder=2, solid_capstyle="round")
    panel.set(xlim=x, ylim=y, aspect="equal")
    panel.grid(False)


def _draw_run(panel, run: pd.DataFrame, columns: Sequence[str], **style) -> None:
    """A trajectory, with a marker that says how it ended."""
    panel.plot(run[columns[0]], run[columns[1]], zorder=3, **style)
    last = run.iloc[-1]
    panel.plot(last[columns[0]], last[columns[1]], markersize=5, zorder=4, **OUTCOMES[last["outcome"]])


def _plane_legend(
    figure: Figure, tasks: int, outcomes: Sequence[str], extra: Sequence[Line2D] = (), set_label: str = "Pareto set"
) -> None:
    """One legend above all panels for contours, Pareto set and ends of runs."""
    handles = [
        Line2D([], [], color=colour, linestyle=line, label=f"contours of $L_{t}$")
        for t, (colour, line) in enumerate(CONTOUR_STYLES[:tasks], 1)
    ]
    handles.append(Line2D([], [], color="0.45", linewidth=3, label=set_label))
    handles += [Line2D([], [], linestyle="", label=name, **OUTCOMES[name]) for name in OUTCOMES if name in outcomes]
    figure.legend(handles=[*handles, *extra], loc="outside upper center", ncols=8, fontsize=8)


def draw_problem(
    toy: Toy, sample: np.ndarray, on_front: np.ndarray, x: tuple[float, float], y: tuple[float, float], caption: str
) -> tuple[Figure, pd.DataFrame]:
    """Left: the losses over θ with the Pareto set. Right: a sample in loss space, and the front in closed form.

    Args:
        toy: the problem, of two tasks.
        sample: (n, 2) losses.
        on_front: (n,) mask of the points that no other point of the sample dominates.
        x, y: range of θ on the left.
        caption: printed below.
    """
    front = losses_at(toy, toy.to_theta(toy.pareto_z)).numpy()
    figure, axes = new_figure(2, height=4.2, width_ratios=(2, 3))
    _draw_plane(axes[0], toy, x, y)
    axes[0].set(xlabel="$θ_1$", ylabel="$θ_2$", title="parameters")
    near = (sample < 1.3 * front.max(axis=0)).all(axis=1)
    axes[1].plot(*sample[near].T, ".", color="0.8", markersize=2, label="sample", rasterized=True)
    axes[1].plot(*sample[on_front].T, "o", color="black", markersize=2.5, label="not dominated within the sample")
    axes[1].plot(*front.T, color=COLOURS[3], linewidth=1, label="front, closed form")
    axes[1].set(xlabel="$L_1$", ylabel="$L_2$", title="losses")
    axes[1].legend(loc="upper right", fontsize=8, frameon=True)
    _plane_legend(figure, 2, ())
    sign(figure, caption)
    return figure, pd.DataFrame(front, columns=["loss_1", "loss_2"])


def draw_trajectories(
    toy: Toy, frame: pd.DataFrame, x: tuple[float, float], y: tuple[float, float], caption: str
) -> tuple[Figure, pd.DataFrame]:
    """One panel per method (row) and direction (column) of `frame`, with all runs over the contours, in colours."""
    methods, directions = frame["method"].unique(), frame["direction"].unique()
    height = 2.4 * len(methods) + 0.6
    figure, axes = new_figure(len(directions), height, len(methods), squeeze=False, sharex=True, sharey=True)
    for row, method in zip(axes, methods, strict=True):
        for panel, direction in zip(row, directions, strict=True):
            _draw_plane(panel, toy, x, y)
            chosen = frame[(frame["method"] == method) & (frame["direction"] == direction)]
            for (_, run), colour in zip(chosen.groupby("start"), START_COLOURS, strict=False):
                _draw_run(panel, run, THETA, color=colour, marker=".", linewidth=1, markersize=2)
        row[0].set_ylabel(f"{method}\n$θ_2$")
    for panel, direction in zip(axes[0], directions, strict=True):
        panel.set_title(direction)
    for panel in axes[-1]:
        panel.set_xlabel("$θ_1$")
    _plane_legend(figure, frame.filter(like="loss_").shape[1], frame["outcome"].unique())
    sign(figure, caption)
    ends = frame.groupby(["method", "direction", "start"], sort=False)["outcome"].first()
    return figure, ends.groupby(["method", "direction"], sort=False).value_counts().unstack(fill_value=0)


def draw_convergence(frame: pd.DataFrame, caption: str) -> tuple[Figure, pd.DataFrame]:
    """Gap (top) and distance to the Pareto set (bottom) against steps, encoder passes and decoder passes.

    One line per label; `frame` holds one run of each label, with a column ``distance``.
    """
    table = frame.assign(encoder=weigh_passes(frame, "encoder"), decoder=weigh_passes(frame, "decoder"))
    figure, axes = new_figure(3, height=5, rows=2, sharey="row", sharex="col")
    across = {"step": "steps", "encoder": "encoder passes", "decoder": "decoder passes"}
    for row, (quantity, title) in zip(axes, {"gap": GAP_LABEL, "distance": "distance to the set"}.items(), strict=True):
        for panel, column in zip(row, across, strict=True):
            for label, run in table.groupby("label", sort=False):
                style = line_style(label) | spread_markers(len(run)) | {"label": label}
                panel.plot(run[column], run[quantity], **style)
            panel.set(yscale="log")
        row[0].set_ylabel(title)
    for panel, title in zip(axes[-1], across.values(), strict=True):
        panel.set_xlabel(title)
    share_legend(figure, axes[0, 0])
    sign(figure, caption)
    return figure, table


def _draw_sweep(panel, table: pd.DataFrame, column: str) -> None:
    """`column` against the swept value, one line per label; a cross at the top if some start did not arrive."""
    for i, (label, rows) in enumerate(table.groupby("label", sort=False)):
        style = line_style(label)
        panel.plot(rows["value"], rows[column], label=label, **style)
        missed = rows["value"][rows["arrived"] < rows["starts"]]
        height = np.full(len(missed), 0.97 - 0.05 * i)
        marks = {"color": style["color"], "marker": "x", "linestyle": "", "markersize": 4}
        panel.plot(missed, height, transform=panel.get_xaxis_transform(), **marks)
    panel.set_ylim(0, 1.3 * table[column].max())
    if table["value"].max() > 10 * table["value"].min():
        panel.set_xscale("log")


def draw_search_parameters(
    along: pd.DataFrame, swept: Mapping[str, pd.DataFrame], caption: str
) -> tuple[Figure, pd.DataFrame]:
    """Step size and trials along one run of each label; then steps and encoder passes against each parameter.

    Args:
        along: rows of one run per label.
        swept: name of the parameter, as its axis shows it -> table of `sweep`.
        caption: printed below.
    """
    figure, axes = new_figure(1 + len(swept), height=5.2, rows=2, sharex="col")
    for label, run in along.groupby("label", sort=False):
        style = line_style(label) | spread_markers(len(run)) | {"label": label}
        axes[0, 0].plot(run["step"], run["step_size"], drawstyle="steps-pre", **style)
        axes[1, 0].plot(run["step"][1:], run["trials"][1:], drawstyle="steps-pre", **style)
    axes[0, 0].set(ylabel="step size η", ylim=(0, None))
    axes[1, 0].set(xlabel="steps", ylabel="trials in the step")
    for (top, bottom), (name, table) in zip(axes.T[1:], swept.items(), strict=True):
        _draw_sweep(top, table, "steps")
        _draw_sweep(bottom, table, "encoder passes")
        bottom.set_xlabel(name)
    for top, bottom in axes.T[1:]:
        top.set_ylabel(f"steps to a gap of {TOLERANCE:g}")
        bottom.set_ylabel("encoder passes to it")
    share_legend(figure, axes[0, -1])
    sign(figure, caption)
    return figure, pd.concat(swept, names=["parameter"]).reset_index(level=0).reset_index(drop=True)


def draw_gain(
    by_scale: pd.DataFrame, limits: tuple[float, float], by_ratio: pd.DataFrame, rates: pd.DataFrame, caption: str
) -> tuple[Figure, pd.DataFrame]:
    """Steps and rising losses against the encoder's scale; steps against its ratio; |factor| of `local_rates`.

    Args:
        by_scale, by_ratio: tables of `sweep` over σ₁ and σ₂/σ₁.
        limits: scales; between them, one point of the Pareto set after another begins to repel FBLS.
        rates: rows of `local_rates` with a column ``ratio``.
        caption: printed below.
    """
    figure, axes = new_figure(4, height=3)
    _draw_sweep(axes[0], by_scale, "steps")
    axes[0].axvspan(*limits, color="0.85", zorder=0, label="limit of FBLS, computed")
    axes[0].set(xlabel="scale $σ_1$ of the encoder")
    axes[0].set_title(f"steps to a gap of {TOLERANCE:g}")
    for label, rows in by_scale.groupby("label", sort=False):
        axes[1].plot(rows["value"], rows["loss rose"], **line_style(label))
    axes[1].axvspan(*limits, color="0.85", zorder=0)
    axes[1].set(xlabel="scale $σ_1$ of the encoder", ylim=(-0.03, 1.03))
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))
    axes[1].set_title("steps that raised a loss")
    _draw_sweep(axes[2], by_ratio, "steps")
    axes[2].set(xlabel="ratio $σ_2/σ_1$ of the encoder")
    axes[2].set_title(f"steps to a gap of {TOLERANCE:g}")
    greys = np.linspace(0, 0.65, rates["ratio"].nunique())
    for (ratio, rows), grey, line in zip(rates.groupby("ratio"), greys, ("-", "--", "-.", ":"), strict=False):
        axes[3].plot(
            rows["weight"], rows["factor"].abs(), color=str(grey), linestyle=line, label=f"$σ_2/σ_1$ = {ratio:g}"
        )
    axes[3].axhline(1, color=COLOURS[3], linewidth=1)
    axes[3].set(xlabel="weight $α_1$ along the Pareto set")
    axes[3].set_title("gap after / before a step")
    axes[3].set_ylim(top=1.55)  # room for the legend
    axes[3].legend(fontsize=7, loc="upper center", ncols=2, frameon=True)
    share_legend(figure, axes[0])
    sign(figure, caption)
    return figure, pd.concat({"scale": by_scale, "ratio": by_ratio}, names=["swept"]).reset_index(level=0)


def draw_searches(frame: pd.DataFrame, table: pd.DataFrame, caption: str) -> tuple[Figure, pd.DataFrame]:
    """Gap against steps and passes for every line search, BLS above FBLS; then the total cost to reach the gap.

    Args:
        frame: one run of each ``method`` and ``search``.
        table: one row per method and search: ``encoder passes`` and ``decoder passes`` needed to reach the gap.
        caption: printed below.
    """
    ratios = np.logspace(-3, 1, 41)  # price of a pass through all decoders, in passes through the encoder
    tasks = frame.filter(like="loss_").shape[1]
    costs = pd.DataFrame({ratio: table["encoder passes"] + ratio / tasks * table["decoder passes"] for ratio in ratios})
    figure, axes = new_figure(4, height=5.4, rows=2)
    counted = frame.assign(encoder=weigh_passes(frame, "encoder"), decoder=weigh_passes(frame, "decoder"))
    across = {"step": "steps", "encoder": "encoder passes", "decoder": "decoder passes"}
    for row, (method, runs) in zip(axes, counted.groupby("method", sort=False), strict=True):
        for search, run in runs.groupby("search", sort=False):
            style = SEARCH_STYLES[search] | {"markersize": 3, "label": search}
            for panel, column in zip(row, across, strict=False):
                panel.plot(run[column], run["gap"], **spread_markers(len(run)), **style)
            row[3].plot(ratios, costs.loc[(method, search)], markevery=8, **style)
        row[0].set_ylabel(f"{method}\n{GAP_LABEL}")
        for panel in row[:3]:
            panel.set(yscale="log")
        row[3].set(xscale="log", yscale="log", ylabel="cost")
    for panel, title in zip(axes[-1], [*across.values(), "price of decoders"], strict=True):
        panel.set_xlabel(title)
    share_legend(figure, axes[0, 0])
    sign(figure, caption)
    return figure, costs


def draw_nonconvex(
    toy: Toy, frame: pd.DataFrame, x: tuple[float, float], y: tuple[float, float], caption: str
) -> tuple[Figure, pd.DataFrame]:
    """Runs over the contours, in loss space beside the front, and their gaps; one colour per label."""
    front = losses_at(toy, toy.to_theta(toy.pareto_z)).numpy()
    figure, axes = new_figure(3, height=3.8)
    _draw_plane(axes[0], toy, x, y)
    axes[1].plot(*front.T, color="0.45", linewidth=3)
    looks = {label: line_style(label) | {"linewidth": 1, "markersize": 3} for label in frame["label"].unique()}
    for (label, _), run in frame.groupby(["label", "start"], sort=False):
        style = looks[label] | {"markevery": 8}
        _draw_run(axes[0], run, THETA, **style)
        _draw_run(axes[1], run, ["loss_1", "loss_2"], **style)
        axes[2].plot(run["step"], run["gap"], **style)
    axes[0].set(xlabel="$θ_1$", ylabel="$θ_2$", title="parameters")
    axes[1].set(xlabel="$L_1$", ylabel="$L_2$", title="losses", aspect="equal")
    axes[2].set(xlabel="steps", yscale="log", title=f"{GAP_LABEL} (log scale)")
    handles = [Line2D([], [], label=label, **style) for label, style in looks.items()]
    _plane_legend(figure, 2, frame["outcome"].unique(), handles, "Pareto set, and the front")
    sign(figure, caption)
    return figure, frame.groupby(["label", "start"], sort=False).last()
