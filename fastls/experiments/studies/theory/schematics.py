"""Figures 1 and 2 of the paper, drawn by code: what each line search runs in a trial, and hard parameter sharing."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon

from fastls.experiments.reporting.style import COLOURS, hide_axes, new_figure, sign

SHARED = COLOURS[0]  # of the parts that belong to all tasks
OWN = (COLOURS[1], COLOURS[2], COLOURS[4])  # of the parts that belong to one task
INK = "0.15"
ONCE, EVERY_TRIAL = "once", "every trial"


def draw_sharing() -> tuple[Figure, pd.DataFrame]:
    """Figure 2 of the paper: one encoder for all tasks, a decoder and a loss for each.

    Returns:
        The figure, and a row for each module: its name, its parameters, the tasks that it serves.
    """
    figure, panel = new_figure(1, height=3.2)
    _clear(panel, 15, 6)
    _box(panel, 1.2, 3, 1.5, 1.5, "inputs\n$x$", "0.93")
    _trapezium(panel, 4.3, 3, 2.4, (4.6, 2.2), "encoder\n$\\theta_{sh}$", SHARED)
    _box(panel, 7.1, 3, 1.3, 1.5, "$z$", "white", edge=SHARED)
    _arrow(panel, (1.95, 3), (3.1, 3))
    _arrow(panel, (5.5, 3), (6.45, 3))
    rows = [{"module": "encoder", "parameters": "θ_sh", "serves": "all tasks"}]
    heights = {"1": 5.1, "2": 3.0, "T": 0.9}
    for (name, y), colour in zip(heights.items(), OWN, strict=True):
        _box(panel, 10.4, y, 2.4, 1.2, f"decoder {name}\n$\\theta_{{{name}}}$", colour)
        _box(panel, 13.6, y, 1.4, 1.0, f"$L_{{{name}}}$", "white", edge=colour)
        _arrow(panel, (7.75, 3 + 0.3 * (y - 3) / 2.1), (9.2, y))
        _arrow(panel, (11.6, y), (12.9, y))
        rows.append({"module": f"decoder {name}", "parameters": f"θ_{name}", "serves": f"task {name}"})
    panel.text(10.4, (heights["2"] + heights["T"]) / 2, "⋮", ha="center", va="center", fontsize=14, color=INK)
    sign(figure, "hard parameter sharing: the encoder serves all tasks, each decoder serves one")
    return figure, pd.DataFrame(rows)


def draw_backtracking() -> tuple[Figure, pd.DataFrame]:
    """Figure 1 of the paper: classical backtracking goes back to the parameters, latent backtracking to z alone.

    Returns:
        The figure, and a row for each module and search that says whether it runs once a step or in every trial.
    """
    figure, panels = new_figure(2, height=3.3)
    rows = []
    for panel, search in zip(panels, ("BLS", "FBLS"), strict=True):
        rows += _draw_search(panel, search)
    note = "coloured modules run in every trial, the white encoder has run once, before the search"
    symbols = "$u_t = \\partial L_t / \\partial\\theta_t$ · $\\tilde z = z(x, \\theta_{sh} - \\eta d_{sh})$"
    sign(figure, f"{note}\n{symbols}")
    return figure, pd.DataFrame(rows)


def _draw_search(panel, search: str) -> list[dict]:
    latent = search == "FBLS"
    _clear(panel, 10.4, 7)
    encoder = "white" if latent else SHARED
    _box(panel, 0.75, 4.2, 0.9, 1.3, "$x$", "0.93")
    _trapezium(panel, 2.65, 4.2, 1.7, (3.8, 2.0), "encoder", encoder, edge=SHARED)
    point = "$z - \\eta d_z$" if latent else "$\\tilde z$"
    _box(panel, 4.85, 4.2, 1.4, 1.3, point, "white", edge=SHARED)
    _arrow(panel, (1.2, 4.2), (1.8, 4.2))
    _arrow(panel, (3.5, 4.2), (4.15, 4.2))
    rows = [{"search": search, "module": "encoder", "runs": ONCE if latent else EVERY_TRIAL}]
    for name, y, colour in (("1", 5.3, OWN[0]), ("T", 3.1, OWN[1])):
        _box(panel, 7.05, y, 1.7, 1.2, f"decoder {name}", colour)
        _arrow(panel, (5.55, 4.2 + 0.25 * (y - 4.2)), (6.2, y))
        _arrow(panel, (7.9, y), (8.75, 4.2 + 0.35 * (y - 4.2)))
        rows.append({"search": search, "module": f"decoder {name}", "runs": EVERY_TRIAL})
    panel.text(7.05, 4.2, "⋮", ha="center", va="center", fontsize=13, color=INK)
    _box(panel, 9.45, 4.2, 1.4, 1.7, f"test ({6 if latent else 4})\nfor all $t$", "0.93")
    start = 4.85 if latent else 2.65
    line = "--" if latent else "-"
    low = 1.05
    panel.plot([9.45, 9.45, start], [3.35, low, low], linestyle=line, color=INK, linewidth=1.4)
    _arrow(panel, (start, low), (start, 3.55 if latent else 2.75), linestyle=line, linewidth=1.4)
    panel.text((9.45 + start) / 2, low + 0.15, "fails: $\\eta \\leftarrow \\gamma\\eta$", ha="center", va="bottom")
    moved = "$z - \\eta d_z$" if latent else "$\\theta_{sh} - \\eta d_{sh}$"
    panel.text((9.45 + start) / 2, low - 0.2, f"try {moved}, $\\theta_t - \\eta u_t$", ha="center", va="top")
    _arrow(panel, (9.45, 5.05), (9.45, 6.35))
    panel.text(9.3, 6.1, "holds: take the step", ha="right", va="center")
    title = "latent backtracking (FBLS)" if latent else "classical backtracking (BLS)"
    panel.set_title(title, loc="left")
    return rows


def _clear(panel, width: float, height: float) -> None:
    """A blank canvas of that size in place of axes."""
    panel.set(xlim=(0, width), ylim=(0, height))
    hide_axes(panel)


def _box(panel, x: float, y: float, width: float, height: float, text: str, fill, edge=INK) -> None:
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.15"
    box = FancyBboxPatch(corner, width, height, style, facecolor=_tint(fill), edgecolor=edge, linewidth=1.3)
    panel.add_patch(box)
    panel.text(x, y, text, ha="center", va="center", color=INK)


def _trapezium(panel, x: float, y: float, width: float, heights: tuple[float, float], text: str, fill, edge=INK):
    """Narrows from left to right, as an encoder does."""
    (left, right), half = heights, width / 2
    corners = [(x - half, y - left / 2), (x + half, y - right / 2), (x + half, y + right / 2), (x - half, y + left / 2)]
    shape = Polygon(corners, facecolor=_tint(fill), edgecolor=edge, linewidth=1.3, joinstyle="round")
    panel.add_patch(shape)
    panel.text(x, y, text, ha="center", va="center", color=INK)


def _tint(fill):
    """A colour light enough to read black letters on; greys and white stay."""
    return fill if isinstance(fill, str) else sns.light_palette(fill, n_colors=6)[2]


def _arrow(panel, start: tuple[float, float], end: tuple[float, float], **options) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "color": INK, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    panel.add_patch(FancyArrowPatch(start, end, **(style | options)))
