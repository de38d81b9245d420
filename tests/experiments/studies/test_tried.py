"""Changes that were tried: their rows are found by what they changed, and judged beside it."""

import numpy as np
import pytest
from synthetic import make_run

from fastls.experiments.studies.beyond.tried import (
    ADAM,
    BLOCK,
    DOUBLED,
    GAIN,
    IN_METRIC,
    PER_BLOCK,
    UNBOUNDED,
    compare_tried,
    read_tried,
)
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import SEARCH
from fastls.paths import DATA

OPTIONS = SEARCH | {"beta": 0.3, "start": "previous", "match_gain": True}


def changed(run: Run, **options) -> Run:
    return Run(run.header | {"config": run.config | options}, run.rows)


def test_every_change_is_read_with_every_seed_and_what_it_changes():
    tried = read_tried(RunStore(DATA / "runs"), GAIN, BLOCK)
    table = compare_tried(tried)
    assert {DOUBLED, PER_BLOCK, IN_METRIC} < set(table["change"])
    small = table[(table["data set"] == "multimnist") & (table["images"] == 10_000)]
    assert set(small["n"]) == {6} and set(small["search"]) == {GAIN, BLOCK}
    assert set(table.loc[table["images"] == 60_000, "n"]) == {3}
    for _, _, run, plain in tried:
        assert run.config["seed"] == plain.config["seed"] and run.header["data"] == plain.header["data"]


def test_adamfbls_without_its_bound_is_read_beside_the_one_with_it():
    tried = read_tried(RunStore(DATA / "runs"), ADAM)
    assert {change for _, change, _, _ in tried} == {UNBOUNDED}
    assert {run.config["dataset"] for _, _, run, _ in tried} == {"multimnist", "cifar10", "stsb"}
    for _, _, run, bounded in tried:
        assert run.config | {"bounded": True} == bounded.config


@pytest.mark.parametrize(
    "factors, diverged, verdict",
    [
        ((0.9, 0.91, 0.92), False, "better"),
        ((1.1, 1.11, 1.12), False, "worse"),
        ((0.5, 1.0, 1.5), False, "undecided"),
        ((200.0, 100.0, 50.0), False, "worse"),
        ((0.9,), False, "undecided"),
        ((0.9, 0.91, 0.92), True, "worse"),
    ],
)
def test_a_change_is_judged_beside_what_it_changes(tmp_path, factors, diverged, verdict):
    store, label = RunStore(tmp_path), "multimnist-FBLS"
    for seed, factor in enumerate(factors):
        plain = make_run("FBLS", 1000.0, seed, 0.5 + seed, **OPTIONS)
        loss = (0.5 + seed) * factor
        smoothed = make_run("FBLS", 1000.0, seed, loss, diverged=diverged and seed == 0, **OPTIONS)
        smoothed = changed(smoothed, candidate="smoothed test")
        block = changed(plain, method="BlockFBLS", preconditioner="rms")
        for run in (plain, smoothed, changed(plain, growth=2.0), block):
            store.save(label, run.config, {"data": run.header["data"]}, run.rows)
    table = compare_tried(read_tried(store, GAIN, BLOCK)).set_index("change")
    assert table.loc["smoothed test", "verdict"] == verdict
    assert table.loc[DOUBLED, "ratio"] == pytest.approx(1) and table.loc[DOUBLED, "search"] == GAIN
    assert table.loc[IN_METRIC, "ratio"] == pytest.approx(1)
    if not diverged:
        assert table.loc["smoothed test", "ratio"] == pytest.approx(np.prod(factors) ** (1 / len(factors)))
