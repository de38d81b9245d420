"""The checks of the exercises: right answers pass, every known mistake is recognised, and nothing is a bare False."""

import math

import pytest
import torch

from fastls.algorithms.optimizers import MGDAUB
from fastls.models.quadratic import scalar_chain
from fastls.teaching import checks
from fastls.teaching.checks import ExerciseError
from fastls.teaching.judge import judge
from fastls.teaching.theory_exercises import (
    ARMIJO,
    BACKTRACKING,
    DOMINATES,
    LARGEST_GAIN_FACTOR,
    MIN_NORM_WEIGHT,
    vector,
)
from fastls.teaching.toy_exercises import GAIN, MERIT, PARETO_POINT, matrix

EXERCISES = [DOMINATES, MIN_NORM_WEIGHT, ARMIJO, BACKTRACKING, LARGEST_GAIN_FACTOR, PARETO_POINT, GAIN, MERIT]
MISTAKES = [
    pytest.param(exercise, mistake, hint, id=f"{exercise.name}: {hint[:40]}")
    for exercise in EXERCISES
    for mistake, hint in exercise.mistakes
]
CASES = [
    pytest.param(exercise, i, id=f"{exercise.name} {i}") for exercise in EXERCISES for i in range(len(exercise.cases))
]


# Right answers, as a reader would write them


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def min_norm_weight(g1, g2):
    difference = g2 - g1
    if not difference.any():
        return 1
    return (difference @ g2 / (difference @ difference)).clamp(0, 1)


def armijo(new_losses, losses, slopes, eta, beta):
    return (new_losses <= losses - eta * beta * slopes).all()


def backtracking(phi, losses, slopes, lr_ub, beta, gamma, floor):
    eta = lr_ub
    while eta >= floor:
        if armijo(phi(eta), losses, slopes, eta, beta):
            return eta
        eta *= gamma
    return floor


def largest_gain_factor(eta):
    return (2 / eta) ** 0.5


def pareto_point(H1, c1, H2, c2, weight):
    return torch.linalg.solve(weight * H1 + (1 - weight) * H2, weight * H1 @ c1 + (1 - weight) * H2 @ c2)


def gain(A, d_z):
    return (d_z @ A @ A.T @ d_z) / (d_z @ d_z)


def merit(new_losses, losses):
    return max(new - old for new, old in zip(new_losses, losses, strict=True))


@pytest.mark.parametrize(
    "check, answer",
    [
        (checks.check_dominates, dominates),
        (checks.check_min_norm_weight, min_norm_weight),
        (checks.check_armijo, armijo),
        (checks.check_backtracking, backtracking),
        (checks.check_largest_gain, largest_gain_factor),
        (checks.check_pareto_point, pareto_point),
        (checks.check_gain, gain),
        (checks.check_merit, merit),
    ],
)
def test_right_answers_pass(check, answer):
    assert check(answer).startswith("Exercise ") and f"solved: {answer.__name__} agrees with " in check(answer)


# Wrong answers


@pytest.mark.parametrize("exercise, mistake, hint", MISTAKES)
def test_every_known_mistake_is_told_its_own_hint(exercise, mistake, hint):
    with pytest.raises(ExerciseError) as told:
        judge(exercise, mistake)
    assert str(told.value).splitlines()[-1] == f"  hint      {hint}"


@pytest.mark.parametrize("exercise, i", CASES)
def test_every_case_is_asked_and_has_a_hint(exercise, i):
    """An answer that fails in one case alone gets the hint of that case."""
    calls = []

    def fails_once(*arguments):
        calls.append(arguments)
        if len(calls) == i + 1:
            raise ZeroDivisionError("by design")
        return exercise.solve(*arguments)

    with pytest.raises(ExerciseError) as told:
        judge(exercise, fails_once)
    lines = str(told.value).splitlines()
    assert lines[0] == f"Exercise {exercise.number}, {exercise.name}, is not right yet."
    assert lines[3].startswith("  found     ZeroDivisionError: by design in line ")
    assert 'raise ZeroDivisionError("by design")`' in lines[3]
    assert lines[-1] == f"  hint      {exercise.cases[i][1]}"


