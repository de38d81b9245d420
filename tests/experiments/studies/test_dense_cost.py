"""Costs predicted from counted passes: sums that can be done by hand, and a measurement at the smallest size."""

import pytest

from fastls.experiments.measuring.timing import METHODS
from fastls.experiments.reporting.frames import MixedDataError
from fastls.experiments.studies.cityscapes.cost import (
    compare_dense_costs,
    decoder_share,
    find_trials,
)
from fastls.experiments.training.store import Run
from fastls.experiments.training.training import PASSES

# passes of a step: encoder forward, encoder backward, decoder forward, decoder backward; T = 3
COUNTED = {
    "EqualWeight": (1, 1, 3, 3),
    "SGD": (1, 3, 3, 3),
    "BLS": (3, 3, 9, 3),
    "MGDA-UB": (1, 1, 3, 3),
    "FBLS": (1, 1, 15, 3),
}
TRIALS = {"BLS": 2, "FBLS": 4}
SECONDS = (2.0, 4.0, 0.5, 1.0)  # of one pass each
HEADER = {"key": "0123456789abcdef", "environment": {"device": "a processor", "threads": 2}}


def predict(method: str) -> float:
    return sum(count * seconds for count, seconds in zip(COUNTED[method], SECONDS, strict=True))


@pytest.fixture
def timing():
    rows = [
        {"round": turn, "method": method, "seconds": predict(method), "steps": 1, "trials": TRIALS.get(method, 0)}
        | dict(zip(PASSES, COUNTED[method], strict=True))
        for turn in range(3)
        for method in METHODS
    ]
    return Run(HEADER, tuple(rows))


@pytest.fixture
def passes():
    """The median of three rounds, one of them disturbed."""
    names = [f"seconds_{name}" for name in PASSES]
    rows = [
        {"round": turn} | dict(zip(names, [factor * s for s in SECONDS], strict=True))
        for turn, factor in enumerate((1, 7, 0.9))
    ]
    return Run(HEADER, tuple(rows))


@pytest.fixture
def memory():
    return Run({}, tuple({"method": method, "peak_mb": 100.0 + i} for i, method in enumerate(METHODS)))


def test_what_is_predicted_is_the_sum_of_the_passes(timing, passes, memory):
    table = compare_dense_costs(timing, passes, memory, {"SGD": 6000, "FBLS": 7700}, {}).set_index("method")
    for method in METHODS:
        expected = predict(method) / predict("SGD")
        assert table["predicted / SGD"][method] == pytest.approx(expected)
        assert table["ours / SGD"][method] == pytest.approx(expected)  # the timing was made so
    assert table["share of decoders"]["FBLS"] == pytest.approx((15 * 0.5 + 3) / predict("FBLS"))
    assert table["memory / SGD"]["FBLS"] == pytest.approx(104 / 101)
    assert table["paper / SGD"]["FBLS"] == pytest.approx(7.7 / 6)


def test_as_many_trials_as_the_ratio_pays_for(timing, passes):
    """At the ratio that was measured they are those that were made; without trials FBLS costs what MGDA-UB does."""
    assert find_trials(timing, passes, predict("FBLS") / predict("SGD")) == pytest.approx(4)
    assert find_trials(timing, passes, predict("MGDA-UB") / predict("SGD")) == pytest.approx(0)
    assert find_trials(timing, passes, 1.0) == pytest.approx(2 * 4.0 / (3 * 0.5))  # two encoder backwards
    assert find_trials(timing, passes, 0.1) < 0


def test_two_machines_do_not_mix(timing, passes, memory):
    elsewhere = Run(HEADER | {"environment": {"device": "another processor", "threads": 2}}, passes.rows)
    with pytest.raises(MixedDataError, match="must share their machine"):
        compare_dense_costs(timing, elsewhere, memory, printed={}, thesis={})


def test_share_of_the_decoders(passes):
    assert decoder_share(passes, tasks=3) == pytest.approx((3 / 7, 3 / 7, 3 / 7))  # 4.5 of 10.5 in every round
