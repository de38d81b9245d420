"""Backtracking finds the first step of its sequence that satisfies the definition, and says so when there is none."""

import math

import pytest
import torch

from fastls import Backtracking, GoldenSection, Parabolic, SearchResult, Slopes
from fastls.algorithms.line_search import ConstantStep, search_failure


class Recorded:
    """φ that remembers where it was evaluated."""

    def __init__(self, phi):
        self.phi, self.etas = phi, []

    def __call__(self, eta):
        self.etas.append(eta)
        return self.phi(eta)


def convex(losses, slopes, curvatures, waves):
    return lambda eta: losses - eta * slopes + curvatures * eta**2 / 2


def nonconvex(losses, slopes, curvatures, waves):
    """As `convex`, with waves that have no slope at 0."""
    return lambda eta: losses - eta * slopes + curvatures * eta**2 / 2 + curvatures * (1 - torch.cos(waves * eta))


def problem(make, tasks: int, seed: int):
    """φ, losses and slopes with random curvatures over four decades."""
    generator = torch.Generator().manual_seed(seed)
    losses, own, shared, waves = torch.rand(4, tasks, generator=generator, dtype=torch.float64) + 0.1
    curvatures = 10 ** (4 * torch.rand(tasks, generator=generator, dtype=torch.float64) - 1)
    return Recorded(make(losses, own + shared, curvatures, 20 * waves)), losses, Slopes(own, shared)


def required_decrease(form: int, slopes: Slopes) -> torch.Tensor:
    """The right-hand sides of (6) to (9) over ηβ; (9) with ∂L_t/∂z where the paper misprints ∂L_t/∂θ_t."""
    return {
        6: slopes.own + slopes.shared,
        7: slopes.own,
        8: slopes.shared,
        9: slopes.own + slopes.shared,
    }[form]


@pytest.mark.parametrize("form", [6, 7, 8, 9])
@pytest.mark.parametrize("make", [convex, nonconvex])
@pytest.mark.parametrize(("beta", "gamma"), [(0.1, 0.5), (0.4, 0.8), (0.9, 0.1)])
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_the_accepted_step_satisfies_the_definition_and_the_one_before_does_not(form, make, beta, gamma, tasks):
    trials = []
    for seed in range(5):
        phi, losses, slopes = problem(make, tasks, seed)
        result = Backtracking(beta, gamma, form=form)(phi, losses, slopes, 1.0)
        decrease = required_decrease(form, slopes)

        def holds(eta, phi=phi, losses=losses, decrease=decrease):
            return bool((phi.phi(eta) <= losses - eta * beta * decrease).all())

        assert result.accepted and holds(result.step_size)
        assert not any(holds(eta) for eta in phi.etas[:-1])
        assert phi.etas == pytest.approx([gamma**k for k in range(result.trials)])
        assert phi.etas[-1] == result.step_size
        trials.append(result.trials)
    assert max(trials) > 1


@pytest.mark.parametrize(
    ("decrease", "passed"), [(0.9, set()), (1.1, {7}), (3.1, {7, 8}), (3.9, {7, 8}), (4.1, {6, 7, 8, 9})]
)
def test_each_form_asks_for_its_own_decrease(decrease, passed):
    """Own slope 2, shared slope 6, β = 1/2: (7) asks for a decrease of 1, (8) of 3, (6) and (9) of 4."""
    slopes = Slopes(own=torch.tensor([2.0]), shared=torch.tensor([6.0]))
    for form in (6, 7, 8, 9):
        search = Backtracking(beta=0.5, floor=0.9, form=form)
        result = search(lambda eta: torch.tensor([5.0]) - decrease * eta, torch.tensor([5.0]), slopes, 1.0)
        assert result.accepted == (form in passed)


