"""The checks of the exercises: right answers pass, every known mistake is recognised, and nothing is a bare False."""

import math
import re

import pytest
import torch

from fastls.algorithms.optimizers import MGDAUB
from fastls.models.multitask import MultiTaskModel
from fastls.models.quadratic import scalar_chain
from fastls.teaching import checks
from fastls.teaching.checks import ExerciseError
from fastls.teaching.judge import judge
from fastls.teaching.theory_exercises import (
    BACKTRACKING,
    DOMINATES,
    LARGEST_GAIN_FACTOR,
    LARGEST_PASSING_STEP,
    MIN_NORM_WEIGHT,
)
from fastls.teaching.toy_exercises import BEST_STEP, LOSING_ENCODER, PARETO_POINT

EXERCISES = [DOMINATES, MIN_NORM_WEIGHT, LARGEST_PASSING_STEP, BACKTRACKING, LARGEST_GAIN_FACTOR, PARETO_POINT]
EXERCISES += [LOSING_ENCODER, BEST_STEP]
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


def largest_passing_step(slopes, curvatures, beta):
    return min(2 * (1 - beta) * s / h for s, h in zip(slopes, curvatures, strict=True))


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


def pareto_point(H1, z1, H2, z2, weight):
    return torch.linalg.solve(weight * H1 + (1 - weight) * H2, weight * H1 @ z1 + (1 - weight) * H2 @ z2)


def losing_encoder(g1, g2):
    """By trying: turn an A that stretches one axis a hundred times until a loss rises."""
    g = torch.stack([g1, g2])
    d = min((w * g1 + (1 - w) * g2 for w in torch.linspace(0, 1, 1001).double()), key=torch.norm)
    for angle in torch.linspace(0, torch.pi, 181).double():
        A = torch.stack([angle.cos(), angle.sin(), -angle.sin() / 100, angle.cos() / 100]).view(2, 2).T
        if (g @ A @ A.T @ d).min() < -0.01:
            return A


def best_step(slopes, curvatures, lr_ub):
    (s1, s2), (h1, h2) = slopes.tolist(), curvatures.tolist()
    steps = [s1 / h1, s2 / h2, lr_ub] + ([2 * (s1 - s2) / (h1 - h2)] if h1 != h2 else [])
    return min(
        (eta for eta in steps if 0 < eta <= lr_ub),
        key=lambda eta: max(-s1 * eta + h1 * eta**2 / 2, -s2 * eta + h2 * eta**2 / 2),
    )


