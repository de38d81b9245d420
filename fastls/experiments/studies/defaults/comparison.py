"""Default against default: the runs that are compared, their ranking, and the comparisons that the seeds decide."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from fastls.experiments.measuring.timing import Timing
from fastls.experiments.reporting.claims import Verdict, correct, decide
from fastls.experiments.reporting.frames import METRICS, end_of_training, to_frame
from fastls.experiments.reporting.intervals import estimate_log_ratio, mean_interval, ratio_interval
from fastls.experiments.reporting.tables import seconds_by_round
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.optimizers.rivals import RIVALS
from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import DEFAULTS, Sweep, default_run, gain_run

AVERAGED = ", averaged"  # end of a method's name if the running mean of its weights is evaluated
OURS = ("AdamFBLS", f"AdamFBLS{AVERAGED}", "FBLS+gain")
LEARNED = 0.95  # share of the loss of a constant answer; a mean above it has learned nothing
NOWHERE = "–"
TIMED = ("EqualWeight", "AdamW", "AdamFBLS")


def default_runs(sweep: Sweep) -> list[RunConfig]:
    """Every method at its one setting, also with the running mean of its weights; and FBLS+gain, without this mean."""
    return [
        run
        for seed in range(sweep.seeds)
        for run in (*(default_run(sweep, method, seed, averaged=True) for method in DEFAULTS), gain_run(sweep, seed))
    ]


def to_entries(runs: Sequence[Run]) -> pd.DataFrame:
    """`to_frame`, with a second row "..., averaged" for every epoch that also evaluated the mean of the weights.

    ``pearson`` is the mean of Pearson's correlations on the test set, if there are any.
    """
    frame = to_frame(runs)
    averaged = frame[frame["averaged"].fillna(False).astype(bool)].copy()
    averaged["variant"] += AVERAGED
    for part, prefix in ((frame, ""), (averaged, "averaged_")):
        for metric in (*METRICS, "test_pearson"):
            tasks = [column for column in frame if column.startswith(f"{prefix}{metric}_")]
            part[metric.removeprefix("test_") if metric == "test_pearson" else metric] = part[tasks].mean(axis=1)
    return pd.concat([frame, averaged], ignore_index=True)


def gather_ends(entries: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per data set, method and seed: test loss, test error and Pearson at the end of training.

    Args:
        entries: data set -> `to_entries` of its runs.
    """
    parts = [end_of_training(frame).assign(dataset=name) for name, frame in entries.items()]
    return pd.concat(parts, ignore_index=True)[["dataset", "variant", "seed", "test_loss", "test_error", "pearson"]]


def rank(ends: pd.DataFrame, answers: dict[str, float]) -> pd.DataFrame:
    """One row per method: ratios of its test losses to the best rival's on each data set; smallest worst ratio first.

    The best rival of a data set has the smallest mean, with or without averaging. A method that diverged with any seed
    has no mean on this data set, and its worst ratio is infinite.

    Args:
        ends: the table of `gather_ends`.
        answers: data set -> test loss of the best answer that looks at no input.

    Returns:
        Columns "method", "worst ratio", "geometric mean", the mean test loss on each data set, "learned nothing on",
        the data sets where this mean is above `LEARNED` of the answer, and "n", of seeds.
    """
    means = ends.pivot_table(
        index="variant", columns="dataset", values="test_loss", aggfunc=lambda losses: losses.mean(skipna=False),
        sort=False, dropna=False,
    )  # fmt: skip
    rivals = means[[name.removesuffix(AVERAGED) in RIVALS for name in means.index]]
    ratios = (means / rivals.min()).fillna(np.inf)
    table = pd.DataFrame({"worst ratio": ratios.max(axis=1), "geometric mean": np.exp(np.log(ratios).mean(axis=1))})
    nothing = means > LEARNED * pd.Series(answers)[means.columns]
    named = nothing.apply(lambda row: ", ".join(row.index[row]) or NOWHERE, axis=1)
    table = table.join(means).assign(**{"learned nothing on": named})
    table = table.join(ends.groupby("variant")["seed"].nunique().rename("n")).sort_values("worst ratio")
    return table.rename_axis("method").reset_index().rename_axis(columns=None)


