"""Figures of the theory, tested by the numbers that they draw."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from fastls.algorithms.directions import DIRECTIONS
from fastls.algorithms.pareto import pareto_front
from fastls.experiments.studies.theory import pareto_figures as theory_figures


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def two_bowls(theta):
    """½‖θ ∓ (1, 0)‖²: the Pareto set is the segment between the centres."""
    centres = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    return (theta.unsqueeze(-2) - centres).square().sum(-1) / 2


@pytest.fixture
def stationarity():
    segment = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    points = {"on": segment.mean(0), "off": torch.tensor([0.0, 1.0], dtype=torch.float64)}
    return theory_figures.draw_stationarity(two_bowls, segment, points, "where from")


def test_a_point_of_the_pareto_set_has_no_cone(stationarity):
    _, table = stationarity
    assert table.loc["on", "gap"] == pytest.approx(0, abs=1e-12)
    assert math.isnan(table.loc["on", "low"]) and math.isnan(table.loc["on", "high"])


def test_a_point_beside_it_has_the_cone_of_its_gradients(stationarity):
    """At (0, 1) the gradients are (∓1, 1): the moves between −135° and −45° lower both, and the gap is 1."""
    _, table = stationarity
    assert table.loc["off", "gap"] == pytest.approx(1)
    assert table.loc["off", ["g1x", "g1y", "g2x", "g2y"]].tolist() == pytest.approx([-1, 1, 1, 1])
    low, high = table.loc["off", "low"], table.loc["off", "high"]
    assert (high - low, ((low + high) / 2) % 360) == pytest.approx((90, 270))


def test_titles_say_what_was_found(stationarity):
    figure, _ = stationarity
    assert "no common descent" in figure.axes[1].get_title() and "cone" in figure.axes[2].get_title()
    assert figure.get_supxlabel() == "where from"


def test_parabolas_draw_the_front_over_the_points():
    theta = torch.linspace(-2, 2, 41)
    losses = torch.stack([(theta + 1) ** 2, (theta - 1) ** 2], dim=1)
    front = pareto_front(losses)
    figure, table = theory_figures.draw_parabolas(theta, losses, front, "")
    dominated, chosen = figure.axes[1].lines
    assert len(dominated.get_xydata()) == 41
    assert chosen.get_xydata() == pytest.approx(table.loc[table["front"], ["L_1", "L_2"]].to_numpy())
    assert table.loc[table["front"], "θ"].abs().max() <= 1 + 1e-6


@pytest.fixture
def directions():
    gradients = torch.tensor([[3.0, 0.5], [-1.0, 0.8]], dtype=torch.float64)
    return gradients, *theory_figures.draw_directions(gradients, "")


def test_directions_are_those_of_the_rules(directions):
    gradients, _, table = directions
    assert list(table.index) == list(DIRECTIONS)
    for name, row in table.iterrows():
        d = torch.tensor([row["d_1"], row["d_2"]], dtype=torch.float64)
        weights = torch.tensor([row["alpha_1"], row["alpha_2"]], dtype=torch.float64)
        assert weights == pytest.approx(DIRECTIONS[name](gradients @ gradients.T))
        assert d == pytest.approx(weights @ gradients)
        assert row["length"] == pytest.approx(d.norm().item())
        for t in (1, 2):
            g = gradients[t - 1]
            assert row[f"slope_{t}"] == pytest.approx((g @ d).item())
            cosine = math.cos(math.radians(row[f"angle_{t}"]))
            assert cosine == pytest.approx((g @ d / (g.norm() * d.norm())).item())


def test_bars_are_the_angles(directions):
    _, figure, table = directions
    heights = [patch.get_height() for patch in figure.axes[1].patches]
    assert heights == pytest.approx(table[["angle_1", "angle_2"]].to_numpy().ravel())


def test_mgda_is_perpendicular_to_the_hull_and_edm_bisects(directions):
    gradients, _, table = directions
    mgda = table.loc["mgda", ["d_1", "d_2"]].to_numpy(dtype=float)
    assert mgda @ (gradients[0] - gradients[1]).numpy() == pytest.approx(0, abs=1e-12)
    assert np.isclose(table.loc["edm", "angle_1"], table.loc["edm", "angle_2"])
