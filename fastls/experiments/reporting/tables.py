"""Tables from rows: the paper's numbers beside ours, with intervals and a verdict that can go either way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fastls.experiments.reporting.condense import condense, show
from fastls.experiments.reporting.intervals import ratio_interval
from fastls.experiments.training.store import Run
from fastls.experiments.training.training import PASSES
from fastls.paths import FIGURES, place, write_atomically

AGREEMENT = 0.10  # a ratio agrees with a printed one that is at most 1.1 times as large or as small
ABOUT_RATIOS = (  # below every table of times beside the paper's
    "Seconds are medians over n rounds. Ratios are taken within each round: geometric means, with 95 % t-intervals, "
    "not quotients of the medians. A ratio agrees if its interval is within "
    f"{AGREEMENT:.0%} of the paper's ratio. Same direction: it lies on the same side of 1 as the paper's. w/o η?: "
    "whether the method needs no step size that somebody has to choose. BLS and FBLS need a bound."
)
UNDECIDED = "undecided"
# Columns of `compare_times` that a page leaves to the CSV.
HIDDEN_TIMES = ("ours / paper", "ours / equal weight", "trials", "decoder passes")
SEARCHES = ("BLS", "FBLS")  # methods without a step size to choose: the paper's column "w/o η?"


def read_paper(path: Path = FIGURES / "paper.yaml") -> dict:
    """The paper's printed numbers and claims."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def judge_ratio(printed: float | None, low: float, high: float) -> str:
    """Compare the interval of our ratio with a printed ratio.

    "agrees": the interval is within `AGREEMENT` of the printed ratio. "same direction": it is on the same side of 1.
    "undecided": it is wide and contains a ratio that would agree. Else "differs". "not in the paper": none is printed.
    """
    if printed is None:
        return "not in the paper"
    least, most = printed / (1 + AGREEMENT), printed * (1 + AGREEMENT)
    if np.isnan(low):  # one round
        return UNDECIDED
    if least <= low and high <= most:
        return "agrees"
    if (printed > 1 and low > 1) or (printed < 1 and high < 1):
        return "same direction"
    return UNDECIDED if low <= most and high >= least else "differs"


def seconds_by_round(run: Run) -> pd.DataFrame:
    """One row per round, one column per method: a machine that slows down does not change ratios within a row."""
    return pd.DataFrame(run.rows).pivot(index="round", columns="method", values="seconds")


def compare_times(run: Run, printed: dict, thesis: dict) -> pd.DataFrame:
    """Seconds per epoch, ratios to SGD and to equal-weight SGD, beside the paper's ratio; passes per step.

    Ratios are geometric means over the rounds of one interleaved run, each taken within its round; ``low`` and
    ``high`` are the ends of their 95 % intervals.
    """
    seconds = seconds_by_round(run)
    passes = pd.DataFrame(run.rows).groupby("method")[["trials", *PASSES]].mean().rename(columns=_words)
    table = []
    for method in dict.fromkeys(row["method"] for row in run.rows):
        share, low, high = ratio_interval(seconds[method] / seconds["SGD"])
        to_limit, limit_low, limit_high = ratio_interval(seconds[method] / seconds["EqualWeight"])
        share_printed = printed[method] / printed["SGD"] if method in printed else None
        table.append(
            {
                "method": method,
                "w/o η?": "yes" if method.split(",")[0] in SEARCHES else "no",
                "paper, s": printed.get(method),
                "ours, s": seconds[method].median(),
                "thesis / SGD": thesis.get(method),
                "paper / SGD": share_printed,
                "ours / SGD": share,
                "low, SGD": low,
                "high, SGD": high,
                "ours / paper": share / share_printed if share_printed else None,
                "verdict": "baseline" if method == "SGD" else judge_ratio(share_printed, low, high),
                "ours / equal weight": to_limit,
                "low, equal weight": limit_low,
                "high, equal weight": limit_high,
                "n": len(seconds),
            }
            | passes.loc[method].to_dict()
        )
    return pd.DataFrame(table)


def _words(name: str) -> str:
    return name.replace("_", " ")


def write_table(
    table: pd.DataFrame,
    name: str,
    folder: Path,
    title: str,
    notes: Sequence[str],
    digits: int = 3,
    shown: pd.DataFrame | None = None,
    hidden: Sequence[str] = (),
) -> str:
    """Write ``name.md``, for people, and ``name.csv``, all columns with six digits, to their place in `folder`.

    The page shows `shown` if it is given, else the table as `condense` makes it, without the columns `hidden`.

    Returns:
        What a notebook shows: the table of the page and its notes, under its title.
    """
    narrow, more = condense(table, hidden, digits) if shown is None else (shown, [])
    notes = [*notes, *more]
    if shown is None and len(narrow.columns) < len(table.columns):
        notes.append(f"All columns: `{name}.csv`.")
    text = format_table(narrow, notes, f"# {title}", digits) + "\n"
    write_atomically(place(folder, f"{name}.md"), text)
    write_atomically(place(folder, f"{name}.csv"), table.to_csv(index=False, float_format="%.6g"))
    return format_table(narrow, notes, f"**{title}**", digits)


def format_table(table: pd.DataFrame, notes: Sequence[str], heading: str | None = None, digits: int = 3) -> str:
    """A table in Markdown between its heading and its notes, one paragraph each."""
    return "\n\n".join([*([heading] if heading else []), to_markdown(table, digits), *notes])


def to_markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """A Markdown table; `show` formats its cells."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(show(value, digits) for value in line) + " |" for line in lines)
