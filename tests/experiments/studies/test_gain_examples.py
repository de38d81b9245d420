"""The examples of notebook 07, and what is seen of a step from outside."""

import pytest
import torch
from torch.nn.functional import mse_loss

from fastls import FBLS, MultiTaskModel
from fastls.experiments.studies.beyond.gain_examples import (
    follow_curved_encoder,
    measure_cosine,
    watch_steps,
)


def network(encoder: torch.nn.Module) -> MultiTaskModel:
    heads = {task: torch.nn.Linear(3, 1) for task in ("a", "b")}
    return MultiTaskModel(encoder, heads, dict.fromkeys(heads, mse_loss)).double()


def batch(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    targets = {task: torch.randn(6, 1, generator=generator, dtype=torch.float64) for task in ("a", "b")}
    return torch.randn(6, 3, generator=generator, dtype=torch.float64), targets


def test_on_a_curved_encoder_every_step_is_accepted_and_the_loss_grows():
    run = follow_curved_encoder(steps=10)
    assert run["accepted"].all() and run["loss"].iloc[-1] > run["loss"].iloc[0]
    assert run["gain"].to_list() == pytest.approx((run["theta"] ** 2).to_list())


class Shift(torch.nn.Module):
    """z = x + θ, a row of θ a sample: J Jᵀ is the identity."""

    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.zeros(6, 3))

    def forward(self, inputs):
        return inputs + self.theta


def test_the_cosine_is_one_where_z_moves_along_the_direction():
    torch.manual_seed(0)
    assert measure_cosine(FBLS(network(Shift())), *batch()) == pytest.approx(1)


def test_the_cosine_is_that_of_the_move_of_z():
    """Against z after a tiny step less z before it."""
    torch.manual_seed(0)
    model = network(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()))
    inputs, targets = batch()
    optimizer = FBLS(model, lr_ub=1e-7)
    cosine = measure_cosine(optimizer, inputs, targets)
    z = model.encoder(inputs)
    heads = {task: model.losses[task](head(z), targets[task]) for task, head in model.decoders.items()}
    gradients = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0].flatten() for loss in heads.values()])
    record = optimizer.step(inputs, targets)
    moved = (z - model.encoder(inputs)).detach().flatten()
    expected = torch.nn.functional.cosine_similarity(moved, record.weights @ gradients, dim=0)
    assert cosine == pytest.approx(expected.item(), abs=1e-5)


def test_watching_does_not_change_the_steps():
    after = []
    for watch in (True, False):
        torch.manual_seed(0)
        model = network(torch.nn.Linear(3, 3))
        optimizer = FBLS(model)
        if watch:
            seen = watch_steps(optimizer, [batch(seed) for seed in range(6)], every=2)
            assert seen["step"].to_list() == [0, 2, 4] and seen["fell"].isin([0.0, 0.5, 1.0]).all()
        else:
            for seed in range(6):
                optimizer.step(*batch(seed))
        after.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))
