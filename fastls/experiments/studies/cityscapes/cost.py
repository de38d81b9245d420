"""The cost of a step on Cityscapes: seconds of one pass, the prediction for each method, the decoders' share."""

import pandas as pd

from fastls.experiments.measuring.passes import encoder_share
from fastls.experiments.reporting.frames import check_same
from fastls.experiments.reporting.intervals import ratio_interval
from fastls.experiments.reporting.tables import compare_times
from fastls.experiments.training.store import Run
from fastls.experiments.training.training import PASSES


def compare_dense_costs(timing: Run, passes: Run, memory: Run, printed: dict, thesis: dict) -> pd.DataFrame:
    """`compare_times` with the share of SGD that the passes predict, the decoders' share and peak memory.

    Args:
        timing, passes, memory: of `Timing`, `PassTiming` and `Memory`.
        printed, thesis: the paper's seconds and the thesis's shares, by method.

    Raises:
        MixedDataError: times and passes were measured on two machines.
    """
    machines = [
        f"{run.header['environment']['device']}, {run.header['environment']['threads']} threads"
        for run in (timing, passes)
    ]
    check_same((timing, passes), "machine", machines)
    table = compare_times(timing, printed, thesis)
    predicted = _predict(timing, passes)
    decoders = _predict(timing, passes, [name for name in PASSES if name.startswith("decoder")])
    place = table.columns.get_loc("ours / paper")
    table.insert(place, "predicted / SGD", table["method"].map(predicted / predicted["SGD"]))
    table.insert(place + 1, "share of decoders", table["method"].map(decoders / predicted))
    peaks = pd.DataFrame(memory.rows).set_index("method")["peak_mb"]
    table["peak memory, MB"] = table["method"].map(peaks)
    table["memory / SGD"] = table["peak memory, MB"] / peaks["SGD"]
    return table


def _predict(timing: Run, passes: Run, names: list[str] | tuple[str, ...] = PASSES) -> pd.Series:
    """Method -> seconds of these passes in a step: their counted number times the median seconds of one pass."""
    seconds = pd.DataFrame(passes.rows).median()
    counted = pd.DataFrame(timing.rows).groupby("method")[list(names)].mean()
    return sum(counted[name] * seconds[f"seconds_{name}"] for name in names)


def find_trials(timing: Run, passes: Run, ratio: float) -> float:
    """Trials per step at which FBLS is predicted to take `ratio` times as long as SGD; may be negative."""
    predicted = _predict(timing, passes)
    frame = pd.DataFrame(timing.rows)
    trials = frame[frame["method"] == "FBLS"]["trials"].mean()
    tasks = frame[frame["method"] == "SGD"]["decoder_forward"].mean()
    trial = tasks * pd.DataFrame(passes.rows)["seconds_decoder_forward"].median()
    return float((ratio * predicted["SGD"] - predicted["FBLS"]) / trial + trials)


def decoder_share(passes: Run, tasks: int) -> tuple[float, float, float]:
    """Share of the decoders in one forward and backward of the whole model: geometric mean, with its interval."""
    return ratio_interval(1 - encoder_share(pd.DataFrame(passes.rows), tasks))
