"""The paper's claims as typed rows: what was compared with what, by how much, how sure, and whether the row votes.

A row is a test of one claim. It votes if it makes the paper's own comparison with the paper's own rival; for claims
about the end of a training, the training must also have the paper's length. Other rows are shown and do not vote. A
difference above 0 speaks against the claim; for a printed ratio, both signs do. `comparisons` makes the rows and
decides which vote.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd

from fastls.experiments.reporting.intervals import LEVEL, Estimate, adjust_holm
from fastls.experiments.reporting.tables import AGREEMENT, write_table

MARGIN = 0.10  # "not worse": at most so much above the rival
RULES = (  # below every table of claims
    "A difference above 0 speaks against the claim (for claim 5 it is the limit less ours; from a printed ratio both "
    "signs lead away). Its 95 % interval is of Student's t, over n seeds (unpaired, after "
    "Welch) or over n rounds of times (of the logarithm of the ratio, taken round by round). The end of a training is "
    "the mean of its last five epochs, or of its last quarter if it has fewer than twenty epochs. *Not worse than the "
    f"best constant step* holds if the interval ends at most {MARGIN:.0%} of the rival's value above it. Otherwise it "
    "does not hold if the interval begins above zero. *Better*, *at most* and *settles* hold or fail with the whole "
    f"interval. A printed ratio holds if the interval is within {AGREEMENT:.0%} of it. In between a row is undecided, "
    "and a note says how many seeds would decide it at the spread seen. A search that diverged fails. A row votes if "
    "it makes the paper's comparison with the paper's rival. For claims 3 to 5 it must also have the paper's data and "
    "the paper's length. Other rows are shown and do not vote."
)
PRINTED = ", printed ratio"  # end of a rival's name where the paper's ratio of times is what ours is compared with


class Verdict(StrEnum):
    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"
    CONDITION = "holds with a condition"
    UNTESTED = "not tested at the paper's length"


@dataclass(frozen=True)
class ClaimRow:
    """One test of a claim.

    Attributes:
        claim: number of the claim in paper.yaml, such as "3" or "4a".
        data: data set.
        method, rival: the two sides that are compared; the rival can be a limit or a printed ratio.
        metric: what is compared.
        ours, theirs: the two values.
        difference, low, high: above 0 speaks against the claim; 95 % interval, NaN with a single repetition.
        n: repetitions, the smaller number of the two sides.
        p: two-sided p-value of this row alone: the chance of so clear a decision if the true value is at the limit.
        verdict: of this row alone: "holds", "does not hold" or "undecided".
        votes: whether the row counts for the verdict on the claim.
        needed: repetitions that would decide an undecided row at the spread seen; None if decided or unknown.
        note: what a reader must know, such as the best step, missing seeds or runs that diverged.
    """

    claim: str
    data: str
    method: str
    rival: str
    metric: str
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    n: int
    p: float
    verdict: Verdict
    votes: bool
    needed: int | None = None
    note: str = ""


def decide(difference: Estimate, fails_above: float, holds_below: float) -> tuple[Verdict, float]:
    """A verdict and its two-sided p.

    "holds" if the interval ends below `holds_below`, "does not hold" if it begins above `fails_above`. If both are
    true, the difference is real but within the margin, and the claim holds.
    """
    in_favour, against = difference.chance_below(holds_below), difference.chance_above(fails_above)
    if 2 * in_favour <= LEVEL:
        return Verdict.HOLDS, 2 * in_favour
    if 2 * against <= LEVEL:
        return Verdict.FAILS, 2 * against
    return Verdict.UNDECIDED, min(1.0, 2 * min(in_favour, against))


def judge_claim(rows: pd.DataFrame, everywhere: bool = False) -> Verdict:
    """One verdict from the rows of a claim that vote, corrected for their number by Holm's method.

    Args:
        rows: of one claim, as `to_table` has them.
        everywhere: whether one row against it refutes the claim ("every accumulation point ...").

    Returns:
        "holds" or "does not hold" if all rows that decide agree, "holds with a condition" if they disagree, "undecided"
        if no row decides, or only one of more than two; "not tested at the paper's length" if no row votes.
    """
    voting = rows[rows["votes"]]
    if voting.empty:
        return Verdict.UNTESTED
    decided = correct(voting)["verdict"]
    in_favour, against = ((decided == side).sum() for side in (Verdict.HOLDS, Verdict.FAILS))
    if everywhere and against:
        return Verdict.FAILS
    if in_favour + against == 0 or (in_favour + against == 1 and len(voting) > 2):
        return Verdict.UNDECIDED
    if in_favour and against:
        return Verdict.CONDITION
    return Verdict.HOLDS if in_favour else Verdict.FAILS


def correct(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one claim, with p corrected for their number; "undecided" if the corrected p is above 5 %."""
    corrected = adjust_holm(list(rows["p"]))
    undecided = np.array(corrected) > LEVEL
    return rows.assign(p=corrected, verdict=rows["verdict"].mask(undecided, str(Verdict.UNDECIDED)))


