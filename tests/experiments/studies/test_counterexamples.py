"""The counterexamples, and what is proved beside them."""

import math

import matplotlib.pyplot as plt
import pytest
import torch

from fastls import BLS, FBLS, stationarity_gap
from fastls.algorithms.spaces import Evaluation, ParameterSpace
from fastls.experiments.studies.theory import counterexample_figures
from fastls.experiments.studies.theory.counterexamples import (
    follow_shrinking_decrease,
    sample_lost_descent,
    share_lost,
    smallest_safe_cosine,
    sweep_scalar_chain,
    true_slopes,
)
from fastls.models.quadratic import quadratics

CENTRES = torch.tensor([[-1.0, 0.0], [1.0, 0.4]], dtype=torch.float64)
CURVATURES = torch.tensor([[[1.0, 0.3], [0.3, 0.6]], [[0.7, -0.3], [-0.3, 1.2]]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sweep():
    return sweep_scalar_chain([0.5, 1.0, 1.3, math.sqrt(2), 1.5], 20, ["BLS", "FBLS"])


@pytest.fixture(scope="module")
def draws():
    return sample_lost_descent(latent=3, widths=(3, 12), tasks=2, draws=200, seed=1)


def test_fbls_multiplies_theta_by_one_minus_the_gain(sweep):
    rows = sweep[sweep["method"] == "FBLS"]
    assert (rows["step_size"] == 1).all()
    assert rows["gain"].to_numpy() == pytest.approx(rows["c"].to_numpy() ** 2)
    expected = [c**2 / 2 * (1 - c**2) ** 40 for c in rows["c"]]
    assert rows["loss"].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-30)


def test_bls_never_ends_above_its_start(sweep):
    rows = sweep[sweep["method"] == "BLS"]
    assert (rows["loss"] < rows["c"] ** 2 / 2).all() and rows["gain"].isna().all()


def test_the_gain_saves_the_chain_that_defeats_fbls():
    table = sweep_scalar_chain([0.5, 3.0], 60, ["FBLS", "FBLS+gain"]).set_index(["method", "c"])["loss"]
    assert table["FBLS", 0.5] < 1e-3 and table["FBLS", 3.0] > 1e6
    assert table["FBLS+gain", 3.0] < 1e-12


def test_what_overflows_is_infinite():
    assert sweep_scalar_chain([20.0], 200, ["FBLS"])["loss"].iloc[0] == float("inf")


def test_gain_sweep_draws_both_methods_and_clips_what_is_tiny(sweep):
    figure, table = counterexample_figures.draw_gain_sweep(sweep, 20, "where from")
    left = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    loss = table[table["method"] == "FBLS"]["loss"]
    assert left["FBLS"] == pytest.approx(loss.clip(lower=1e-20).to_numpy())
    assert left["FBLS"].min() == 1e-20 and "where from" in figure.get_supxlabel()


def test_no_draw_above_the_bound_loses_descent(draws):
    lost = draws[draws["lost"]]
    assert 0 < len(lost) < len(draws)
    assert (lost["cosine"] <= smallest_safe_cosine(lost["condition"])).all()


@pytest.mark.parametrize("margin, kept", [(1e-3, True), (-1e-3, False)])
def test_the_bound_is_reached(margin, kept):
    """g ± d eigenvectors of M, with the smaller eigenvalue on their sum: descent is lost just below the bound."""
    condition = 9.0
    cosine = smallest_safe_cosine(condition) + margin
    d = torch.tensor([1.0, 0.0], dtype=torch.float64)
    g = torch.tensor([cosine, math.sqrt(1 - cosine**2)], dtype=torch.float64)
    frame = torch.stack([g + d, g - d])
    frame = frame / frame.norm(dim=1, keepdim=True)
    M = frame.T @ torch.diag(torch.tensor([1.0, condition], dtype=torch.float64)) @ frame
    assert (bool(g @ M @ d > 0)) == kept


def test_true_slopes_are_those_of_the_parameters():
    """⟨∂L_t/∂θ, d_sh⟩ by autograd on a model whose latent gradients are the given ones."""
    gradients = torch.tensor([[1.0, 1.0], [1.0, -3.0]], dtype=torch.float64)
    jacobian = torch.tensor([[1.0, 0.0], [0.9, 0.3]], dtype=torch.float64)
    identities = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    model = quadratics(jacobian, -gradients, identities, torch.zeros(2, dtype=torch.float64))
    shared = ParameterSpace().gradients(Evaluation(model, None, dict.fromkeys(model.tasks), replayable=False))
    d_sh = jacobian.T @ torch.tensor([1.0, 0.0], dtype=torch.float64)  # MGDA: d_z = (1, 0)
    assert true_slopes(gradients, jacobian) == pytest.approx(shared @ d_sh)


def test_lost_descent_draws_a_trial_that_falls_and_a_step_that_rises():
    gradients = torch.tensor([[1.0, 1.0], [1.0, -3.0]], dtype=torch.float64)
    encoder = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64))
    _, table = counterexample_figures.draw_lost_descent(gradients, encoder, "")
    assert (table.iloc[0] == 0).all()
    later = table.iloc[1:]
    assert (later[["trial_1", "trial_2", "step_1"]] < 0).all(axis=None) and (later["step_2"] > 0).all()
    slope = (later["step_2"] / later.index).iloc[0]
    assert slope == pytest.approx(-true_slopes(gradients, encoder)[1].item(), rel=0.05)


