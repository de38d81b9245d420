"""What is computed beside the Pareto set is what the optimizer does there."""

import numpy as np
import pytest
import torch

from fastls.experiments.studies.toy.rates import limit_scales, local_rates, measure_rates
from fastls.experiments.studies.toy.toy import CENTRES, CURVATURES, follow, two_quadratics

WEIGHTS = [0.1, 0.35, 0.6, 0.9]


@pytest.mark.parametrize(("scale", "ratio"), [(1.0, 1.0), (1.0, 0.6), (2.0, 0.6), (1.0, 0.05)])
def test_one_step_of_fbls_multiplies_the_gap_as_computed(scale, ratio):
    rates = local_rates(WEIGHTS, scale, ratio)
    assert measure_rates(rates, scale, ratio) == pytest.approx(rates["factor"].abs(), rel=5e-3)


def test_the_step_is_the_longest_of_the_grid_that_the_test_lets_pass():
    rates = local_rates(WEIGHTS, beta=0.3, lr_ub=8.0)
    v = torch.tensor(rates[["v_1", "v_2"]].to_numpy())
    longest = 2 * (1 - 0.3) / torch.einsum("ni,tij,nj->nt", v, CURVATURES[:2], v).amax(dim=1).numpy()
    assert (rates["step_size"] <= longest).all() and (2 * rates["step_size"] > longest).all()


def test_gradients_are_opposite_and_v_is_normal_to_them():
    rates = local_rates(WEIGHTS)
    z, v = (torch.tensor(rates[[f"{name}_1", f"{name}_2"]].to_numpy()) for name in "zv")
    gradients = torch.einsum("ntj,tij->nti", z[:, None] - CENTRES[:2], CURVATURES[:2])
    share = torch.tensor(WEIGHTS, dtype=torch.float64)[:, None]
    assert torch.allclose(share * gradients[:, 0], -(1 - share) * gradients[:, 1])
    assert torch.einsum("nti,ni->nt", gradients, v).abs().max() < 1e-12


def test_the_gain_of_a_rotation_is_its_scale_squared():
    assert local_rates(WEIGHTS, scale=3.0, ratio=1.0)["gain"].tolist() == pytest.approx([9.0] * 4)


def test_points_repel_just_beyond_their_limit():
    limits = limit_scales(local_rates(WEIGHTS))
    for i, limit in enumerate(limits):
        below, beyond = (local_rates(WEIGHTS, scale=limit * share)["factor"][i] for share in (0.99, 1.01))
        assert -1 < below and beyond < -1


def test_a_point_that_repels_fbls_at_any_step_attracts_bls():
    """In an ill-conditioned encoder d_z leads away from the set: the gap grows; the losses of BLS cannot."""
    rates = local_rates([0.5], ratio=0.05)
    assert rates["factor"].item() > 1
    assert local_rates([0.5], ratio=0.05, lr_ub=1e-3)["factor"].item() > 1
    start = (rates[["z_1", "z_2"]].to_numpy() + 1e-3 * rates[["v_1", "v_2"]].to_numpy())[0].tolist()
    gaps = {method: follow(two_quadratics(ratio=0.05), method, start, steps=30)["gap"] for method in ("BLS", "FBLS")}
    assert np.all(np.diff(gaps["FBLS"]) > 0) and gaps["BLS"].iloc[-1] < gaps["BLS"].iloc[0]
