"""Figures of what the latent test misses: the gain of the encoder, and descent that is lost between z and θ."""

import math

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fastls.algorithms.directions import compute_gramian, mgda
from fastls.algorithms.spaces import Evaluation, LatentSpace, ParameterSpace
from fastls.experiments.reporting.planes import (
    COMMON,
    CONE,
    DIRECTION,
    TASK_STYLES,
    descent_cone,
    draw_arrow,
    fill_sector,
)
from fastls.experiments.reporting.style import line_style, new_figure, share_legend, sign
from fastls.experiments.studies.theory.counterexamples import share_lost, smallest_safe_cosine
from fastls.models.quadratic import quadratics


def draw_gain_sweep(table: pd.DataFrame, steps: int, source: str) -> tuple[Figure, pd.DataFrame]:
    """Loss after `steps` steps on z = cθ against c, beside the gain that the first step reports.

    Args:
        table: of `counterexamples.sweep_scalar_chain`.
        steps: number of steps in that table.
        source: provenance.
    """
    figure, (left, right) = new_figure(2, height=3.2)
    smallest = 1e-20
    beneath = {"linestyle": "-", "linewidth": 6, "alpha": 0.4, "marker": None}  # BLS would hide where both agree
    for method, extra in (("BLS", beneath), ("FBLS", {"markevery": 3})):
        rows = table[table["method"] == method]
        style = line_style(method) | extra
        left.plot(rows["c"], rows["loss"].clip(lower=smallest), label=method, **style)
    right.plot(rows["c"], rows["gain"], **style)
    for panel in (left, right):
        panel.axvline(math.sqrt(2), color="black", linewidth=1, linestyle=":")
        panel.annotate("√2", (math.sqrt(2), 1), xycoords=("data", "axes fraction"), ha="center", va="bottom")
        panel.set_xlabel("c, the factor of the encoder")
    right.axhline(2, color="black", linewidth=1, linestyle=":")
    left.set(yscale="log", ylabel=f"loss after {steps} steps", ylim=(smallest / 10, None))
    left.legend(loc="upper left")
    right.set_ylabel(r"gain of FBLS, $\|J^T d_z\|^2 / \|d_z\|^2$")
    source = f"losses below {smallest:g} are drawn there · {source}"
    sign(figure, source)
    return figure, table


def draw_lost_descent(gradients: Tensor, encoder: Tensor, source: str) -> tuple[Figure, pd.DataFrame]:
    r"""A common descent direction in z that is not one in θ: both planes, and the losses along the step.

    The losses are L_t = ½‖z + g_t‖² with z = Aθ, seen from θ = 0, where ∂L_t/∂z = g_t.

    Args:
        gradients: (2, 2), g_t a row.
        encoder: (2, 2), A.
        source: provenance.

    Returns:
        The figure, and the change of both losses in the latent trial and in the true step, by step size.
    """
    curvatures = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    model = quadratics(encoder, -gradients, curvatures, torch.zeros(2, dtype=torch.float64))
    batch = Evaluation(model, None, dict.fromkeys(model.tasks), replayable=True)
    latent = LatentSpace().gradients(batch)
    shared = ParameterSpace().gradients(batch)
    d_z = mgda(compute_gramian(latent)) @ latent
    d_sh = encoder.T @ d_z
    etas = np.linspace(0, 0.5, 51)
    trial = torch.stack([LatentSpace().losses_at(batch, d_z, eta) for eta in etas]) - batch.losses
    step = torch.stack([ParameterSpace().losses_at(batch, d_sh, eta) for eta in etas]) - batch.losses
    columns = {"trial_1": trial[:, 0], "trial_2": trial[:, 1], "step_1": step[:, 0], "step_2": step[:, 1]}
    table = pd.DataFrame(columns, index=pd.Index(etas, name="eta"))
    figure, axes = new_figure(3, height=3.4)
    _draw_plane(axes[0], latent, d_z, ("g_{}", "d_z", "z_{}"), "in latent space, where MGDA looked")
    _draw_plane(axes[1], shared, d_sh, ("J^T g_{}", "J^T d_z", "θ_{}"), "in the parameters, where the step is taken")
    for t, style in enumerate(TASK_STYLES, 1):
        marks = {"marker": "ox"[t - 1], "markevery": (4 * t, 10), "markersize": 5, "linewidth": 1}
        axes[2].plot(table.index, table[f"trial_{t}"], label=f"$L_{t}$, trial", **marks, **style)
        axes[2].plot(table.index, table[f"step_{t}"], label=f"$L_{t}$, step", linewidth=2.6, **style)
    axes[2].axhline(0, color="black", linewidth=0.8)
    axes[2].set(xlabel="step size η", ylabel="change of the loss", title="what was tested, what was taken")
    axes[2].legend(loc="upper left", fontsize=8)
    share_legend(figure, axes[0])
    sign(figure, source)
    return figure, table


def _draw_plane(panel, gradients: Tensor, direction: Tensor, names: tuple[str, str, str], title: str) -> None:
    """Two gradients, a direction, and the cone of directions that lower both losses when subtracted.

    `names` are those of a gradient, of the direction and of a coordinate.
    """
    reach = 1.15 * torch.cat([gradients, direction[None]]).norm(dim=1).max().item()
    cone = descent_cone(-gradients)
    if cone:
        fill_sector(panel, *cone, reach, COMMON, alpha=0.25)
    for t, style in enumerate(TASK_STYLES):
        text = f"${names[0].format(t + 1)}$"
        draw_arrow(panel, gradients[t].tolist(), text, style["color"], style["linestyle"])
    draw_arrow(panel, direction.tolist(), f"${names[1]}$", DIRECTION)
    panel.plot([], [], linewidth=6, alpha=0.4, color=COMMON, label=CONE)
    panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
    panel.set(xlabel=f"${names[2].format(1)}$", ylabel=f"${names[2].format(2)}$")


def draw_lost_share(draws: pd.DataFrame, source: str) -> tuple[Figure, pd.DataFrame]:
    """Random encoders: the draws that lost a task's descent, the bound that no draw can break, and the lost share.

    Args:
        draws: of `counterexamples.sample_lost_descent`.
        source: provenance.

    Returns:
        The figure, and `counterexamples.share_lost`.
    """
    table = share_lost(draws)
    figure, (left, right) = new_figure(2, height=3.4)
    for lost, marker, colour, label in ((False, ".", "0.6", "kept"), (True, "x", TASK_STYLES[1]["color"], "lost")):
        rows = draws[draws["lost"] == lost]
        left.plot(rows["condition"], rows["cosine"], marker, markersize=3, color=colour, label=f"descent {label}")
    condition = np.geomspace(1, draws["condition"].max(), 200)
    left.plot(condition, smallest_safe_cosine(condition), color="black", linewidth=1.5, label="(κ − 1) / (κ + 1)")
    left.set(xscale="log", xlabel="condition number κ of $JJ^T$", ylabel="smallest cosine between $g_t$ and $d_z$")
    left.set_title("above the curve nothing can be lost")
    left.legend(loc="lower right", fontsize=8)
    spread = [table["share"] - table["low"], table["high"] - table["share"]]
    right.errorbar(table.index, table["share"], yerr=spread, capsize=2, marker="o", color=TASK_STYLES[1]["color"])
    right.set(
        xscale="log", xlabel="parameters of the encoder", ylabel="share of draws that lost descent", ylim=(0, None)
    )
    right.set_title("how often, by the width of the encoder")
    right.set_xticks(table.index, [str(p) for p in table.index])
    right.minorticks_off()
    sign(figure, source)
    return figure, table
