"""The judge of the claims: every verdict can change, and the overview shows what the files say."""

import shutil

import pandas as pd
import pytest

from fastls.experiments import front_page
from fastls.experiments.reporting.tables import read_paper
from fastls.paths import FIGURES, ROOT, place

CLAIMS = {str(number): words for number, words in read_paper()["claims"].items()}


@pytest.fixture
def copied(tmp_path):
    """The tables among the figures, and the README, to be changed."""
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(FIGURES, tmp_path / "figures", ignore=shutil.ignore_patterns("*.png", "*.pdf"))
    return tmp_path


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("side, expected", [("holds", "holds"), ("does not hold", "does not hold")])
def test_other_numbers_change_every_verdict(claim, side, expected):
    rows = front_page.gather(FIGURES)
    rows.loc[rows["claim"] == claim, ["verdict", "p", "votes"]] = [side, 0.0, True]
    table = front_page.summarize_claims(rows, CLAIMS)
    row = table.iloc[list(CLAIMS).index(claim)]
    assert row["verdict"] == expected
    count = (rows["claim"] == claim).sum()
    assert row["for / against / undecided"] == (f"{count} / 0 / 0" if side == "holds" else f"0 / {count} / 0")


def test_without_rows_that_vote_a_claim_is_not_tested():
    rows = front_page.gather(FIGURES).assign(votes=False)
    assert set(front_page.summarize_claims(rows, CLAIMS)["verdict"]) == {"not tested at the paper's length"}


def test_claim_6_is_computed_not_remembered():
    assert [row.verdict for row in front_page.check_claim_6(factors=(0.5, 2.0))] == ["holds", "does not hold"]


def test_every_verdict_of_today_has_its_sentence():
    table = front_page.summarize_claims(front_page.gather(FIGURES), CLAIMS)
    assert (table["why"] != front_page.NO_SENTENCE).all(), table[["claim", "verdict"]]


def test_the_closing_lines_are_of_the_folder_alone(copied, tmp_path):
    """A line a claim: of the rows that are there, and of claim 6 alone where none are."""
    lines = front_page.list_verdicts(copied / "figures")
    assert [line.split()[1] for line in lines] == list(CLAIMS)
    rows = place(copied / "figures", "claims-bert.csv")
    rows.write_text(rows.read_text().replace(",holds,", ",does not hold,"))
    assert front_page.list_verdicts(copied / "figures")[0] != lines[0]
    lone = front_page.list_verdicts(tmp_path / "nothing")
    assert all("not tested at the paper's length  0 / 0 / 0" in line for line in lone[:-1])
    assert "does not hold" in lone[-1] and "3 / 1 / 0" in lone[-1]


def test_claims_are_current(copied):
    front_page.write_front_page(copied)
    for name in ("figures/claims/claims.md", "figures/claims/claims.csv", "README.md"):
        assert (copied / name).read_text() == (ROOT / name).read_text(), f"{name} is stale: run `make figures`"


def test_other_rows_change_the_readme(copied):
    rows = place(copied / "figures", "claims-bert.csv")
    rows.write_text(rows.read_text().replace(",holds,", ",does not hold,"))
    front_page.write_front_page(copied)
    assert (copied / "README.md").read_text() != (ROOT / "README.md").read_text()


def test_another_measurement_changes_the_overview(copied):
    path = copied / "figures" / "table-1-cifar10.csv"
    table = pd.read_csv(path)
    table.loc[table["method"] == "FBLS", "ours / SGD"] = 7.77
    table.to_csv(path, index=False)
    assert "7.77 [" in "".join(front_page.make_overview(copied / "figures"))


def test_another_training_changes_the_overview(copied):
    path = place(copied / "figures", f"{front_page.TUNED}.csv")
    table = pd.read_csv(path)
    table.loc[(table["search"] == "FBLS+gain") & (table["rival"] == "EqualWeight"), ["ratio", "n"]] = [7.77, 1]
    table.to_csv(path, index=False)
    assert "".join(front_page.make_overview(copied / "figures")).count("| 7.77, ") == table["data set"].nunique()


def test_a_missing_table_is_named(copied):
    (copied / "figures" / "claims" / "claims-bert.csv").unlink()
    with pytest.raises(ValueError, match="must have claims-bert, found none; run `make figures`"):
        front_page.write_front_page(copied)
