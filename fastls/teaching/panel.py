r"""One step of FBLS to play with: the upper panel shows what the search tries, the lower one what the step does.

z = cθ is one number with two losses. The search tries z − η d_z. The step moves θ, and thereby moves z by −η ρ d_z,
where the gain ρ is c². `fastls.FBLS` takes the step, and its search makes the trials.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fastls.algorithms.line_search import Backtracking, Phi, SearchResult, Slopes
from fastls.algorithms.multitask_optimizer import StepRecord
from fastls.algorithms.optimizers import FBLS
from fastls.experiments.reporting.planes import TASK_STYLES
from fastls.experiments.reporting.style import WIDTH, share_legend, sign, use_style
from fastls.models.quadratic import quadratics

START = 2.0  # z, whatever the gain
CENTRES = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
CURVATURES = torch.tensor([[[1.0]], [[2.0]]], dtype=torch.float64)
PROBLEM = "z = cθ, ρ = c², $L_1 = z^2/2$, $L_2 = (z-1)^2$, one step of fastls.FBLS from $z = 2$"
BOTTOM, TOP = -0.3, 4.6  # of all panels; a larger loss is drawn at the edge, beside its value
REJECTED, ACCEPTED = {"marker": "x", "markeredgewidth": 1.6}, {"marker": "o"}
FELL, ROSE = {"marker": "v"}, {"marker": "^", "markerfacecolor": "white", "markeredgewidth": 1.6}
ARMIJO_LINE, START_LINE = {"linestyle": (0, (1, 1.5)), "linewidth": 1}, {"linestyle": (0, (8, 4)), "linewidth": 0.8}
LEGEND = {
    "Armijo line": ARMIJO_LINE,
    "loss at the start": START_LINE,
    "trial, rejected": REJECTED,
    "trial, accepted": ACCEPTED,
    "step: loss fell": FELL,
    "step: loss rose": ROSE,
}


@dataclass(frozen=True)
class Setting:
    """What the reader can change: β, γ and the bound of the search, and the gain ρ of the encoder."""

    beta: float = 0.1
    gamma: float = 0.5
    lr_ub: float = 1.0
    gain: float = 1.0


class RecordedSearch:
    """`Backtracking` that keeps φ, and every trial: the step size and the losses there."""

    needs_trials = True

    def __init__(self, search: Backtracking):
        self.search = search
        self.phi: Phi | None = None
        self.trials: list[tuple[float, Tensor]] = []

    def check_bound(self, lr_ub: float) -> None:
        self.search.check_bound(lr_ub)

    def __call__(self, phi: Phi, losses: Tensor, slopes: Slopes, lr_ub: float, previous: float) -> SearchResult:
        def recorded(eta: float) -> Tensor:
            self.trials.append((eta, phi(eta)))
            return self.trials[-1][1]

        self.phi = phi
        return self.search(recorded, losses, slopes, lr_ub, previous)


@dataclass(frozen=True)
class Step:
    """One step of FBLS, with its trials and the losses after it.

    Attributes:
        setting: at which it was taken.
        phi: η -> the T losses at z − η d_z, which the search sees.
        trials: η and the T losses, in the order of the search.
        record: of the step.
        after: (T,), the losses once θ has moved.
    """

    setting: Setting
    phi: Phi
    trials: list[tuple[float, Tensor]]
    record: StepRecord
    after: Tensor


def take_step(setting: Setting) -> Step:
    """One step of `fastls.FBLS` at this setting; z at the start does not depend on the gain.

    Raises:
        ValueError: a gain that is not positive and finite, or a parameter that `Backtracking` or `FBLS` refuses.
    """
    if not 0 < setting.gain < float("inf"):
        raise ValueError(f"`gain` must be positive and finite, found {setting.gain}.")
    c = torch.tensor([[setting.gain]], dtype=torch.float64).sqrt()
    model = quadratics(c, CENTRES, CURVATURES, start=START / c[0])
    targets = dict.fromkeys(model.tasks)
    search = RecordedSearch(Backtracking(setting.beta, setting.gamma))
    record = FBLS(model, setting.lr_ub, line_search=search).step(None, targets)
    with torch.no_grad():
        after = torch.stack([model.losses[task](z, None) for task, z in model(None).items()])
    return Step(setting, search.phi, search.trials, record, after)


def panel_row(settings: Sequence[Setting]) -> tuple[Figure, pd.DataFrame]:
    """Settings side by side, each with its trials in the upper panel and its step in the lower one.

    Returns:
        The figure, and one row for each trial and each step: the setting, ``kind`` ("rejected", "accepted" or "step"),
        ``eta``, and the losses ``L_1`` and ``L_2`` there.

    Raises:
        ValueError: no setting, or as `take_step`.

    Example:
        >>> _, table = panel_row([Setting(gain=1.0), Setting(gain=3.0)])
        >>> table.loc[table["kind"] == "step", ["gain", "eta", "L_1", "L_2"]].round(2).values.tolist()
        [[1.0, 0.5, 0.5, 0.0], [3.0, 0.5, 0.5, 4.0]]
    """
    if not settings:
        raise ValueError("`settings` must hold at least one setting, found none.")
    steps = [take_step(setting) for setting in settings]
    use_style()
    shape = {"nrows": 2, "ncols": len(settings), "squeeze": False}
    figure, axes = plt.subplots(**shape, figsize=(WIDTH, 5.6), sharex="col", sharey=True)
    for panel in axes[:, 0]:
        panel.set_ylabel("loss")
    for (above, below), step in zip(axes.T, steps, strict=True):
        _draw_setting(above, below, step)
        above.set_title(f"{_describe(step.setting)}\n{above.get_title()}")
    share_legend(figure, axes[0, 0])
    sign(figure, PROBLEM)
    return figure, pd.concat(map(_tabulate, steps), ignore_index=True)


def _describe(setting: Setting) -> str:
    return f"β = {setting.beta:.3g}, γ = {setting.gamma:.3g}, $lr_{{ub}}$ = {setting.lr_ub:.3g}, ρ = {setting.gain:.3g}"


def _draw_setting(tried, taken, step: Step) -> None:
    """Draw the panel of the trials and the panel of the step, over the same step sizes."""
    record, gain = step.record, step.record.gain.item()
    etas = np.linspace(0, 1.05 * step.setting.lr_ub, 200)
    for panel, factor in ((tried, 1.0), (taken, gain)):
        losses = torch.stack([step.phi(factor * eta) for eta in etas])
        for t, style in enumerate(TASK_STYLES):
            panel.plot(etas, losses[:, t], label=f"$L_{t + 1}$", linewidth=1.8, **style)
        panel.axvline(record.step_size, color="0.6", linewidth=0.8, zorder=0)
    for t, style in enumerate(TASK_STYLES):
        start, slope = record.losses[t].item(), record.slopes[t].item()
        tried.plot(etas, start - step.setting.beta * etas * slope, color=style["color"], **ARMIJO_LINE)
        taken.axhline(start, color=style["color"], **START_LINE)
    for eta, losses in step.trials:
        _mark(tried, eta, losses, [ACCEPTED if eta == record.step_size else REJECTED] * len(losses))
    _mark(taken, record.step_size, step.after, [ROSE if rose else FELL for rose in step.after > record.losses])
    for label, look in LEGEND.items():
        tried.plot([], [], color="black", label=label, **({"linestyle": "none"} | look))
    trials = len(step.trials)
    tried.set(ylim=(BOTTOM, TOP), title=f"tried: $z - ηd_z$, {trials} trial{'s' if trials > 1 else ''}")
    taken.set(xlabel="step size η", title=f"taken: $z$ moves by $-ηρd_z$, {_judge(step)}")


def _mark(panel, eta: float, losses: Tensor, markers: list[dict]) -> None:
    """A marker at every loss; those beyond the panel at its edge, beside their values."""
    for loss, marker in zip(losses.tolist(), markers, strict=True):
        panel.plot([eta], [min(loss, TOP)], color="black", markersize=6, clip_on=False, zorder=3, **marker)
    beyond = ", ".join(f"{loss:.3g}" for loss in losses.tolist() if loss > TOP)
    panel.annotate(beyond, (eta, TOP), xytext=(6, -4), textcoords="offset points", fontsize=8)


def _judge(step: Step) -> str:
    rose = [f"$L_{t}$" for t, up in enumerate(step.after > step.record.losses, start=1) if up]
    return f"{' and '.join(rose)} rose" if rose else "both losses fell"


def _tabulate(step: Step) -> pd.DataFrame:
    kinds = ["rejected"] * (len(step.trials) - 1) + ["accepted", "step"]
    points = [*step.trials, (step.record.step_size, step.after)]
    rows = [
        asdict(step.setting) | {"kind": kind, "eta": eta, "L_1": losses[0].item(), "L_2": losses[1].item()}
        for kind, (eta, losses) in zip(kinds, points, strict=True)
    ]
    return pd.DataFrame(rows)
