"""Exercises 1 to 5, on the theory: the cases of each, the right answers, and common mistakes.

The right answers of exercises 1, 2 and 4 come from the code that trains the networks, so both always agree.
"""

import math

import torch
from torch import Tensor

from fastls.algorithms import pareto
from fastls.algorithms.directions import compute_gramian, mgda
from fastls.algorithms.line_search import Backtracking, Slopes
from fastls.teaching.judge import Exercise, Phi, are_close


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


# Exercise 1


def dominates(a, b) -> bool:
    return bool(pareto.dominates(a, b))


DOMINATES = Exercise(
    number=1,
    solve=dominates,
    source="fastls.dominates",
    first_hint="a must be nowhere worse than b, and somewhere better: two conditions, joined by `and`.",
    shape_hint="`a <= b` compares entry by entry: `.all()` or `.any()` makes one True or False of it.",
    cases=[
        ((vector(1, 2), vector(2, 3)), "a is smaller in every loss: it dominates b."),
        ((vector(2, 3), vector(1, 2)), "a is larger in every loss: smaller losses are better."),
        ((vector(1, 2), vector(1, 2)), "equal points do not dominate each other: a must be better somewhere."),
        ((vector(1, 2), vector(1, 3)), "equal in one loss and better in the other is enough."),
        ((vector(1, 3), vector(2, 2)), "each is better in one loss: neither dominates the other."),
        ((vector(0, 2), vector(1, 1.5)), "a smaller sum is not enough: a is worse in the second loss."),
        ((vector(1, 2, 3), vector(1, 2, 4)), "three losses, of which one is better and none worse."),
        ((vector(1, 2, 4), vector(2, 3, 3)), "a is worse in the last loss: one is enough."),
    ],
    mistakes=[
        (lambda a, b: bool((a <= b).all()), "this is `all a ≤ b`, which holds for equal points too."),
        (
            lambda a, b: bool((a < b).all()),
            "this is `all a < b`; a may be equal to b in some losses, though not in all.",
        ),
        (lambda a, b: bool((a < b).any()), "this is `any a < b`; a must not be worse in any other loss either."),
        (lambda a, b: bool((a <= b).any()), "this is `any a ≤ b`; a must not be worse in any loss."),
        (lambda a, b: bool(a.sum() < b.sum()), "this compares sums; dominance compares loss by loss."),
        (lambda a, b: dominates(b, a), "the sides are exchanged: smaller losses are better."),
    ],
)


# Exercise 2


def min_norm_weight(g1: Tensor, g2: Tensor) -> float:
    return mgda(compute_gramian(torch.stack([g1, g2])))[0].item()


def _unclamped(g1: Tensor, g2: Tensor) -> float:
    return ((g2 - g1) @ g2 / (g2 - g1).square().sum()).item()


def _agree_on_weights(found: Tensor, expected: Tensor, g1: Tensor, g2: Tensor) -> bool:
    """For equal gradients the segment is one point, and any weight in [0, 1] gives this point."""
    return 0 <= found.item() <= 1 if g1.equal(g2) else are_close(found, expected)


MIN_NORM_WEIGHT = Exercise(
    number=2,
    solve=min_norm_weight,
    source="fastls.mgda",
    first_hint="‖w g1 + (1 − w) g2‖² is a parabola in w: set its derivative to zero, then stay in [0, 1].",
    cases=[
        ((vector(1, 0), vector(0, 1)), "of two orthogonal gradients of one length the shortest point is the middle."),
        ((vector(1, 0), vector(0, 2)), "w = ⟨g2 − g1, g2⟩ / ‖g1 − g2‖²: the shorter gradient gets more weight."),
        ((vector(1, 0), vector(-1, 1)), "w = ⟨g2 − g1, g2⟩ / ‖g1 − g2‖²: mind the sign of ⟨g1, g2⟩."),
        ((vector(1, 0), vector(3, 1)), "the shortest vector is the end g1 of the segment: clamp the weight to [0, 1]."),
        ((vector(2, 2), vector(1, 0)), "the shortest vector is the end g2 of the segment: clamp the weight to [0, 1]."),
        ((vector(1, 2), vector(1, 2)), "both gradients are the same: any weight in [0, 1] will do, but 0/0 will not."),
    ],
    mistakes=[
        (lambda g1, g2: min_norm_weight(g2, g1), "this is the weight of g2; asked for is that of g1."),
        (_unclamped, "the vertex of the parabola may lie outside the segment, and equal gradients give 0/0."),
        (lambda g1, g2: 0.5, "this is the middle of the segment, the mean; it is not the shortest point in general."),
        (
            lambda g1, g2: (g2.norm() / (g1.norm() + g2.norm())).item(),
            "these are the weights of the bisector, EDM for two tasks; MGDA asks for the shortest vector.",
        ),
    ],
    agree=_agree_on_weights,
)


