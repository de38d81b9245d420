"""What a search leaves behind: nothing. Buffers, random state, masks, `.grad`, frozen parameters."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import FIVE, SEARCHES, batch, copies, equal, mlp, names, trusted
from torch import nn

from fastls import FBLS, MultiTaskModel


class Mask(nn.Module):
    """Dropout that remembers its masks."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def forward(self, value):
        self.masks.append((torch.rand_like(value) < 0.7).to(value))
        return value * self.masks[-1]


def noisy() -> MultiTaskModel:
    """Batch normalisation and random masks in the encoder and in both decoders."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), Mask(), nn.Linear(6, 4))
    heads = {
        name: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), Mask(), nn.Linear(6, 1)) for name in names(2)
    }
    return MultiTaskModel(encoder, heads, dict.fromkeys(heads, F.mse_loss)).double()


def masks_of(module: nn.Module) -> list[list[torch.Tensor]]:
    return [child.masks for child in module.modules() if isinstance(child, Mask)]


@pytest.mark.parametrize("algorithm", FIVE)
def test_buffers_and_random_state_are_those_of_one_forward_pass(algorithm):
    model, (inputs, targets) = noisy(), batch()
    ordinary = copy.deepcopy(model)
    torch.manual_seed(3)
    record = algorithm(model, 30.0 if algorithm in SEARCHES else 0.05).step(inputs, targets)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    ordinary(inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(model.buffers(), ordinary.buffers())
    assert model.encoder[1].num_batches_tracked == 1
    assert record.trials > 1 or algorithm not in SEARCHES


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_dropout_draws_one_mask_a_step(algorithm):
    model, (inputs, targets) = noisy(), batch()
    optimizer = trusted(algorithm(model, 30.0))
    for _ in range(2):
        for masks in masks_of(model):
            masks.clear()
        record = optimizer.step(inputs, targets)
        encoder, decoders = masks_of(model.encoder), masks_of(model.decoders)
        assert record.trials > 1
        assert len(encoder[0]) == record.passes.encoder_forward
        assert [len(masks) for masks in decoders] == [1 + record.trials] * 2
        assert all(torch.equal(mask, masks[0]) for masks in encoder + decoders for mask in masks)
        assert not torch.equal(decoders[0][0], decoders[1][0])


def test_masks_differ_between_steps():
    model = noisy()
    optimizer = FBLS(model, 0.01)
    for _ in range(2):
        optimizer.step(*batch())
    first, *_, last = masks_of(model.decoders)[0]
    assert not torch.equal(first, last)


@pytest.mark.parametrize("algorithm", FIVE)
def test_the_callers_grad_is_left_alone(algorithm):
    model = mlp()
    kept = {}
    for index, parameter in enumerate(model.parameters()):
        if index % 2:
            parameter.grad = torch.full_like(parameter, 0.1 * index)
            kept[index] = parameter.grad.clone()
    algorithm(model, 0.05).step(*batch())
    for index, parameter in enumerate(model.parameters()):
        assert parameter.grad is None if index not in kept else torch.equal(parameter.grad, kept[index])


@pytest.mark.parametrize("algorithm", FIVE)
def test_frozen_parameters_never_move(algorithm):
    model = mlp()
    frozen = [model.encoder[0].weight, model.decoders["task0"][2].bias, *model.decoders["task1"].parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    before, free = [p.clone() for p in frozen], model.encoder[2].weight.clone()
    algorithm(model, 0.05).step(*batch())
    assert equal(frozen, before) and not torch.equal(model.encoder[2].weight, free)


@pytest.mark.parametrize("algorithm", FIVE)
@pytest.mark.parametrize("unfreeze", [False, True], ids=["one gone", "one exchanged"])
def test_freezing_after_construction_is_refused_and_moves_nothing(algorithm, unfreeze):
    model = mlp()
    model.decoders["task0"][2].bias.requires_grad_(False)
    optimizer = algorithm(model, 0.05)
    model.decoders["task1"][2].bias.requires_grad_(False)
    model.decoders["task0"][2].bias.requires_grad_(unfreeze)
    start = copies(model)
    message = f"must keep its 11 trainable parameters, found {int(unfreeze)} new and 1 gone; make a new optimizer"
    with pytest.raises(ValueError, match=message):
        optimizer.step(*batch())
    assert equal(copies(model), start)


@pytest.mark.parametrize("direction", ["mean", "mgda", "edm", "pcgrad"])
def test_directions_of_two_tasks_leave_the_random_state(direction):
    model = mlp()
    state = torch.get_rng_state()
    FBLS(model, 0.05, direction).step(*batch())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("algorithm", FIVE)
def test_a_step_works_under_no_grad_and_leaves_the_mode(algorithm):
    inside, outside = mlp(), mlp()
    with torch.no_grad():
        algorithm(inside, 0.05).step(*batch())
        assert not torch.is_grad_enabled()
    algorithm(outside, 0.05).step(*batch())
    assert equal(copies(inside), copies(outside))
