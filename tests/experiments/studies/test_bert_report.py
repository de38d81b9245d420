"""Two readings of SGD from made-up seconds; correlations and the table of the short training from made-up runs."""

import pytest
from matplotlib import pyplot as plt

from fastls.experiments.reporting.frames import to_frame
from fastls.experiments.reporting.tables import compare_times
from fastls.experiments.studies.bert.report import (
    add_correlations,
    compare_readings,
    describe_readings,
    draw_learning,
    tabulate_learning,
)
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import SEARCH

PRINTED = {"SGD": 9.0, "MGDA-UB": 3.6, "FBLS": 4.5}


def make_timing(shared: float) -> Run:
    seconds = {"SGD": shared, "MGDA-UB": 3.0, "FBLS": 3.3, "EqualWeight": 3.0, "BLS": 11.0, "SGD, T forwards": 9.0}
    passes = dict.fromkeys(("trials", "encoder_forward", "encoder_backward", "decoder_forward", "decoder_backward"), 1)
    rows = [
        {"round": turn, "method": method, "seconds": value * (1 + turn)} | passes
        for turn in range(3)
        for method, value in seconds.items()
    ]
    return Run({}, tuple(rows))


def test_readings_against_printed_shares():
    table = compare_readings(make_timing(7.0), PRINTED, tasks=3).set_index(["ratio", "encoder forwards of SGD"])
    mgda, fbls = table.loc["MGDA-UB / SGD"], table.loc["FBLS / SGD"]
    assert list(mgda["ours"]) == pytest.approx([3 / 7, 1 / 3]) == list(mgda["counted"])
    assert list(fbls["paper"]) == [0.5, 0.5] and list(fbls["ours"]) == pytest.approx([3.3 / 7, 3.3 / 9])
    # (3 + h) / (9 + h) is 1/2 at h = 3 and 0.4 at h = 1; (1 + b) / (1 + 3b) is 1/2 at b = 1 and 0.4 at b = 3.
    assert fbls["needed overhead"][3] == pytest.approx(3) and fbls["needed backward"][1] == pytest.approx(1)
    assert mgda["needed overhead"][3] == pytest.approx(1) and mgda["needed backward"][1] == pytest.approx(3)
    assert mgda["needed overhead"][1] < 0 < fbls["needed overhead"][1]


@pytest.mark.parametrize(("shared", "nearer"), [(7.5, "one forward for all tasks"), (5.0, "a forward a task")])
def test_the_nearer_reading_is_named(shared, nearer):
    """The paper's MGDA-UB / SGD is 0.4; ours 3 / shared, or 3 / 9 with a forward a task."""
    sentences = describe_readings(compare_readings(make_timing(shared), PRINTED, tasks=3))
    (mgda,) = [sentence for sentence in sentences if sentence.startswith("MGDA-UB / SGD")]
    assert f"the paper prints 0.40; measured here {3 / shared:.2f}" in mgda and mgda.endswith(f"**{nearer}**.")


def test_the_table_of_times_holds_what_was_timed():
    table = compare_times(make_timing(7.0), PRINTED, thesis={}).set_index("method")
    assert table["ours / SGD"]["SGD, T forwards"] == pytest.approx(9 / 7)
    assert table["verdict"]["SGD, T forwards"] == "not in the paper"


def make_run(method: str, lr: float, pearson: float, diverged: bool = False, seed: int = 0) -> Run:
    config = RunConfig("stsb", "templates", 64, 32, method, lr, 2, seed, **(SEARCH if method == "FBLS" else {}))
    rows = []
    for epoch in (1, 2):
        row = {"epoch": epoch, "diverged": False, "lr": lr, "step_median": lr / 2, "trials": 1.0, "gain_median": None}
        for t, shift in enumerate((-0.1, 0.0, 0.1), start=1):
            row |= {f"{split}_loss_score_{t}": 1 / epoch + shift for split in ("train", "test")}
            row |= {f"test_pearson_score_{t}": pearson + shift, f"test_spearman_score_{t}": -pearson + shift}
        rows.append(row)
    if diverged:
        rows = [{"epoch": 1, "diverged": True}]
    return Run({"key": config.label, "config": config.identity}, tuple(rows))


@pytest.fixture
def frame():
    runs = [make_run("FBLS", 1.0, 0.4), make_run("SGD", 0.01, 0.1), make_run("SGD", 0.1, 0.0, diverged=True)]
    return add_correlations(to_frame([*runs, make_run("FBLS", 1.0, 0.6, seed=1)]))


def test_correlations_are_means_over_tasks_and_seeds(frame):
    table = tabulate_learning(frame).set_index("method")
    assert list(table.index) == ["FBLS", "SGD 0.01", "SGD 0.1"]
    assert table.loc["FBLS", "dev Pearson"] == pytest.approx(0.5)
    assert table.loc["FBLS", "dev Spearman"] == pytest.approx(-0.5)
    assert table.loc["SGD 0.01", "dev loss"] == pytest.approx(0.5)
    assert list(table["diverged"]) == [0, 0, 1] and list(table["n"]) == [2, 1, 1]
    assert table.loc["SGD 0.1"][["train loss", "dev Pearson"]].isna().all()


def test_figure_shows_the_best_step_that_did_not_diverge(frame):
    figure, table = draw_learning(frame, 0.1, "somewhere")
    assert set(table.index.get_level_values("label")) == {"FBLS", "SGD 0.01 (best)"}
    assert "bands from the lowest to the highest" in figure.get_supxlabel() and "somewhere" in figure.get_supxlabel()
    losses = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert losses["FBLS"] == pytest.approx([1.0, 0.5]) and len(losses) == 2
    plt.close(figure)


def test_figure_says_what_diverged_at_every_step():
    runs = [make_run("FBLS", 1.0, 0.4), *(make_run("SGD", lr, 0.0, diverged=True) for lr in (0.01, 0.1))]
    figure, _ = draw_learning(add_correlations(to_frame(runs)), 0.1, "somewhere")
    assert "diverged: SGD 0.01 (every step diverged) (1 of 1)" in figure.get_supxlabel()
    plt.close(figure)
