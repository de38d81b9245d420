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
from fastls.experiments.studies.growth.growth import METHODS, PEER, PLAIN, WARM, make_growth, make_networks
from fastls.experiments.studies.growth.networks import Size, make_problem
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


@pytest.mark.parametrize("network", ["ResNet", "MTAN"])  # small BERT draws dropout masks
def test_plain_pytorch_and_equal_weights_take_the_same_step(network):
    """Else their times could not be compared."""
    model, inputs, targets = make_problem(Size(3, 1, 8, 4, network), 32, "cpu")
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
    """ms as a function of method, T and batch: T = 1, 10, 40 at batch 16, and batches 16, 64 at T = 40.

    The machine is slower from size to size and from round to round.
    """
    sizes = [("tasks", tasks, 16) for tasks in (1, 10, 40)] + [("batch", 40, batch) for batch in (16, 64)]
    rows = [
        {"varied": varied, "tasks": tasks, "blocks": 2, "width": 0, "batch": batch, "round": turn, "method": method}
        | {"ms": (1 + turn + slower) * milliseconds(method, tasks, batch), "trials": 0, "peak_mb": 100.0 * tasks}
        for slower, (varied, tasks, batch) in enumerate(sizes)
        for method in METHODS
        for turn in (1, 2, 3)
    ]
    config = {"peer_at_most": 640, "device": "cpu", "rounds": 3, "batch_size": 16}
    return Run(HEADER | {"config": config}, tuple(rows))


def test_slopes_are_those_beyond_plain_pytorch_whatever_the_machine_does():
    run = grown(lambda method, tasks, batch: tasks if method == PEER else math.sqrt(tasks) if method == "FBLS" else 7.0)
    table = figures.tabulate_growth(run)
    table = table[table["grows"] == "tasks T: 1 to 40"].set_index("method")
    for method, slope in ((PEER, 1.0), ("FBLS", 0.5), (PLAIN, 0.0), ("EqualWeight", 0.0)):
        assert table.loc[method, ["slope", "low, slope", "high, slope"]].to_list() == pytest.approx(
            [slope] * 3, abs=1e-9
        )
        assert table.loc[method, "slope of memory"] == pytest.approx(1)
    assert table.loc["FBLS", "at first / plain"] == pytest.approx(1 / 7)
    assert table.loc["FBLS", "at last / plain"] == pytest.approx(math.sqrt(40) / 7)
    figure = figures.draw_growth(run)
    assert len(figure.axes) == 4 and [len(panel.lines) for panel in figure.axes] == [len(METHODS)] * 4
    plt.close(figure)


def test_the_targets_at_the_largest_t_are_judged_at_every_batch():
    slow = {16: 1.2, 64: 1.05}
    run = grown(lambda method, tasks, batch: slow[batch] if method in ("FBLS", WARM) else 1.0)
    judged = {row["ratio"]: row for row in bench.judge_compared("growth", figures.compare_at_most_tasks(run))}
    for batch, verdict in ((16, "not met"), (64, "met")):
        row = judged[f"FBLS / EqualWeight, T = 40, batch {batch}"]
        assert row["verdict"] == verdict and row["measured"] == pytest.approx(slow[batch])
        assert judged[f"FBLS / EqualWeight, T = 40, batch {batch}, peak memory"]["measured"] == 1


@pytest.mark.parametrize("network, tensors", [("MTAN", 8), ("small BERT", 1)])
def test_a_network_has_a_target_for_every_output_and_its_decoders_are_their_own(network, tensors):
    model, inputs, targets = make_problem(Size(3, 1, 0, 4, network), 64, "cpu")
    z = model.encoder(inputs)
    assert len(z) == tensors if isinstance(z, tuple) else tensors == 1
    for task, output in model(inputs).items():
        assert output.numel() == len(targets[task]) == 4
    parts = [model.encoder, *model.decoders.values()]
    parameters = [id(parameter) for part in parts for parameter in part.parameters()]
    assert len(parameters) == len(set(parameters))


def test_the_key_of_the_resnet_is_what_it_was_before_there_were_other_networks():
    assert "network" not in make_growth("tiny", "cpu").identity["series"]["tasks"][0]
    assert make_networks("tiny", "cpu").identity["series"]["network"][0]["network"] == "MTAN"


@pytest.mark.slow
def test_the_benchmark_writes_them(measured, tmp_path):
    _, store = measured
    given = make_growth("tiny", "cpu"), make_networks("tiny", "cpu")
    growth, networks, targets = bench.write_benchmarks({}, store, tmp_path, *given)
    assert "slope" in growth and "T = 2, batch 4" in targets and "small BERT, T = 4" in networks
    assert all(f"{method} / EqualWeight, MTAN, T = 2" in targets for method in ("FBLS", WARM))
    assert "why a target is missed" not in targets  # no profile says why
    assert {path.suffix for path in tmp_path.rglob("bench-growth.*")} == {".md", ".csv", ".png", ".pdf"}
    assert {path.suffix for path in tmp_path.rglob("bench-networks.*")} == {".md", ".csv"}
    table = figures.tabulate_networks(given[1].execute(store))
    plain = table[table["method"] == PLAIN]
    assert plain["/ plain"].to_list() == [1, 1] and plain["trials"].to_list() == [0, 0]
    assert (table[table["method"] == "FBLS"]["trials"] >= 1).all()