def test_shares_count_the_draws(draws):
    _, table = counterexample_figures.draw_lost_share(draws, "")
    assert table.equals(share_lost(draws))
    assert list(table.index) == [3, 12] and (table["n"] == 200).all()
    assert table.loc[3, "share"] == draws[draws["parameters"] == 3]["lost"].mean()
    assert ((table["low"] <= table["share"]) & (table["share"] <= table["high"])).all()


def test_a_draw_depends_on_the_seed_alone(draws):
    assert draws.equals(sample_lost_descent(latent=3, widths=(3, 12), tasks=2, draws=200, seed=1))


def test_an_encoder_narrower_than_z_is_refused():
    with pytest.raises(ValueError, match="`widths` must be at least `latent` = 4, found 3"):
        sample_lost_descent(latent=4, widths=(8, 3), tasks=2, draws=1)


def final_gap(method, encoder, steps=100, lr_ub=1.0):
    start = torch.tensor([1.5, -1.0], dtype=torch.float64)
    model = quadratics(encoder, CENTRES, CURVATURES, start)
    optimizer, targets = method(model, lr_ub), dict.fromkeys(model.tasks)
    for _ in range(steps):
        optimizer.step(None, targets)
    gradients = ParameterSpace().gradients(Evaluation(model, None, targets, replayable=False))
    return stationarity_gap(gradients).item()


TURN = torch.linalg.qr(torch.tensor([[1.0, 2.0], [-1.0, 1.0]], dtype=torch.float64))[0]


@pytest.mark.parametrize("method, scale", [(BLS, 1), (BLS, 0.5), (BLS, 2), (FBLS, 1), (FBLS, 0.5)])
def test_where_theory_promises_it_the_end_is_stationary(method, scale):
    assert final_gap(method, scale * TURN) < 1e-6


def test_a_bound_small_beside_the_gain_keeps_fbls_stable():
    """JJᵀ = 4I: ηρ < 2/ℓ holds with lr_ub = 1/4 and not with 1."""
    assert final_gap(FBLS, 2 * TURN, lr_ub=0.25) < 1e-6
    assert final_gap(FBLS, 2 * TURN, steps=50) > 1


def test_a_decrease_at_every_step_leaves_two_limit_points_that_are_not_stationary():
    path = follow_shrinking_decrease(50)
    assert (path["loss"].diff()[1:] < 0).all()
    limit = math.prod(1 - 2.0**-j for j in range(1, 60))
    assert abs(path["θ"].iloc[-1]) == pytest.approx(limit) and limit > 0.28
    assert path["θ"].iloc[-1] * path["θ"].iloc[-2] < 0
    # What the Armijo test would have asked for: it refuses all but the first steps.
    slope = path["θ"] ** 2
    passes = path["loss"].shift(-1) <= path["loss"] - path["η"] * 0.1 * slope
    assert not passes[4:-1].any()
