"""Tables from rows: the paper's numbers beside ours, with intervals and a verdict that can go either way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from fastls.experiments.training.store import Run
from fastls.experiments.training.training import PASSES
from fastls.paths import FIGURES, place, write_atomically

AGREEMENT = 0.10  # a ratio within ten per cent of the printed one agrees with it
ABOUT_AS_MUCH, FAR_LESS = 1.10, 0.50  # claim 1's words as ratios of times
RULES = (  # below every table of claims
    "A difference is ours minus the rival (or the printed ratio, or the limit), with its 95 % interval: t over n "
    f"seeds, bootstrap over n rounds for times. *Not worse* agrees when the interval ends at most {AGREEMENT:.0%} of "
    "the rival's value above it and differs when it begins above zero; *better*, *lower*, *at most* and *settles* "
    "agree or differ with the whole interval. A ratio of the paper agrees when the interval is within "
    f"{AGREEMENT:.0%} of it, has the same direction when it is on its side of 1, and differs when neither is so and no "
    "part of it is near. In between a claim is undecided: with few seeds intervals are wide, with one there is none. A "
    "search that diverged differs. Memory and one round of times are points, which decide alone. Read n before the "
    "verdict."
)
UNDECIDED = "undecided"


def read_paper(path: Path = FIGURES / "paper.yaml") -> dict:
    """The paper's printed numbers and claims."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % bootstrap interval (percentiles, seeded); a single value is its own interval."""
    values = np.asarray(values, dtype=float)
    if len(values) == 1:
        return values[0], values[0], values[0]
    interval = stats.bootstrap(
        (values,), np.median, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(np.median(values)), float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % t-interval, without missing values; a single value has none (NaN)."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if len(values) else np.nan
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def judge_ratio(printed: float | None, low: float, high: float) -> str:
    """The interval of our ratio against a printed one.

    "agrees": within `AGREEMENT` of it. "same direction": on its side of 1. "undecided": so wide that it holds a ratio
    that would agree. Else "differs". Without a printed one "not in the paper".
    """
    if printed is None:
        return "not in the paper"
    least, most = printed * (1 - AGREEMENT), printed * (1 + AGREEMENT)
    if least <= low and high <= most:
        return "agrees"
    if (printed > 1 and low > 1) or (printed < 1 and high < 1):
        return "same direction"
    return UNDECIDED if low <= most and high >= least else "differs"


def judge_not_worse(rival: float, low: float, high: float) -> str:
    """Interval of a difference, ours minus the rival's value, lower is better, against "not worse than the rival".

    "agrees": at most `AGREEMENT` of that value above it. "differs": above it. Else "undecided", as with one seed.
    """
    if high <= AGREEMENT * rival:
        return "agrees"
    return "differs" if low > 0 else UNDECIDED


def judge_better(low: float, high: float) -> str:
    """Interval of a difference, ours minus the rival, against "better": below 0, above it, or neither."""
    if high < 0:
        return "agrees"
    return "differs" if low > 0 else UNDECIDED


def judge_at_least(least: float, low: float, high: float) -> str:
    """An interval against a threshold: above it, below it, or neither."""
    if low >= least:
        return "agrees"
    return "differs" if high < least else UNDECIDED


def seconds_by_round(run: Run) -> pd.DataFrame:
    """A row a round, a column a method: ratios within a row do not notice a machine that slows down."""
    return pd.DataFrame(run.rows).pivot(index="round", columns="method", values="seconds")


def compare_times(run: Run, printed: dict, thesis: dict) -> pd.DataFrame:
    """Seconds per epoch, share of SGD's and of equal-weight SGD's, beside the paper's share; passes per step.

    Ratios are medians over the rounds of one interleaved run, each taken within its round; ``low`` and ``high`` are
    the ends of their 95 % intervals.
    """
    seconds = seconds_by_round(run)
    passes = pd.DataFrame(run.rows).groupby("method")[["trials", *PASSES]].mean().rename(columns=_words)
    table = []
    for method in dict.fromkeys(row["method"] for row in run.rows):
        share, low, high = median_interval(seconds[method] / seconds["SGD"])
        to_limit, limit_low, limit_high = median_interval(seconds[method] / seconds["EqualWeight"])
        share_printed = printed[method] / printed["SGD"] if method in printed else None
        table.append(
            {
                "method": method,
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


def compare_with_best_step(final: pd.DataFrame, variant: str, rival: str, metric: str) -> dict:
    """Claim 3: a search against the best constant step of a rival, the best by the mean of this metric over seeds.

    A constant step counts if none of its seeds diverged; a search that diverged on any seed is worse.
    """
    by_step = final[final["variant"] == rival].pivot(index="seed", columns="lr", values=metric)
    means = by_step.dropna(axis="columns").mean()
    best = means.idxmin()
    ours = final[final["variant"] == variant].set_index("seed")[metric]
    mean, low, high = mean_interval(ours - by_step[best])
    edge = ", the largest tried" if best == by_step.columns.max() else ""
    diverged = f", diverged on {ours.isna().sum()} of {len(ours)} seeds" if ours.isna().any() else ""
    return {
        "claim": 3,
        "statement": f"{_words(metric)} of {variant} is not worse than {rival}'s best of {by_step.shape[1]} steps",
        "measured": f"{ours.mean():.4f}{diverged} against {means[best]:.4f} at {best:g}{edge}",
        "difference": mean,
        "low": low,
        "high": high,
        "n": len(ours),
        "verdict": "differs" if diverged else judge_not_worse(means[best], low, high),
    }


def compare_with_bls(final: pd.DataFrame, metric: str) -> dict:
    """Claim 4: FBLS against BLS on the same seeds, each averaged over β; n seeds. Worse if FBLS diverged anywhere."""
    means = final.groupby(["variant", "seed"])[metric].agg(lambda values: values.mean(skipna=False))
    mean, low, high = mean_interval(means["FBLS"] - means["BLS"])
    diverged = final[final["diverged"]].groupby("variant").size().to_dict()
    remark = f" (runs diverged: {diverged})" if diverged else ""
    return {
        "claim": 4,
        "statement": f"{_words(metric)} of FBLS is better than that of BLS, averaged over β",
        "measured": f"{means['FBLS'].mean():.4f} against {means['BLS'].mean():.4f}{remark}",
        "difference": mean,
        "low": low,
        "high": high,
        "n": len(means["FBLS"]),
        "verdict": "differs" if "FBLS" in diverged else judge_better(low, high),
    }


def compare_speed(run: Run, claim: int, method: str, rival: str, printed: float) -> dict:
    """Seconds of a method over those of a rival against the printed ratio."""
    seconds = seconds_by_round(run)
    ratio, low, high = median_interval(seconds[method] / seconds[rival])
    return {
        "claim": claim,
        "statement": f"an epoch of {method} takes {printed:.2f} times one of {rival}",
        "measured": f"{ratio:.2f} times",
        "difference": ratio - printed,
        "low": low - printed,
        "high": high - printed,
        "n": len(seconds),
        "verdict": judge_ratio(printed, low, high),
    }


def compare_cost(run: Run, method: str, rival: str, most: float) -> dict:
    """Claim 1 in numbers: seconds of a method over those of a rival against an upper limit."""
    seconds = seconds_by_round(run)
    ratio, low, high = median_interval(seconds[method] / seconds[rival])
    return {
        "claim": 1,
        "statement": f"a step of {method} costs at most {most:.2f} times one of {rival}",
        "measured": f"{ratio:.3f} times",
        "difference": ratio - most,
        "low": low - most,
        "high": high - most,
        "n": len(seconds),
        "verdict": judge_better(low - most, high - most),
    }


def compare_memory(run: Run, method: str, rival: str, most: float) -> dict:
    """Claim 1 in numbers: peak memory of a method over that of a rival against an upper limit; measured once."""
    peaks = {row["method"]: row["peak_mb"] for row in run.rows}
    ratio = peaks[method] / peaks[rival]
    return {
        "claim": 1,
        "statement": f"a step of {method} holds at most {most:.2f} times the memory of one of {rival}",
        "measured": f"{ratio:.3f} times",
        "difference": ratio - most,
        "low": ratio - most,
        "high": ratio - most,
        "n": 1,
        "verdict": "agrees" if ratio <= most else "differs",
    }


def judge_bound(final: pd.DataFrame, least: float = 0.95) -> dict:
    """Claim 5: in the last epoch nearly all steps of FBLS without decay are at the upper bound."""
    shares = final[final["variant"] == "FBLS"]["share_at_bound"]
    mean, low, high = mean_interval(shares)
    return {
        "claim": 5,
        "statement": f"without decay the step of FBLS settles at its bound (last epoch, ≥ {least:.0%} of the steps)",
        "measured": f"{mean:.1%} of the steps",
        "difference": mean - least,
        "low": low - least,
        "high": high - least,
        "n": len(shares),
        "verdict": judge_at_least(least, low, high),
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def to_list(claims: Sequence[dict]) -> str:
    """Claims as a Markdown list: statement, measurement, n and verdict."""
    lines = [f"- {row['statement']}: {row['measured']} (n = {row['n']}) — **{row['verdict']}**." for row in claims]
    return "\n".join(lines)


def write_table(
    table: pd.DataFrame, name: str, folder: Path, title: str, notes: Sequence[str], digits: int = 3
) -> list[Path]:
    """Write ``name.md``, for people, and ``name.csv``, with all digits, where they belong in `folder`."""
    text = format_table(table, notes, f"# {title}", digits) + "\n"
    paths = [place(folder, f"{name}.md"), place(folder, f"{name}.csv")]
    write_atomically(paths[0], text)
    write_atomically(paths[1], table.to_csv(index=False))
    return paths


def format_table(table: pd.DataFrame, notes: Sequence[str], heading: str | None = None, digits: int = 3) -> str:
    """A table in Markdown between its heading and its notes, a paragraph each."""
    return "\n\n".join([*([heading] if heading else []), to_markdown(table, digits), *notes])


def to_markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """A Markdown table: so many significant digits, a dash for what is missing."""

    def show(value) -> str:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return "–"
        return f"{value:.{digits}g}" if isinstance(value, float) else str(value)

    lines = [list(table.columns), ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(show(value) for value in line) + " |" for line in lines)