def detail(ends: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set and method: test loss with its 95 % interval, test error or Pearson, n and diverged."""
    rows = []
    for (dataset, method), part in ends.groupby(["dataset", "variant"], sort=False):
        loss, low, high = mean_interval(part["test_loss"])
        rows.append(
            {
                "data set": dataset,
                "method": method,
                "test loss": loss,
                "low": low,
                "high": high,
                "test error": part["test_error"].mean(),
                "Pearson": part["pearson"].mean(),
                "n": len(part),
                "diverged": int(part["test_loss"].isna().sum()),
            }
        )
    return pd.DataFrame(rows)


def judge(ends: pd.DataFrame) -> pd.DataFrame:
    """Each of our methods against each rival: is the test loss lower, as a geometric mean over the data sets?

    The logarithm of the ratio is averaged over the data sets, seed by seed. The interval is Student's, over seeds. For
    each of our methods, Holm's method corrects p. A method that diverged with any seed lost.

    Returns:
        Columns "method", "rival", "ratio", "low", "high", "n", "p" and "test loss": "lower", "higher" or "undecided".
    """
    losses = ends.pivot(index=["variant", "seed"], columns="dataset", values="test_loss")
    rivals = [name + suffix for name in RIVALS for suffix in ("", AVERAGED)]
    parts = []
    for ours in OURS:
        rows = [{"method": ours, "rival": rival} | _compare(losses.loc[ours], losses.loc[rival]) for rival in rivals]
        parts.append(correct(pd.DataFrame(rows)))
    words = {Verdict.HOLDS: "lower", Verdict.FAILS: "higher", Verdict.UNDECIDED: "undecided"}
    table = pd.concat(parts, ignore_index=True)
    return table.assign(**{"test loss": table.pop("verdict").map(words)})


def _compare(ours: pd.DataFrame, rival: pd.DataFrame) -> dict:
    """Ratio, interval, n, p and verdict of two tables of losses: one row per seed, one column per data set."""
    lost, won = bool(ours.isna().any(axis=None)), bool(rival.isna().any(axis=None))
    ratios = np.exp(np.log(ours / rival).mean(axis=1, skipna=False))
    if lost or won:
        verdict = Verdict.UNDECIDED if lost and won else Verdict.FAILS if lost else Verdict.HOLDS
        blank = dict.fromkeys(("ratio", "low", "high"), np.nan)
        return blank | {"n": len(ratios), "p": float(lost and won), "verdict": str(verdict)}
    ratio, low, high = ratio_interval(ratios)
    verdict, p = decide(estimate_log_ratio(ratios, np.ones(len(ratios))), 0.0, 0.0)
    return {"ratio": ratio, "low": low, "high": high, "n": len(ratios), "p": p, "verdict": str(verdict)}


def time_defaults(sweep: Sweep, steps: int, rounds: int) -> Timing:
    """Equal weights with SGD and with AdamW, and AdamFBLS: `steps` steps of each per round, in turn."""
    few = replace(sweep.setting, n_train=steps * sweep.batch_size)
    return Timing(few, rounds, TIMED, min(sweep.step_sizes), sweep.epochs)


def compare_costs(run: Run) -> pd.DataFrame:
    """One row per method: milliseconds per step, their ratio to AdamW's with 95 % interval, and trials per step."""
    seconds, rows = seconds_by_round(run), pd.DataFrame(run.rows)
    table = []
    for method in TIMED:
        ratio, low, high = ratio_interval(seconds[method] / seconds["AdamW"])
        milliseconds = 1000 * seconds[method].median() / rows["steps"].iloc[0]
        row = {"method": method, "ms a step": milliseconds, "/ AdamW": ratio, "low": low, "high": high}
        trials = rows[rows["method"] == method]["trials"].mean()
        table.append(row | {"trials a step": trials, "n": len(seconds)})
    return pd.DataFrame(table)
