"""A batch without a target of some task: its loss and gradients are zero, and the step goes on for the others."""

import pytest
import torch
from helpers import FIVE, FOUR, SEARCHES, bare, batch, copies, equal, mlp, with_silent
from torch import nn

from fastls.algorithms.directions import DIRECTIONS, find_active
from fastls.models.multitask import MultiTaskModel


def without(model: MultiTaskModel, task: str) -> MultiTaskModel:
    decoders = {name: decoder for name, decoder in model.decoders.items() if name != task}
    return MultiTaskModel(model.encoder, decoders, {name: model.losses[name] for name in decoders})


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("algorithm", FOUR)
def test_the_step_is_that_of_the_other_tasks(algorithm, direction):
    """Bit for bit the step of a model that lacks the task; its own decoder rests."""
    inputs, targets = batch(3)
    whole, part = with_silent(mlp(3), "task1"), without(mlp(3), "task1")
    silent = copies(whole.decoders["task1"])
    record = algorithm(whole, 0.5, direction=direction).step(inputs, targets)
    expected = algorithm(part, 0.5, direction=direction).step(inputs, targets)
    assert record.weights.tolist() == [expected.weights[0], 0, expected.weights[1]]
    assert (record.step_size, record.trials, record.accepted) == (
        expected.step_size,
        expected.trials,
        expected.accepted,
    )
    assert record.step_size > 1e-6 and record.slopes[1] == 0
    assert equal(copies(whole.encoder), copies(part.encoder))
    assert equal(copies(whole.decoders["task2"]), copies(part.decoders["task2"]))
    assert equal(copies(whole.decoders["task1"]), silent)


@pytest.mark.parametrize("algorithm", FIVE)
def test_the_encoder_moves_and_the_losses_fall(algorithm):
    inputs, targets = batch(3)
    model = with_silent(mlp(3), "task0")
    encoder = copies(model.encoder)
    optimizer = algorithm(model, 0.02)
    first, *_, last = [optimizer.step(inputs, targets) for _ in range(10)]
    assert not equal(copies(model.encoder), encoder)
    assert (last.losses[1:] < first.losses[1:]).all() and last.losses[0] == 0


@pytest.mark.parametrize("algorithm", FOUR)
def test_nothing_moves_where_no_task_has_a_target(algorithm):
    model = with_silent(with_silent(mlp(), "task0"), "task1")
    start = copies(model)
    inputs, targets = batch()
    record = algorithm(model, 0.5).step(inputs, targets)
    assert record.stationary and equal(copies(model), start)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_search_sees_the_tasks_that_are_active(algorithm):
    sizes = []

    class Spy(type(algorithm(mlp()).line_search)):
        def __call__(self, phi, losses, slopes, lr_ub, previous):
            sizes.append((len(phi(lr_ub)), len(losses), len(slopes.own), len(slopes.shared)))
            return super().__call__(phi, losses, slopes, lr_ub)

    inputs, targets = batch(3)
    for model in (mlp(3), with_silent(mlp(3), "task2")):
        algorithm(model, 0.5, line_search=Spy()).step(inputs, targets)
    assert sizes == [(3,) * 4, (2,) * 4]


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_trial_runs_the_decoders_of_active_tasks_alone(algorithm):
    record = algorithm(with_silent(mlp(3), "task1"), 0.5).step(*batch(3))
    assert record.trials > 0 and record.passes.decoder_forward == 3 + 2 * record.trials


@pytest.mark.parametrize("algorithm", FOUR)
def test_without_own_parameters_a_vanishing_gradient_means_stationarity(algorithm):
    """At the minimum of one loss no direction helps both (Definition 3), so the step stays put."""
    torch.manual_seed(0)
    model = bare(nn.Linear(5, 4), lambda z: 0 * z.sum(), lambda z: (z - 1).square().mean())
    start = copies(model)
    assert algorithm(model, 0.5).step(torch.rand(3, 5), dict.fromkeys(model.tasks)).stationary
    assert equal(copies(model), start)


def test_a_task_is_active_by_either_gradient():
    gramian = torch.diag(torch.tensor([1.0, 0.0, 0.0, 1e-300], dtype=torch.float64))
    own = torch.tensor([0.0, 1e-300, 0.0, 0.0], dtype=torch.float64)
    assert find_active(gramian, own).tolist() == [True, True, False, True]
    assert find_active(gramian, torch.zeros(4)).all()
