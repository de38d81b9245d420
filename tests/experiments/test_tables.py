"""Verdicts must be able to change: each is tried with numbers for and against it."""

import numpy as np
import pandas as pd
import pytest
from synthetic import beta_runs, constant_step_runs, make_run, timing_run

from fastls.experiments import tables
from fastls.experiments.frames import to_frame
from fastls.experiments.sweeps import SEARCH

PRINTED = {"SGD": 14.3, "BLS": 19.5, "MGDA-UB": 13.6, "FBLS": 14.3}
LIKE_THE_PAPER = {"EqualWeight": 13.0} | PRINTED


def final(runs) -> pd.DataFrame:
    return to_frame(runs).query("final")


@pytest.mark.parametrize(
    ("printed", "median", "low", "high", "verdict"),
    [
        (1.36, 1.40, 1.38, 1.42, "agrees"),  # within ten per cent
        (1.36, 1.90, 0.90, 2.50, "undecided"),  # an interval that holds everything says nothing
        (1.36, 1.90, 1.80, 2.00, "same direction"),
        (1.36, 0.90, 0.80, 1.00, "differs"),
        (0.95, 0.60, 0.55, 0.65, "same direction"),
        (1.00, 0.80, 0.75, 0.85, "differs"),
        (None, 0.80, 0.75, 0.85, "not in the paper"),
    ],
)
def test_judge_ratio(printed, median, low, high, verdict):
    assert tables.judge_ratio(printed, median, low, high) == verdict


def test_times_of_the_paper_agree_with_the_paper():
    table = tables.compare_times(timing_run(LIKE_THE_PAPER), PRINTED).set_index("method")
    assert table["ours / paper"].dropna().to_numpy() == pytest.approx(1.0)
    assert dict(table["verdict"]) == {
        "EqualWeight": "not in the paper",
        "SGD": "baseline",
        "BLS": "agrees",
        "MGDA-UB": "agrees",
        "FBLS": "agrees",
    }


def test_other_times_do_not():
    table = tables.compare_times(timing_run(LIKE_THE_PAPER | {"BLS": 10.0, "FBLS": 30.0}), PRINTED).set_index("method")
    assert table.loc["BLS", "verdict"] == "differs" and table.loc["FBLS", "verdict"] == "differs"


def test_ratios_are_taken_within_a_round():
    """The made-up machine slows down from round to round; the ratio must not notice."""
    table = tables.compare_times(timing_run(LIKE_THE_PAPER), PRINTED).set_index("method")
    assert table.loc["BLS", "ours / SGD"] == pytest.approx(19.5 / 14.3)
    assert table.loc["BLS", "95 % interval"] == "1.36 to 1.36"


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
    assert row["n"] == 4 and row["difference"] == pytest.approx(fbls - 0.8)


def test_claim_4_allows_for_noise():
    runs = beta_runs(seeds=1) + [make_run("FBLS", 1.0, 1, 1.5, **SEARCH), make_run("BLS", 1.0, 1, 0.8, **SEARCH)]
    assert tables.compare_with_bls(final(runs), "test_loss")["verdict"] == "undecided"


@pytest.mark.parametrize(("bls", "verdict"), [(19.5, "agrees"), (40.0, "same direction"), (10.0, "differs")])
def test_speed_follows_the_numbers(bls, verdict):
    row = tables.compare_speed_with_bls(timing_run(LIKE_THE_PAPER | {"BLS": bls}), 1.36)
    assert row["verdict"] == verdict


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "agrees"), (0.5, "differs")])
def test_claim_5_follows_the_numbers(share, verdict):
    runs = [make_run("FBLS", 1.0, seed, 0.5, share=share, **SEARCH) for seed in range(2)]
    assert tables.judge_bound(final(runs))["verdict"] == verdict


def test_one_seed_decides_nothing():
    runs = constant_step_runs(seeds=1)
    assert tables.compare_with_best_step(final(runs), "FBLS", "SGD", "test_loss")["verdict"] == tables.UNDECIDED


def test_mean_interval_covers_the_mean_of_normal_draws():
    rng = np.random.default_rng(0)
    hits = sum(low <= 0 <= high for _, low, high in (tables.mean_interval(rng.normal(size=5)) for _ in range(1000)))
    assert 930 <= hits <= 970


def test_the_paper_is_read_whole():
    paper = tables.read_paper()
    assert paper["times"]["multimnist"]["BLS"] == 19.5
    assert sorted(paper["claims"]) == [1, 2, 3, 4, 5, 6]


def test_tables_are_written_for_people_and_for_programs(tmp_path):
    table = pd.DataFrame({"method": ["SGD", "FBLS"], "ours": [1.23456, None]})
    markdown, csv = tables.write_table(table, "table", tmp_path, "Title", ["A note."])
    assert markdown.read_text() == (
        "# Title\n\n| method | ours |\n| --- | --- |\n| SGD | 1.23 |\n| FBLS | – |\n\nA note.\n"
    )
    assert pd.read_csv(csv)["ours"][0] == 1.23456
