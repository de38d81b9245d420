"""How fast FBLS approaches the Pareto set of the toy problem, or leaves it: to first order, and by experiment.

The paper's proof needs the step that was tested, but the encoder takes another step. This module computes the
consequence near the Pareto set of two quadratics, in closed form.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from fastls.experiments.studies.toy.toy import CENTRES, CURVATURES, RATIO, follow, make_encoder, two_quadratics
from fastls.models.quadratic import pareto_set


def local_rates(
    weights: Sequence[float], scale: float = 1.0, ratio: float = RATIO, beta: float = 0.1, lr_ub: float = 1.0
) -> pd.DataFrame:
    r"""The factor by which a step of FBLS multiplies the stationarity gap near the Pareto set of `two_quadratics`.

    On the set g_1 and g_2 are opposite. At a small distance δ from it the MGDA direction is, to first order,
    d_z = v vᵀH δ, with v the unit normal of the gradients and H = Σ α_t H_t. The test passes if
    η ≤ 2 (1 − β) / max_t vᵀH_t v. The step δ ← δ − η A Aᵀ d_z multiplies vᵀHδ by 1 − ημ, μ = vᵀH A Aᵀ v: FBLS
    approaches the set if 0 < ημ < 2. For H = hI, μ is h times the gain vᵀA Aᵀ v.

    Args:
        weights: α_1 of the points, strictly between 0 and 1.
        scale, ratio: of the encoder.
        beta, lr_ub: of FBLS; γ = 1/2.

    Returns:
        By point: ``weight``, ``z_1``, ``z_2``, ``v_1``, ``v_2``, ``gain``, ``step_size`` η and ``factor`` 1 − ημ.
    """
    first = torch.tensor(weights, dtype=torch.float64)
    share = torch.stack([first, 1 - first], dim=1)
    encoder, H = make_encoder(scale, ratio), CURVATURES[:2]
    z = pareto_set(CENTRES[:2], H, share)
    gradient = (z - CENTRES[0]) @ H[0]
    v = torch.stack([-gradient[:, 1], gradient[:, 0]], dim=1) / gradient.norm(dim=1, keepdim=True)
    pulled = v @ encoder @ encoder.T
    steepest = torch.einsum("ni,tij,nj->nt", v, H, v).amax(dim=1)
    halvings = (lr_ub * steepest / (2 * (1 - beta))).log2().ceil().clamp_min(0)
    step = lr_ub * 0.5**halvings
    mu = torch.einsum("ni,nt,tij,nj->n", v, share, H, pulled)
    columns = [first, *z.T, *v.T, (v * pulled).sum(dim=1), step, 1 - step * mu]
    names = ["weight", "z_1", "z_2", "v_1", "v_2", "gain", "step_size", "factor"]
    return pd.DataFrame({name: column.numpy() for name, column in zip(names, columns, strict=True)})


def limit_scales(rates: pd.DataFrame) -> pd.Series:
    """For every point of `local_rates` at scale 1: the scale s beyond which the point repels FBLS, s² ημ = 2."""
    return np.sqrt(2 / (1 - rates["factor"]))


def measure_rates(rates: pd.DataFrame, scale: float = 1.0, ratio: float = RATIO, offset: float = 1e-4) -> list[float]:
    """The factor by which one step of FBLS multiplies the gap, measured; `local_rates` predicts it as ``|factor|``.

    Args:
        rates: of `local_rates`, for the same encoder and the default β, γ and lr_ub.
        scale, ratio: of the encoder.
        offset: distance in z of the start from each point, along the normal v.
    """
    toy = two_quadratics(scale, ratio)
    starts = rates[["z_1", "z_2"]].to_numpy() + offset * rates[["v_1", "v_2"]].to_numpy()
    gaps = [follow(toy, "FBLS", start, steps=1)["gap"] for start in starts.tolist()]
    return [float(gap.iloc[-1] / gap.iloc[0]) for gap in gaps]
