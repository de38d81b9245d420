"""Accepted steps against the Armijo rule, solved by hand."""

import matplotlib.pyplot as plt
import pytest
import torch

from fastls.experiments.studies.theory.armijo_figures import Cut, accepted_intervals, draw_armijo


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


# φ_1 = (1 − η)² and φ_2 = (1 − 2η)²: with β = 1/4 they are accepted up to 3/2 and up to 3/4.
BOWLS = Cut(
    "two bowls",
    lambda eta: torch.tensor([(1 - eta) ** 2, (1 - 2 * eta) ** 2], dtype=torch.float64),
    torch.tensor([2.0, 4.0], dtype=torch.float64),
    lr_ub=2.0,
)
# 1 − η + 3η² − 2η³ starts with slope 1, rises over a hump, and passes again beyond it.
HUMP = Cut(
    "a hump",
    lambda eta: torch.tensor([1 - eta + 3 * eta**2 - 2 * eta**3], dtype=torch.float64),
    torch.tensor([1.0], dtype=torch.float64),
    lr_ub=2.0,
)


def test_accepted_steps_of_each_and_of_all():
    table = accepted_intervals(BOWLS, beta=0.25).set_index("task")
    assert list(table.index) == ["1", "2", "all"]
    assert table["low"].tolist() == [0, 0, 0]
    assert table["high"].tolist() == pytest.approx([1.5, 0.75, 0.75], abs=1e-3)


def test_accepted_steps_need_not_be_an_interval():
    """−η/2 + 3η² − 2η³ ≤ 0 between the roots (3 ± √5)/4 fails."""
    table = accepted_intervals(HUMP, beta=0.5)
    assert table["task"].tolist() == ["all", "all"]
    assert table["low"].tolist() == pytest.approx([0, (3 + 5**0.5) / 4], abs=1e-3)
    assert table["high"].tolist() == pytest.approx([(3 - 5**0.5) / 4, 2], abs=1e-3)


def test_no_accepted_step_but_zero_leaves_its_point():
    rising = Cut("", lambda eta: BOWLS.phi(-eta), BOWLS.slopes, 2.0)
    table = accepted_intervals(rising, beta=0.25)
    assert table["task"].tolist() == ["1", "2", "all"]
    assert (table[["low", "high"]] == 0).all(axis=None)


def test_figure_marks_the_trials_of_backtracking():
    figure, table = draw_armijo([HUMP, BOWLS], beta=0.25, gamma=0.5, source="where from")
    bowls = table[table["panel"] == "two bowls"]
    assert (bowls["step_size"] == 0.5).all() and (bowls["trials"] == 3).all()
    marked = {
        (line.get_marker(), line.get_xdata()[0])
        for line in figure.axes[1].lines
        if line.get_marker() in ("x", "o") and len(line.get_xdata())
    }
    assert marked == {("x", 2.0), ("x", 1.0), ("o", 0.5)}
    assert figure.get_supxlabel().endswith("where from")
