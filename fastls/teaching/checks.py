"""One check for each exercise of the notebooks: praise where an answer is right, else what is wrong and a hint.

Every check takes the reader's function, returns a line of text, or raises `ExerciseError`.
"""

from collections.abc import Callable

from fastls.teaching import theory_exercises, toy_exercises
from fastls.teaching.judge import ExerciseError, judge

__all__ = [
    "ExerciseError",
    "check_armijo",
    "check_backtracking",
    "check_dominates",
    "check_gain",
    "check_largest_gain",
    "check_merit",
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


def check_armijo(function: Callable) -> str:
    """Exercise 3: ``armijo(new_losses, losses, slopes, eta, beta) -> bool``, for every task (equations 4 and 6)."""
    return judge(theory_exercises.ARMIJO, function)


def check_backtracking(function: Callable) -> str:
    """Exercise 4: ``backtracking(phi, losses, slopes, lr_ub, beta, gamma, floor) -> float``, the step size."""
    return judge(theory_exercises.BACKTRACKING, function)


def check_largest_gain(function: Callable) -> str:
    """Exercise 5: ``largest_gain_factor(eta) -> float``, the largest |c| at which θ ← θ − ηc²θ does not diverge."""
    return judge(theory_exercises.LARGEST_GAIN_FACTOR, function)


def check_pareto_point(function: Callable) -> str:
    """Exercise 6: ``pareto_point(H1, c1, H2, c2, weight) -> Tensor``, the minimum of w L_1 + (1 − w) L_2."""
    return judge(toy_exercises.PARETO_POINT, function)


def check_gain(function: Callable) -> str:
    """Exercise 7: ``gain(A, d_z) -> float``, ρ = ‖Aᵀ d_z‖² / ‖d_z‖² for z = Aθ."""
    return judge(toy_exercises.GAIN, function)


def check_merit(function: Callable) -> str:
    """Exercise 8: ``merit(new_losses, losses) -> float``, max_t [L_t(η) − L_t(0)]."""
    return judge(toy_exercises.MERIT, function)