# Exercise 3


def largest_passing_step(slopes: Tensor, curvatures: Tensor, beta: float) -> float:
    return (2 * (1 - beta) * slopes / curvatures).min().item()


LARGEST_PASSING_STEP = Exercise(
    number=3,
    solve=largest_passing_step,
    source="the theory",
    first_hint="φ(η) = L − sη + hη²/2 must lie under L − βsη: for which η does it, for one task? And for all tasks?",
    cases=[
        ((vector(1), vector(1), 0.5), "one task: −sη + hη²/2 ≤ −βsη, divided by η, is hη/2 ≤ (1 − β)s."),
        ((vector(1), vector(1), 0.25), "a smaller β asks for less: longer steps pass."),
        ((vector(3), vector(2), 0.5), "the step grows with the slope and shrinks with the curvature."),
        ((vector(1, 1), vector(1, 4), 0.5), "every task must pass: the task of larger curvature decides."),
        ((vector(4, 1), vector(1, 1), 0.5), "every task must pass: the task of smaller slope decides."),
        ((vector(8, 3), vector(4, 1), 0.25), "neither the slope nor the curvature decides alone, but their ratio."),
    ],
    mistakes=[
        (
            lambda s, h, beta: ((1 - beta) * s / h).min().item(),
            "a factor of 2 is missing: the curvature enters φ as hη²/2.",
        ),
        (
            lambda s, h, beta: (s / h).min().item(),
            "this is the lowest point of the parabola, where β = ½ stops; β decides how far a step may go.",
        ),
        (
            lambda s, h, beta: (2 * beta * s / h).min().item(),
            "β and 1 − β are exchanged: the larger β, the shorter the steps that pass.",
        ),
        (
            lambda s, h, beta: (2 * (1 - beta) * s / h).max().item(),
            "this is where the last task fails; every task must pass, so the first that fails decides.",
        ),
        (
            lambda s, h, beta: (2 * (1 - beta) * s.sum() / h.sum()).item(),
            "this tests the sum over the tasks: one may pay for another. Every task must pass.",
        ),
        (lambda s, h, beta: (2 * s / h).min().item(), "β is missing: this is where the loss is back at its start."),
    ],
)


# Exercise 4


def backtracking(phi, losses: Tensor, slopes: Tensor, lr_ub: float, beta: float, gamma: float, floor: float) -> float:
    parts = Slopes(own=torch.zeros_like(slopes), shared=slopes)
    return Backtracking(beta, gamma, floor)(phi, losses, parts, lr_ub).step_size


def _shrinks_first(phi, losses, slopes, lr_ub, beta, gamma, floor) -> float:
    """Algorithm 2 as printed: η is multiplied by γ before the first test."""
    return backtracking(phi, losses, slopes, gamma * lr_ub, beta, gamma, floor)


def _shrinks_last(phi, losses, slopes, lr_ub, beta, gamma, floor) -> float:
    """The step that is taken is not the one that was tested."""
    return max(floor, gamma * backtracking(phi, losses, slopes, lr_ub, beta, gamma, floor))


def _searches_sum(phi, losses, slopes, *rest) -> float:
    return backtracking(lambda eta: phi(eta).sum()[None], losses.sum()[None], slopes.sum()[None], *rest)


def _asks_for_no_increase(phi, losses, slopes, *rest) -> float:
    return backtracking(phi, losses, 1e-300 * slopes, *rest)


def _has_the_wrong_sign(phi, losses, slopes, lr_ub, beta, gamma, floor) -> float:
    eta = lr_ub
    while eta >= floor and not (phi(eta) <= losses + eta * beta * slopes).all():
        eta *= gamma
    return max(eta, floor)


def _searches_first(phi, losses, slopes, *rest) -> float:
    return backtracking(lambda eta: phi(eta)[:1], losses[:1], slopes[:1], *rest)


def _search(formula: str, losses_at, losses, slopes, lr_ub=1.0, beta=0.25, gamma=0.5, floor=0.001) -> tuple:
    return Phi(formula, losses_at), vector(*losses), vector(*slopes), lr_ub, beta, gamma, floor


