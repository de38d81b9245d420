"""The interleaved timing: its order, its passes, its key. Never its seconds."""

import pandas as pd
import pytest

from fastls.experiments.measuring.timing import METHODS, Timing
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore

SETTING = Setting("multimnist", "digits", n_train=300, n_test=50)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("runs"))
    return Timing(SETTING, rounds=2).execute(store), store


def test_every_method_is_measured_once_a_round_in_turning_order(measured):
    rows = pd.DataFrame(measured[0].rows)
    first, second = (list(rows[rows["round"] == turn]["method"]) for turn in (0, 1))
    assert first == list(METHODS)
    assert second == [*METHODS[1:], METHODS[0]]
    assert (rows["seconds"] > 0).all() and (rows["steps"] == 2).all()


def test_passes_per_step_are_those_of_the_algorithms(measured):
    rows = pd.DataFrame(measured[0].rows).groupby("method").mean()
    assert dict(rows["encoder_backward"]) == {"EqualWeight": 1, "SGD": 2, "BLS": 2, "MGDA-UB": 1, "FBLS": 1}
    assert (rows["encoder_forward"].drop("BLS") == 1).all()
    assert rows.loc["BLS", "encoder_forward"] == pytest.approx(1 + rows.loc["BLS", "trials"])
    assert rows["decoder_forward"].to_numpy() == pytest.approx(2 * (1 + rows["trials"]))


def test_nothing_is_measured_twice(measured):
    run, store = measured
    assert Timing(SETTING, rounds=2).execute(store) == run


def test_the_key_knows_rounds_methods_and_step():
    configs = [Timing(SETTING, rounds) for rounds in (2, 3)]
    configs += [Timing(SETTING, 2, methods=("SGD", "FBLS")), Timing(SETTING, 2, lr=0.01)]
    assert len({str(config.identity) for config in configs}) == 4


def test_chosen_methods_alone_are_measured_at_the_chosen_step(tmp_path):
    config = Timing(SETTING, rounds=1, methods=("SGD, T forwards", "MGDA-UB"), lr=0.01)
    assert {config.method_config(method).lr for method in config.methods} == {0.01}
    rows = config.execute(RunStore(tmp_path)).rows
    assert [(row["method"], row["encoder_forward"]) for row in rows] == [("SGD, T forwards", 2), ("MGDA-UB", 1)]
