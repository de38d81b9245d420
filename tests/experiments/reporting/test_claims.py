"""One verdict from many rows: each can be reached, and no row decides alone among many."""

import pandas as pd
import pytest

from fastls.experiments.reporting.claims import (
    ClaimRow,
    Verdict,
    correct,
    count_tests,
    decide,
    describe,
    judge_claim,
    to_table,
    write_claims,
)
from fastls.experiments.reporting.intervals import Estimate
from fastls.paths import place

FOR, AGAINST, OPEN = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED


def row(verdict=FOR, votes=True, p=None, **changes) -> ClaimRow:
    p = (0.5 if verdict == OPEN else 1e-6) if p is None else p
    values = dict(claim="3", data="MultiMNIST", method="FBLS", rival="SGD", metric="test_loss", ours=0.4, theirs=0.3)
    values |= dict(difference=0.1, low=0.05, high=0.15, n=5, p=p, verdict=verdict, votes=votes)
    return ClaimRow(**(values | changes))


@pytest.mark.parametrize(("value", "verdict"), [(-0.2, FOR), (0.03, FOR), (0.1, AGAINST), (0.2, AGAINST)])
def test_a_row_within_the_margin_holds_and_one_above_zero_does_not(value, verdict):
    """The margin is 0.1 and half an interval 0.06."""
    assert decide(Estimate(value, 0.0216, 4, 5), fails_above=0.0, holds_below=0.1)[0] == verdict


def test_a_difference_around_the_margin_is_undecided():
    assert decide(Estimate(0.05, 0.04, 4, 5), 0.0, 0.1)[0] == OPEN


@pytest.mark.parametrize(
    ("verdicts", "everywhere", "expected"),
    [
        ([], False, Verdict.UNTESTED),
        ([OPEN, OPEN], False, OPEN),
        ([FOR, FOR, OPEN], False, FOR),
        ([AGAINST, AGAINST, OPEN], False, AGAINST),
        ([FOR, AGAINST], False, Verdict.CONDITION),
        ([AGAINST], False, AGAINST),  # one row is all there is
        ([AGAINST, OPEN, OPEN], False, OPEN),  # one row among many decides nothing
        ([FOR, FOR, AGAINST], True, AGAINST),  # "every": one case refutes
        ([FOR, FOR], True, FOR),
    ],
)
def test_one_verdict_from_many(verdicts, everywhere, expected):
    rows = to_table([row(verdict) for verdict in verdicts] or [row(FOR, votes=False)])
    assert judge_claim(rows, everywhere) == expected


def test_rows_that_do_not_vote_change_nothing():
    assert judge_claim(to_table([row(FOR), row(FOR), *(row(AGAINST, votes=False) for _ in range(9))])) == FOR


def test_of_twenty_rows_one_at_four_per_cent_decides_nothing():
    rows = to_table([row(AGAINST, p=0.04), *(row(OPEN) for _ in range(19))])
    assert (correct(rows)["verdict"] == OPEN).all() and judge_claim(rows) == OPEN


def test_a_table_is_written_whole_for_programs_and_short_for_people(tmp_path):
    rows = [row(needed=7, verdict=OPEN, note="best step 0.1"), row(votes=False)]
    text = write_claims(rows, "claims", tmp_path, "Claims", ["A note."])
    assert "test loss of FBLS with SGD" in text and "n = 7 would decide" in text and "holds, no vote" in text
    read = pd.read_csv(place(tmp_path, "claims.csv"))
    assert list(read.columns) == list(ClaimRow.__dataclass_fields__) and list(read["votes"]) == [True, False]
    assert place(tmp_path, "claims.md").read_text().startswith("# Claims")


def test_tests_are_counted_by_side_and_by_whether_they_vote():
    rows = [row(FOR), row(FOR), row(AGAINST), row(OPEN), row(AGAINST, votes=False)]
    beside = "without a vote: 0 for, 1 against, 0 undecided"
    assert count_tests(rows) == f"2 for, 1 against, 1 undecided; {beside}"
    assert count_tests(rows[-1:]) == f"no test at the paper's size; {beside}"
    assert count_tests(rows[:1]) == "1 for, 0 against, 0 undecided"


def test_a_row_is_described_with_its_numbers():
    assert describe(row(note="n")) == (
        "test loss of FBLS: 0.4 against 0.3, SGD; difference 0.1 [0.05, 0.15], n = 5: **holds**. Condition: n."
    )
    assert describe(row(low=float("nan"), votes=False)).endswith("difference 0.1, n = 5: **holds**, no vote.")
