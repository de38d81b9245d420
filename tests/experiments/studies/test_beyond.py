"""Searches without a bound beside tuned constant steps: which runs, and a verdict that can go either way."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from synthetic import make_run

from fastls.experiments.reporting.frames import to_frame
from fastls.experiments.studies.beyond import comparison as beyond
from fastls.experiments.studies.beyond.figures import draw_against_steps, draw_curves
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.sweeps import SEARCH, Sweep

SWEEP = Sweep("multimnist", "digits", n_train=96, n_test=32, epochs=1, seeds=2, step_sizes=(0.01, 0.05, 0.1))
GAIN = SEARCH | {"beta": 0.3, "start": "previous", "match_gain": True}


def frame_of(ours: float, rivals: dict[float, float], seeds: int = 3) -> pd.DataFrame:
    """Searches end at `ours`, constant steps where `rivals` says; seeds differ by a hundredth of both."""
    runs = []
    for seed in range(seeds):
        factor = 1 + 0.01 * seed
        runs += [
            make_run("FBLS", 1000.0, seed, ours * factor, **GAIN),
            make_run("FBLS", 1.0, seed, ours * factor, **SEARCH),
        ]
        for rival in beyond.CONSTANT:
            runs += [make_run(rival, step, seed, loss * factor) for step, loss in rivals.items()]
    return to_frame(runs)


@pytest.mark.parametrize(
    "ours, verdict",
    [(0.9, "holds"), (1.0, "holds"), (1.029, "holds"), (1.031, "does not hold"), (1.5, "does not hold")],
)
def test_the_verdict_follows_the_ratio_to_the_best_step(ours, verdict):
    table = beyond.compare_with_tuned(frame_of(ours, {0.01: 2.0, 0.1: 1.0, 0.3: 1.3}))
    assert set(table[beyond.WITHIN]) == {verdict}
    assert (table["its best step"] == 0.1).all() and table["ratio"].to_list() == pytest.approx([ours] * len(table))
    assert set(table["search"]) == set(beyond.SEARCHES) and set(table["rival"]) == set(beyond.CONSTANT)


def test_one_seed_decides_nothing():
    table = beyond.compare_with_tuned(frame_of(0.5, {0.1: 1.0}, seeds=1))
    assert set(table[beyond.WITHIN]) == {"undecided, mean within"}
    table = beyond.compare_with_tuned(frame_of(2.0, {0.1: 1.0}, seeds=1))
    assert set(table[beyond.WITHIN]) == {"undecided, mean above"}


def test_a_search_that_diverged_once_does_not_hold():
    frame = frame_of(0.9, {0.1: 1.0})
    frame.loc[(frame["variant"] == "FBLS") & (frame["seed"] == 1), ["test_loss", "diverged"]] = [None, True]
    table = beyond.compare_with_tuned(frame).set_index("search")
    assert set(table.loc["FBLS", beyond.WITHIN]) == {"does not hold"}
    assert set(table.loc["FBLS+gain", beyond.WITHIN]) == {"holds"}


@pytest.mark.parametrize("epochs", [1, 3], ids=["at once", "in the last epoch"])
def test_a_rival_that_diverged_at_every_step_is_said_to(epochs):
    """There is no best step then; looking for it once raised."""
    frame = frame_of(0.9, {0.01: 1.0, 0.1: 2.0})
    frame.loc[(frame["variant"] == "EqualWeight") & frame["final"], ["test_loss", "diverged"]] = [None, True]
    if epochs == 1:
        frame = frame[(frame["variant"] != "EqualWeight") | frame["final"]]
    table = beyond.compare_with_tuned(frame).set_index("rival")
    assert set(table.loc["EqualWeight", beyond.WITHIN]) == {"undecided, every step of the rival diverged"}
    assert set(table.loc["MGDA-UB", beyond.WITHIN]) == {"holds"}
    figure, drawn = draw_curves({"multimnist": frame}, "where from")
    assert "EqualWeight diverged at every step, MGDA-UB 0.01" in figure.axes[0].get_title()
    assert "EqualWeight" not in set(drawn["variant"])
    draw_against_steps({"multimnist": frame}, {"multimnist": 2.3}, "where from")
    plt.close("all")


def test_a_step_that_lacks_a_seed_is_not_the_best():
    frame = frame_of(1.0, {0.1: 1.0, 0.3: 0.5})
    frame = frame[~((frame["lr"] == 0.3) & (frame["seed"] == 2))]
    assert set(beyond.compare_with_tuned(frame)["its best step"]) == {0.1}


def test_the_best_constant_steps_are_repeated_with_every_seed(tmp_path):
    runs = beyond.run_comparisons({"multimnist": SWEEP}, RunStore(tmp_path), jobs=1)["multimnist"]
    count = to_frame(runs).groupby(["variant", "lr"])["seed"].nunique()
    for rival in beyond.CONSTANT:
        assert sorted(count[rival]) == [1, 2, 2]
    for search in beyond.SEARCHES:
        assert count[search].to_list() == [2]


def test_sensitivity_varies_one_thing_at_a_time():
    runs = beyond.sensitivity_runs(SWEEP, bounds=[0.1, 10.0], betas=[0.2], batch_sizes=[32], scales=[1.0, 3.0])
    assert {run.lr for run in runs["bound"] if run.method == "EqualWeight"} == {0.1, 10.0}
    assert {run.beta for run in runs["beta"]} == {0.2}
    assert {run.batch_size for run in runs["batch_size"]} == {32}
    assert {run.model_options for run in runs["latent_scale"]} == {(), (("latent_scale", 3.0),)}
    assert {run.direction for run in runs["direction"]} == {"mgda", "mean", "edm"}
    assert all(len(set(some)) == len(some) for some in runs.values())


def test_the_scale_of_z_is_read_from_the_options():
    frame = pd.DataFrame({"model_options": [{"latent_scale": 3.0}, None, {}]})
    assert beyond.with_latent_scale(frame)["latent_scale"].to_list() == [3.0, 1.0, 1.0]
    assert beyond.with_latent_scale(pd.DataFrame({"lr": [1.0]}))["latent_scale"].to_list() == [1.0]


def test_the_spread_is_infinite_where_a_setting_diverged():
    runs = [make_run("EqualWeight", lr, 0, loss) for lr, loss in ((0.01, 2.0), (0.1, 0.5))]
    runs += [make_run("FBLS", 1.0, 0, 0.5, **SEARCH), make_run("FBLS", 10.0, 0, 0.6, diverged=True, **SEARCH)]
    runs += [make_run("FBLS", 1000.0, 0, 0.5, **GAIN)]
    spread = beyond.compare_spread({"bound": to_frame(runs)}, {"bound": "lr"})["bound"]
    assert spread["EqualWeight"] == pytest.approx(4) and spread["FBLS"] == float("inf") and pd.isna(spread["FBLS+gain"])
