"""Compare an answer to an exercise with that of `fastls`: it is right, or the reader gets the error and a hint."""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_TRIALS = 100


class ExerciseError(AssertionError):
    """An exercise is not solved yet. The message is for the reader: Jupyter shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def are_close(found: Tensor, expected: Tensor, *arguments) -> bool:
    """Equal up to rounding, even that of float32; the arguments of the case are not used."""
    return torch.allclose(found.double(), expected.double(), rtol=1e-5, atol=1e-7, equal_nan=True)


@dataclass(frozen=True)
class Exercise:
    """One exercise: the right answer, the cases to test, and the hints for wrong answers.

    Attributes:
        number: in the order of the notebooks.
        solve: the right answer, from `fastls`; its name and signature are those that the reader is asked for.
        source: where the right answers come from, in words.
        first_hint: for a reader who has not begun.
        cases: pairs of arguments and the hint for a wrong answer to them.
        mistakes: pairs of a common wrong answer, a function like `solve`, and the hint for it.
        shape_hint: for an answer with too many dimensions, or one that uses a vector as True or False.
        asked: the expected answer in words, if several answers are right.
        agree: (found, expected, *arguments) -> whether the found answer is accepted.
    """

    number: int
    solve: Callable
    source: str
    first_hint: str
    cases: list[tuple[tuple, str]]
    mistakes: list[tuple[Callable, str]]
    agree: Callable[..., bool] = are_close
    shape_hint: str = ""
    asked: str = ""

    @property
    def name(self) -> str:
        return self.solve.__name__


@dataclass
class Phi:
    """φ(η): the T losses at a trial step. It holds its formula as text, and records the η of every call."""

    formula: str
    losses_at: Callable[[float], list[float]]
    asked: list[float] = field(default_factory=list)

    def __call__(self, eta: float) -> Tensor:
        self.asked.append(float(eta))
        if len(self.asked) > MAX_TRIALS:
            raise RuntimeError(
                f"{MAX_TRIALS} trials and no end, the last at η = {self.asked[-1]:g}; is η multiplied by gamma after "
                "every rejected trial, and does the loop stop below the floor?"
            )
        return torch.tensor(self.losses_at(float(eta)), dtype=torch.float64)


@dataclass
class Outcome:
    """One case and its answer. `found` is None if the answer is of the wrong kind; `told` is the answer in words."""

    arguments: tuple
    hint: str
    expected: Tensor
    found: Tensor | None
    told: str


def judge(exercise: Exercise, function: Callable) -> str:
    """A line of praise, if the function gives the answers of `exercise.solve` in all cases.

    Raises:
        ExerciseError: the function is unfinished, fails, returns something of the wrong kind, or is wrong somewhere.
    """
    title = f"Exercise {exercise.number}, {exercise.name},"
    if not callable(function):
        raise ExerciseError(f"{title} asks for the function itself, found {_describe(function)}: do not call it yet.")
    try:
        outcomes = [_ask(exercise, function, arguments, hint) for arguments, hint in exercise.cases]
    except NotImplementedError:
        raise ExerciseError(f"{title} is not solved yet.\n  hint      {exercise.first_hint}") from None
    wrong = [outcome for outcome in outcomes if not _is_right(exercise, outcome)]
    if not wrong:
        solved = f"Exercise {exercise.number} solved"
        return f"{solved}: {exercise.name} agrees with {exercise.source} in all {len(outcomes)} cases."
    first = wrong[0]
    raise ExerciseError(
        f"{title} is not right yet.\n"
        f"  for       {_tell_arguments(exercise, first.arguments)}\n"
        f"  expected  {exercise.asked or _tell(first.expected)}\n"
        f"  found     {first.told}\n"
        f"  hint      {_recognise(exercise, outcomes) or first.hint}"
    ) from None


def _ask(exercise: Exercise, function: Callable, arguments: tuple, hint: str) -> Outcome:
    """Run one case. Arguments are copied for every call: an answer that changes them affects only its own case."""
    expected = torch.as_tensor(exercise.solve(*_copy(arguments)))
    given = _copy(arguments)
    found = None
    try:
        answer = function(*given)
        found = _read(answer, expected)
        told = _tell(found) if found is not None else f"{_describe(answer)}, where {_kind(expected)} is asked for"
        if isinstance(answer, Tensor) and answer.dim() > expected.dim():
            hint = exercise.shape_hint or hint
    except NotImplementedError:
        raise
    except Exception as error:
        told = _tell_error(error)
        if "Boolean value of Tensor" in str(error):
            hint = exercise.shape_hint or hint
    trials = [eta for argument in given if isinstance(argument, Phi) for eta in argument.asked]
    if trials:
        told += f", after the trials η = {', '.join(f'{eta:g}' for eta in trials[:6])}{', ...' if trials[6:] else ''}"
    return Outcome(arguments, hint, expected, found, told)


def _copy(arguments: tuple) -> tuple:
    copies = {Tensor: Tensor.clone, Phi: lambda phi: Phi(phi.formula, phi.losses_at)}
    return tuple(copies.get(type(argument), lambda other: other)(argument) for argument in arguments)


def _read(answer, expected: Tensor) -> Tensor | None:
    """The answer as a tensor, or None if it is not of the expected kind and shape."""
    try:
        found = torch.as_tensor(answer).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        return None
    right_kind = (found.dtype == torch.bool) == (expected.dtype == torch.bool) and not found.is_complex()
    return found if right_kind and found.shape == expected.shape else None


def _is_right(exercise: Exercise, outcome: Outcome) -> bool:
    return outcome.found is not None and exercise.agree(outcome.found, outcome.expected, *outcome.arguments)


def _recognise(exercise: Exercise, outcomes: list[Outcome]) -> str | None:
    """The hint of the mistake that gives the reader's answers, right and wrong, in all cases that have an answer."""
    answered = [outcome for outcome in outcomes if outcome.found is not None]
    if all(_is_right(exercise, outcome) for outcome in answered):
        return None  # only cases without an answer are wrong
    for mistake, hint in exercise.mistakes:
        same = (_gives(exercise, mistake, outcome) for outcome in answered)
        if all(same):
            return hint
    return None


