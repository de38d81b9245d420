"""Golden section and parabolic interpolation minimise the merit max_t [φ_t(η) − L_t], with scipy as the judge."""

import math

import pytest
import torch
from helpers import SEARCHES, batch, mlp
from scipy.optimize import minimize_scalar

from fastls import BLS, GoldenSection, Parabolic, SearchResult, Slopes
from fastls.algorithms.line_search import search_failure
from fastls.models.quadratic import fonseca, quadratics

BOTH = [GoldenSection, Parabolic]
DOUBLE = {"dtype": torch.float64}


class Recorded:
    """φ and its merit, written down afresh; remembers where φ was evaluated."""

    def __init__(self, phi, losses):
        self.phi, self.losses, self.etas = phi, losses, []

    def __call__(self, eta):
        assert isinstance(eta, float)
        self.etas.append(eta)
        return self.phi(eta)

    def merit(self, eta) -> float:
        changes = (self.phi(float(eta)) - self.losses).tolist()
        return max(changes) if all(map(math.isfinite, changes)) else math.inf


def convex(tasks: int, seed: int) -> tuple[Recorded, Slopes]:
    """Parabolas with curvatures over four decades; the merit has a kink wherever two of them cross."""
    generator = torch.Generator().manual_seed(seed)
    losses, slopes = torch.rand(2, tasks, generator=generator, **DOUBLE) + 0.1
    curvatures = 10 ** (4 * torch.rand(tasks, generator=generator, **DOUBLE) - 1)
    phi = Recorded(lambda eta: losses - eta * slopes + curvatures * eta**2 / 2, losses)
    return phi, Slopes(torch.zeros(tasks, **DOUBLE), slopes)


