"""The judge of the claims: every verdict can change, and the overview shows what the files say."""

import shutil

import pandas as pd
import pytest

from fastls.experiments import front_page as evidence
from fastls.experiments.front_page import CONDITION, FAILS, HOLDS, UNTESTED, judge
from fastls.experiments.reporting.tables import read_paper
from fastls.paths import FIGURES, ROOT, place

CLAIMS = read_paper()["claims"]


@pytest.fixture
def copied(tmp_path):
    """The tables among the figures, to be changed."""
    shutil.copytree(FIGURES, tmp_path / "figures", ignore=shutil.ignore_patterns("*.png", "*.pdf"))
    return tmp_path


@pytest.mark.parametrize(
    "verdicts, everywhere, expected",
    [
        ([], False, UNTESTED),
        (["undecided", "not in the paper"], False, UNTESTED),
        (["agrees", "undecided"], False, HOLDS),
        (["same direction"], False, HOLDS),
        (["agrees", "differs"], False, CONDITION),
        (["differs", "undecided"], False, FAILS),
        (["agrees", "differs"], True, FAILS),
        (["agrees"], True, HOLDS),
    ],
)
def test_one_verdict_from_many(verdicts, everywhere, expected):
    assert judge(verdicts, everywhere) == expected


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("wrong, expected", [("agrees", HOLDS), ("differs", FAILS), ("undecided", UNTESTED)])
def test_wrong_numbers_change_every_verdict(claim, wrong, expected):
    rows = evidence.gather(FIGURES)
    rows.loc[rows["claim"] == claim, "verdict"] = wrong
    table = evidence.summarize_claims(rows, CLAIMS)
    assert table["verdict"].iloc[list(CLAIMS).index(claim)] == f"**{expected}**"


@pytest.mark.parametrize(
    "claim, statement, counts",
    [
        (1, "an epoch of FBLS takes 1.28 times one of SGD", False),
        (1, "a step of FBLS, in turn costs at most 1.28 times one of SGD", False),
        (1, "a step of FBLS, warm start costs at most 1.28 times one of SGD", False),
        (1, "a step of FBLS costs at most 1.28 times one of SGD", True),
        (1, "a step of FBLS costs at most 0.50 times one of BLS", True),
        (1, "a step of FBLS costs at most 1.10 times one of EqualWeight", False),
        (1, "a step of FBLS holds at most 1.15 times the memory of one of EqualWeight", False),
        (4, "an epoch of BLS takes 1.36 times one of FBLS", True),
    ],
)
def test_a_reproduced_ratio_is_no_vote_on_what_fbls_costs(claim, statement, counts):
    assert evidence.votes(claim, statement) == counts


def test_a_measurement_that_two_files_show_counts_once(copied):
    rows = evidence.gather(copied / "figures")
    again = copied / "figures" / "claims" / "claims-beyond.csv"
    first = pd.read_csv(copied / "figures" / "claims" / "claims-multimnist.csv")
    pd.concat([pd.read_csv(again), first[first["claim"] == 5].assign(statement="MultiMNIST: other words")]).to_csv(
        again, index=False
    )
    assert len(evidence.gather(copied / "figures")) == len(rows)
    other = first[first["claim"] == 5].assign(statement="CIFAR-10: the same numbers on other data")
    pd.concat([pd.read_csv(again), other]).to_csv(again, index=False)
    assert len(evidence.gather(copied / "figures")) == len(rows) + len(other)


def test_claim_6_is_computed_not_remembered():
    verdicts = {row["statement"]: row["verdict"] for row in evidence.check_claim_6(factors=(0.5, 2.0))}
    assert list(verdicts.values()) == ["agrees", "differs"]


def test_every_verdict_of_today_has_its_sentence():
    table = evidence.summarize_claims(evidence.gather(FIGURES), CLAIMS)
    assert (table["why"] != evidence.NO_SENTENCE).all()


def test_every_link_leads_to_a_heading():
    for _, notebook, heading in [*evidence.SOURCES.values(), evidence.CLOSED_FORM]:
        text = (ROOT / "notebooks" / f"{notebook}.py").read_text(encoding="utf-8")
        headings = [line.lstrip("# ").replace(" ", "-") for line in text.splitlines() if line.startswith("# #")]
        assert heading in headings


def test_claims_are_current(copied):
    evidence.write_front_page(copied)
    for name in ("figures/claims/claims.md", "figures/claims/claims.csv"):
        assert (copied / name).read_text() == (ROOT / name).read_text(), f"{name} is stale: run `make figures`"


def test_another_measurement_changes_the_overview(copied):
    path = copied / "figures" / "table-1-cifar10.csv"
    table = pd.read_csv(path)
    table.loc[table["method"] == "FBLS", "ours / SGD"] = 7.77
    table.to_csv(path, index=False)
    assert "7.77 [" in "".join(evidence.make_overview(copied / "figures"))


def test_another_training_changes_the_overview(copied):
    path = place(copied / "figures", f"{evidence.TUNED}.csv")
    table = pd.read_csv(path)
    table.loc[(table["search"] == "BlockFBLS") & (table["rival"] == "EqualWeight"), ["ratio", "n"]] = [7.77, 1]
    table.to_csv(path, index=False)
    assert "".join(evidence.make_overview(copied / "figures")).count("| 7.77, ") == table["data set"].nunique()


def test_a_missing_table_is_named(copied):
    (copied / "figures" / "claims" / "claims-bert.csv").unlink()
    with pytest.raises(ValueError, match="must have claims-bert, found none; run `make figures`"):
        evidence.write_front_page(copied)
