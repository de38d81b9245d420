"""Verdicts must be able to change: each is tried with numbers for and against it."""

import numpy as np
import pandas as pd
import pytest
from synthetic import beta_runs, constant_step_runs, make_run, timing_run

from fastls.experiments.reporting import tables
from fastls.experiments.reporting.frames import to_frame
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import SEARCH

PRINTED = {"SGD": 14.3, "BLS": 19.5, "MGDA-UB": 13.6, "FBLS": 14.3}
THESIS = {"SGD": 1.0, "BLS": 1.37}
LIKE_THE_PAPER = {"EqualWeight": 13.0} | PRINTED


def final(runs) -> pd.DataFrame:
    return to_frame(runs).query("final")


@pytest.mark.parametrize(
    ("printed", "low", "high", "verdict"),
    [
        (1.36, 1.30, 1.45, "agrees"),  # within ten per cent
        (1.36, 1.80, 2.00, "same direction"),
        (1.36, 0.90, 2.50, "undecided"),  # an interval that holds everything says nothing
        (1.36, 0.80, 1.00, "differs"),
        (0.95, 0.55, 0.65, "same direction"),
        (1.00, 0.75, 0.85, "differs"),
        (1.00, 0.85, 0.95, "undecided"),
        (None, 0.75, 0.85, "not in the paper"),
    ],
)
def test_judge_ratio(printed, low, high, verdict):
    assert tables.judge_ratio(printed, low, high) == verdict


def compared_times(**changes) -> pd.DataFrame:
    return tables.compare_times(timing_run(LIKE_THE_PAPER | changes), PRINTED, THESIS).set_index("method")


def test_times_of_the_paper_agree_with_the_paper():
    table = compared_times()
    assert table["ours / paper"].dropna().to_numpy() == pytest.approx(1.0)
    assert dict(table["verdict"]) == {
        "EqualWeight": "not in the paper",
        "SGD": "baseline",
        "BLS": "agrees",
        "MGDA-UB": "agrees",
        "FBLS": "agrees",
    }
    assert table["thesis / SGD"]["BLS"] == 1.37 and (table["n"] == 4).all()


def test_other_times_do_not():
    table = compared_times(BLS=10.0, FBLS=30.0)
    assert table.loc["BLS", "verdict"] == "differs" and table.loc["FBLS", "verdict"] == "differs"


def test_ratios_are_taken_within_a_round():
    """The made-up machine slows down from round to round; the ratio must not notice."""
    row = compared_times().loc["BLS"]
    assert [row["ours / SGD"], row["low, SGD"], row["high, SGD"]] == pytest.approx([19.5 / 14.3] * 3)
    assert row["ours / equal weight"] == pytest.approx(19.5 / 13.0)


@pytest.mark.parametrize(("fbls", "verdict"), [(0.3, "agrees"), (0.43, "agrees"), (0.46, "differs")])
def test_claim_3_follows_the_numbers(fbls, verdict):
    row = tables.compare_with_best_step(final(constant_step_runs(fbls=fbls)), "FBLS", "SGD", "test_loss")
    assert row["verdict"] == verdict
    assert row["difference"] == pytest.approx(fbls - 0.4)
    assert "the largest tried" in row["measured"]


def test_claim_3_takes_the_best_step():
    row = tables.compare_with_best_step(final(constant_step_runs(sgd=(0.2, 0.9))), "FBLS", "SGD", "test_loss")
    assert "at 0.01" in row["measured"] and "largest" not in row["measured"]


def test_claim_3_allows_for_noise():
    """Seeds that disagree: the interval holds zero and more, so "not worse" is neither shown nor contradicted."""
    runs = constant_step_runs(seeds=1) + [make_run("FBLS", 1.0, 1, 0.1, **SEARCH), make_run("SGD", 0.1, 1, 0.4)]
    row = tables.compare_with_best_step(final(runs), "FBLS", "SGD", "test_loss")
    assert row["n"] == 2 and row["verdict"] == "undecided"


@pytest.mark.parametrize(("fbls", "verdict"), [(0.5, "agrees"), (0.9, "differs")])
def test_claim_4_follows_the_numbers(fbls, verdict):
    row = tables.compare_with_bls(final(beta_runs(bls=0.8, fbls=fbls, seeds=2)), "test_loss")
    assert row["verdict"] == verdict
    assert row["n"] == 2 and row["difference"] == pytest.approx(fbls - 0.8)


def test_claim_4_allows_for_noise():
    runs = beta_runs(seeds=1) + [make_run("FBLS", 1.0, 1, 1.5, **SEARCH), make_run("BLS", 1.0, 1, 0.8, **SEARCH)]
    assert tables.compare_with_bls(final(runs), "test_loss")["verdict"] == "undecided"