def quasiconvex(tasks: int, seed: int) -> tuple[Recorded, Slopes]:
    """Inverted bells: not convex, but each falls and then rises, and so does the largest of them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(tasks, generator=generator, **DOUBLE) + 0.1
    widths = torch.rand(tasks, generator=generator, **DOUBLE) + 0.4
    losses = -torch.expm1(-((centres / widths) ** 2))
    slopes = 2 * centres / widths**2 * torch.exp(-((centres / widths) ** 2))
    phi = Recorded(lambda eta: -torch.expm1(-(((eta - centres) / widths) ** 2)), losses)
    return phi, Slopes(slopes, torch.zeros(tasks, **DOUBLE))


def wavy(tasks: int, seed: int) -> tuple[Recorded, Slopes]:
    """As `convex`, with waves that have no slope at 0: several minima."""
    phi, slopes = convex(tasks, seed)
    smooth = phi.phi
    phi.phi = lambda eta: smooth(eta) + 0.3 * (1 - math.cos(40 * eta))
    return phi, slopes


@pytest.mark.parametrize("method", ["bounded", "golden", "brent"])
@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("make", [convex, quasiconvex])
def test_the_minimiser_is_that_of_scipy(make, tasks, search, method):
    """Where the merit has one minimum inside of (0, lr_ub), within the tolerance times the step."""
    inside = 0
    for seed in range(30):
        phi, slopes = make(tasks, seed)
        result = search(tolerance=1e-4)(phi, phi.losses, slopes, 1.0)
        assert result.accepted and result.trials == len(phi.etas)
        if method == "bounded":
            expected = minimize_scalar(phi.merit, bounds=(0, 1), method=method, options={"xatol": 1e-9}).x
        elif result.step_size == 1:
            continue  # no bracket to hand over
        else:
            bracket = (0, result.step_size, 1)
            expected = minimize_scalar(phi.merit, bracket=bracket, method=method, options={"xtol": 1e-8}).x
        inside += result.step_size < 1
        assert abs(result.step_size - expected) <= 1e-4 * result.step_size + 2e-7
    assert inside > 5


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("make", [convex, quasiconvex, wavy])
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_the_step_is_the_best_of_those_tried(make, tasks, search):
    """Convex, unimodal or wavy; the bound is tried first, nothing outside (0, lr_ub] and no step twice."""
    for seed in range(20):
        phi, slopes = make(tasks, seed)
        result = search()(phi, phi.losses, slopes, 0.9)
        assert phi.etas[0] == 0.9 and all(0 < eta <= 0.9 for eta in phi.etas)
        assert len(set(phi.etas)) == len(phi.etas) == result.trials
        assert phi.merit(result.step_size) == min(map(phi.merit, phi.etas)) < 0 and result.accepted


@pytest.mark.parametrize("search", BOTH)
def test_with_several_minima_the_step_is_near_one_of_them(search):
    """The last bracket is narrower than the tolerance, and the merit is higher at both of its ends."""
    for seed in range(20):
        phi, slopes = wavy(2, seed)
        result = search(tolerance=0.01)(phi, phi.losses, slopes, 1.0)
        eta = result.step_size
        below = max((other for other in phi.etas if other < eta), default=0.0)
        above = min((other for other in phi.etas if other > eta), default=1.0)
        assert above - below <= 0.01 * eta
        assert phi.merit(eta) <= min(phi.merit(below), phi.merit(above))


class Judged:
    """A line search that leaves φ of a real step to scipy as well, and keeps both answers."""

    needs_trials = True

    def __init__(self, search):
        self.search, self.check_bound, self.pairs = search, search.check_bound, []

    def __call__(self, phi, losses, slopes, lr_ub, previous):
        result = self.search(phi, losses, slopes, lr_ub)
        merit = Recorded(phi, losses).merit
        expected = minimize_scalar(merit, bounds=(0, lr_ub), method="bounded", options={"xatol": 1e-9})
        self.pairs.append((result.step_size, expected.x, merit(result.step_size), expected.fun))
        return result


def toy(name: str):
    A = torch.tensor([[1.0, 0.4], [0.0, 0.8]], **DOUBLE)
    if name == "fonseca":
        return fonseca(A, torch.tensor([1.0, -0.6]))
    centres = torch.tensor([[1.0, 0.0], [-1.0, 0.5]])
    curvatures = torch.tensor([[[3.0, 1.0], [1.0, 2.0]], [[1.0, -0.5], [-0.5, 4.0]]])
    return quadratics(A, centres, curvatures, torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("algorithm", SEARCHES)
@pytest.mark.parametrize("direction", ["mgda", "edm"])
@pytest.mark.parametrize("name", ["quadratics", "fonseca"])
def test_cuts_of_the_toy_problems_in_both_spaces(algorithm, name, direction, search):
    """φ of the first steps of BLS moves the parameters, φ of FBLS moves z: the search agrees with scipy on both."""
    model, judged = toy(name), Judged(search(tolerance=1e-4))
    optimizer = algorithm(model, 2.0, direction, judged)
    records = [optimizer.step(None, dict.fromkeys(model.tasks)) for _ in range(4)]
    assert all(record.accepted or record.stationary for record in records) and len(judged.pairs) >= 2
    for step, expected, merit, smallest in judged.pairs:
        assert step == pytest.approx(expected, rel=1e-4, abs=1e-7) or merit <= smallest


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_network_steps_with_either_search(algorithm, search):
    """Decoders with parameters of their own; BLS decreases every loss of the batch at each step, FBLS promises less."""
    model, (inputs, targets) = mlp(), batch()
    optimizer = algorithm(model, 1.0, line_search=search(tolerance=0.01))
    losses = []
    for _ in range(10):
        record = optimizer.step(inputs, targets)
        assert record.accepted and record.passes.decoder_forward == 2 * (1 + record.trials)
        losses.append(record.losses)
    if algorithm is BLS:
        assert all((after < before).all() for before, after in zip(losses, losses[1:], strict=False))


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize(
    ("phi", "slopes", "minimiser"),
    [
        (lambda eta: [1 - eta, 1 - eta + 4 * max(eta - 0.3, 0)], [1.0, 1.0], 0.3),
        (lambda eta: [1 - 2 * eta, 1 + max(-eta, 8 * eta - 1.8)], [2.0, 1.0], 0.2),
        (lambda eta: [1 - 0.1 * eta, 1 - 3 * eta + 8 * eta**2], [0.1, 3.0], 2.9 / 8),
        (lambda eta: [1 + abs(eta - 0.7) - 0.7], [1.0], 0.7),
        (lambda eta: [1 - eta + 1e12 * max(eta - 0.3, 0)], [1.0], 0.3),
    ],
)
def test_kinks(search, phi, slopes, minimiser):
    losses, total = torch.ones(len(slopes), **DOUBLE), torch.tensor(slopes, **DOUBLE)
    recorded = Recorded(lambda eta: torch.tensor(phi(eta), **DOUBLE), losses)
    result = search()(recorded, losses, Slopes(total, total * 0), 1.0)
    assert abs(result.step_size - minimiser) <= 1e-3 * result.step_size
    assert result.trials < 40


@pytest.mark.parametrize("search", BOTH)
def test_a_flat_minimum_does_not_cost_many_trials(search):
    """Vertices of parabolas creep towards the minimum of an eighth power, a fixed share of the way at a time."""
    phi = Recorded(lambda eta: torch.tensor([(eta - 0.3) ** 8], **DOUBLE), torch.tensor([0.3**8], **DOUBLE))
    result = search()(phi, phi.losses, Slopes(torch.tensor([8 * 0.3**7]), torch.zeros(1)), 1.0)
    assert result.step_size == pytest.approx(0.3, abs=0.01)  # beyond, the merit is constant up to rounding
    assert result.trials < 30


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("lr_ub", [1e-6, 1.0, 30.0])
def test_a_merit_that_still_falls_at_the_bound_is_recognised_in_two_trials(search, lr_ub):
    losses = torch.tensor([1.0, 2.0])
    phi = Recorded(lambda eta: losses * math.exp(-0.03 * eta), losses)
    result = search()(phi, losses, Slopes(0.03 * losses, torch.zeros(2)), lr_ub)
    assert result == SearchResult(lr_ub, 2, True)


@pytest.mark.parametrize("search", BOTH)
def test_a_minimum_just_below_the_bound_is_not_mistaken_for_the_bound(search):
    phi = Recorded(lambda eta: torch.tensor([(eta - 0.99) ** 2], **DOUBLE), torch.tensor([0.99**2], **DOUBLE))
    result = search()(phi, phi.losses, Slopes(torch.tensor([1.98]), torch.zeros(1)), 1.0)
    assert result.step_size == pytest.approx(0.99, rel=1e-3)


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e-2])
def test_the_tolerance_is_relative_to_the_step_not_to_the_bound(search, scale):
    losses = torch.tensor([1.0, 3.0], **DOUBLE)
    phi = Recorded(lambda eta: losses * (1 + ((eta / scale - 1) ** 2 - 1)), losses)
    result = search()(phi, losses, Slopes(2 * losses / scale, losses * 0), 1.0)
    assert result.step_size == pytest.approx(scale, rel=1e-3)
    assert result.trials < 60


def test_parabolas_take_fewer_trials_where_the_merit_is_smooth():
    for make in (convex, quasiconvex):
        trials = {search: 0 for search in BOTH}
        for seed in range(30):
            for search in BOTH:
                phi, slopes = make(1, seed)
                trials[search] += search()(phi, phi.losses, slopes, 1.0).trials
        assert trials[Parabolic] < 0.6 * trials[GoldenSection]


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_trials_that_are_not_finite_count_as_worst(search, bad):
    """One task that breaks down beyond 0.04: the step stays below, as near to it as the tolerance asks for."""
    losses = torch.ones(2)
    phi = Recorded(lambda eta: torch.tensor([1 - eta, bad if eta > 0.04 else 1 - eta], **DOUBLE), losses)
    result = search()(phi, losses, Slopes(torch.ones(2), torch.zeros(2)), 1.0)
    assert result.accepted and 0.04 * (1 - 1e-3) <= result.step_size <= 0.04


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("value", [2.0, 1.0, math.nan])
def test_a_search_that_finds_no_decrease_ends_at_the_floor(search, value):
    """The slopes promise a decrease that no trial shows."""
    phi = Recorded(lambda eta: torch.full((2,), value), torch.ones(2))
    slopes = Slopes(torch.ones(2), torch.zeros(2))
    result = search(floor=1e-4)(phi, phi.losses, slopes, 1.0)
    assert result.step_size == 1e-4 and not result.accepted
    assert result.trials == len(phi.etas) <= 15 and min(phi.etas) >= 1e-4
    assert f"no step down to the floor 0.0001 passed the test in {result.trials} trials" in search_failure(
        result, slopes
    )


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_slope_that_is_not_positive_is_refused_before_any_trial(search, bad):
    phi = Recorded(lambda eta: torch.zeros(2), torch.ones(2))
    slopes = Slopes(own=torch.zeros(2), shared=torch.tensor([1.0, bad]))
    result = search()(phi, phi.losses, slopes, 1.0)
    assert result == SearchResult(1e-10, 0, False) and phi.etas == []
    assert f"not one of descent for every task: slopes [1.0, {bad}]" in search_failure(result, slopes)


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_direction_that_is_not_of_descent_is_the_callers_choice(algorithm, search):
    """The mean of two opposed gradients of unequal length climbs the loss with the shorter one."""
    centres = torch.tensor([[1.0, 0.0], [-9.0, 0.0]])
    curvatures = torch.eye(2).expand(2, 2, 2)
    model = quadratics(torch.eye(2), centres, curvatures, start=torch.zeros(2))
    with pytest.raises(RuntimeError, match=r"not one of descent for every task: slopes \[-4.0, 36.0\]; nothing has"):
        algorithm(model, 1.0, "mean", search(), on_failure="raise").step(None, dict.fromkeys(model.tasks))
    assert model.encoder.theta.tolist() == [0, 0]
    record = algorithm(model, 1.0, "mean", search(), on_failure="skip").step(None, dict.fromkeys(model.tasks))
    assert (record.step_size, record.trials, record.accepted) == (0, 0, False)


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("max_trials", [1, 2, 5])
def test_the_best_step_so_far_is_returned_when_the_trials_run_out(search, max_trials):
    phi = Recorded(lambda eta: torch.tensor([(eta - 0.6) ** 4], **DOUBLE), torch.tensor([0.6**4], **DOUBLE))
    slopes = Slopes(torch.tensor([4 * 0.6**3]), torch.zeros(1))
    result = search(tolerance=1e-9, max_trials=max_trials)(phi, phi.losses, slopes, 1.0)
    assert result.trials == len(phi.etas) == max_trials and result.accepted
    assert phi.merit(result.step_size) == min(map(phi.merit, phi.etas))


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"tolerance": value}, rf"\(tolerance=\.\.\.\)` must be in \(0, 1\), found {value}")
     for value in (0, 1, -1e-3, math.nan)]
    + [({"max_trials": value}, rf"\(max_trials=\.\.\.\)` must be an integer ≥ 1, found {value}")
       for value in (0, -3, 2.5)]
    + [({"floor": value}, rf"\(floor=\.\.\.\)` must be positive and finite, found {value}")
       for value in (0, -1e-10, math.nan, math.inf)],
)  # fmt: skip
def test_parameters_out_of_range_are_named_with_rule_and_value(search, parameters, message):
    with pytest.raises(ValueError, match=f"`{search.__name__}{message}"):
        search(**parameters)


@pytest.mark.parametrize("search", BOTH)
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_bounds_are_checked_when_the_optimizer_is_made(algorithm, search):
    with pytest.raises(ValueError, match="`lr_ub` must be positive and finite, found inf"):
        algorithm(mlp(), math.inf, line_search=search())
    with pytest.raises(ValueError, match="`floor` must be below `lr_ub`, found floor=0.5 and lr_ub=0.1"):
        algorithm(mlp(), 0.1, line_search=search(floor=0.5))
