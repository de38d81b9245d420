"""Where theory promises a Pareto stationary end, the toy problems reach it; where it does not, they show why.

The oscillation of FBLS under Backtracking on z = cθ is pinned in test_known_limitation.
"""

import math

import pytest
import torch

from fastls import BLS, FBLS, Backtracking, GoldenSection, Parabolic, dominates, stationarity_gap
from fastls.models.quadratic import fonseca, quadratics, scalar_chain

DOUBLE = {"dtype": torch.float64}
CENTRES = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]], **DOUBLE)
CURVATURES = torch.tensor([[[3.0, 1.0], [1.0, 2.0]], [[1.0, -0.5], [-0.5, 4.0]], [[2.0, 0.0], [0.0, 0.5]]], **DOUBLE)
SKEWED = torch.tensor([[1.0, 0.5], [0.0, 1.0]], **DOUBLE)
TURN = torch.tensor([[0.6, -0.8], [0.8, 0.6]], **DOUBLE)  # AAᵀ = I
SEARCHES = [Backtracking(), GoldenSection(), Parabolic()]
PROBLEMS = ["1 quadratic", "2 quadratics", "3 quadratics", "fonseca"]

by_search = pytest.mark.parametrize("search", SEARCHES, ids=lambda search: type(search).__name__)
by_direction = pytest.mark.parametrize("direction", ["mgda", "edm"])
by_problem = pytest.mark.parametrize("problem", PROBLEMS)


def make(problem: str, encoder: torch.Tensor):
    """Every encoder starts at the same z."""
    start = torch.linalg.solve(encoder, torch.tensor([1.1, -0.9], **DOUBLE))
    if problem == "fonseca":
        return fonseca(encoder, start)
    tasks = int(problem[0])
    return quadratics(encoder, CENTRES[:tasks], CURVATURES[:tasks], start)


def gap(model) -> float:
    z = model.encoder(None)
    losses = [model.losses[task](z, None) for task in model.tasks]
    rows = [torch.autograd.grad(loss, model.encoder.theta, retain_graph=True)[0] for loss in losses]
    return stationarity_gap(torch.stack(rows)).item()


def train(optimizer, steps: int, until: float = 0.0) -> list:
    """Records of at most that many steps, fewer when the gap falls below `until` first."""
    records = []
    while len(records) < steps and gap(optimizer.model) >= until:
        records.append(optimizer.step(None, dict.fromkeys(optimizer.model.tasks)))
    return records


@by_search
@by_direction
@by_problem
@pytest.mark.parametrize("encoder", [SKEWED, 3 * TURN], ids=["skewed", "gain 9"])
def test_bls_ends_at_a_stationary_point_whatever_the_encoder(problem, encoder, direction, search):
    """Assumes that the losses are smooth in θ and bounded below, no more (Fliege and Svaiter 2000).

    The minimiser of the merit, of which the cuts of these losses have but one, decreases the worst loss at least as
    much as the step of Backtracking does. Every loss decreases at every step.
    """
    model = make(problem, encoder)
    records = train(BLS(model, 1.0, direction, search), steps=400, until=1e-6)
    assert gap(model) < 1e-6
    assert all(record.accepted for record in records)
    assert all(dominates(b.losses, a.losses) for a, b in zip(records, records[1:], strict=False))


@by_search
@by_direction
@by_problem
def test_fbls_takes_the_steps_of_bls_where_the_encoder_is_orthogonal(problem, direction, search):
    """AAᵀ = I: what FBLS tests in z is what its step does in θ, so that it inherits what holds for BLS."""
    ends = []
    for algorithm in (BLS, FBLS):
        model = make(problem, TURN)
        records = train(algorithm(model, 1.0, direction, search), steps=10)
        ends.append(([record.step_size for record in records], model.encoder.theta.tolist()))
    (steps, theta), (latent_steps, latent_theta) = ends
    assert latent_theta == pytest.approx(theta, abs=1e-5)
    assert latent_steps[:3] == pytest.approx(steps[:3], rel=2e-3)


@by_search
@by_direction
@pytest.mark.parametrize("problem", PROBLEMS[:3])
@pytest.mark.parametrize("gain", [0.5, 1.0])
def test_fbls_ends_at_a_stationary_point_of_convex_losses_where_the_gain_is_at_most_one(
    gain, problem, direction, search
):
    """Assumes AAᵀ = ρI with ρ ≤ 1 and convex losses.

    The step moves z by ρ times the step that was tested, and a convex loss that falls over the whole way falls by at
    least the share ρ of that over the share ρ of the way.
    """
    model = make(problem, math.sqrt(gain) * TURN)
    records = train(FBLS(model, 1.0, direction, search), steps=400, until=1e-6)
    assert gap(model) < 1e-6
    assert all(record.accepted and record.gain.item() == pytest.approx(gain, rel=1e-3) for record in records)
    assert all(dominates(b.losses, a.losses) for a, b in zip(records, records[1:], strict=False))


@by_search
@by_direction
def test_fbls_diverges_where_the_gain_exceeds_two(direction, search):
    """AAᵀ = 3I and losses of curvature 1: each accepted η = 1 moves z by 3 times the way to the Pareto set.

    The tested step decreases both losses, the step that is taken leaves z twice as far beyond the set.
    """
    model = quadratics(math.sqrt(3) * TURN, CENTRES[:2], torch.eye(2).expand(2, 2, 2), torch.ones(2))
    records = train(FBLS(model, 1.0, direction, search), steps=40)
    assert all(record.accepted and record.gain.item() == pytest.approx(3, rel=1e-3) for record in records)
    assert gap(model) > 1e3
    assert (records[-1].losses > 1e3 * records[0].losses).all()


@by_search
def test_bls_has_no_such_limit(search):
    model = quadratics(math.sqrt(3) * TURN, CENTRES[:2], torch.eye(2).expand(2, 2, 2), torch.ones(2))
    train(BLS(model, 1.0, "mgda", search), steps=40, until=1e-6)
    assert gap(model) < 1e-6


@by_search
@pytest.mark.parametrize("c", [1.3, math.sqrt(2), 1.5])
def test_a_search_that_minimises_in_z_does_not_help_fbls_on_the_chain(c, search):
    """z = cθ, L = z²/2: η = 1 is the exact minimiser in z, and θ ← (1 − c²)θ has its threshold at c = √2."""
    model = scalar_chain(c)
    records = train(FBLS(model, 1.0, line_search=search), steps=51)
    assert all(record.accepted and record.step_size == 1 for record in records)
    losses = [record.losses.item() for record in records]
    assert losses == pytest.approx([losses[0] * (1 - c**2) ** (2 * k) for k in range(51)], rel=1e-9)
    if c == math.sqrt(2):
        assert losses == pytest.approx([losses[0]] * 51)
        assert model.encoder.theta.item() == pytest.approx(-1)
    else:
        assert (losses[-1] < 1e-6 * losses[0]) if c < math.sqrt(2) else (losses[-1] > 1e6 * losses[0])
