"""What a step costs against the number of tasks: the parameter-space methods grow with T, the latent ones hardly."""

from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from fastls.experiments.measuring.timing import METHODS, TimingConfig, count_passes, turned
from fastls.experiments.reporting.style import draw_with_band, line_style, new_figure, share_legend, sign
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import Protocol
from fastls.experiments.training.training import Training, load_data_of, make_header


@dataclass(frozen=True)
class ScalingConfig:
    """An interleaved timing of single steps at several numbers of tasks; its hash is the key of the stored run.

    Attributes:
        protocol: data, batch size, device and options; its sweep is not used.
        tasks: numbers of tasks T, which loader and model take as the option ``tasks``.
        rounds: measured steps per method and T.
    """

    protocol: Protocol
    tasks: tuple[int, ...]
    rounds: int

    @property
    def label(self) -> str:
        return f"{self.protocol.dataset}-scaling"

    @property
    def identity(self) -> dict:
        identity = TimingConfig(self.protocol, self.rounds).identity | {"tasks": list(self.tasks)}
        return {name: value for name, value in identity.items() if name != "n_train"}

    def method_config(self, method: str, tasks: int) -> RunConfig:
        options = (*self.protocol.model_options, ("tasks", tasks))
        return TimingConfig(replace(self.protocol, model_options=options), self.rounds).method_config(method)


def execute_scaling(config: ScalingConfig, store: RunStore) -> Run:
    """Measure, save whole, and return a run with a row per T, round and method; nothing is measured twice.

    For each T the methods take one step in turn on the same batch, each on a network of its own, after one step to
    warm up; the order turns from round to round.

    Raises:
        StoreError: the stored file is corrupt.
        DataError: the data set is missing or damaged.
    """
    return store.get_or_make(config.label, config.identity, lambda: _measure(config))


def _measure(config: ScalingConfig) -> tuple[dict, list[dict]]:
    size = config.protocol
    options = (*size.data_options, ("tasks", max(config.tasks)))  # a network takes the targets of its tasks
    data = load_data_of(replace(size, data_options=options))
    batch = replace(data, train=data.train.first(size.batch_size))
    rows = []
    for tasks in tqdm(config.tasks, desc="scaling", unit="T"):
        trainings = {method: Training(config.method_config(method, tasks), batch) for method in METHODS}
        for training in trainings.values():
            training.train_epoch(0)
        for turn in range(config.rounds):
            for method in turned(METHODS, turn):
                records, seconds = trainings[method].train_epoch(turn + 1)
                row = {"tasks": tasks, "round": turn, "method": method, "seconds": round(seconds, 5)}
                rows.append(row | count_passes(trainings[method], records))
    return make_header(data, size.device), rows


def draw_scaling(run: Run, source: str) -> tuple[Figure, pd.DataFrame]:
    """Milliseconds a step against T, median with a band from the lowest to the highest round, and passes a step."""
    rows = pd.DataFrame(run.rows)
    rows["milliseconds"] = 1000 * rows["seconds"]
    rows["encoder passes"] = rows["encoder_forward"] + rows["encoder_backward"]
    rows["decoder passes"] = rows["decoder_forward"] + rows["decoder_backward"]
    columns = ["milliseconds", "encoder passes", "decoder passes"]
    table = rows.groupby(["method", "tasks"])[columns].agg(["median", "min", "max"])
    figure, axes = new_figure(3)
    for method in METHODS:
        style = line_style(method) | {"label": method}
        for panel, column in zip(axes, columns, strict=True):
            drawn = table.loc[method][column]
            draw_with_band(panel, drawn["median"], drawn["min"], drawn["max"], style)
    axes[0].set(yscale="log", title="time of a step, ms")
    axes[1].set(yscale="log", title="passes through the encoder in a step")
    axes[2].set(yscale="log", title="passes through a decoder in a step")
    for panel in axes:
        panel.set(xlabel="number of tasks T", xticks=table.index.levels[1])
    share_legend(figure, axes[0])
    measured = f"median and range over n = {rows['round'].nunique()} measured steps"
    sign(figure, f"{measured} · passes: forward and backward, median\n{source}")
    return figure, table


def describe_growth(table: pd.DataFrame) -> dict[str, float]:
    """Method -> time of a step at the largest T over that at the smallest, from the table of `draw_scaling`."""
    times = table[("milliseconds", "median")].unstack("tasks")
    return (times[times.columns.max()] / times[times.columns.min()]).to_dict()
