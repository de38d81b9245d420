"""What a step on Cityscapes is made of: seconds of one pass, what they predict for each method, the decoders' share."""

from dataclasses import dataclass, replace

import pandas as pd

from fastls.experiments.measuring.timing import TimingConfig
from fastls.experiments.reporting.frames import check_same
from fastls.experiments.reporting.tables import compare_times, median_interval
from fastls.experiments.studies.bert.encoder_share import encoder_share, measure_passes
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import Protocol
from fastls.experiments.training.training import PASSES, Training, load_data_of, make_header


@dataclass(frozen=True)
class PassConfig:
    """A measurement of single passes; its hash is the key of the stored run.

    Attributes:
        protocol: data, batch size, device and options; its sweep is not used.
        rounds: how often each pass is measured.
    """

    protocol: Protocol
    rounds: int

    @property
    def label(self) -> str:
        return f"{self.protocol.dataset}-passes"

    @property
    def identity(self) -> dict:
        return TimingConfig(self.protocol, self.rounds, methods=("FBLS",)).identity


def execute_passes(config: PassConfig, store: RunStore) -> Run:
    """Measure, save whole, and return a run with a row a round: ``seconds_encoder_forward`` and so on.

    Raises:
        StoreError: the stored file is corrupt.
        DataError: the data set is missing or damaged.
    """
    return store.get_or_make(config.label, config.identity, lambda: _measure_passes(config))


def _measure_passes(config: PassConfig) -> tuple[dict, list[dict]]:
    size = config.protocol
    data = load_data_of(size)
    batch = replace(data, train=data.train.first(size.batch_size))
    training = Training(TimingConfig(size, config.rounds).method_config("FBLS"), batch)
    measure_passes(training)  # warms up
    rows = [{"round": turn} | measure_passes(training) for turn in range(config.rounds)]
    return make_header(data, size.device), rows


def compare_dense_costs(timing: Run, passes: Run, memory: Run, printed: dict, thesis: dict) -> pd.DataFrame:
    """`compare_times` with the share of SGD that the passes predict, the decoders' share and peak memory.

    Args:
        timing: of `execute_timing`.
        passes: of `execute_passes`.
        memory: of `execute_memory`.
        printed, thesis: the paper's seconds and the thesis's shares, by method.

    Raises:
        MixedDataError: times and passes of two machines.
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
    """Method -> seconds of these passes in a step: how many it counted, times the median of one."""
    seconds = pd.DataFrame(passes.rows).median()
    counted = pd.DataFrame(timing.rows).groupby("method")[list(names)].mean()
    return sum(counted[name] * seconds[f"seconds_{name}"] for name in names)


def find_trials(timing: Run, passes: Run, ratio: float) -> float:
    """Trials a step at which the passes predict that FBLS takes `ratio` times as long as SGD; may be negative."""
    predicted = _predict(timing, passes)
    frame = pd.DataFrame(timing.rows)
    trials = frame[frame["method"] == "FBLS"]["trials"].mean()
    tasks = frame[frame["method"] == "SGD"]["decoder_forward"].mean()
    trial = tasks * pd.DataFrame(passes.rows)["seconds_decoder_forward"].median()
    return float((ratio * predicted["SGD"] - predicted["FBLS"]) / trial + trials)


def decoder_share(passes: Run, tasks: int) -> tuple[float, float, float]:
    """Share of the decoders in one forward and backward of the whole model: median over rounds, with its interval."""
    return median_interval(1 - encoder_share(pd.DataFrame(passes.rows), tasks))