def _gives(exercise: Exercise, mistake: Callable, outcome: Outcome) -> bool:
    made = torch.as_tensor(mistake(*_copy(outcome.arguments)))
    both_right = _is_right(exercise, outcome) and exercise.agree(made, outcome.expected, *outcome.arguments)
    return both_right or are_close(made, outcome.found)


def _tell_arguments(exercise: Exercise, arguments: tuple) -> str:
    names = inspect.signature(exercise.solve).parameters
    return ", ".join(f"{name} = {_tell(argument)}" for name, argument in zip(names, arguments, strict=True))


def _tell(value) -> str:
    if isinstance(value, Phi):
        return value.formula
    if isinstance(value, Tensor):
        return _tell(value.tolist())
    if isinstance(value, list):
        return f"[{', '.join(map(_tell, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _kind(expected: Tensor) -> str:
    if expected.dtype == torch.bool:
        return "True or False"
    return "a number" if expected.dim() == 0 else f"a tensor of shape {tuple(expected.shape)}"


def _describe(answer) -> str:
    if answer is None:
        return "None (is there a `return`?)"
    if isinstance(answer, Tensor):
        return f"a tensor of shape {tuple(answer.shape)}"
    return f"{answer!r} of type {type(answer).__name__}"


def _tell_error(error: Exception) -> str:
    """The error with the reader's own line, from the frame below ours if there is one."""
    frames = traceback.extract_tb(error.__traceback__)[1:2]
    where = "".join(f" in line {frame.lineno}: `{frame.line}`" for frame in frames)
    return f"{type(error).__name__}: {error}{where}"
