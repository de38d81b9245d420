"""Changes that were tried: their rows are found by what they changed, and judged beside it."""

import numpy as np
import pytest
from synthetic import make_run

from fastls.experiments.reporting.frames import to_frame
from fastls.experiments.studies.beyond.tried import DOUBLED, compare_tried, read_tried
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import SEARCH
from fastls.paths import DATA

GAIN = SEARCH | {"beta": 0.3, "start": "previous", "match_gain": True}


def test_every_change_is_read_with_what_it_changes():
    runs = read_tried(RunStore(DATA / "runs"))
    count = to_frame(runs).query("final").groupby(["variant", "candidate"], dropna=False)["seed"].nunique()
    assert set(count) == {6} and len(count) == 9
    for variant in ("FBLS+gain", "FBLS+gain+doubling", "BlockFBLS"):
        assert count[variant].index.isna().sum() == 1


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
def test_a_change_is_judged_beside_what_it_changes(factors, diverged, verdict):
    runs = []
    for seed, factor in enumerate(factors):
        runs += [make_run("FBLS", 1000.0, seed, 0.5 + seed, **GAIN)]
        runs += [make_run("FBLS", 1000.0, seed, 0.5 + seed, **GAIN, growth=2.0)]
        runs += [make_run("BlockFBLS", 1000.0, seed, 9.0, beta=0.4)]
        changed = make_run("FBLS", 1000.0, seed, (0.5 + seed) * factor, diverged=diverged and seed == 0, **GAIN)
        runs.append(Run(changed.header | {"config": changed.config | {"candidate": "smoothed test"}}, changed.rows))
    table = compare_tried(to_frame(runs)).set_index("change")
    assert table.loc["smoothed test", "verdict"] == verdict
    assert table.loc[DOUBLED, "ratio"] == pytest.approx(1) and table.loc[DOUBLED, "search"] == "FBLS+gain"
    assert table.loc["none", "verdict"].isna().all() and len(table.loc["none"]) == 2
    if not diverged:
        assert table.loc["smoothed test", "ratio"] == pytest.approx(np.prod(factors) ** (1 / len(factors)))
