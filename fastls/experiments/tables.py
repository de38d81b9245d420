"""Tables from rows: the paper's numbers beside ours, with intervals and a verdict that can go either way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from fastls.experiments.store import Run
from fastls.experiments.timing import METHODS
from fastls.paths import FIGURES, write_atomically

AGREEMENT = 0.10  # a ratio within ten per cent of the printed one agrees with it
UNDECIDED = "undecided"
PASSES = ("encoder_forward", "encoder_backward", "decoder_forward", "decoder_backward")


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
    """Mean and its 95 % t-interval; a single value has none (NaN)."""
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) == 1:
        return mean, np.nan, np.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def judge_ratio(printed: float | None, median: float, low: float, high: float) -> str:
    """Our ratio to SGD against a printed one.

    "agrees": the median is within `AGREEMENT` of it. "same direction": our whole interval is on its side of 1.
    "undecided": our interval is so wide that it holds it. Else "differs". Without a printed one "not in the paper".
    """
    if printed is None:
        return "not in the paper"
    if abs(median / printed - 1) <= AGREEMENT:
        return "agrees"
    if (printed > 1 and low > 1) or (printed < 1 and high < 1):
        return "same direction"
    return UNDECIDED if low <= printed <= high else "differs"


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


def judge_at_least(least: float, mean: float, high: float) -> str:
    """A mean and its interval against a threshold: above it, below it with the whole interval, or neither."""
    if mean >= least:
        return "agrees"
    return "differs" if high < least else UNDECIDED


def compare_times(run: Run, printed: dict) -> pd.DataFrame:
    """Seconds per epoch, share of SGD's and of equal-weight SGD's, beside the paper's share; passes per step.

    Ratios are medians over the rounds of one interleaved run, each taken within its round.
    """
    rows = pd.DataFrame(run.rows)
    seconds = rows.pivot(index="round", columns="method", values="seconds")
    table = []
    for method in METHODS:
        share = median_interval(seconds[method] / seconds["SGD"])
        share_printed = printed[method] / printed["SGD"] if method in printed else None
        of_method = rows[rows["method"] == method]
        table.append(
            {
                "method": method,
                "paper, s": printed.get(method),
                "ours, s": seconds[method].median(),
                "paper / SGD": share_printed,
                "ours / SGD": share[0],
                "95 % interval": _range(*share[1:], ".2f"),
                "ours / paper": share[0] / share_printed if share_printed else None,
                "verdict": "baseline" if method == "SGD" else judge_ratio(share_printed, *share),
                "ours / equal weight": float((seconds[method] / seconds["EqualWeight"]).median()),
                "trials": of_method["trials"].mean(),
            }
            | {name.replace("_", " "): of_method[name].mean() for name in PASSES}
        )
    return pd.DataFrame(table)


def compare_with_best_step(final: pd.DataFrame, variant: str, rival: str, metric: str) -> dict:
    """Claim 3: a search against the best constant step of a rival, the best by the mean of this metric over seeds."""
    by_step = final[final["variant"] == rival].pivot(index="seed", columns="lr", values=metric)
    best = by_step.mean().idxmin()
    ours = final[final["variant"] == variant].set_index("seed")[metric]
    mean, low, high = mean_interval((ours - by_step[best]).dropna())
    edge = ", the largest tried" if best == by_step.columns.max() else ""
    return {
        "claim": 3,
        "statement": f"{_words(metric)} of {variant} is not worse than {rival}'s best of {by_step.shape[1]} steps",
        "measured": f"{ours.mean():.4f} against {by_step[best].mean():.4f} at {best:g}{edge}",
        "difference": mean,
        "95 % interval": _range(low, high, "+.4f"),
        "n": int((ours - by_step[best]).count()),
        "verdict": judge_not_worse(by_step[best].mean(), low, high),
    }


def compare_with_bls(final: pd.DataFrame, metric: str) -> dict:
    """Claim 4: FBLS against BLS, averaged over β; n pairs of runs of the same seed and β."""
    pairs = final.pivot(index=["seed", "beta"], columns="variant", values=metric)
    mean, low, high = mean_interval(pairs["FBLS"] - pairs["BLS"])
    return {
        "claim": 4,
        "statement": f"{_words(metric)} of FBLS is better than that of BLS, averaged over β",
        "measured": f"{pairs['FBLS'].mean():.4f} against {pairs['BLS'].mean():.4f}",
        "difference": mean,
        "95 % interval": _range(low, high, "+.4f"),
        "n": len(pairs),
        "verdict": judge_better(low, high),
    }


def compare_speed_with_bls(run: Run, printed: float) -> dict:
    """Claim 4: an epoch of BLS takes 1.36 times one of FBLS."""
    seconds = pd.DataFrame(run.rows).pivot(index="round", columns="method", values="seconds")
    median, low, high = median_interval(seconds["BLS"] / seconds["FBLS"])
    return {
        "claim": 4,
        "statement": f"an epoch of BLS takes {printed:g} times one of FBLS",
        "measured": f"{median:.2f} times",
        "difference": None,
        "95 % interval": _range(low, high, ".2f"),
        "n": len(seconds),
        "verdict": judge_ratio(printed, median, low, high),
    }


def judge_bound(final: pd.DataFrame, most: float = 0.95) -> dict:
    """Claim 5: in the last epoch nearly all steps of FBLS without decay are at the upper bound."""
    shares = final[final["variant"] == "FBLS"]["share_at_bound"]
    mean, low, high = mean_interval(shares)
    return {
        "claim": 5,
        "statement": f"without decay the step of FBLS settles at its bound (last epoch, ≥ {most:.0%} of the steps)",
        "measured": f"{mean:.1%} of the steps",
        "difference": None,
        "95 % interval": _range(low, min(high, 1), ".1%"),
        "n": len(shares),
        "verdict": judge_at_least(most, mean, high),
    }


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _range(low: float, high: float, digits: str) -> str:
    return "–" if np.isnan(low) else f"{low:{digits}} to {high:{digits}}"


def write_table(table: pd.DataFrame, name: str, folder: Path, title: str, notes: Sequence[str]) -> list[Path]:
    """Write ``name.md``, for people, and ``name.csv``, with all digits."""
    text = "\n\n".join([f"# {title}", to_markdown(table), *notes]) + "\n"
    paths = [folder / f"{name}.md", folder / f"{name}.csv"]
    write_atomically(paths[0], text)
    write_atomically(paths[1], table.to_csv(index=False))
    return paths


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table: three significant digits, a dash for what is missing."""

    def show(value) -> str:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return "–"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(table.columns), ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(show(value) for value in line) + " |" for line in lines)