def test_a_search_that_diverged_is_worse():
    runs = constant_step_runs(fbls=0.1) + [make_run("FBLS", 1.0, 2, 0.1, diverged=True, **SEARCH)]
    row = tables.compare_with_best_step(final(runs), "FBLS", "SGD", "test_loss")
    assert row["verdict"] == "differs" and row["n"] == 3 and "diverged on 1 of 3 seeds" in row["measured"]
    runs = beta_runs(fbls=0.1) + [make_run("FBLS", 1.0, 0, 0.1, diverged=True, **(SEARCH | {"beta": 0.2}))]
    row = tables.compare_with_bls(final(runs), "test_loss")
    assert row["verdict"] == "differs" and "diverged" in row["measured"]


def test_a_step_that_diverged_on_a_seed_is_not_the_best():
    runs = constant_step_runs() + [make_run("SGD", 1.0, 0, 0.01), make_run("SGD", 1.0, 1, 0.01, diverged=True)]
    assert "at 0.1" in tables.compare_with_best_step(final(runs), "FBLS", "SGD", "test_loss")["measured"]


@pytest.mark.parametrize(("bls", "verdict"), [(19.5, "agrees"), (40.0, "same direction"), (10.0, "differs")])
def test_speed_follows_the_numbers(bls, verdict):
    row = tables.compare_speed(timing_run(LIKE_THE_PAPER | {"BLS": bls}), 4, "BLS", "FBLS", 1.36)
    assert row["verdict"] == verdict


@pytest.mark.parametrize(("fbls", "verdict"), [(14.0, "agrees"), (15.0, "differs")])
def test_cost_follows_the_numbers(fbls, verdict):
    row = tables.compare_cost(timing_run(LIKE_THE_PAPER | {"FBLS": fbls}), "FBLS", "MGDA-UB", most=1.05)
    assert row["verdict"] == verdict
    assert row["difference"] == pytest.approx(fbls / 13.6 - 1.05)


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "agrees"), (0.5, "differs")])
def test_claim_5_follows_the_numbers(share, verdict):
    runs = [make_run("FBLS", 1.0, seed, 0.5, share=share, **SEARCH) for seed in range(2)]
    assert tables.judge_bound(final(runs))["verdict"] == verdict


def test_one_seed_decides_nothing():
    runs = constant_step_runs(seeds=1)
    assert tables.judge_bound(final(runs))["verdict"] == tables.UNDECIDED
    assert tables.compare_with_best_step(final(runs), "FBLS", "SGD", "test_loss")["verdict"] == tables.UNDECIDED


def test_mean_interval_covers_the_mean_of_normal_draws():
    rng = np.random.default_rng(0)
    hits = sum(low <= 0 <= high for _, low, high in (tables.mean_interval(rng.normal(size=5)) for _ in range(1000)))
    assert 930 <= hits <= 970


def test_the_paper_is_read_whole():
    paper = tables.read_paper()
    assert paper["times"]["multimnist"]["BLS"] == 19.5
    assert sorted(paper["claims"]) == [1, 2, 3, 4, 5, 6]


def test_claims_are_listed_with_their_verdicts():
    claims = [
        tables.judge_bound(final(constant_step_runs())),
        {"statement": "a", "measured": "b", "n": 3, "verdict": "c"},
    ]
    first, second = tables.to_list(claims).split("\n")
    assert second == "- a: b (n = 3) — **c**."
    assert claims[0]["measured"] in first and f"**{claims[0]['verdict']}**" in first


def test_tables_are_written_for_people_and_for_programs(tmp_path):
    table = pd.DataFrame({"method": ["SGD", "FBLS"], "ours": [1.23456, None]})
    markdown, csv = tables.write_table(table, "table", tmp_path, "Title", ["A note."])
    assert markdown.read_text() == (
        "# Title\n\n| method | ours |\n| --- | --- |\n| SGD | 1.23 |\n| FBLS | – |\n\nA note.\n"
    )
    assert pd.read_csv(csv)["ours"][0] == 1.23456


@pytest.mark.parametrize(("peak", "verdict"), [(114.0, "agrees"), (116.0, "differs")])
def test_compare_memory(peak, verdict):
    run = Run({}, ({"method": "EqualWeight", "peak_mb": 100.0}, {"method": "FBLS", "peak_mb": peak}))
    row = tables.compare_memory(run, "FBLS", "EqualWeight", 1.15)
    assert row["verdict"] == verdict and row["measured"] == f"{peak / 100:.3f} times"
