"""Errors of the optimizers name the thing, the rule and what was found; nothing moves."""

import math

import pytest
import torch
from helpers import FIVE, FOUR, SEARCHES, bare, batch, copies, equal, mlp, names
from torch import nn

from fastls import Backtracking, MultiTaskModel


class Returns(nn.Module):
    """An encoder that returns what `make` makes of its output."""

    def __init__(self, make):
        super().__init__()
        self.inner, self.make = nn.Linear(5, 4, dtype=torch.float64), make

    def forward(self, inputs):
        return self.make(self.inner(inputs))


def with_loss(loss) -> MultiTaskModel:
    model = mlp()
    model.losses["task1"] = loss
    return model


def with_encoder(make) -> MultiTaskModel:
    return MultiTaskModel(Returns(make), mlp().decoders, mlp().losses)


STEP_ERRORS = {
    "a target is lacking": (
        mlp, ["task0"], ValueError,
        r"`targets` must hold one entry a task, found none for \['task1'\]; given: \['task0'\]",
    ),
    "a loss is a vector": (
        lambda: with_loss(lambda output, target: (output - target).squeeze(1)), names(2), ValueError,
        r"loss of task 'task1' must be a scalar tensor, found shape \(8,\)",
    ),
    "a loss is a number": (
        lambda: with_loss(lambda output, target: 0.5), names(2), ValueError,
        "loss of task 'task1' must be a scalar tensor, found float",
    ),
    "a loss is NaN": (
        lambda: with_loss(lambda output, target: output.mean() * math.nan), names(2), FloatingPointError,
        r"Losses at the start of a step must be finite, found \{'task1': nan\}",
    ),
    "a loss is infinite": (
        lambda: with_loss(lambda output, target: output.mean().abs() + math.inf), names(2), FloatingPointError,
        r"Losses at the start of a step must be finite, found \{'task1': inf\}",
    ),
    "the encoder returns no tensor": (
        lambda: with_encoder(lambda z: [1.0]), names(2), TypeError,
        r"`encoder\(inputs\)` must return a tensor z or a tree of them, found list",
    ),
    "z is detached": (
        lambda: with_encoder(torch.Tensor.detach), names(2), ValueError,
        r"`encoder\(inputs\)` must carry a gradient, found z.requires_grad=False",
    ),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", FIVE)
@pytest.mark.parametrize("case", STEP_ERRORS)
def test_a_step_on_bad_input_names_it_and_moves_nothing(algorithm, case):
    make, given, error, message = STEP_ERRORS[case]
    model, (inputs, targets) = make(), batch()
    optimizer = algorithm(model, 0.05)
    start = copies(model)
    with pytest.raises(error, match=message):
        optimizer.step(inputs, {task: targets[task] for task in given})
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", FOUR)
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0, 1.0, 1.0], r"`rule` must return weights of shape \(2,\), found \(3,\)"),
        ([1.0, -1.0], r"`rule` must return finite weights ≥ 0, found \[1.0, -1.0\]"),
        ([1.0, math.nan], r"`rule` must return finite weights ≥ 0, found \[1.0, nan\]"),
    ],
)
def test_a_direction_that_returns_bad_weights_moves_nothing(algorithm, returned, message):
    def rule(gramian):
        return gramian.new_tensor(returned)

    model = mlp()
    start = copies(model)
    with pytest.raises(ValueError, match=message):
        algorithm(model, 0.05, direction=rule).step(*batch())
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", FOUR)
def test_an_unknown_direction_is_refused(algorithm):
    with pytest.raises(ValueError, match=r"`direction` must be a callable or one of \[.*'mgda'.*\], found 'steepest'"):
        algorithm(mlp(), 0.1, direction="steepest")


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_an_unknown_choice_on_failure_is_refused(algorithm):
    with pytest.raises(ValueError, match="`on_failure` must be 'floor', 'skip' or 'raise', found 'ignore'"):
        algorithm(mlp(), on_failure="ignore")


@pytest.mark.parametrize("algorithm", FIVE)
@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_step_sizes_that_are_not_positive_and_finite_are_refused(algorithm, rate):
    name = "lr_ub" if algorithm in SEARCHES else "lr"
    with pytest.raises(ValueError, match=f"`{name}` must be positive and finite, found {rate}"):
        algorithm(mlp(), rate)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_floor_above_the_bound_is_refused_at_construction(algorithm):
    with pytest.raises(ValueError, match="`floor` must be below `lr_ub`, found floor=0.5 and lr_ub=0.1"):
        algorithm(mlp(), 0.1, line_search=Backtracking(floor=0.5))


@pytest.mark.parametrize("algorithm", FIVE)
@pytest.mark.parametrize("encoder", [nn.Identity(), nn.Linear(5, 4).requires_grad_(False)])
def test_an_encoder_without_trainable_parameters_is_refused(algorithm, encoder):
    model = MultiTaskModel(encoder, mlp().decoders, mlp().losses)
    with pytest.raises(ValueError, match="encoder must have a trainable parameter, found none"):
        algorithm(model, 0.1)


@pytest.mark.parametrize("algorithm", FOUR)
@pytest.mark.parametrize("tasks", [2, 3])
def test_a_gradient_that_is_nan_names_its_task_and_moves_nothing(algorithm, tasks):
    """The square root has a value at zero, but no gradient."""
    plain = [lambda z: z.square().mean()] * (tasks - 1)
    model = bare(nn.Linear(5, 4), *plain, lambda z: (z * 0).abs().sqrt().mean())
    start = copies(model)
    with pytest.raises(FloatingPointError, match=rf"Squared gradients .* finite, found {{'task{tasks - 1}': nan}}"):
        algorithm(model, 0.05).step(torch.rand(3, 5), dict.fromkeys(model.tasks))
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", FIVE)
def test_targets_that_are_not_a_mapping_are_refused(algorithm):
    with pytest.raises(TypeError, match="`targets` must map each task to its target, found Tensor"):
        algorithm(mlp(), 0.05).step(batch()[0], torch.zeros(8, 1))
