"""The diagonal metric: its formula against torch's Adam, and what it makes of the gain and of the encoder's step."""

import copy

import pytest
import torch
from helpers import batch, copies, mlp

from fastls import BlockFBLS, RootMeanSquare
from fastls.algorithms.spaces import Evaluation, LatentSpace


def test_its_steps_are_those_of_adam_without_momentum():
    torch.manual_seed(0)
    ours, theirs = torch.randn(5, dtype=torch.float64), torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    start = ours.clone()
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.0, 0.9), eps=1e-6)
    metric, state = RootMeanSquare(0.9, 1e-6), {ours: {}}
    for _ in range(6):
        gradient = torch.randn(5, dtype=torch.float64)
        theirs.grad = gradient
        adam.step()
        ours -= 0.1 * metric([ours], [gradient], state)[0]
    torch.testing.assert_close(ours - start, theirs.detach())


def test_the_first_step_is_the_sign():
    parameter, gradient = torch.zeros(3), torch.tensor([2.0, -1e-3, 0.0])
    assert RootMeanSquare()([parameter], [gradient], {parameter: {}})[0].tolist() == pytest.approx([1, -1, 0], abs=1e-4)


@pytest.mark.parametrize("bad", [{"decay": 1.0}, {"decay": -0.1}, {"eps": 0.0}])
def test_numbers_out_of_range_are_named(bad):
    with pytest.raises(ValueError, match="`decay` must be in"):
        RootMeanSquare(**bad)


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_the_gain_is_that_of_the_preconditioned_step(tasks):
    """ρ‖d_z‖² = −d/dη of z(θ_sh − ηd) along d_z, d the step of the encoder."""
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    start = copy.deepcopy(model)
    record = BlockFBLS(model, preconditioner=RootMeanSquare()).step(inputs, targets)
    gradients = LatentSpace().gradients(Evaluation(start, inputs, targets, replayable=True))
    direction = record.weights @ gradients
    moved = {
        name: (before - after) / record.step_size
        for (name, before), after in zip(start.encoder.named_parameters(), copies(model.encoder), strict=True)
    }
    primals = dict(start.encoder.named_parameters())
    _, along = torch.func.jvp(
        lambda parameters: torch.func.functional_call(start.encoder, parameters, inputs), (primals,), (moved,)
    )
    torch.testing.assert_close(along.flatten() @ direction / direction.square().sum(), record.gain)


def test_its_state_is_saved_and_loaded():
    model, (inputs, targets) = mlp(2), batch(2)
    optimizer = BlockFBLS(model, preconditioner=RootMeanSquare())
    optimizer.step(inputs, targets)
    twin = copy.deepcopy(model)
    resumed = BlockFBLS(twin, preconditioner=RootMeanSquare())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as a file would
    for some in (optimizer, resumed):
        some.step(inputs, targets)
    for mine, other in zip(copies(model), copies(twin), strict=True):
        assert torch.equal(mine, other)
