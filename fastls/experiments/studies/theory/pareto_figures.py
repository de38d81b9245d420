"""Figures of the theory, computed with the code that trains the networks.

Every function returns the figure and the table that it draws, so that tests look at numbers.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fastls.algorithms.directions import DIRECTIONS, compute_gramian
from fastls.algorithms.pareto import stationarity_gap
from fastls.experiments.reporting.planes import COMMON, CONE, TASK_STYLES, descent_cone, draw_arrow, fill_sector
from fastls.experiments.reporting.style import COLOURS, hide_axes, new_figure, round_values, share_legend, sign

FRONT = {"color": COLOURS[1], "linewidth": 3}
RULE_STYLES = {  # direction rule -> colour, hatch of its bars, where its name stands beside the arrow
    "mean": (COLOURS[7], "", 0),
    "mgda": (COLOURS[2], "//", 60),
    "edm": (COLOURS[4], "..", -15),
    "pcgrad": (COLOURS[1], "xx", 0),
}


def draw_parabolas(theta: Tensor, losses: Tensor, front: Tensor, source: str) -> tuple[Figure, pd.DataFrame]:
    """Two losses of one parameter, beside the plane of the two losses, with the points that no other dominates.

    Args:
        theta: (n,), increasing.
        losses: (n, 2).
        front: (n,), mask of the points that are not dominated.
        source: provenance.
    """
    table = pd.DataFrame({"θ": theta, "L_1": losses[:, 0], "L_2": losses[:, 1], "front": front})
    figure, (left, right) = new_figure(2, height=3.0)
    chosen = table[table["front"]]
    for name, style in zip(("L_1", "L_2"), TASK_STYLES, strict=True):
        left.plot(table["θ"], table[name], label=f"${name}$", **style)
    left.axvspan(chosen["θ"].min(), chosen["θ"].max(), color=FRONT["color"], alpha=0.2, linewidth=0, label="Pareto set")
    left.set(xlabel="θ", ylabel="loss", title="two losses of one parameter")
    left.legend(loc="upper center")
    right.plot(table["L_1"], table["L_2"], "o", markersize=3, color="0.6", label="dominated")
    right.plot(chosen["L_1"], chosen["L_2"], "D", markersize=4, color=FRONT["color"], label="not dominated: the front")
    right.set(xlabel="$L_1$", ylabel="$L_2$", title="the same points in the plane of losses")
    right.legend(loc="upper right")
    sign(figure, source)
    return figure, table


def draw_stationarity(
    losses: Callable[[Tensor], Tensor], pareto_set: Tensor, points: dict[str, Tensor], source: str
) -> tuple[Figure, pd.DataFrame]:
    """Figure 2 of the thesis: a stationary and a non-stationary point, each with its cone of common descent.

    Args:
        losses: θ (..., 2) -> (..., 2), two losses.
        pareto_set: (n, 2), points of the Pareto set in order.
        points: name -> θ (2,).
        source: provenance.

    Returns:
        The figure, and one row per point: gradients, stationarity gap, and the cone's angles in degrees (NaN: empty).
    """
    figure, axes = new_figure(1 + len(points), height=3.4)
    _draw_landscape(axes[0], losses, pareto_set, points)
    rows = []
    for panel, (name, theta) in zip(axes[1:], points.items(), strict=True):
        gradients = torch.autograd.functional.jacobian(losses, theta)
        gap = stationarity_gap(gradients).item()
        cone = descent_cone(gradients) if gap > 1e-9 else None
        _draw_cone(panel, gradients, cone, 1.3)
        panel.set_title(f"at {name}: {'the cone of common descent' if cone else 'no common descent'}")
        low, high = map(math.degrees, cone) if cone else (math.nan, math.nan)
        entries = {f"g{t}{axis}": gradients[t - 1, i].item() for t in (1, 2) for i, axis in enumerate("xy")}
        rows.append({"point": name, **entries, "gap": gap, "low": low, "high": high})
    share_legend(figure, axes[1])
    sign(figure, source)
    return figure, pd.DataFrame(rows).set_index("point")


def _draw_landscape(panel, losses, pareto_set: Tensor, points: dict[str, Tensor]) -> None:
    """Level lines of both losses, the Pareto set and the points."""
    drawn = torch.cat([pareto_set, torch.stack(list(points.values()))])
    low, high = drawn.amin(0) - 0.9, drawn.amax(0) + 0.9
    x, y = (torch.linspace(low[i].item(), high[i].item(), 121, dtype=drawn.dtype) for i in (0, 1))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    values = losses(grid)
    top = values.max().item()
    values = round_values(values, top)  # the last digit of a value can decide whether a level line is closed
    levels = round_values(np.linspace(0.15, math.sqrt(top), 9) ** 2, top)
    for t, style in enumerate(TASK_STYLES):
        options = {"colors": [style["color"]], "linestyles": style["linestyle"], "linewidths": 0.7}
        panel.contour(x, y, values[..., t], levels=levels, alpha=0.7, **options)
    panel.plot(*pareto_set.T, solid_capstyle="butt", **FRONT)
    for name, theta in points.items():
        panel.plot(*theta, "o", color="black", markersize=5)
        panel.annotate(name, theta.tolist(), xytext=(5, 5), textcoords="offset points", fontsize=11, weight="bold")
    panel.set(xlabel="$θ_1$", ylabel="$θ_2$", aspect="equal", title="level lines, and the Pareto set in bold")
    panel.grid(False)


def _draw_cone(panel, gradients: Tensor, cone: tuple[float, float] | None, reach: float) -> None:
    """Negative gradients as unit arrows, the half-plane that each allows, and the cone where all overlap."""
    for t, (gradient, style) in enumerate(zip(gradients, TASK_STYLES, strict=True), 1):
        unit = -gradient / gradient.norm()
        centre = math.atan2(unit[1].item(), unit[0].item())
        fill_sector(panel, centre - math.pi / 2, centre + math.pi / 2, reach, style["color"], alpha=0.12)
        draw_arrow(panel, unit.tolist(), f"$-g_{t}$", style["color"], style["linestyle"])
    if cone:
        fill_sector(panel, *cone, reach, COMMON, alpha=0.45)
    for t, style in enumerate(TASK_STYLES, 1):
        panel.plot([], [], linewidth=6, alpha=0.3, color=style["color"], label=f"$L_{t}$ falls")
    panel.plot([], [], linewidth=6, alpha=0.6, color=COMMON, label="both fall")
    panel.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
    hide_axes(panel)


def draw_directions(gradients: Tensor, source: str) -> tuple[Figure, pd.DataFrame]:
    """The direction rules on one pair of gradients: where they point, and at what angle to each gradient.

    Args:
        gradients: (2, 2), g_t a row.
        source: provenance.

    Returns:
        The figure, and one row per rule: weights, length of d, slopes ⟨g_t, d⟩, angles between g_t and d in degrees.
    """
    gramian = compute_gramian(gradients)
    rows = []
    for name, rule in DIRECTIONS.items():
        weights = rule(gramian)
        d = weights @ gradients.double()
        slopes = gramian @ weights
        angles = torch.rad2deg(torch.acos((slopes / (gramian.diagonal().sqrt() * d.norm())).clamp(-1, 1)))
        values = (weights, d, slopes, angles)
        columns = ("alpha_{}", "d_{}", "slope_{}", "angle_{}")
        row = {c.format(t + 1): v[t].item() for c, v in zip(columns, values, strict=True) for t in (0, 1)}
        rows.append({"rule": name, **row, "length": d.norm().item()})
    table = pd.DataFrame(rows).set_index("rule")
    figure, (left, right) = new_figure(2, height=3.6)
    _draw_vectors(left, gradients, table)
    _draw_angles(right, table)
    share_legend(figure, left)
    sign(figure, source)
    return figure, table


def _draw_vectors(panel, gradients: Tensor, table: pd.DataFrame) -> None:
    """Gradients, their convex hull, the four directions d, and the cone of all d for which −d lowers both losses."""
    reach = 1.25 * float(np.abs(np.vstack([gradients, table[["d_1", "d_2"]]])).max())
    cone = descent_cone(-gradients)  # d itself, which is subtracted, must lie here
    if cone:
        fill_sector(panel, *cone, 2 * reach, COMMON, alpha=0.15)
    panel.plot(*gradients.T, color="0.3", linewidth=1.2, linestyle=":", label="convex hull of $g_1$, $g_2$")
    for t, style in enumerate(TASK_STYLES):
        draw_arrow(panel, gradients[t].tolist(), f"$g_{t + 1}$", style["color"], style["linestyle"])
    for name, row in table.iterrows():
        colour, _, turn = RULE_STYLES[name]
        draw_arrow(panel, (row["d_1"], row["d_2"]), name, colour, turn=turn)
    panel.plot([], [], linewidth=6, alpha=0.3, color=COMMON, label=CONE)
    x = np.concatenate([gradients[:, 0], table["d_1"], [0]])
    y = np.concatenate([gradients[:, 1], table["d_2"], [0]])
    panel.set(xlim=(x.min() - 0.4, x.max() + 0.6), ylim=(y.min() - 0.4, y.max() + 0.6), aspect="equal")
    panel.set(xlabel="first component", ylabel="second component", title="where they point")


def _draw_angles(panel, table: pd.DataFrame) -> None:
    """Angle between d and each gradient: beyond a right angle the loss grows."""
    for i, (name, row) in enumerate(table.iterrows()):
        colour, hatch, _ = RULE_STYLES[name]
        for t, place in ((1, i - 0.2), (2, i + 0.2)):
            panel.bar(place, row[f"angle_{t}"], width=0.36, color=colour, hatch=hatch, alpha=0.8, edgecolor="white")
            panel.text(place, row[f"angle_{t}"] + 1.5, f"$g_{t}$", ha="center", va="bottom")
    panel.axhline(90, color="black", linewidth=1)
    panel.text(len(table) - 0.45, 91, "above: the loss grows", ha="right", va="bottom", fontsize=8)
    panel.set_xticks(range(len(table)), table.index)
    panel.set(ylabel="angle to the gradient, degrees", ylim=(0, 125), title="angles between $d$ and the gradients")
    panel.grid(False, axis="x")
