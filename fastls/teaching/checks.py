"""One check for each exercise of the notebooks: praise if an answer is right, else what is wrong and a hint.

Every check takes the reader's function or functions, returns a line of text, or raises `ExerciseError`.
"""

from collections.abc import Callable

import torch

from fastls.algorithms.line_search import LineSearch, SearchResult
from fastls.algorithms.optimizers import FBLS
from fastls.teaching import theory_exercises, toy_exercises
from fastls.teaching.judge import ExerciseError, judge

__all__ = [
    "ExerciseError",
    "check_assembly",
    "check_backtracking",
    "check_dominates",
    "check_best_step",
    "check_largest_gain",
    "check_largest_passing_step",
    "check_losing_encoder",
    "check_min_norm_weight",
    "check_pareto_point",
]


def check_dominates(function: Callable) -> str:
    """Exercise 1: ``dominates(a, b) -> bool``, for T-vectors of losses a and b (Definition 1).

    Example:
        >>> check_dominates(lambda a, b: all(a <= b) and any(a < b))
        'Exercise 1 solved: dominates agrees with fastls.dominates in all 8 cases.'
        >>> check_dominates(lambda a, b: all(a <= b))
        Traceback (most recent call last):
        fastls.teaching.judge.ExerciseError: Exercise 1, dominates, is not right yet.
          for       a = [1, 2], b = [1, 2]
          expected  False
          found     True
          hint      this is `all a ≤ b`, which holds for equal points too.
    """
    return judge(theory_exercises.DOMINATES, function)


def check_min_norm_weight(function: Callable) -> str:
    """Exercise 2: ``min_norm_weight(g1, g2) -> float``, the weight of g1 in the shortest w g1 + (1 − w) g2."""
    return judge(theory_exercises.MIN_NORM_WEIGHT, function)


def check_largest_passing_step(function: Callable) -> str:
    """Exercise 3: ``largest_passing_step(slopes, curvatures, beta) -> float`` for L_t(η) = L_t − s_t η + h_t η²/2."""
    return judge(theory_exercises.LARGEST_PASSING_STEP, function)


def check_backtracking(function: Callable) -> str:
    """Exercise 4: ``backtracking(phi, losses, slopes, lr_ub, beta, gamma, floor) -> float``, the step size."""
    return judge(theory_exercises.BACKTRACKING, function)


def check_largest_gain(function: Callable) -> str:
    """Exercise 5: ``largest_gain_factor(eta) -> float``, the largest |c| at which θ ← θ − ηc²θ does not diverge."""
    return judge(theory_exercises.LARGEST_GAIN_FACTOR, function)


def check_pareto_point(function: Callable) -> str:
    """Exercise 6: ``pareto_point(H1, c1, H2, c2, weight) -> Tensor``, the minimum of w L_1 + (1 − w) L_2."""
    return judge(toy_exercises.PARETO_POINT, function)


class _YourSearch(LineSearch):
    """The reader's `backtracking` as the search of FBLS, with the defaults of `fastls.Backtracking`."""

    floor = 1e-10

    def __init__(self, backtracking: Callable):
        self.backtracking = backtracking

    def _search(self, phi, losses, slopes, lr_ub, previous) -> SearchResult:
        eta = float(self.backtracking(phi, losses, slopes.total, lr_ub, 0.1, 0.5, self.floor))
        return SearchResult(eta, trials=1, accepted=eta > self.floor)


def check_assembly(
    min_norm_weight: Callable, backtracking: Callable, make_model: Callable, inputs, targets, lr_ub: float = 32.0
) -> str:
    """Build FBLS from exercises 2 and 4, train a network of two tasks with it, and compare with `fastls.FBLS`.

    Args:
        min_norm_weight, backtracking: the reader's; each is checked first.
        make_model: () -> a `MultiTaskModel` with two tasks, the same at every call.
        inputs, targets: one batch.
        lr_ub: the bound of both searches.
    """
    check_min_norm_weight(min_norm_weight)
    check_backtracking(backtracking)

    def direction(gramian):
        values, vectors = torch.linalg.eigh(gramian.double())
        weight = float(min_norm_weight(*(vectors * values.clamp_min(0).sqrt())))  # two vectors with this Gramian
        return torch.tensor([weight, 1 - weight], dtype=torch.float64)

    yours = FBLS(make_model(), lr_ub, direction, _YourSearch(backtracking))
    ours = FBLS(make_model(), lr_ub)
    pairs = [(yours.step(inputs, targets), ours.step(inputs, targets)) for _ in range(10)]
    steps = [[record.step_size for record in records] for records in zip(*pairs, strict=True)]
    if steps[0] != steps[1]:
        raise ExerciseError(f"The parts are right, but the steps differ: yours {steps[0]}, fastls.FBLS {steps[1]}.")
    first, last = (pairs[i][0].losses.mean().item() for i in (0, -1))
    shown = ", ".join(f"{step:g}" for step in steps[0])
    return f"Your FBLS takes the steps of fastls.FBLS: {shown}. The mean loss fell from {first:.3f} to {last:.3f}."


def check_losing_encoder(function: Callable) -> str:
    """Exercise 7: ``losing_encoder(g1, g2) -> Tensor``, an A with ⟨g_t, A Aᵀ d_z⟩ < 0 for one task t."""
    return judge(toy_exercises.LOSING_ENCODER, function)


def check_best_step(function: Callable) -> str:
    """Exercise 8: ``best_step(slopes, curvatures, lr_ub) -> float``, argmin of max_t (−s_t η + h_t η²/2), T = 2."""
    return judge(toy_exercises.BEST_STEP, function)