def to_table(rows: Sequence[ClaimRow]) -> pd.DataFrame:
    """One row per test, with its verdict as plain text."""
    table = pd.DataFrame([asdict(row) for row in rows])
    return table.assign(verdict=table["verdict"].map(str), needed=table["needed"].astype("Int64"))


def write_claims(rows: Sequence[ClaimRow], name: str, folder: Path, title: str, notes: Sequence[str]) -> str:
    """Write ``name.csv``, with every field, and ``name.md``, with the columns of `shorten`.

    Returns:
        The Markdown of the table and its notes, for a notebook.
    """
    table = to_table(rows)
    return write_table(table, name, folder, title, [*notes, RULES], shown=shorten(table))


def shorten(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that fit on a page, from a table with the columns of `ClaimRow`."""
    return pd.DataFrame(
        {
            "claim": table["claim"],
            "compared": [
                _measured(row) + ("" if _is_ratio(row) else f" with {row.rival}") for row in table.itertuples()
            ],
            "ours": table["ours"],
            "theirs, or the limit": table["theirs"],
            "difference": [_show_interval(row) for row in table.itertuples()],
            "n": table["n"],
            "verdict": [f"{row.verdict}{'' if row.votes else ', no vote'}" for row in table.itertuples()],
            "note": [_note(row) for row in table.itertuples()],
        }
    )


def _show_interval(row) -> str:
    return f"{row.difference:.3g}" + ("" if np.isnan(row.low) else f" [{row.low:.3g}, {row.high:.3g}]")


def _is_ratio(row) -> bool:
    return row.metric in ("seconds", "memory") and " / " not in row.method


def _measured(row) -> str:
    """What the number is: of times and memory a ratio, with its limit or with what the paper prints."""
    metric = row.metric.replace("_", " ")
    if not _is_ratio(row):
        return f"{metric} of {row.method}"
    rival, printed = row.rival.removesuffix(PRINTED), row.rival.endswith(PRINTED)
    return f"{metric} of {row.method} / {rival}, with {'the printed ratio' if printed else 'a limit'}"


def _note(row) -> str:
    needed = f"n = {row.needed} would decide" if not pd.isna(row.needed) else ""
    return "; ".join(filter(None, ["" if pd.isna(row.note) else row.note, needed]))


def count_tests(rows: Sequence[ClaimRow]) -> str:
    """How many rows speak for a claim, against it, and for neither, each by its own verdict.

    Args:
        rows: of one claim.

    Returns:
        The rows that vote, then the rows that do not, if there are any.

    Example:
        >>> row = ClaimRow("3", "toy", "FBLS", "SGD", "loss", 1, 2, -1, -2, -0.5, 5, 0.01, Verdict.HOLDS, votes=True)
        >>> count_tests([row])
        '1 for, 0 against, 0 undecided'
    """
    voting, others = ([row.verdict for row in rows if row.votes == votes] for votes in (True, False))
    counted = _count(voting) if voting else "no test at the paper's size"
    return counted + (f"; without a vote: {_count(others)}" if others else "")


def _count(verdicts: list[Verdict]) -> str:
    named = {"for": Verdict.HOLDS, "against": Verdict.FAILS, "undecided": Verdict.UNDECIDED}
    return ", ".join(f"{verdicts.count(verdict)} {name}" for name, verdict in named.items())


def to_list(rows: Sequence[ClaimRow]) -> str:
    """Rows as a Markdown list: what was compared, n and verdict."""
    return "\n".join(f"- {describe(row)}" for row in rows)


def describe(row) -> str:
    """What was found in a `ClaimRow` or a row of `to_table`, then under which condition."""
    note, theirs = _note(row), f"{row.theirs:.4g}" + ("" if _is_ratio(row) else f", {row.rival}")
    return (
        f"{_measured(row)}: {row.ours:.4g} against {theirs}; "
        f"difference {_show_interval(row)}, n = {row.n}: **{row.verdict}**"
        f"{'' if row.votes else ', no vote'}.{f' Condition: {note}.' if note else ''}"
    )
