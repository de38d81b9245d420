"""Cost against the number of tasks: passes, which are exact; never seconds."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from fastls.experiments.measuring.timing import METHODS
from fastls.experiments.studies.cifar10.scaling import TaskScaling, describe_growth, draw_scaling
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore

SETTING = Setting("cifar10", "shapes", n_train=4, n_test=10, batch_size=2, model_options=(("stages", 1),))
CONFIG = TaskScaling(SETTING, tasks=(1, 3), rounds=1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("runs"))
    return CONFIG.execute(store), store


def test_every_method_at_every_number_of_tasks(measured):
    rows = pd.DataFrame(measured[0].rows)
    assert list(zip(rows["tasks"], rows["method"], strict=True)) == [(t, method) for t in (1, 3) for method in METHODS]
    assert (rows["seconds"] > 0).all()


def test_parameter_space_grows_with_the_tasks_and_latent_space_does_not(measured):
    backward = pd.DataFrame(measured[0].rows).pivot(index="tasks", columns="method", values="encoder_backward")
    for method in METHODS:
        assert backward[method].tolist() == ([1, 3] if method in ("SGD", "BLS") else [1, 1])


def test_nothing_is_measured_twice(measured):
    run, store = measured
    assert CONFIG.execute(store) == run


@pytest.mark.parametrize("change", [{"tasks": (1, 2)}, {"rounds": 2}])
def test_the_key_knows_tasks_and_rounds(change):
    assert TaskScaling(**({"setting": SETTING, "tasks": (1, 3), "rounds": 1} | change)).identity != CONFIG.identity


def test_the_figure_draws_medians_of_milliseconds_and_passes(measured):
    plt.switch_backend("agg")
    run, _ = measured
    figure, table = draw_scaling(run, "where from")
    rows = pd.DataFrame(run.rows).set_index(["method", "tasks"])
    assert table.loc[("SGD", 3), ("milliseconds", "median")] == pytest.approx(1000 * rows.loc[("SGD", 3), "seconds"])
    assert table.loc[("SGD", 3), ("encoder passes", "median")] == 4
    drawn = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[1].lines}
    assert drawn["SGD"] == [2, 4] and drawn["FBLS"] == [2, 2]
    ratio = rows.loc[("FBLS", 3), "seconds"] / rows.loc[("FBLS", 1), "seconds"]
    assert describe_growth(table)["FBLS"] == pytest.approx(ratio)
    plt.close(figure)
