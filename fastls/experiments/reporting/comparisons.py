"""Evidence for and against the paper's claims: one `ClaimRow` per comparison, made from runs and from times."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fastls.experiments.reporting.claims import MARGIN, PRINTED, ClaimRow, Verdict, decide
from fastls.experiments.reporting.frames import average_steps, check_one_length, end_of_training, find_best_step
from fastls.experiments.reporting.intervals import (
    Estimate,
    count_needed,
    estimate_difference,
    estimate_log_ratio,
    estimate_mean,
)
from fastls.experiments.reporting.tables import AGREEMENT, read_paper, seconds_by_round
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import BETAS

ABOUT_AS_MUCH, FAR_LESS = 1.10, 0.50  # claim 1's words as ratios of times
NEARLY_ALL = 0.95  # claim 5: share of the steps that are at the bound
SEARCHES, RIVALS_IN_TIME = ("FBLS", "FBLS+decay"), ("MGDA-UB", "SGD", "BLS")  # of the paper


def compare_with_best_step(
    frame: pd.DataFrame, data: str, method: str, rival: str, metric: str, steps: Sequence[float] | None = None
) -> ClaimRow:
    """Claim 3: a search ends at most `MARGIN` above the best constant step of a rival.

    The compared values are means over the last epochs (`end_of_training`), unpaired over seeds. Only steps without a
    diverged run and with the largest number of seeds count; the best step is the one with the smallest mean.

    Args:
        frame: epochs of runs of one length, see `frames.to_frame`.
        data: name of the data set.
        method, rival: variants.
        metric: a column.
        steps: the steps that the paper tries, if the frame has others too; None for all steps of the frame.

    Raises:
        MixedDataError: the runs differ in length or data.
        ValueError: the frame lacks the method or the rival.
    """
    check_one_length(frame)
    ends, votes = end_of_training(frame), _is_of_the_papers_length(frame, data)
    ours = ends[ends["variant"] == method].set_index("seed")[metric]
    theirs = ends[ends["variant"] == rival]
    theirs = theirs if steps is None else theirs[theirs["lr"].isin(steps)]
    if ours.empty or theirs.empty:
        raise ValueError(f"`frame` must have runs of {method} and of {rival}, found {sorted(set(ends['variant']))}.")
    votes = votes and method in SEARCHES and rival == "SGD"
    row = {"claim": "3", "data": data, "method": method, "rival": f"{rival}, best of {theirs['lr'].nunique()} steps"}
    best = find_best_step(theirs, rival, metric)
    if best is None:
        note, verdict = f"every step of {rival} diverged", Verdict.HOLDS if ours.notna().all() else Verdict.UNDECIDED
        return _point_row(row, metric, ours.mean(), np.nan, len(ours), verdict, votes, note)
    steps, tried = average_steps(theirs, metric), theirs["lr"].unique()
    least = steps["mean"][best]
    note = f"best step {best:g}{f', the largest of {len(tried)}' if best == tried.max() and len(tried) > 1 else ''}"
    note += f"{_name_fewer_seeds(steps, best)}; {_describe_size(ends)}"
    if ours.isna().any():
        note += f"; {method} diverged on {int(ours.isna().sum())} of {len(ours)} seeds"
        return _point_row(row, metric, ours.mean(), least, len(ours), Verdict.FAILS, votes, note)
    return _row(row, metric, ours, theirs[theirs["lr"] == best][metric], MARGIN * least, votes, note)


def compare_with_bls(frame: pd.DataFrame, data: str, metric: str) -> ClaimRow:
    """Claim 4a: FBLS ends below BLS, each averaged over β. Worse if a run of FBLS diverged.

    Votes only if every method and seed has all β of the paper: the claim is about the mean over these.
    """
    check_one_length(frame)
    ends = end_of_training(frame)
    means = ends.groupby(["variant", "seed"])[metric].agg(lambda values: values.mean(skipna=False))
    betas = sorted(ends["beta"].unique())
    whole = ends.groupby(["variant", "seed"])["beta"].agg(lambda some: set(some) == set(BETAS)).all()
    votes = _is_of_the_papers_length(frame, data) and bool(whole)
    row = {"claim": "4a", "data": data, "method": "FBLS", "rival": "BLS"}
    note = ", ".join(f"{beta:g}" for beta in betas)
    note = f"{'means over β' if len(betas) > 1 else 'at β ='} {note}; {_describe_size(ends)}"
    diverged = ends[ends["diverged"]].groupby("variant").size().to_dict()
    if diverged:
        note += "; diverged: " + ", ".join(f"{count} of {name}" for name, count in diverged.items())
    if "FBLS" in diverged:
        args = (np.nanmean(means["FBLS"]), np.nanmean(means["BLS"]), means["FBLS"].size, Verdict.FAILS, votes, note)
        return _point_row(row, metric, *args)
    return _row(row, metric, means["FBLS"], means["BLS"], 0.0, votes, note)


def compare_with_printed(run: Run, claim: str, data: str, method: str, rival: str, printed: float) -> ClaimRow:
    """Whether the time of a method over that of a rival is within `AGREEMENT` of the printed ratio."""
    ratio = _time_ratio(run, method, rival)
    distance = Estimate(abs(ratio.value - np.log(printed)), *ratio[1:])
    decided = decide(distance, np.log(1 + AGREEMENT), np.log(1 + AGREEMENT))
    names, note = (claim, data, method, f"{rival}{PRINTED}"), f"the printed ratio within {100 * AGREEMENT:g} %"
    return _ratio_row(names, ratio, printed, *decided, claim == "4b", note)


def compare_cost(run: Run, data: str, method: str, rival: str, most: float) -> ClaimRow:
    """Claim 1: a method takes at most `most` times the seconds of a rival."""
    ratio = _time_ratio(run, method, rival)
    votes = method == "FBLS" and rival in RIVALS_IN_TIME
    decided, note = decide(ratio, np.log(most), np.log(most)), f"at most {most:.2f} times"
    return _ratio_row(("1", data, method, rival), ratio, most, *decided, votes, note)


def compare_memory(run: Run, data: str, method: str, rival: str, most: float) -> ClaimRow:
    """Beside claim 1, not in the paper: peak memory is at most `most` times that of a rival; measured once."""
    peaks = {row["method"]: row["peak_mb"] for row in run.rows}
    ratio = peaks[method] / peaks[rival]
    verdict = Verdict.HOLDS if ratio <= most else Verdict.FAILS
    row = {"claim": "1", "data": data, "method": method, "rival": rival}
    return _point_row(row, "memory", ratio, most, 1, verdict, False, f"at most {most:.2f} times")


def judge_bound(frame: pd.DataFrame, data: str) -> ClaimRow:
    """Claim 5: at the end of training nearly all steps of FBLS without decay are at the upper bound."""
    ends = end_of_training(frame)
    part = ends[ends["variant"] == "FBLS"]
    shares = estimate_mean(part["share_at_bound"])
    short = Estimate(NEARLY_ALL - shares.value, *shares[1:])
    verdict, p = decide(short, 0.0, 0.0)
    low, high = short.interval
    beta = ", ".join(f"{value:g}" for value in sorted(part["beta"].unique()))
    return ClaimRow(
        *("5", data, "FBLS", "what we call settled", "share of steps at the bound", shares.value, NEARLY_ALL),
        *(short.value, low, high, shares.n, p, verdict, _is_of_the_papers_length(part, data)),
        note=f"β {beta}; median step {part['step_median'].median():g}; {_describe_size(part)}",
    )


def _row(row: dict, metric: str, ours, theirs, margin: float, votes: bool, note: str) -> ClaimRow:
    """A row of two samples over seeds: ours at most `margin` above theirs."""
    difference = estimate_difference(ours, theirs)
    verdict, p = decide(difference, 0.0, margin)
    needed = None
    if verdict == Verdict.UNDECIDED and difference.n > 1:
        spreads = float(np.std(ours, ddof=1)), float(np.std(theirs, ddof=1))
        needed = count_needed(spreads, max(margin - difference.value, difference.value))
    values = (
        metric,
        float(np.mean(ours)),
        float(np.mean(theirs)),
        difference.value,
        *difference.interval,
        difference.n,
    )
    return ClaimRow(*row.values(), *values, p, verdict, votes, needed, note)


def _time_ratio(run: Run, method: str, rival: str) -> Estimate:
    seconds = seconds_by_round(run)
    return estimate_log_ratio(seconds[method], seconds[rival])


def _ratio_row(names: tuple, ratio: Estimate, limit: float, verdict: Verdict, p: float, votes: bool, note: str):
    """A row of a ratio of times, given as its logarithm, with its limit or with what the paper prints."""
    ours, low, high = (float(np.exp(log)) for log in (ratio.value, *ratio.interval))
    values = ("seconds", ours, limit, ours - limit, low - limit, high - limit, ratio.n)
    return ClaimRow(*names, *values, p, verdict, votes, None, note)


def _point_row(row: dict, metric: str, ours, theirs, n: int, verdict: Verdict, votes: bool, note: str) -> ClaimRow:
    """A row whose verdict needs no interval, for example after a run that diverged."""
    p = 1.0 if verdict == Verdict.UNDECIDED else 0.0
    values = (metric, float(ours), float(theirs), float(ours - theirs), np.nan, np.nan, n)
    return ClaimRow(*row.values(), *values, p, verdict, votes, None, note)


def _is_of_the_papers_length(frame: pd.DataFrame, data: str) -> bool:
    """Whether the runs have the paper's data, images and epochs, as in paper.yaml."""
    protocol = read_paper()["protocol"].get(data)
    if protocol is None:
        return False
    return all(set(frame[name]) <= set(values) for name, values in protocol.items())


def _describe_size(ends: pd.DataFrame) -> str:
    return f"{int(ends['n_train'].iloc[0]):,} examples, {int(ends['epochs'].iloc[0])} epochs"


def _name_fewer_seeds(steps: pd.DataFrame, best: float) -> str:
    """Name the steps with fewer seeds than the best step, which is chosen without them, and those of lower mean."""
    mean, seeds = steps.loc[best]
    fewer = steps[steps["seeds"] < seeds]
    if fewer.empty:
        return ""
    counts, names = ", ".join(map(str, sorted(set(fewer["seeds"])))), ", ".join(f"{step:g}" for step in fewer.index)
    lower = fewer.loc[fewer["mean"] < mean, "mean"]
    return f"; only {counts} of {seeds:g} seeds at {names}" + "".join(
        f"; {step:g} reads {value:.4g}" for step, value in lower.items()
    )
