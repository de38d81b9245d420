"""Figures are tested by the numbers that they draw, then by their files."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from synthetic import beta_runs, constant_step_runs, make_run

from fastls.experiments.reporting import curves as figures
from fastls.experiments.reporting import style
from fastls.experiments.reporting.frames import METRICS, label_constant_steps, label_searches, to_frame
from fastls.experiments.training.sweeps import SEARCH


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def constant():
    return to_frame(constant_step_runs())


def test_constant_steps_draws_final_means_over_seeds(constant):
    figure, table = figures.draw_constant_steps(constant, "where from")
    assert table.loc[("SGD", 0.1), ("test_loss", "mean")] == pytest.approx(0.405)
    assert (table[("test_loss", "count")] == 2).all()
    panel = figure.axes[1]
    drawn = {container.get_label(): container.lines[0].get_xydata() for container in panel.containers}
    assert drawn["SGD"] == pytest.approx(np.array([[0.01, 0.905], [0.1, 0.405]]))
    assert {line.get_label(): line.get_ydata()[0] for line in panel.lines}["FBLS"] == pytest.approx(0.505)


def test_constant_steps_draws_all_methods_that_there_are():
    runs = [*constant_step_runs(), make_run("BLS", 1.0, 0, 0.7, **SEARCH), make_run("MGDA-UB", 0.1, 0, 0.6)]
    figure, _ = figures.draw_constant_steps(to_frame(runs), "")
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert sorted(labels) == ["BLS", "EqualWeight", "FBLS", "FBLS+decay", "MGDA-UB", "SGD"]


def test_compared_panels_have_the_same_range(constant):
    figure, _ = figures.draw_constant_steps(constant, "")
    limits = [panel.get_ylim() for panel in figure.axes]
    assert limits[0] == limits[1] and limits[2] == limits[3]


def test_a_diverged_step_leaves_a_gap_and_no_failure():
    runs = constant_step_runs() + [make_run("SGD", 10.0, 0, 0.5, diverged=True)]
    figure, table = figures.draw_constant_steps(to_frame(runs), "")
    assert np.isnan(table.loc[("SGD", 10.0), ("test_loss", "mean")])
    assert [text.get_text() for text in figure.axes[0].texts] == ["†"] and "diverged" in figure.get_supxlabel()


@pytest.mark.parametrize("seeds", [1, 2], ids=["every seed", "one of two"])
def test_a_search_that_diverged_is_marked_inside_the_axes(seeds):
    """Its mark once stood at its bound, beyond the largest constant step."""
    runs = [run for run in constant_step_runs() if run.config["method"] != "FBLS"]
    runs += [make_run("FBLS", 1.0, seed, 0.5, diverged=seed == 0, **SEARCH) for seed in range(seeds)]
    figure, _ = figures.draw_constant_steps(to_frame(runs), "")
    figure.canvas.draw()
    for panel in figure.axes:
        (mark,) = panel.texts
        assert mark.get_text() == "† FBLS"
        box, room = mark.get_window_extent(), panel.get_window_extent()
        assert room.x0 <= box.x0 and box.x1 <= room.x1 + 1 and room.y0 <= box.y0 and box.y1 <= room.y1 + 1
        assert panel.get_xlim()[1] < 1.0


def test_learning_curves_draw_one_line_a_label(constant):
    frame, lines = label_constant_steps(constant)
    figure, table = figures.draw_learning_curves(frame, "", lines)
    for panel, metric in zip(figure.axes, METRICS, strict=True):
        assert len(panel.lines) == len(lines)
        drawn = panel.lines[0].get_xydata()
        assert drawn[:, 0] == pytest.approx([1, 2, 3])
        assert drawn[:, 1] == pytest.approx(table.loc[next(iter(lines))][(metric, "mean")])


def test_captions_count_the_runs_behind_each_line(constant):
    frame, lines = label_searches(constant, to_frame(beta_runs(seeds=1)), also={"BLS": 0.1})
    figure, _ = figures.draw_learning_curves(frame, "", lines)
    assert "runs: FBLS (2), FBLS+decay (2), BLS, β = 0.1 (1)" in figure.get_supxlabel()


def test_a_line_that_diverged_at_once_is_left_out(constant):
    runs = [make_run("BLS", 1.0, 0, 0.5, epochs=1, diverged=True, beta=0.1)]
    frame, lines = label_searches(constant, to_frame(runs), also={"BLS": 0.1})
    figure, _ = figures.draw_learning_curves(frame, "", lines)
    assert [line.get_label() for line in figure.axes[0].lines] == ["FBLS", "FBLS+decay"]
    assert "diverged: BLS, β = 0.1 (1 of 1)" in figure.get_supxlabel().replace("\n", " ")


def test_captions_count_the_runs_that_diverged_later(constant):
    runs = [make_run("BLS", 1.0, seed, 0.5, diverged=seed == 1, beta=0.1) for seed in range(2)]
    frame, lines = label_searches(constant, to_frame(runs), also={"BLS": 0.1})
    figure, _ = figures.draw_learning_curves(frame, "", lines)
    assert "diverged: BLS, β = 0.1 (1 of 2)" in figure.get_supxlabel().replace("\n", " ")


def test_step_sizes_draw_medians_shares_and_trials(constant):
    frame, lines = label_searches(constant, to_frame(beta_runs()), also={"BLS": 0.1})
    figure, table = figures.draw_step_sizes(frame, "", lines)
    assert [len(panel.lines) for panel in figure.axes] == [3, 3, 3, 3]
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx(table.loc["FBLS", "share_at_bound"])


def test_failed_searches_leave_the_first_panel_and_are_counted_below(constant):
    frame, lines = label_searches(constant, to_frame(beta_runs()), also={"BLS": 0.1})
    failing = frame.assign(step_p05=frame["step_p05"].where(frame["label"] != "FBLS", 1e-10), accepted=0.75)
    figure, table = figures.draw_step_sizes(failing, "", lines)
    assert figure.axes[0].get_ylim()[0] == pytest.approx(table["step_median"].min() / 100)
    assert "up to 25% of an epoch's searches of" in figure.get_supxlabel().replace("\n", " ")
    whole, _ = figures.draw_step_sizes(frame, "", lines)
    assert "failed" not in whole.get_supxlabel()


def test_samples_draw_every_image_under_its_caption():
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    figure, table = figures.draw_samples(images, ["1 and 2", "3 and 4"], "")
    assert [panel.get_title() for panel in figure.axes] == ["1 and 2", "3 and 4"] == list(table["caption"])
    assert (figure.axes[1].images[0].get_array() == images[1]).all()


def test_every_figure_carries_its_provenance(constant):
    figure, _ = figures.draw_constant_steps(constant, "where from")
    assert figure.get_supxlabel().endswith("\nwhere from") and "n = 2 seeds" in figure.get_supxlabel()


def test_files_are_the_same_bytes_each_time(constant, tmp_path):
    written = []
    for _ in range(2):
        figure, _ = figures.draw_constant_steps(constant, "where from")
        paths = style.save_figure(figure, "figure", tmp_path)
        written.append([path.read_bytes() for path in paths])
    assert [path.suffix for path in paths] == [".pdf", ".png"]
    assert written[0] == written[1]


def test_every_style_is_its_own():
    looks = [(style.METHOD_STYLES[name][0], style.METHOD_STYLES[name][2]) for name in style.METHOD_STYLES]
    assert len(set(looks)) == len(looks)
