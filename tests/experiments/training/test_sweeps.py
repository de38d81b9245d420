"""Which runs make which artefact: counts, order, and what two artefacts share."""

from dataclasses import replace

import numpy as np

from fastls.experiments.training import store
from fastls.experiments.training.store import compute_key
from fastls.experiments.training.sweeps import (
    BETAS,
    LR_UB,
    SEARCH,
    STEP_SIZES,
    Sweep,
    beta_runs,
    comparison_runs,
    search_runs,
    step_size_runs,
)

SWEEP = Sweep("multimnist", "mnist", 60_000, 10_000, epochs=20, seeds=3, beta_seeds=3)


def test_step_sizes_of_the_paper():
    """Eight, evenly spaced between 1e-3 and 1e-1 on the log scale; four digits are kept."""
    assert len(STEP_SIZES) == 8 and (STEP_SIZES[0], STEP_SIZES[-1]) == (1e-3, 1e-1)
    np.testing.assert_allclose(np.diff(np.log10(STEP_SIZES)), 2 / 7, rtol=1e-3)


def test_search_of_the_paper():
    assert BETAS == (0.1, 0.2, 0.3, 0.4) and SEARCH["beta"] == 0.1 and SEARCH["form"] == 6 and LR_UB == 1.0


def test_constant_runs():
    for method, direction in (("SGD", "mgda"), ("EqualWeight", None)):
        runs = comparison_runs(replace(SWEEP, seeds=1), [method])[2:]
        assert [run.lr for run in runs] == list(STEP_SIZES)
        assert {(run.method, run.direction, run.seed) for run in runs} == {(method, direction, 0)}
        assert {(run.beta, run.gamma, run.floor, run.form, run.decay_every) for run in runs} == {(None,) * 5}


def test_search_runs():
    plain, decayed = search_runs(SWEEP, 1)
    assert {name: getattr(plain, name) for name in SEARCH} == SEARCH
    assert (plain.method, plain.lr, plain.seed, plain.decay_every) == ("FBLS", LR_UB, 1, None)
    assert decayed == replace(plain, decay_every=10)


def test_beta_runs():
    runs = beta_runs(SWEEP, 0, "FBLS", "BLS")
    assert {(run.method, run.beta) for run in runs} == {(method, beta) for method in ("FBLS", "BLS") for beta in BETAS}
    assert len(runs) == 8
    assert {replace(run, method="FBLS", beta=0.1) for run in runs} == {search_runs(SWEEP, 0)[0]}


def test_step_size_runs():
    runs = step_size_runs(replace(SWEEP, seeds=3), {"SGD": (0.01, 0.1), "EqualWeight": (0.1,)}, {0.01: 1})
    kinds = [("FBLS", LR_UB), ("FBLS", LR_UB), ("SGD", 0.01), ("SGD", 0.1), ("EqualWeight", 0.1)]
    expected = [(seed, *kind) for seed in range(3) for kind in kinds if seed == 0 or kind != ("SGD", 0.01)]
    assert [(run.seed, run.method, run.lr) for run in runs] == expected  # whole seeds, where a sweep is interrupted
    assert len({compute_key(run.identity) for run in runs}) == len(runs)
    assert set(beta_runs(SWEEP, 1, "FBLS")) & set(runs) == {search_runs(SWEEP, 1)[0]}


def test_comparison_runs():
    sweep = replace(SWEEP, step_sizes=(0.01, 0.1), seeds=2)
    runs = comparison_runs(sweep, ["MGDA-UB", "BLS"])
    kinds = [("FBLS", LR_UB), ("FBLS", LR_UB), ("MGDA-UB", 0.01), ("MGDA-UB", 0.1), ("BLS", LR_UB)]
    assert [(run.seed, run.method, run.lr) for run in runs] == [(seed, *kind) for seed in (0, 1) for kind in kinds]
    assert runs[:2] == search_runs(sweep, 0)
    assert runs[4] == replace(runs[0], method="BLS")


def test_sweep_reaches_every_run():
    sweep = Sweep("multimnist", "digits", 100, 50, 2, 1, betas=(0.3,), decay_every=1)
    runs = step_size_runs(sweep, {"SGD": (0.5,)}, {}) + beta_runs(sweep, 0, "BLS")
    for run in runs:
        assert (run.dataset, run.source, run.n_train, run.n_test) == ("multimnist", "digits", 100, 50)
        assert (run.epochs, run.device) == (2, "cpu")
    assert [run.lr for run in runs] == [LR_UB, LR_UB, 0.5, LR_UB]
    assert [run.decay_every for run in runs] == [None, 1, None, None]


def test_keys_of_stored_runs_are_pinned(monkeypatch):
    """Stored runs are found by these keys: a change that moves them by accident would throw the runs away."""
    monkeypatch.setattr(store, "RESULTS_VERSION", 1)
    runs = comparison_runs(SWEEP, ["SGD"])[:3]
    keys = ["7ca9b5075e46e04f", "f38c92335cb4e19a", "041a2b95d32c8ad6"]
    assert [compute_key(run.identity) for run in runs] == keys
