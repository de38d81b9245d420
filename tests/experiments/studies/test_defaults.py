"""Default against default: averaged weights count as methods of their own, and ranks and verdicts follow the losses."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from synthetic import make_run

from fastls.experiments.studies.defaults import comparison, figures
from fastls.experiments.studies.defaults.comparison import AVERAGED, OURS
from fastls.experiments.training.optimizers.rivals import RIVALS
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import DEFAULTS, Sweep, default_run

ANSWERS = {"first": 100.0, "second": 100.0}  # far above every loss
SWEEP = Sweep("multimnist", "digits", 64, 32, epochs=3, seeds=2)
RIVAL_NAMES = [name + suffix for name in RIVALS for suffix in ("", AVERAGED)]


def make_default(method: str, seed: int, loss: float, averaged: float, diverged: bool = False) -> Run:
    """A run of a default whose averaged weights end at a test loss of their own."""
    own = {"direction": "mgda", "bounded": True} if method == "AdamFBLS" else {"direction": None}
    run = make_run(method, 1.0, seed, loss, **own, averaged=True, diverged=diverged)
    rows = [
        row if row["diverged"] else row | {f"averaged_test_loss_{task}": averaged for task in ("left", "right")}
        for row in run.rows
    ]
    return Run(run.header, tuple(rows))


def make_ends(losses: dict[str, float], averaged: float = 0.9, diverged: str = "", seeds: int = 3):
    """Ends on two data sets; on the second every loss is twice as large. Seeds differ by a percent."""
    entries = {}
    for name, scale in (("first", 1.0), ("second", 2.0)):
        runs = []
        for seed in range(seeds):
            factor = scale * (1 + 0.01 * seed)
            for method in DEFAULTS:
                loss = losses.get(method, 1.0) * factor
                runs.append(make_default(method, seed, loss, averaged * loss, method == diverged and seed == 0))
            gain = {"beta": 0.3, "start": "previous", "match_gain": True}
            runs.append(make_run("FBLS", 1000.0, seed, losses.get("FBLS+gain", 1.0) * factor, **gain))
        entries[name] = comparison.to_entries(runs)
    return entries, comparison.gather_ends(entries)


def test_the_runs_are_one_setting_a_method_with_every_seed():
    runs = comparison.default_runs(SWEEP)
    assert len(runs) == SWEEP.seeds * (len(DEFAULTS) + 1)
    for method in RIVALS:
        run = default_run(SWEEP, method, seed=1)
        assert (run.lr, run.direction, run.seed) == (RIVALS[method][1], None, 1)
    run = default_run(SWEEP, "AdamFBLS", seed=0)
    assert (run.direction, run.bounded) == ("mgda", True)


def test_averaged_weights_are_entries_of_their_own():
    _, ends = make_ends({"AdamW": 2.0}, averaged=0.5)
    table = ends[ends["dataset"] == "first"].pivot(index="seed", columns="variant", values="test_loss")
    assert table["AdamW, averaged"].to_numpy() == pytest.approx(0.5 * table["AdamW"].to_numpy())
    assert "FBLS+gain, averaged" not in table


def test_the_worst_case_stands_first():
    _, ends = make_ends({"AdamFBLS": 0.8, "NAdam": 3.0})
    table = comparison.rank(ends, ANSWERS).set_index("method")
    assert table.index[0] == "AdamFBLS, averaged" and table.index[-1] == "NAdam"
    assert table.loc["AdamFBLS", "worst ratio"] == pytest.approx(0.8 / 0.9)  # to the best rival, which is averaged
    assert table.loc["NAdam", "geometric mean"] == pytest.approx(3 / 0.9)
    assert table.loc["NAdam", "second"] == pytest.approx(2 * table.loc["NAdam", "first"])


def test_a_method_at_the_constant_answer_has_learned_nothing():
    _, ends = make_ends({"NAdam": 3.0})
    told = comparison.rank(ends, {"first": 3.0, "second": 100.0}).set_index("method")["learned nothing on"]
    assert told["NAdam"] == "first" and told["AdamFBLS"] == comparison.NOWHERE


def test_what_diverged_ranks_last_and_loses():
    _, ends = make_ends({}, diverged="AdamW")
    assert comparison.rank(ends, ANSWERS).set_index("method").loc["AdamW", "worst ratio"] == np.inf
    judged = comparison.judge(ends).set_index(["method", "rival"])["test loss"]
    assert judged["AdamFBLS", "AdamW"] == "lower"
    _, ends = make_ends({}, diverged="AdamFBLS")
    assert set(comparison.judge(ends).set_index("method").loc["AdamFBLS", "test loss"]) == {"higher"}


@pytest.mark.parametrize("loss, verdict", [(0.5, "lower"), (2.0, "higher")])
def test_a_clear_difference_is_decided(loss, verdict):
    _, ends = make_ends({"AdamFBLS": loss})
    judged = comparison.judge(ends)
    assert list(judged["method"].unique()) == list(OURS)
    part = judged[judged["method"] == "AdamFBLS"].set_index("rival")
    assert list(part.index) == RIVAL_NAMES and set(part["test loss"]) == {verdict}
    assert part.loc["AdamW", "ratio"] == pytest.approx(loss)


def test_one_seed_decides_nothing():
    _, ends = make_ends({"AdamFBLS": 0.5}, seeds=1)
    assert set(comparison.judge(ends)["test loss"]) == {"undecided"}


def test_details_have_interval_and_count():
    _, ends = make_ends({"Prodigy": 0.7}, seeds=3)
    row = comparison.detail(ends).set_index(["data set", "method"]).loc[("second", "Prodigy")]
    assert row["low"] < row["test loss"] < row["high"] and (row["n"], row["diverged"]) == (3, 0)
    assert row["test loss"] == pytest.approx(2 * 0.7 * 1.01)


def test_figures_draw_what_the_entries_hold():
    entries, ends = make_ends({"AdamW": 1.5})
    figure, drawn = figures.draw_curves(entries, "source")
    last = drawn[drawn["epoch"] == 3].set_index(["dataset", "variant"])["mean"]
    assert last["first", "AdamW"] == pytest.approx(1.5 * 1.01)
    assert last["first", f"AdamW{AVERAGED}"] == pytest.approx(0.9 * 1.5 * 1.01)
    assert len(figure.axes) == 4
    figure, steps = figures.draw_steps(entries, "source")
    assert set(steps["dataset"]) == {"first", "second"} and (steps["step_p05"] < steps["step_p95"]).all()
    plt.close("all")
