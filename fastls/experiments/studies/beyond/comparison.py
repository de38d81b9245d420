"""Beyond the paper: the runs that are compared, and FBLS with the gain against tuned constant steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from fastls.experiments.measuring.timing import Timing
from fastls.experiments.reporting.comparisons import compare_cost
from fastls.experiments.reporting.frames import find_best_step, to_frame
from fastls.experiments.reporting.intervals import mean_interval, ratio_interval
from fastls.experiments.reporting.tables import seconds_by_round
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.parallel import run_groups
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import GAIN, LR_UB, SEARCH, Sweep, gain_run
from fastls.experiments.training.training import PASSES

CONSTANT = ("EqualWeight", "MGDA-UB")
SEARCHES = (GAIN, "FBLS")
REPEATED = 2  # number of the best constant steps that are repeated with every seed
MARGIN = 0.03
WITHIN = f"within {100 * MARGIN:.0f} %"
MOST_COST = 1.10  # of a step, in steps of EqualWeight


def run_comparisons(sweeps: Mapping[str, Sweep], store: RunStore, jobs: int) -> dict[str, list[Run]]:
    """Constant steps of EqualWeight and MGDA-UB, FBLS with its bound, and FBLS with the gain, which needs no bound.

    Every constant step is run with the first seed. The `REPEATED` best of each method, by final test loss, are run with
    all seeds.
    """
    runs = run_groups({name: _constant_steps(sweep) + _searches(sweep) for name, sweep in sweeps.items()}, store, jobs)
    again = run_groups({name: _repeat_best(sweep, runs[name]) for name, sweep in sweeps.items()}, store, jobs)
    return {name: some + again[name] for name, some in runs.items()}


def _constant_steps(sweep: Sweep) -> list[RunConfig]:
    return [sweep.run(method, step, seed=0) for method in CONSTANT for step in sweep.step_sizes]


def _searches(sweep: Sweep) -> list[RunConfig]:
    both = [(gain_run(sweep, seed), sweep.run("FBLS", LR_UB, seed, **SEARCH)) for seed in range(sweep.seeds)]
    return [run for pair in both for run in pair]


def _repeat_best(sweep: Sweep, runs: list[Run]) -> list[RunConfig]:
    final = to_frame(runs).query("final")
    return [
        sweep.run(method, step, seed)
        for method in CONSTANT
        for step in final[final["variant"] == method].nsmallest(REPEATED, "test_loss")["lr"]
        for seed in range(1, sweep.seeds)
    ]


def compare_with_tuned(frame: pd.DataFrame) -> pd.DataFrame:
    """Final test loss of each search against the best tuned constant step of each rival, seed by seed.

    A search that diverged with any seed does not hold.

    The best step has the smallest mean of final test losses over all seeds, among the steps that have all seeds.
    Errors, which only classifications have, are means at the same steps. ``its best epoch`` is the smallest test loss,
    mean over seeds, in any epoch of the rival's best step.
    """
    final = frame[frame["final"]]
    rows = []
    for search in SEARCHES:
        ours = final[final["variant"] == search].set_index("seed")["test_loss"]
        diverged = int(ours.isna().sum())
        mean, low, high = mean_interval(ours)
        for rival in CONSTANT:
            step, losses = find_tuned(final, rival)
            epochs = frame[(frame["variant"] == rival) & (frame["lr"] == step)].groupby("epoch")["test_loss"].mean()
            ratio, ratio_low, ratio_high = mean_interval(ours / losses)
            rows.append(
                {
                    "search": search,
                    "test loss": mean,
                    "low": low,
                    "high": high,
                    "rival": rival,
                    "its best step": step,
                    "its test loss": losses.mean(),
                    "its best epoch": epochs.min(),
                    "ratio": ratio,
                    "low, ratio": ratio_low,
                    "high, ratio": ratio_high,
                    "n": len(ours),
                    "diverged": diverged,
                    WITHIN: "does not hold" if diverged else judge_margin(ratio, ratio_low, ratio_high),
                    "test error": final[final["variant"] == search]["test_error"].mean(),
                    "its test error": final[(final["variant"] == rival) & (final["lr"] == step)]["test_error"].mean(),
                }
            )
    return pd.DataFrame(rows)


def time_searches(sweep: Sweep, steps: int, rounds: int) -> Timing:
    """EqualWeight, MGDA-UB, and FBLS without and with the gain, timed in turn: `steps` steps per round.

    Constant-step methods use the smallest step of the sweep, with which none diverges; the time does not depend on it.
    """
    few = replace(sweep.setting, n_train=steps * sweep.batch_size)
    methods = ("EqualWeight", "MGDA-UB", "FBLS", GAIN)
    return Timing(few, rounds, methods, min(sweep.step_sizes), sweep.epochs)


def compare_costs(run: Run) -> pd.DataFrame:
    """One row per method: milliseconds per step, ratio to EqualWeight, trials, passes; is the ratio at most 1.10?"""
    seconds, rows = seconds_by_round(run), pd.DataFrame(run.rows)
    counted = rows.groupby("method")[["trials", *PASSES]].mean().rename(columns=lambda name: name.replace("_", " "))
    table = []
    for method in ("MGDA-UB", "FBLS", GAIN):
        ratio, low, high = ratio_interval(seconds[method] / seconds["EqualWeight"])
        times = {"ms a step": 1000 * seconds[method].median() / rows["steps"].iloc[0], "/ EqualWeight": ratio}
        judged = compare_cost(run, "", method, "EqualWeight", MOST_COST)
        verdict = {"n": len(seconds), f"at most {MOST_COST:.2f}": str(judged.verdict)}
        table.append({"method": method} | times | {"low": low, "high": high} | verdict | counted.loc[method].to_dict())
    return pd.DataFrame(table)


def find_tuned(final: pd.DataFrame, rival: str) -> tuple[float, pd.Series]:
    """The best constant step of a rival, and its final test losses by seed; NaN if every step diverged."""
    best, rows = find_best_step(final, rival), final[final["variant"] == rival].set_index("seed")
    if best is None:
        return math.nan, pd.Series(math.nan, index=rows.index.unique())
    return best, rows.loc[rows["lr"] == best, "test_loss"]


def judge_margin(ratio: float, low: float, high: float) -> str:
    """ "holds" if the ratio's interval ends at or below 1 + `MARGIN`, "does not hold" if it begins above. Otherwise, as
    with one seed, "undecided" with the side of the mean, or with the reason why there is no ratio."""
    if math.isnan(ratio):
        return "undecided, every step of the rival diverged"
    if high <= 1 + MARGIN:
        return "holds"
    if low > 1 + MARGIN:
        return "does not hold"
    return "undecided, mean within" if ratio <= 1 + MARGIN else "undecided, mean above"


def sensitivity_runs(
    sweep: Sweep, bounds: Sequence[float], betas: Sequence[float], batch_sizes: Sequence[int], scales
) -> dict[str, list[RunConfig]]:
    """What is varied -> runs: bound or step size, β, batch size, scale of z, reduction, direction; with every seed.

    If the step is not varied, EqualWeight has a step of 0.1 and FBLS its bound of 1.
    """
    runs = {"bound": [], "beta": [], "batch_size": [], "latent_scale": [], "loss": [], "direction": []}
    for seed in range(sweep.seeds):
        for bound in bounds:
            plain = sweep.run("FBLS", bound, seed, **SEARCH)
            decayed = replace(plain, decay_every=sweep.decay_every)
            runs["bound"] += [sweep.run("EqualWeight", bound, seed), plain, decayed]
            runs["bound"] += [gain_run(sweep, seed, bound)]
        runs["beta"] += [gain_run(sweep, seed, beta=beta) for beta in betas]
        for size in batch_sizes:
            runs["batch_size"] += _all_methods(replace(sweep, batch_size=size), seed)
        for scale in scales:
            options = {"model_options": (("latent_scale", scale),) if scale != 1 else ()}
            runs["latent_scale"] += _all_methods(replace(sweep, **options), seed)
        runs["loss"] += _all_methods(replace(sweep, model_options=(("reduction", "sum"),)), seed)
        for direction in ("mgda", "mean", "edm"):
            runs["direction"] += [replace(gain_run(sweep, seed), direction=direction)]
    return runs


def with_latent_scale(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column ``latent_scale``, which is 1 for models without this option."""
    options = frame.get("model_options", pd.Series(index=frame.index, dtype=object))
    return frame.assign(
        latent_scale=[some.get("latent_scale", 1.0) if isinstance(some, dict) else 1.0 for some in options]
    )


def compare_spread(parts: dict[str, pd.DataFrame], columns: dict[str, str]) -> pd.DataFrame:
    """Largest over smallest final test loss among the settings tried; one row per method, one column per parameter.

    Infinite if a run diverged, missing if there is only one setting.

    Args:
        parts: what is varied -> epochs.
        columns: what is varied -> the column that holds its settings.
    """
    spread = {}
    for name, column in columns.items():
        final = parts[name][parts[name]["final"]]
        losses = final.groupby(["variant", column])["test_loss"].agg(lambda values: values.mean(skipna=False))
        settings = losses.groupby("variant")
        ratio = (settings.max() / settings.min()).where(settings.count() == settings.size(), np.inf)
        spread[name] = ratio.where(settings.size() > 1)
    return pd.DataFrame(spread)


def _all_methods(sweep: Sweep, seed: int) -> list[RunConfig]:
    return [sweep.run("EqualWeight", 0.1, seed), gain_run(sweep, seed), sweep.run("FBLS", LR_UB, seed, **SEARCH)]
