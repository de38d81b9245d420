"""Figures of the Armijo rule: where one function lies under its line, and where several functions do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fastls.algorithms.line_search import Backtracking, Slopes, satisfies_armijo
from fastls.experiments.reporting.planes import COMMON, TASK_STYLES
from fastls.experiments.reporting.style import new_figure, share_legend, sign

POINTS = 2001  # of the grid of step sizes that are tested


@dataclass(frozen=True)
class Cut:
    """One or two losses along a direction, as a line search sees them.

    Attributes:
        title: of the panel.
        phi: η -> (T,) losses.
        slopes: (T,), −dφ_t/dη at 0.
        lr_ub: where the search begins.
    """

    title: str
    phi: Callable[[float], Tensor]
    slopes: Tensor
    lr_ub: float


def accepted_intervals(cut: Cut, beta: float) -> pd.DataFrame:
    """Where each loss lies under its Armijo line, and where all losses do, on a grid over [0, lr_ub].

    Returns:
        One row per interval: ``task`` ("1", "2", "all"; with one loss only "all"), ``low``, ``high``.

    Example:
        >>> cut = Cut("L = (1 − η)²", lambda eta: torch.tensor([(1 - eta) ** 2]), torch.tensor([2.0]), lr_ub=4.0)
        >>> accepted_intervals(cut, beta=0.25)["high"].tolist()          # (1 − η)² ≤ 1 − η/2 up to η = 3/2
        [1.5]
    """
    steps = np.linspace(0, cut.lr_ub, POINTS)
    start, values = cut.phi(0.0), [cut.phi(eta) for eta in steps]
    several = range(len(start)) if len(start) > 1 else ()
    chosen = {str(t + 1): slice(t, t + 1) for t in several} | {"all": slice(None)}
    rows = []
    for task, which in chosen.items():
        passes = [
            bool(satisfies_armijo(value[which], start[which], cut.slopes[which], beta, eta))
            for eta, value in zip(steps, values, strict=True)
        ]
        edges = np.flatnonzero(np.diff([False, *passes, False]))  # where a run of accepted steps begins, and ends
        rows += [{"task": task, "low": steps[i], "high": steps[j - 1]} for i, j in edges.reshape(-1, 2)]
    return pd.DataFrame(rows)


def draw_armijo(cuts: Sequence[Cut], beta: float, gamma: float, source: str) -> tuple[Figure, pd.DataFrame]:
    """Figure 3 of the thesis: where the function lies under the line, for one function and for several.

    Args:
        cuts: one panel each, the last with the most losses.
        beta, gamma: of `Backtracking`, whose trials are marked.
        source: provenance.

    Returns:
        The figure, and the accepted intervals of every panel with the step that backtracking takes.
    """
    figure, axes = new_figure(len(cuts), 4.0, rows=2, height_ratios=(4, 1), sharex="col", squeeze=False)
    tables = []
    for (panel, strip), cut in zip(axes.T, cuts, strict=True):
        table = accepted_intervals(cut, beta)
        slopes = Slopes(own=torch.zeros_like(cut.slopes), shared=cut.slopes)
        result = Backtracking(beta=beta, gamma=gamma)(cut.phi, cut.phi(0.0), slopes, cut.lr_ub)
        _draw_losses(panel, cut, beta)
        _draw_trials(panel, cut, [cut.lr_ub * gamma**k for k in range(result.trials)])
        _draw_accepted(strip, table)
        tables.append(table.assign(panel=cut.title, step_size=result.step_size, trials=result.trials))
    share_legend(figure, axes[0, -1])
    sign(figure, f"β = {beta}, γ = {gamma}, accepted steps found on a grid of {POINTS} · {source}")
    return figure, pd.concat(tables, ignore_index=True)


def _draw_losses(panel, cut: Cut, beta: float) -> None:
    """Each loss, and the line that it must lie under."""
    steps = np.linspace(0, cut.lr_ub, 300)
    values = torch.stack([cut.phi(eta) for eta in steps])
    for t, style in enumerate(TASK_STYLES[: values.shape[1]]):
        panel.plot(steps, values[:, t], label=f"$φ_{t + 1}(η)$", linewidth=1.8, **style)
        line = values[0, t].item() - beta * steps * cut.slopes[t].item()
        panel.plot(steps, line, color=style["color"], linewidth=1, linestyle=":", label=f"$L_{t + 1}-ηβs_{t + 1}$")
    low, high = values.min().item(), values.max().item()
    margin = 0.08 * (high - low)
    panel.set(ylim=(low - margin, high + 2 * margin), ylabel="loss", title=cut.title)


def _draw_trials(panel, cut: Cut, trials: list[float]) -> None:
    """The trials of backtracking, numbered; backtracking takes the last one."""
    for k, eta in enumerate(trials, 1):
        losses = cut.phi(eta)
        marker = "o" if k == len(trials) else "x"
        panel.plot([eta] * len(losses), losses, marker, color="black", markersize=6, markeredgewidth=1.6)
        top = (eta, losses.max().item())
        panel.annotate(str(k), top, xytext=(0, 6), textcoords="offset points", ha="center")
    panel.plot([], [], "kx", markeredgewidth=1.6, label="trial, rejected")
    panel.plot([], [], "ko", label="trial, accepted")


def _draw_accepted(strip, table: pd.DataFrame) -> None:
    """The accepted steps as bars: for each loss, if there are several, and for all losses together."""
    names = list(dict.fromkeys(table["task"]))
    for place, task in enumerate(reversed(names)):
        colour = COMMON if task == "all" else TASK_STYLES[int(task) - 1]["color"]
        for row in table[table["task"] == task].itertuples():
            strip.plot([row.low, row.high], [place, place], color=colour, linewidth=6, solid_capstyle="butt")
    labels = ["accepted by all" if name == "all" else f"by {name}" for name in reversed(names)]
    strip.set_yticks(range(len(names)), labels if len(names) > 1 else ["accepted"], fontsize=8)
    strip.set(ylim=(-0.7, len(names) - 0.3), xlabel="step size η")
