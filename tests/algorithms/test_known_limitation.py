"""Where the latent test does not protect: an encoder of large gain."""

import math

import pytest
import torch
from helpers import bare
from torch import nn

from fastls import BLS, FBLS, Backtracking


class Times(nn.Module):
    def __init__(self, c: float):
        super().__init__()
        self.c = c
        self.theta = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, inputs):
        return self.c * self.theta


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize("c", [1.3, math.sqrt(2), 1.5])
def test_fbls_oscillates_where_the_gain_is_two_and_diverges_beyond(c, beta):
    """z = cθ, L = z²/2: the test in z accepts η = 1 for every β ≤ 1/2, and θ ← (1 − c²)θ whatever c is."""
    model = bare(Times(c), lambda z: z.square().sum() / 2)
    optimizer = FBLS(model, 1.0, line_search=Backtracking(beta=beta))
    path = [1.0]
    for _ in range(40):
        record = optimizer.step(None, {"task0": None})
        assert record.accepted and record.step_size == 1.0 and record.trials == 1
        assert record.gain.item() == pytest.approx(c**2)
        path.append(model.encoder.theta.item())
    assert path == pytest.approx([(1 - c**2) ** k for k in range(41)], rel=1e-9)
    if c == 1.3:
        assert abs(path[-1]) < 1e-5
    elif c == 1.5:
        assert abs(path[-1]) > 1e3
    else:
        assert path == pytest.approx([(-1) ** k for k in range(41)])


@pytest.mark.parametrize("c", [1.3, math.sqrt(2), 1.5])
def test_bls_converges_on_the_same_problem(c):
    model = bare(Times(c), lambda z: z.square().sum() / 2)
    optimizer = BLS(model, 1.0)
    for _ in range(40):
        record = optimizer.step(None, {"task0": None})
        assert record.accepted or record.stationary
    assert abs(model.encoder.theta.item()) < 1e-5