def test_every_task_must_pass():
    phi = Recorded(lambda eta: torch.tensor([1 - eta, 1 - eta + 8 * eta**2]))
    result = Backtracking(beta=0.5)(phi, torch.ones(2), Slopes(torch.zeros(2), torch.ones(2)), 1.0)
    assert result == SearchResult(1 / 16, 5, True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_trial_that_is_not_finite_is_rejected(bad):
    phi = Recorded(lambda eta: torch.tensor([1 - eta, bad if eta > 0.3 else 1 - eta]))
    result = Backtracking()(phi, torch.ones(2), Slopes(torch.ones(2), torch.zeros(2)), 1.0)
    assert result == SearchResult(0.25, 3, True)


def test_failure_ends_at_the_floor_after_every_trial_above_it():
    phi = Recorded(lambda eta: torch.full((2,), 2.0))
    slopes = Slopes(torch.ones(2), torch.zeros(2))
    result = Backtracking(gamma=0.1, floor=3e-4)(phi, torch.ones(2), slopes, 1.0)
    assert result == SearchResult(3e-4, 4, False)
    assert phi.etas == pytest.approx([1, 0.1, 0.01, 0.001])
    assert "no step down to the floor 0.0003 passed the test in 4 trials" in search_failure(result, slopes)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("form", [6, 7, 8, 9])
def test_a_slope_that_is_not_positive_is_refused_before_any_trial(bad, form):
    phi = Recorded(lambda eta: torch.zeros(2))
    slopes = Slopes(own=torch.zeros(2), shared=torch.tensor([1.0, bad]))
    result = Backtracking(form=form)(phi, torch.ones(2), slopes, 1.0)
    assert result == SearchResult(1e-10, 0, False) and phi.etas == []
    assert f"not one of descent for every task: slopes [1.0, {bad}]" in search_failure(result, slopes)


def test_the_test_is_decided_in_float64():
    """A decrease of 1e-8 is asked for, less than a float32 loss of 1 can show: no decrease is not enough."""
    losses = torch.tensor([1.0])
    slopes = Slopes(torch.tensor([1e-7], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    assert not Backtracking(beta=0.1, floor=0.9)(lambda eta: losses.clone(), losses, slopes, 1.0).accepted


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({name: value}, rf"{name}=\.\.\.\)` must be in \(0, 1\), found {value}")
     for name in ("beta", "gamma") for value in (0, 1, -0.1, 1.5, math.nan)]
    + [({"floor": value}, rf"floor=\.\.\.\)` must be positive and finite, found {value}")
       for value in (0, -1e-10, math.nan, math.inf)]
    + [({"form": value}, rf"form=\.\.\.\)` must be one of \[6, 7, 8, 9\], found {value!r}") for value in (5, "armijo")],
)  # fmt: skip
def test_parameters_out_of_range_are_named_with_rule_and_value(parameters, message):
    with pytest.raises(ValueError, match=message):
        Backtracking(**parameters)


@pytest.mark.parametrize("lr_ub", [0, -1.0, math.inf, math.nan])
def test_bounds_that_are_not_positive_and_finite_are_refused(lr_ub):
    with pytest.raises(ValueError, match=f"`lr_ub` must be positive and finite, found {lr_ub}"):
        Backtracking().check_bound(lr_ub)


@pytest.mark.parametrize("lr_ub", [1e-3, 5e-4])
def test_the_floor_must_be_below_the_bound(lr_ub):
    with pytest.raises(ValueError, match=f"`floor` must be below `lr_ub`, found floor=0.001 and lr_ub={lr_ub}"):
        Backtracking(floor=1e-3).check_bound(lr_ub)


@pytest.mark.parametrize("search", [Backtracking(floor=1e-3), GoldenSection(floor=1e-3), Parabolic(floor=1e-3)])
def test_a_bound_at_the_floor_or_below_leaves_no_step_to_try(search):
    phi, slopes = Recorded(lambda eta: torch.zeros(1)), Slopes(torch.ones(1), torch.zeros(1))
    for lr_ub in (1e-3, 5e-4, 0.0):
        assert search(phi, torch.ones(1), slopes, lr_ub) == SearchResult(0.0, 0, True)
    for lr_ub in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"`lr_ub` must be finite and not negative, found {lr_ub}"):
            search(phi, torch.ones(1), slopes, lr_ub)
    assert phi.etas == []


def test_a_constant_step_needs_no_trial():
    phi = Recorded(lambda eta: torch.zeros(1))
    assert ConstantStep()(phi, torch.ones(1), Slopes(-torch.ones(1), torch.zeros(1)), 0.3) == SearchResult(0.3, 0, True)
    assert phi.etas == []
