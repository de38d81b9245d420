"""Verdicts must be able to change: each is tried with numbers for and against it."""

import pandas as pd
import pytest
from synthetic import timing_run

from fastls.experiments.reporting import tables

PRINTED = {"SGD": 14.3, "BLS": 19.5, "MGDA-UB": 13.6, "FBLS": 14.3}
THESIS = {"SGD": 1.0, "BLS": 1.37}
LIKE_THE_PAPER = {"EqualWeight": 13.0} | PRINTED


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


def test_one_round_decides_nothing():
    assert tables.judge_ratio(1.36, float("nan"), float("nan")) == "undecided"


def test_the_paper_is_read_whole():
    paper = tables.read_paper()
    assert paper["times"]["multimnist"]["BLS"] == 19.5
    assert list(map(str, paper["claims"])) == ["1", "2", "3", "4a", "4b", "5", "6"]


def test_tables_are_written_for_people_and_for_programs(tmp_path):
    table = pd.DataFrame({"method": ["SGD", "FBLS"], "ours": [1.23456, None]})
    markdown, csv = tables.write_table(table, "table", tmp_path, "Title", ["A note."])
    assert markdown.read_text() == (
        "# Title\n\n| method | ours |\n| --- | --- |\n| SGD | 1.23 |\n| FBLS | – |\n\nA note.\n"
    )
    assert pd.read_csv(csv)["ours"][0] == 1.23456