def test_a_message_names_input_expectation_and_finding():
    with pytest.raises(ExerciseError) as told:
        checks.check_largest_gain(lambda eta: 2 / eta)
    assert str(told.value).splitlines() == [
        "Exercise 5, largest_gain_factor, is not right yet.",
        "  for       eta = 1",
        "  expected  1.41421",
        "  found     2",
        "  hint      this is 2/η, the bound on c²: a step multiplies θ by 1 − ηc², with c squared.",
    ]


def test_a_mistake_in_part_of_the_cases_gets_the_hint_of_the_case():
    """Equal gradients are minded, the ends of the segment are not: no known mistake, but a case with a hint."""
    with pytest.raises(ExerciseError, match=r"found     1\.4\n.*the end g1 of the segment: clamp the weight"):
        checks.check_min_norm_weight(lambda g1, g2: 0.5 if g1.equal(g2) else (g2 - g1) @ g2 / (g2 - g1).square().sum())


def test_backtracking_shows_the_trials():
    def slipping(phi, losses, slopes, lr_ub, beta, gamma, floor):
        eta = lr_ub
        while eta >= floor:
            passed = armijo(phi(eta), losses, slopes, eta, beta)
            eta *= gamma
            if passed:
                return eta
        return floor

    with pytest.raises(ExerciseError, match=r"found     0\.125, after the trials η = 1, 0\.5, 0\.25\n") as told:
        checks.check_backtracking(slipping)
    assert "take the step that was tested" in str(told.value)


@pytest.mark.parametrize("factor", ["1", "gamma"])
def test_a_search_without_end_is_stopped(factor):
    """η never shrinks, or the loop minds no floor: both would hang the kernel."""

    def endless(phi, losses, slopes, lr_ub, beta, gamma, floor):
        eta = lr_ub
        while not armijo(phi(eta), losses, slopes, eta, beta) or factor == "gamma":
            eta *= 1 if factor == "1" else gamma
        return eta

    with pytest.raises(ExerciseError, match="RuntimeError: 100 trials and no end.*multiplied by gamma.*floor"):
        checks.check_backtracking(endless)


def test_at_the_floor_the_floor_is_returned():
    def goes_below(phi, losses, slopes, lr_ub, beta, gamma, floor):
        eta = lr_ub
        while eta >= floor and not armijo(phi(eta), losses, slopes, eta, beta):
            eta *= gamma
        return eta

    with pytest.raises(ExerciseError, match=r"expected  0\.2\n  found     0\.125.*\n.*return the floor itself"):
        checks.check_backtracking(goes_below)


def test_nan_that_slips_through_not_greater():
    def lets_nan_pass(new_losses, losses, slopes, eta, beta):
        return not (new_losses > losses - eta * beta * slopes).any()

    with pytest.raises(ExerciseError, match="found     True\n  hint      a comparison with NaN is False"):
        checks.check_armijo(lets_nan_pass)


# Answers that are none


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_unfinished(exercise):
    def unfinished(*arguments):
        raise NotImplementedError("your turn")

    with pytest.raises(ExerciseError) as told:
        judge(exercise, unfinished)
    first = f"Exercise {exercise.number}, {exercise.name}, is not solved yet."
    assert str(told.value) == f"{first}\n  hint      {exercise.first_hint}"


