"""The cost of a step against the number of tasks T: parameter-space methods grow with T, latent ones hardly grow."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from fastls.datasets.common import MultiTaskData
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.measuring.timing import METHODS, Timing, time_in_turn
from fastls.experiments.reporting.style import draw_with_band, line_style, new_figure, share_legend, sign
from fastls.experiments.training.store import Run
from fastls.experiments.training.training import Training, load_data_of


@dataclass(frozen=True)
class TaskScaling(Measurement):
    """Single steps at several numbers of tasks, timed in turn: a row per T, round and method.

    For each T and round the methods take one step on the same batch, each on its own network, after one warm-up step.

    Attributes:
        tasks: numbers of tasks T, which loader and model take as the option ``tasks``.
        rounds: measured steps per method and T.
    """

    name: ClassVar[str] = "scaling"
    tasks: tuple[int, ...]
    rounds: int

    @property
    def identity(self) -> dict:
        identity = Timing(self.setting, self.rounds).identity | {"tasks": list(self.tasks)}
        return {name: value for name, value in identity.items() if name != "n_train"}

    def load(self) -> MultiTaskData:
        """One batch with the targets of all tasks, of which each network uses its own; `n_train` is ignored."""
        options = (*self.setting.data_options, ("tasks", max(self.tasks)))
        batch_size = self.setting.batch_size
        return load_data_of(replace(self.setting, n_train=batch_size, n_test=1, data_options=options))

    def measure(self, data: MultiTaskData) -> list[dict]:
        rows = []
        for tasks in tqdm(self.tasks, desc="scaling", unit="T"):
            options = (*self.setting.model_options, ("tasks", tasks))
            timing = Timing(replace(self.setting, model_options=options), self.rounds)
            trainings = {method: Training(timing.method_config(method), data) for method in METHODS}
            for training in trainings.values():
                training.train_epoch(0)
            rows += [{"tasks": tasks} | row for row in time_in_turn(trainings, range(self.rounds))]
        return rows


def draw_scaling(run: Run, source: str) -> tuple[Figure, pd.DataFrame]:
    """Milliseconds per step against T, median with a band from the lowest to the highest round; passes per step."""
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
    """Method -> time of a step at the largest T over the time at the smallest T, from the table of `draw_scaling`."""
    times = table[("milliseconds", "median")].unstack("tasks")
    return (times[times.columns.max()] / times[times.columns.min()]).to_dict()
