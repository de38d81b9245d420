"""The gain in the trial: the slope is that of the parameters, at no further pass."""

from functools import partial

import pytest
import torch
from helpers import batch, copies, counted, equal, mlp, trusted
from torch import nn

from fastls import BLS, FBLS, MultiTaskModel
from fastls.models.quadratic import scalar_chain

TASKS = [1, 2, 4]
FACTORS = [0.01, 0.3, 1.0, 2.0, 50.0]


def losses_of(model, z, targets):
    return torch.stack([model.losses[t](model.decoders[t](z), targets[t]) for t in model.tasks])


@pytest.mark.parametrize("tasks", TASKS)
def test_with_the_gain_the_weighted_slope_is_that_of_the_parameters(tasks):
    """Σ α_t s_t = −d/dη Σ α_t L_t(θ − η(d_sh, g_t)), which the search of FBLS without the gain does not see."""
    for match_gain in (True, False):
        model, (inputs, targets) = mlp(tasks), batch(tasks)
        start = copies(model)
        record = FBLS(model, 1e-6, match_gain=match_gain).step(inputs, targets)
        direction = [(before - after) / record.step_size for before, after in zip(start, copies(model), strict=True)]
        model = mlp(tasks)
        loss = record.weights @ losses_of(model, model.encoder(inputs), targets)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        change = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        agrees = torch.isclose(change, record.weights @ record.slopes, rtol=1e-6)
        assert agrees == match_gain


@pytest.mark.parametrize("c", FACTORS)
def test_a_scaled_encoder_converges_whatever_its_scale(c):
    model = scalar_chain(c, 1.0)
    optimizer = FBLS(model, 1000.0, match_gain=True)
    for _ in range(2000):
        optimizer.step(None, dict.fromkeys(model.tasks))
    assert (c * model.encoder.theta.item()) ** 2 / 2 < 1e-8


@pytest.mark.parametrize("c", FACTORS)
def test_with_the_gain_the_step_on_a_scaled_encoder_is_that_of_bls(c):
    paths = []
    for make in (BLS, lambda model: FBLS(model, match_gain=True)):
        model = scalar_chain(c, 1.0)
        optimizer = make(model)
        paths.append([optimizer.step(None, dict.fromkeys(model.tasks)).step_size for _ in range(5)])
    assert paths[0] == paths[1]


def test_the_gain_costs_no_pass():
    for options in ({}, {"match_gain": True}):
        model, passes = counted(mlp(3))
        record = trusted(FBLS(model, **options)).step(*batch(3))
        assert (passes.encoder_forward, passes.encoder_backward) == (1, 1)
        assert passes.decoder_forward == 3 * (1 + record.trials)


class Cusp(nn.Module):
    """z = x + |θ|, computed so that its derivative at θ = 0 is NaN."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, inputs):
        return inputs[:, :4] + self.theta.square().sqrt()


@pytest.mark.parametrize("make", [FBLS, partial(FBLS, match_gain=True)], ids=["FBLS", "FBLS+gain"])
def test_a_gradient_that_is_not_finite_in_the_encoder_alone_moves_nothing(make):
    whole, (inputs, targets) = mlp(2), batch(2)
    model = MultiTaskModel(Cusp(), dict(whole.decoders), whole.losses)
    before = copies(model)
    with pytest.raises(FloatingPointError, match="encoder's gradient must be finite, found .*nan"):
        make(model).step(inputs, targets)
    assert equal(before, copies(model))
