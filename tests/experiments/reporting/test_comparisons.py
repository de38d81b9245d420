"""Every row of a claim can go either way, says what it lacks, and votes only where the paper's comparison is made."""

import numpy as np
import pytest
from synthetic import beta_runs, constant_step_runs, make_run, timing_run

from fastls.experiments.reporting.claims import Verdict
from fastls.experiments.reporting.comparisons import (
    compare_cost,
    compare_memory,
    compare_with_best_step,
    compare_with_bls,
    compare_with_printed,
    judge_bound,
)
from fastls.experiments.reporting.frames import MixedDataError, to_frame
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import SEARCH

HOLDS, FAILS, UNDECIDED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED
TIMES = {"EqualWeight": 13.0, "SGD": 14.3, "BLS": 19.5, "MGDA-UB": 13.6, "FBLS": 14.3}


def claim_3(runs, method="FBLS", rival="SGD", steps=None):
    return compare_with_best_step(to_frame(runs), "MultiMNIST", method, rival, "test_loss", steps)


def of_the_papers_length(runs) -> list[Run]:
    """The same rows, as if of 60,000 images of MNIST and 100 epochs."""
    change = {"source": "mnist", "n_train": 60_000, "epochs": 100}
    return [
        Run(run.header | {"config": run.config | change}, tuple(row | {"epoch": 97 + row["epoch"]} for row in run.rows))
        for run in runs
    ]


@pytest.mark.parametrize(("fbls", "verdict"), [(0.3, HOLDS), (0.41, HOLDS), (0.48, FAILS)])
def test_claim_3_follows_the_numbers(fbls, verdict):
    row = claim_3(constant_step_runs(fbls=fbls, seeds=4))
    assert row.verdict == verdict and row.difference == pytest.approx(fbls - 0.4) and row.n == 4
    assert "best step 0.1, the largest of 2" in row.note


def test_claim_3_takes_the_best_step_among_those_asked_for():
    runs = constant_step_runs(sgd=(0.2, 0.1))
    assert "best step 0.1, the largest of 2" in claim_3(runs).note
    row = claim_3(runs, steps=[0.01])
    assert "best step 0.01" in row.note and row.rival == "SGD, best of 1 steps" and row.theirs == pytest.approx(0.205)


def test_seeds_that_disagree_decide_nothing_and_the_row_says_how_many_would():
    runs = constant_step_runs(seeds=1) + [make_run("FBLS", 1.0, 1, 0.1, **SEARCH), make_run("SGD", 0.1, 1, 0.4)]
    row = claim_3(runs)
    assert row.verdict == UNDECIDED and row.n == 2 and row.needed > 2


def test_one_seed_decides_nothing():
    row = claim_3(constant_step_runs(seeds=1))
    assert row.verdict == UNDECIDED and np.isnan(row.low) and row.needed is None


def test_a_seed_that_is_missing_is_named_and_does_not_choose_the_best_step():
    runs = constant_step_runs(seeds=3)
    lacking = [run for run in runs if not (run.config["lr"] == 0.1 and run.config["seed"] == 2)]
    row = claim_3(lacking)
    assert "best step 0.01; only 2 of 3 seeds at 0.1; 0.1 reads 0.405" in row.note


def test_a_search_that_diverged_fails():
    row = claim_3(constant_step_runs(fbls=0.1) + [make_run("FBLS", 1.0, 2, 0.1, diverged=True, **SEARCH)])
    assert row.verdict == FAILS and row.n == 3 and "FBLS diverged on 1 of 3 seeds" in row.note


def test_a_step_that_diverged_is_not_the_best():
    runs = constant_step_runs() + [make_run("SGD", 1.0, 0, 0.01), make_run("SGD", 1.0, 1, 0.01, diverged=True)]
    assert "best step 0.1" in claim_3(runs).note


def test_a_rival_all_of_whose_steps_diverged_loses():
    runs = [run for run in constant_step_runs() if run.config["method"] == "FBLS"]
    row = claim_3([*runs, make_run("SGD", 1.0, 0, 0.01, diverged=True)])
    assert row.verdict == HOLDS and row.note == "every step of SGD diverged" and np.isnan(row.theirs)


def test_runs_of_other_lengths_are_not_compared():
    with pytest.raises(MixedDataError, match="must share their epochs, found {3: 'EqualWeight, FBLS, .*, 4: 'SGD'}"):
        claim_3([*constant_step_runs(), make_run("SGD", 0.5, 0, 0.1, epochs=4)])


def test_a_method_that_is_missing_is_named():
    with pytest.raises(ValueError, match="must have runs of FBLS and of MGDA-UB"):
        claim_3(constant_step_runs(), rival="MGDA-UB")