BACKTRACKING = Exercise(
    number=4,
    solve=backtracking,
    source="fastls.Backtracking",
    first_hint="begin at the bound; the step that you return is the very step that you tested. When do you give up?",
    cases=[
        (
            _search("η ↦ [(1 − 4η)²]", lambda eta: [(1 - 4 * eta) ** 2], [1], [8]),
            "1 and ½ fail the test, ¼ passes: the first step that passes is the answer.",
        ),
        (
            _search("η ↦ [(1 − η/2)²]", lambda eta: [(1 - eta / 2) ** 2], [1], [1]),
            "the bound itself passes: it is tried first, and taken.",
        ),
        (
            _search(
                "η ↦ [10 (1 − η)², (1 − 2η)²]", lambda eta: [10 * (1 - eta) ** 2, (1 - 2 * eta) ** 2], [10, 1], [20, 4]
            ),
            "at η = 1 the second task fails: every task must pass.",
        ),
        (
            _search(
                "η ↦ [(1 − 2η)², 10 (1 − η)²]", lambda eta: [(1 - 2 * eta) ** 2, 10 * (1 - eta) ** 2], [1, 10], [4, 20]
            ),
            "at η = 1 the first task fails: every task must pass.",
        ),
        (
            _search("η ↦ [(1 − η)²]", lambda eta: [(1 - eta) ** 2], [1], [2], lr_ub=2.0, gamma=0.25),
            "the factor between trials is gamma, here ¼.",
        ),
        (
            _search("η ↦ [(1 − η)²]", lambda eta: [(1 - eta) ** 2], [1], [2], beta=0.5),
            "at η = 1 the loss lies on the line, which counts as passed.",
        ),
        (
            _search(
                "η ↦ [(1 − η)² if η ≤ ½ else NaN]", lambda eta: [(1 - eta) ** 2 if eta <= 0.5 else math.nan], [1], [2]
            ),
            "a trial loss that is NaN is a rejection: go on with a smaller step.",
        ),
        (
            _search("η ↦ [1.1 if η > ½ else 0.2]", lambda eta: [1.1 if eta > 0.5 else 0.2], [1], [1]),
            "at η = 1 the loss has risen, by less than eta · beta · slope: the line lies below the start, not above.",
        ),
        (
            _search("η ↦ [2]", lambda eta: [2.0], [1], [1], floor=0.2),
            "no trial passed down to the floor: return the floor itself, and try nothing below it.",
        ),
    ],
    mistakes=[
        (
            _shrinks_first,
            "eta is multiplied by gamma before the first test, as in the printed Algorithm 2: lr_ub is never tried.",
        ),
        (_shrinks_last, "eta is multiplied by gamma once more after the test: take the step that was tested."),
        (
            _asks_for_no_increase,
            "this asks only that no loss rises: it must fall by eta · beta · slopes or more.",
        ),
        (
            _has_the_wrong_sign,
            "the sign is wrong: slopes are predicted decreases, the line lies at losses − eta · beta · slopes.",
        ),
        (_searches_sum, "this tests the sum over the tasks: one may pay for another. Test every task."),
        (_searches_first, "this tests the first task only; every task must pass."),
        (lambda *case: case[6], "every search ends at the floor: are beta and the sign of the slopes right?"),
        (lambda *case: case[3], "every search ends at lr_ub: is a rejected eta multiplied by gamma?"),
    ],
)


# Exercise 5


def largest_gain_factor(eta: float) -> float:
    return math.sqrt(2 / eta)


LARGEST_GAIN_FACTOR = Exercise(
    number=5,
    solve=largest_gain_factor,
    source="the theory",
    first_hint="a step multiplies θ by 1 − ηc²; for which c does its absolute value not exceed 1?",
    cases=[
        ((1.0,), "θ ← (1 − ηc²) θ: at the largest |c| the factor is −1, and θ alternates for ever."),
        ((0.5,), "a smaller step bears a larger |c|."),
        ((2.0,), "a larger step bears a smaller |c|."),
        ((0.08,), "a step of 0.08 bears |c| = 5."),
    ],
    mistakes=[
        (lambda eta: 2 / eta, "this is 2/η, the bound on c²: a step multiplies θ by 1 − ηc², with c squared."),
        (lambda eta: 1 / eta, "this is 1/η: a step multiplies θ by 1 − ηc², c squared, which may go down to −1."),
        (
            lambda eta: math.sqrt(1 / eta),
            "this is √(1/η), where one step ends in the minimum: the factor may go down to −1.",
        ),
        (lambda eta: math.sqrt(2), "this is right for η = 1 alone."),
        (lambda eta: math.sqrt(2) / eta, "this is √2/η: take the root of η too."),
        (lambda eta: -math.sqrt(2 / eta), "the size is right, but asked for is |c|, which is positive."),
    ],
)
