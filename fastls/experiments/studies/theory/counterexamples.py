r"""Cases where the latent test of FBLS says nothing about the step: the gain of the encoder, and lost descent.

The test assumes that z moves by −η d_z. The step in the encoder's parameters moves z by −η J Jᵀ d_z, J = ∂z/∂θ_sh.
The factor J Jᵀ, which equation (5) of the paper drops, stretches the step and turns it.
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial

import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor

from fastls.algorithms.directions import compute_gramian, mgda
from fastls.algorithms.optimizers import BLS, FBLS
from fastls.models.quadratic import scalar_chain

METHODS = {"BLS": BLS, "FBLS": FBLS, "FBLS+gain": partial(FBLS, match_gain=True)}


def sweep_scalar_chain(factors: Sequence[float], steps: int, methods: Iterable[str]) -> pd.DataFrame:
    r"""Searches on z = cθ, L = z²/2, from θ = 1, for every c of `factors`.

    The latent test accepts η whenever |1 − η| ≤ √(1 − 2ηβ), whatever c is; the step multiplies θ by 1 − ηc².

    Args:
        factors: values of c.
        steps: number of steps of each method.
        methods: names of `METHODS`.

    Returns:
        One row for each c and method: ``c``, ``method``, ``loss`` after the last step (infinite if it overflowed),
        ``step_size`` and ``gain`` of the first step (NaN for BLS, which has none).

    Example:
        >>> sweep_scalar_chain([1.0, 2.0], steps=2, methods=["FBLS"])["loss"].tolist()
        [0.0, 162.0]
    """
    rows = []
    for c in factors:
        for method in methods:
            model = scalar_chain(float(c))
            optimizer, targets, records = METHODS[method](model), dict.fromkeys(model.tasks), []
            try:
                for _ in range(steps):
                    records.append(optimizer.step(None, targets))
                loss = (c * model.encoder.theta.item()) ** 2 / 2
            except FloatingPointError:
                loss = math.inf
            first = records[0]
            gain = math.nan if first.gain is None else float(first.gain)
            rows.append({"c": float(c), "method": method, "loss": loss, "gain": gain, "step_size": first.step_size})
    return pd.DataFrame(rows)


def follow_shrinking_decrease(steps: int) -> pd.DataFrame:
    r"""Gradient descent on L = θ²/2 from θ = 1 with η_k = 2 − 2^−(k+1): every step lowers L, and θ does not tend to 0.

    θ_{k+1} = −(1 − 2^−(k+1)) θ_k, so |θ_k| falls to the product of all 1 − 2^−j with j ≥ 1. It refutes Theorem 4.1 of
    the thesis.

    Returns:
        One row per k from 0 to `steps`: ``θ`` and ``loss`` after k steps, and ``η`` of the next step.

    Example:
        >>> follow_shrinking_decrease(2)["θ"].tolist()
        [1.0, -0.5, 0.375]
    """
    rows, theta = [], 1.0
    for k in range(steps + 1):
        eta = 2 - 2.0 ** -(k + 1)
        rows.append({"η": eta, "θ": theta, "loss": theta**2 / 2})
        theta -= eta * theta
    return pd.DataFrame(rows).rename_axis("k")


def smallest_safe_cosine(condition):
    r"""(κ − 1)/(κ + 1): above it, no encoder with cond(J Jᵀ) = κ turns a descent direction into one of ascent.

    For unit vectors g and d with cosine q, 4gᵀMd = (g + d)ᵀM(g + d) − (g − d)ᵀM(g − d) ≥ 2m(1 + q) − 2κm(1 − q), m the
    smallest eigenvalue of M = J Jᵀ, with equality where g + d and g − d are eigenvectors: positive for every such M
    if and only if q > (κ − 1)/(κ + 1).

    Example:
        >>> smallest_safe_cosine(1.0), smallest_safe_cosine(3.0)
        (0.0, 0.5)
    """
    return (condition - 1) / (condition + 1)


def true_slopes(gradients: Tensor, jacobian: Tensor) -> Tensor:
    r"""⟨∂L_t/∂θ_sh, d_sh⟩ = g_tᵀ J Jᵀ d_z for the MGDA direction of the latent gradients: the true slopes of a step.

    Args:
        gradients: (T, k), g_t = ∂L_t/∂z.
        jacobian: (k, P), ∂z/∂θ_sh.

    Returns:
        (T,); a negative entry belongs to a task whose loss grows, however small the step is.

    Example:
        >>> gradients = torch.tensor([[1.0, 1.0], [1.0, -3.0]])           # MGDA: d_z = (1, 0), slopes 1 and 1
        >>> true_slopes(gradients, torch.tensor([[1.0, 0.0], [1.0, 0.5]]))
        tensor([ 2., -2.], dtype=torch.float64)
    """
    direction = mgda(compute_gramian(gradients)) @ gradients.double()
    return (gradients.double() @ jacobian.double()) @ (jacobian.double().T @ direction)


def sample_lost_descent(latent: int, widths: Sequence[int], tasks: int, draws: int, seed: int = 0) -> pd.DataFrame:
    """How often an encoder with a random Jacobian loses the descent that MGDA found in latent space.

    Args:
        latent: k, the size of z.
        widths: numbers of encoder parameters P, each at least k.
        tasks: T; the latent gradients are Gaussian.
        draws: number of draws of gradients and a Gaussian Jacobian, for each width.
        seed: of all draws.

    Returns:
        One row per draw: ``parameters``, ``condition`` of J Jᵀ, ``cosine`` (the smallest between a g_t and d_z) and
        ``lost``, whether the loss of some task grows along the step.

    Raises:
        ValueError: a width below `latent`, where J Jᵀ is singular.
    """
    if min(widths) < latent:
        raise ValueError(f"`widths` must be at least `latent` = {latent}, found {min(widths)}: J Jᵀ would be singular.")
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for parameters in widths:
        for _ in range(draws):
            gradients = torch.randn(tasks, latent, generator=generator, dtype=torch.float64)
            jacobian = torch.randn(latent, parameters, generator=generator, dtype=torch.float64)
            direction = mgda(gradients @ gradients.T) @ gradients
            cosines = gradients @ direction / (gradients.norm(dim=1) * direction.norm())
            singular = torch.linalg.svdvals(jacobian)
            rows.append(
                {
                    "parameters": parameters,
                    "condition": (singular[0] / singular[-1]).square().item(),
                    "cosine": cosines.min().item(),
                    "lost": bool((true_slopes(gradients, jacobian) <= 0).any()),
                }
            )
    return pd.DataFrame(rows)


def share_lost(draws: pd.DataFrame) -> pd.DataFrame:
    """Share of draws that lost descent for each number of parameters, with its 95 % Wilson interval."""
    rows = []
    for parameters, lost in draws.groupby("parameters")["lost"]:
        interval = binomtest(int(lost.sum()), len(lost)).proportion_ci(method="wilson")
        row = {"parameters": parameters, "share": lost.mean(), "low": interval.low, "high": interval.high}
        rows.append(row | {"n": len(lost)})
    return pd.DataFrame(rows).set_index("parameters")