@pytest.mark.parametrize(
    "check, answer, message",
    [
        (
            checks.check_dominates,
            lambda a, b: None,
            r"None \(is there a `return`\?\), where True or False is asked for",
        ),
        (checks.check_dominates, lambda a, b: 1, "1 of type int, where True or False is asked for"),
        (checks.check_dominates, lambda a, b: a <= b, r"a tensor of shape \(2,\), where True or False is asked for"),
        (checks.check_merit, lambda new, old: new - old, r"a tensor of shape \(2,\), where a number is asked for"),
        (checks.check_merit, lambda new, old: True, "True of type bool, where a number is asked for"),
        (checks.check_gain, lambda A, d_z: "nine", "'nine' of type str, where a number is asked for"),
        (
            checks.check_pareto_point,
            lambda H1, c1, H2, c2, weight: c1[:, None],
            r"a tensor of shape \(2, 1\), where a tensor of shape \(2,\) is asked for",
        ),
        (checks.check_dominates, lambda a: True, r"TypeError: .*takes 1 positional argument but 2 were given"),
    ],
)
def test_answers_of_the_wrong_kind(check, answer, message):
    with pytest.raises(ExerciseError, match=message):
        check(answer)


def test_a_function_that_was_called_already():
    with pytest.raises(ExerciseError, match="asks for the function itself, found True of type bool: do not call it"):
        checks.check_dominates(True)


def test_an_answer_that_changes_its_arguments_spoils_nothing():
    def in_place(new_losses, losses):
        return new_losses.sub_(losses).max()

    first, second = checks.check_merit(in_place), checks.check_merit(merit)
    assert first.removesuffix(".") == second.removesuffix(".")


def test_jupyter_shows_the_message_alone():
    with pytest.raises(ExerciseError) as told:
        checks.check_merit(lambda new, old: None)
    assert told.value._render_traceback_() == str(told.value).splitlines()


# The right answers, from first principles


@pytest.mark.parametrize("eta", [0.08, 0.5, 1.0, 2.0])
def test_largest_gain_factor_is_where_the_step_stops_diverging(eta):
    """MGDA-UB on z = cθ, L = z²/2, just below and just above."""
    largest = LARGEST_GAIN_FACTOR.solve(eta)
    sizes = []
    for c in (0.99 * largest, 1.01 * largest):
        model = scalar_chain(c, 1.0)
        optimizer = MGDAUB(model, lr=eta)
        for _ in range(50):
            optimizer.step(None, dict.fromkeys(model.tasks))
        sizes.append(abs(model.encoder.theta.item()))
    assert sizes[0] < 0.5 and sizes[1] > 2


def test_gain_of_the_record_is_the_formula():
    A, d_z = matrix([1, 2], [0, 1], [3, 0]), vector(1, -1, 2)
    assert GAIN.solve(A, d_z) == pytest.approx(((A.T @ d_z) @ (A.T @ d_z) / (d_z @ d_z)).item())


def test_min_norm_weight_is_the_shortest_of_a_fine_grid():
    for (g1, g2), _ in MIN_NORM_WEIGHT.cases:
        weights = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
        lengths = (weights * g1 + (1 - weights) * g2).norm(dim=1)
        weight = MIN_NORM_WEIGHT.solve(g1, g2)
        assert (weight * g1 + (1 - weight) * g2).norm() <= lengths.min() + 1e-12


def test_pareto_point_has_no_gradient():
    for (H1, c1, H2, c2, weight), _ in PARETO_POINT.cases:
        z = PARETO_POINT.solve(H1, c1, H2, c2, weight)
        gradient = weight * H1 @ (z - c1) + (1 - weight) * H2 @ (z - c2)
        assert gradient.norm() < 1e-12


def test_equality_on_the_line_is_exact():
    """In the case on the line: any other way of writing the inequality decides the same, without rounding."""
    (new, old, slopes, eta, beta), _ = ARMIJO.cases[6]
    assert torch.equal(new, old - eta * beta * slopes) and torch.equal(old - new, eta * (slopes * beta))


def test_numbers_are_told_shortly():
    with pytest.raises(ExerciseError, match=r"for       new_losses = \[1, 2\], losses = \[2, 4\]\n  expected  -1\n"):
        checks.check_merit(lambda new, old: math.pi)
