"""The cone of common descent against its definition."""

import math

import pytest
import torch

from fastls.algorithms.pareto import stationarity_gap
from fastls.experiments.reporting.planes import descent_cone


def lowers_all(gradients, angle):
    move = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    return bool((gradients @ move < 0).all())


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(20))
def test_the_cone_holds_the_common_descent_directions_and_no_others(tasks, seed):
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(tasks, 2, generator=generator, dtype=torch.float64)
    cone = descent_cone(gradients)
    circle = [2 * math.pi * k / 720 + 1e-4 for k in range(720)]
    if cone is None:
        assert not any(lowers_all(gradients, angle) for angle in circle)
        return
    low, high = cone
    assert 0 < high - low <= math.pi
    for angle in circle:
        inside = (angle - low) % (2 * math.pi) < high - low
        assert lowers_all(gradients, angle) == inside


@pytest.mark.parametrize("seed", range(20))
def test_the_cone_is_empty_just_where_the_point_is_stationary(seed):
    gradients = torch.randn(3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert (descent_cone(gradients) is None) == (stationarity_gap(gradients).item() < 1e-12)


def test_opposite_gradients_and_a_gradient_of_zero_leave_no_cone():
    assert descent_cone(torch.tensor([[1.0, 2.0], [-2.0, -4.0]])) is None
    assert descent_cone(torch.tensor([[1.0, 2.0], [0.0, 0.0]])) is None