@pytest.mark.parametrize(
    ("method", "rival", "long", "votes"),
    [("FBLS", "SGD", True, True), ("FBLS+decay", "SGD", True, True), ("FBLS", "EqualWeight", True, False)]
    + [("FBLS", "SGD", False, False)],
)
def test_the_papers_comparison_at_the_papers_length_votes(method, rival, long, votes):
    runs = constant_step_runs()
    row = claim_3(of_the_papers_length(runs) if long else runs, method, rival)
    assert row.votes == votes


@pytest.mark.parametrize(("fbls", "verdict"), [(0.5, HOLDS), (0.9, FAILS)])
def test_claim_4a_follows_the_numbers(fbls, verdict):
    row = compare_with_bls(to_frame(beta_runs(bls=0.8, fbls=fbls, seeds=4)), "MultiMNIST", "test_loss")
    assert row.verdict == verdict and row.n == 4 and row.difference == pytest.approx(fbls - 0.8)
    assert not row.votes and "3 epochs" in row.note


@pytest.mark.parametrize(("betas", "votes"), [((0.1, 0.2, 0.3, 0.4), True), ((0.1, 0.4), False), ((0.1,), False)])
def test_claim_4a_is_about_the_mean_over_all_betas_of_the_paper(betas, votes):
    runs = of_the_papers_length(beta_runs(betas=betas))
    row = compare_with_bls(to_frame(runs), "MultiMNIST", "test_loss")
    assert row.votes == votes and ("at β = 0.1" in row.note) == (len(betas) == 1)


def test_claim_4a_does_not_vote_where_a_method_lacks_a_beta():
    runs = of_the_papers_length(beta_runs(betas=(0.1, 0.2, 0.3, 0.4)))
    lacking = [run for run in runs if not (run.config["method"] == "BLS" and run.config["beta"] == 0.3)]
    assert not compare_with_bls(to_frame(lacking), "MultiMNIST", "test_loss").votes


def test_claim_4a_counts_a_divergence():
    runs = beta_runs(fbls=0.1) + [make_run("FBLS", 1.0, 0, 0.1, diverged=True, **(SEARCH | {"beta": 0.2}))]
    row = compare_with_bls(to_frame(runs), "MultiMNIST", "test_loss")
    assert row.verdict == FAILS and "diverged: 1 of FBLS" in row.note


@pytest.mark.parametrize(("bls", "verdict"), [(19.5, HOLDS), (40.0, FAILS), (14.3, FAILS)])
def test_a_printed_ratio_is_met_or_missed_from_both_sides(bls, verdict):
    row = compare_with_printed(timing_run(TIMES | {"BLS": bls}), "4b", "MultiMNIST", "BLS", "FBLS", 1.36)
    assert row.verdict == verdict and row.votes and row.ours == pytest.approx(bls / 14.3)


@pytest.mark.parametrize(("fbls", "verdict"), [(14.0, HOLDS), (15.0, FAILS)])
def test_cost_follows_the_numbers(fbls, verdict):
    row = compare_cost(timing_run(TIMES | {"FBLS": fbls}), "MultiMNIST", "FBLS", "MGDA-UB", most=1.05)
    assert row.verdict == verdict and row.votes and row.difference == pytest.approx(fbls / 13.6 - 1.05)


def test_a_cost_beside_equal_weight_does_not_vote():
    assert not compare_cost(timing_run(TIMES), "MultiMNIST", "FBLS", "EqualWeight", most=1.1).votes


@pytest.mark.parametrize(("peak", "verdict"), [(114.0, HOLDS), (116.0, FAILS)])
def test_memory_follows_the_numbers(peak, verdict):
    run = Run({}, ({"method": "EqualWeight", "peak_mb": 100.0}, {"method": "FBLS", "peak_mb": peak}))
    row = compare_memory(run, "CIFAR-10", "FBLS", "EqualWeight", 1.15)
    assert row.verdict == verdict and row.ours == peak / 100 and not row.votes


@pytest.mark.parametrize(("share", "verdict"), [(1.0, HOLDS), (0.5, FAILS)])
def test_claim_5_follows_the_numbers_and_votes_at_the_papers_length(share, verdict):
    runs = [make_run("FBLS", 1.0, seed, 0.5, share=share, **SEARCH) for seed in range(2)]
    short, long = (judge_bound(to_frame(some), "MultiMNIST") for some in (runs, of_the_papers_length(runs)))
    assert short.verdict == long.verdict == verdict
    assert (short.votes, long.votes) == (False, True)
