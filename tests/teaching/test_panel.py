"""The panel: its trials are those of fastls.Backtracking, its step is that of fastls.FBLS, and sliders redraw it."""

import matplotlib.pyplot as plt
import pytest
import torch

from fastls.algorithms.line_search import satisfies_armijo
from fastls.experiments.reporting import style
from fastls.teaching.panel import Setting, panel_row, take_step

SETTINGS = [
    Setting(),
    Setting(beta=0.6),
    Setting(gamma=0.9),
    Setting(lr_ub=8.0),
    Setting(gain=0.1),
    Setting(gain=3.0),
    Setting(beta=0.98, gamma=0.1, lr_ub=8.0, gain=8.0),
]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def losses_at(z: float) -> torch.Tensor:
    return torch.tensor([z**2 / 2, (z - 1) ** 2], dtype=torch.float64)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
class TestStep:
    def test_trials_are_those_of_the_definition(self, setting):
        """d_z = 2 from z = 2: every trial at z − 2η, in a geometric sequence, the last alone under both lines."""
        step = take_step(setting)
        for k, (eta, losses) in enumerate(step.trials):
            assert eta == pytest.approx(setting.lr_ub * setting.gamma**k)
            torch.testing.assert_close(losses, losses_at(2 - 2 * eta))
        passed = [
            satisfies_armijo(losses, losses_at(2), step.record.slopes, setting.beta, eta) for eta, losses in step.trials
        ]
        assert passed == [False] * (len(passed) - 1) + [True]
        assert step.record.step_size == step.trials[-1][0] and step.record.trials == len(step.trials)

    def test_the_step_moves_z_rho_times_as_far(self, setting):
        step = take_step(setting)
        assert step.record.gain.item() == pytest.approx(setting.gain)
        torch.testing.assert_close(step.after, losses_at(2 - 2 * setting.gain * step.record.step_size))

    def test_table_holds_trials_and_step(self, setting):
        figure, table = panel_row([setting])
        step = take_step(setting)
        assert table["kind"].tolist() == ["rejected"] * (len(step.trials) - 1) + ["accepted", "step"]
        assert table["eta"].tolist() == [eta for eta, _ in step.trials] + [step.record.step_size]
        assert table[["L_1", "L_2"]].iloc[-1].tolist() == step.after.tolist()
        assert (table["gain"] == setting.gain).all()


def drawn(panel, marker) -> list[tuple[float, float]]:
    """Points drawn with this marker, without the empty ones of the legend."""
    lines = [line for line in panel.get_lines() if line.get_marker() == marker and len(line.get_xdata())]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in lines]


def test_what_is_drawn_is_what_is_in_the_table():
    figure, table = panel_row([Setting(gain=3.0)])
    tried, taken = figure.axes
    points = {kind: rows[["eta", "L_1", "L_2"]].values.tolist() for kind, rows in table.groupby("kind")}
    for kind, marker in (("rejected", "x"), ("accepted", "o")):
        assert drawn(tried, marker) == [(eta, loss) for eta, *losses in points[kind] for loss in losses]
    ((eta, first, second),) = points["step"]
    assert drawn(taken, "v") == [(eta, first)] and drawn(taken, "^") == [(eta, second)]
    assert taken.get_title().endswith("$L_2$ rose") and "2 trials" in tried.get_title()


def test_losses_beyond_the_panel_stand_at_its_edge_with_their_values():
    figure, _ = panel_row([Setting(lr_ub=4.0, gain=8.0)])
    tried, taken = figure.axes
    top = tried.get_ylim()[1]
    assert drawn(taken, "^") == [(0.5, top)] * 2
    assert [text.get_text() for text in taken.texts if text.get_text()] == ["18, 49"]
    assert [text.get_text() for text in tried.texts if text.get_text()] == ["18, 49", "9"]


def test_both_losses_fall_where_the_trial_is_the_step():
    figure, _ = panel_row([Setting(gain=1.0)])
    assert figure.axes[1].get_title().endswith("both losses fell") and drawn(figure.axes[1], "^") == []


def test_a_row_has_a_column_a_setting_and_the_same_losses_to_compare():
    figure, table = panel_row(SETTINGS[:3])
    assert len(figure.axes) == 6 and len({panel.get_ylim() for panel in figure.axes}) == 1
    assert (table["kind"] == "step").sum() == 3


def test_bytes_depend_on_the_setting_alone(tmp_path):
    first, second = (
        [path.read_bytes() for path in style.save_figure(panel_row([Setting()])[0], "row", tmp_path)] for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    "values, message",
    [
        ({"gain": 0.0}, "`gain` must be positive and finite, found 0.0"),
        ({"gain": float("nan")}, "`gain` must be positive and finite, found nan"),
        ({"beta": 1.0}, r"`Backtracking\(beta=...\)` must be in \(0, 1\), found 1.0"),
        ({"lr_ub": -1.0}, "`lr_ub` must be positive and finite, found -1.0"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        take_step(Setting(**values))


def test_a_row_without_settings():
    with pytest.raises(ValueError, match="`settings` must hold at least one setting, found none"):
        panel_row([])
