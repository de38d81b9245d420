"""How the cost of a step grows: what is measured and how it is judged. Never its seconds."""

import copy
import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from synthetic import HEADER

from fastls.experiments import bench
from fastls.experiments.studies.growth import figures
from fastls.experiments.studies.growth.growth import METHODS, PEER, PLAIN, WARM, Size, make_growth, make_problem
from fastls.experiments.training.store import Run, RunStore


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[Run, RunStore]:
    store = RunStore(tmp_path_factory.mktemp("runs"))
    return make_growth("tiny", "cpu").execute(store), store


def test_every_method_is_measured_at_every_size_and_torchjd_at_the_small_ones(measured):
    run, _ = measured
    rows = pd.DataFrame(run.rows)
    counts = rows.groupby(["varied", "tasks", "batch", "method"]).size()
    assert (counts == 2).all()  # rounds
    for (varied, tasks, batch), part in rows.groupby(["varied", "tasks", "batch"]):
        assert set(part["method"]) == set(METHODS) - ({PEER} if tasks * batch > 4 else set()), varied
    assert (rows["peak_mb"] > 0).all() and (rows["ms"] > 0).all()
    assert set(rows[rows["method"] == PLAIN]["trials"]) == {0} and rows[rows["method"] == "FBLS"]["trials"].min() >= 1


def test_plain_pytorch_and_equal_weights_take_the_same_step():
    """Else their times could not be compared."""
    model, inputs, targets = make_problem(Size(3, 1, 8, 4), 32, "cpu")
    found = {}
    for method in (PLAIN, "EqualWeight"):
        own = copy.deepcopy(model)
        step = METHODS[method](own)
        step(inputs, targets)
        step(inputs, targets)
        found[method] = [parameter.detach() for parameter in own.parameters()]
    torch.testing.assert_close(found[PLAIN], found["EqualWeight"])
    assert not torch.equal(found[PLAIN][0], next(model.parameters()))


def grown(milliseconds) -> Run:
    """ms as a function of method and T, at T = 1, 10, 40."""
    rows = [
        {"varied": "tasks", "tasks": tasks, "blocks": 2, "width": 0, "batch": 16, "round": turn, "method": method}
        | {"ms": (1 + turn) * milliseconds(method, tasks), "trials": 0, "peak_mb": 100.0 + tasks}
        for tasks in (1, 10, 40)
        for method in METHODS
        for turn in (1, 2, 3)
    ]
    config = {"peer_at_most": 640, "device": "cpu", "rounds": 3, "batch_size": 16}
    return Run(HEADER | {"config": config}, tuple(rows))


def test_slopes_and_ratios_are_those_of_the_rows():
    run = grown(lambda method, tasks: tasks if method == PEER else 2 * math.sqrt(tasks))
    table = figures.tabulate_growth(run).set_index("method")
    assert table.loc[PEER, "slope"] == pytest.approx(1) and table.loc["FBLS", "slope"] == pytest.approx(0.5)
    assert table.loc[PEER, "/ plain PyTorch"] == pytest.approx(40 / (2 * math.sqrt(40)))
    assert table.loc["FBLS", ["/ plain PyTorch", "low, / plain PyTorch"]].to_list() == pytest.approx([1, 1])
    figure = figures.draw_growth(run)
    assert len(figure.axes) == 2 and [len(panel.lines) for panel in figure.axes] == [len(METHODS)] * 2
    plt.close(figure)


@pytest.mark.parametrize("factor, verdict", [(1.05, "met"), (1.2, "not met")])
def test_the_targets_at_forty_tasks_go_both_ways(factor, verdict):
    run = grown(lambda method, tasks: factor if method in ("FBLS", WARM) else 1.0)
    judged = {row["ratio"]: row for row in bench.judge_growth(run)}
    assert judged["FBLS / EqualWeight, T = 40"]["verdict"] == verdict
    assert judged["FBLS / EqualWeight, T = 40"]["measured"] == pytest.approx(factor)
    memory = judged["FBLS / EqualWeight, T = 40, peak memory less T × z"]
    assert memory["measured"] == pytest.approx((140 - 4e-6 * 512 * 640) / 140) and memory["verdict"] == "met"


def test_the_benchmark_writes_them(measured, tmp_path):
    _, store = measured
    texts = list(bench.write_benchmarks({}, store, tmp_path, make_growth("tiny", "cpu")))
    assert len(texts) == 2 and "slope" in texts[0] and "T = 2" in texts[1]
    assert {path.suffix for path in tmp_path.rglob("bench-growth.*")} == {".md", ".csv", ".png", ".pdf"}