@pytest.mark.parametrize(
    "check, answer",
    [
        (checks.check_dominates, dominates),
        (checks.check_min_norm_weight, min_norm_weight),
        (checks.check_largest_passing_step, largest_passing_step),
        (checks.check_backtracking, backtracking),
        (checks.check_largest_gain, largest_gain_factor),
        (checks.check_pareto_point, pareto_point),
        (checks.check_losing_encoder, losing_encoder),
        (checks.check_best_step, best_step),
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


def as_backtracking(passes):
    """The search of exercise 4 around a test of the reader's."""

    def backtracking(phi, losses, slopes, lr_ub, beta, gamma, floor):
        eta = lr_ub
        while eta >= floor and not passes(phi(eta), losses, eta * beta * slopes):
            eta *= gamma
        return max(eta, floor)

    return backtracking


@pytest.mark.parametrize(
    "passes, hint",
    [
        (lambda new, old, decrease: (new <= old).all(), "this asks only that no loss rises"),
        (lambda new, old, decrease: (new <= old + decrease).all(), "the sign is wrong"),
        (lambda new, old, decrease: not (new > old - decrease).any(), "a trial loss that is NaN is a rejection"),
    ],
)
def test_a_wrong_test_within_the_search_is_told_apart(passes, hint):
    with pytest.raises(ExerciseError) as told:
        checks.check_backtracking(as_backtracking(passes))
    assert hint in str(told.value).splitlines()[-1]


def test_a_comparison_of_vectors_is_told_of_all():
    with pytest.raises(ExerciseError, match=r"hint      `a <= b` compares entry by entry: `\.all\(\)`"):
        checks.check_dominates(lambda a, b: a <= b and a < b)


def test_products_entry_by_entry_are_told_of_matmul():
    def entry_by_entry(H1, z1, H2, z2, weight):
        return torch.linalg.solve(weight * H1 + (1 - weight) * H2, weight * H1 * z1 + (1 - weight) * H2 * z2)

    with pytest.raises(ExerciseError, match=r"hint      the product of a matrix and a vector is H @ c"):
        checks.check_pareto_point(entry_by_entry)


def test_a_message_keeps_an_answer_of_many_to_itself():
    with pytest.raises(ExerciseError, match="expected  a regular A with") as told:
        checks.check_losing_encoder(lambda g1, g2: torch.eye(2))
    assert "0.02" not in str(told.value)


@pytest.mark.parametrize("A", [[[1.0, 0.0], [-2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
def test_an_encoder_must_be_regular_and_lose(A):
    """The first loses descent, but its z has one dimension only."""
    (g1, g2), _ = LOSING_ENCODER.cases[0]
    assert not LOSING_ENCODER.agree(torch.tensor(A), None, g1, g2)


# The parts together


def make_model():
    torch.manual_seed(0)
    heads = {"a": torch.nn.Linear(4, 2), "b": torch.nn.Linear(4, 2)}
    return MultiTaskModel(torch.nn.Linear(3, 4), heads, dict.fromkeys(heads, torch.nn.functional.mse_loss))


BATCH = torch.linspace(-1, 1, 15).view(5, 3), {"a": torch.ones(5, 2), "b": -torch.ones(5, 2)}


def test_the_parts_train_a_network_as_fastls_does():
    told = checks.check_assembly(min_norm_weight, backtracking, make_model, *BATCH)
    assert told.startswith("Your FBLS takes the steps of fastls.FBLS: ")
    first, last = re.search(r"from ([\d.]+) to ([\d.]+)\.$", told).groups()
    assert float(last) < float(first)


def test_parts_that_are_not_right_are_named():
    with pytest.raises(ExerciseError, match="Exercise 4, backtracking, is not right yet"):
        checks.check_assembly(min_norm_weight, lambda *case: case[3], make_model, *BATCH)


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
        (checks.check_best_step, lambda s, h, lr_ub: s / h, r"a tensor of shape \(2,\), where a number is asked for"),
        (checks.check_best_step, lambda s, h, lr_ub: True, "True of type bool, where a number is asked for"),
        (checks.check_largest_gain, lambda eta: "nine", "'nine' of type str, where a number is asked for"),
        (
            checks.check_pareto_point,
            lambda H1, z1, H2, z2, weight: z1[:, None],
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
    def in_place(slopes, curvatures, beta):
        return (2 * (1 - beta) * slopes.div_(curvatures)).min()

    assert checks.check_largest_passing_step(in_place) == checks.check_largest_passing_step(largest_passing_step)


def test_jupyter_shows_the_message_alone():
    with pytest.raises(ExerciseError) as told:
        checks.check_best_step(lambda s, h, lr_ub: None)
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


def test_largest_passing_step_is_where_backtracking_stops_passing():
    (slopes, curvatures, beta), _ = LARGEST_PASSING_STEP.cases[-1]
    largest = LARGEST_PASSING_STEP.solve(slopes, curvatures, beta)
    for eta, passes in ((0.999 * largest, True), (1.001 * largest, False)):
        new = -slopes * eta + curvatures * eta**2 / 2
        assert bool(armijo(new, torch.zeros(2), slopes, eta, beta)) == passes


def test_min_norm_weight_is_the_shortest_of_a_fine_grid():
    for (g1, g2), _ in MIN_NORM_WEIGHT.cases:
        weights = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
        lengths = (weights * g1 + (1 - weights) * g2).norm(dim=1)
        weight = MIN_NORM_WEIGHT.solve(g1, g2)
        assert (weight * g1 + (1 - weight) * g2).norm() <= lengths.min() + 1e-12


def test_pareto_point_has_no_gradient():
    for (H1, z1, H2, z2, weight), _ in PARETO_POINT.cases:
        z = PARETO_POINT.solve(H1, z1, H2, z2, weight)
        gradient = weight * H1 @ (z - z1) + (1 - weight) * H2 @ (z - z2)
        assert gradient.norm() < 1e-12


def test_numbers_are_told_shortly():
    message = r"for       slopes = \[1\], curvatures = \[1\], beta = 0.5\n  expected  1\n"
    with pytest.raises(ExerciseError, match=message):
        checks.check_largest_passing_step(lambda *case: math.pi)
