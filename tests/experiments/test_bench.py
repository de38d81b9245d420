"""The benchmark: what it measures and how it judges. Never its seconds."""

import pandas as pd
import pytest
import torch
from synthetic import HEADER, timing_run

from fastls.experiments import bench
from fastls.experiments.bench import PEER, TARGETS, compare_steps, judge_target, judge_targets, make_timing
from fastls.experiments.measuring.timing import IN_TURN, METHODS, RETIRED, WARM_START
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.training import load_data_of

SECONDS = {"EqualWeight": 1.0, "SGD": 2.0, "BLS": 4.0, "MGDA-UB": 1.05, "FBLS": 1.1}


def memory_run(fbls: float) -> Run:
    peaks = dict.fromkeys(SECONDS, 100.0) | {"FBLS": fbls}
    return Run(HEADER | {"config": {}}, tuple({"method": name, "peak_mb": peak} for name, peak in peaks.items()))


def verdicts(fbls: float, memory: float = 100.0) -> dict[str, str]:
    judged = judge_targets("multimnist", timing_run(SECONDS | {"FBLS": fbls}), memory_run(memory))
    return {row["ratio"]: row["verdict"] for row in judged}


class TestJudge:
    def test_a_fast_step_meets_its_targets(self):
        assert set(verdicts(1.1).values()) == {"met"}

    @pytest.mark.parametrize("rival, too_slow", [("EqualWeight", 1.21), ("SGD", 2.01), ("MGDA-UB", 1.2)])
    def test_each_target_can_be_missed(self, rival, too_slow):
        assert verdicts(too_slow)[f"FBLS / {rival}"] == "not met"

    def test_memory_can_be_too_much(self):
        name = "FBLS / EqualWeight, peak memory"
        assert (verdicts(1.1, 114)[name], verdicts(1.1, 116)[name]) == ("met", "not met")

    @pytest.mark.parametrize(
        "sign, low, median, high, verdict",
        [
            ("≤", 0.8, 0.9, 1.0, "met"),
            ("≤", 0.8, 0.9, 1.1, "met, undecided by its interval"),
            ("≤", 0.9, 1.1, 1.2, "not met, undecided by its interval"),
            ("≤", 1.1, 1.2, 1.3, "not met"),
            ("≥", 1.0, 1.1, 1.2, "met"),
            ("≥", 0.9, 1.1, 1.2, "met, undecided by its interval"),
            ("≥", 0.8, 0.9, 1.2, "not met, undecided by its interval"),
            ("≥", 0.7, 0.8, 0.9, "not met"),
        ],
    )
    def test_a_verdict_says_whether_the_interval_agrees(self, sign, low, median, high, verdict):
        assert judge_target("multimnist", "a / b", sign, 1.0, median, low, high, 10)["verdict"] == verdict

    def test_the_peer_is_over_ours(self):
        seconds = timing_run(SECONDS)
        peer = [
            row | {"method": PEER, "seconds": 3 * row["seconds"]} for row in seconds.rows if row["method"] == "FBLS"
        ]
        judged = judge_targets("multimnist", Run(seconds.header, (*seconds.rows, *peer)), memory_run(100))
        row = next(row for row in judged if row["ratio"] == f"{PEER} / FBLS")
        assert row["measured"] == pytest.approx(3) and row["verdict"] == "met" and row["target"] == "≥ 1.50"


def test_ratios_are_taken_within_a_round():
    """The machine of `timing_run` slows down from round to round; the ratios do not see it."""
    table = compare_steps(timing_run(SECONDS), memory_run(100)).set_index("method")
    for method, seconds in SECONDS.items():
        for limit in ("EqualWeight", "SGD"):
            columns = [f"{name}/ {limit}" for name in ("", "low, ", "high, ")]
            assert table.loc[method, columns].to_list() == pytest.approx([seconds / SECONDS[limit]] * 3)


class TestMakeTiming:
    @pytest.mark.parametrize("workload", bench.DATA_SETS)
    @pytest.mark.parametrize("size", bench.SIZES)
    def test_every_workload_times_all_methods_and_the_peer(self, workload, size):
        config = make_timing(workload, size, "cpu")
        assert config.methods == (*METHODS, IN_TURN, WARM_START, PEER)
        assert workload in TARGETS and workload in bench.RECORDED

    def test_the_number_of_tasks_can_be_chosen_for_cifar10(self):
        setting = make_timing("cifar10", "tiny", "cpu", tasks=12, source="shapes").setting
        assert dict(setting.model_options)["tasks"] == dict(setting.data_options)["tasks"] == 12
        batch = next(load_data_of(setting).train.batches(torch.arange(4), 4, training=True))
        assert len(batch[1]) == 12  # the loader once drew ten
        with pytest.raises(ValueError, match="`tasks` can be chosen for cifar10 alone, found it with bert"):
            make_timing("bert", "tiny", "cpu", tasks=3)

    def test_the_committed_sources_do_not_depend_on_what_is_found(self):
        config = make_timing("multimnist", "laptop", "cpu", source=bench.RECORDED["multimnist"])
        assert config.setting.source == "mnist"
        assert config.methods == (*METHODS, IN_TURN, WARM_START, *RETIRED, PEER)  # as in the keys of the stored runs


@pytest.mark.parametrize("workload", ["multimnist", "bert"])
def test_a_benchmark_writes_its_tables(workload, tmp_path):
    stand_in = {"multimnist": "digits", "bert": "templates"}[workload]
    timings = {workload: make_timing(workload, "tiny", "cpu", source=stand_in)}
    texts = list(bench.write_benchmarks(timings, RunStore(tmp_path / "runs"), tmp_path))
    assert len(texts) == 2
    table = pd.read_csv(tmp_path / "bench" / f"bench-{workload}.csv", comment="#").set_index("method")
    tasks = 2 if workload == "multimnist" else 3
    assert table.loc["EqualWeight", ["/ EqualWeight", "encoder backward"]].to_list() == [1, 1]
    assert table.loc["SGD", "encoder backward"] == table.loc[PEER, "encoder backward"] == tasks
    assert (table["peak MB"] > 0).all()
    assert "stand-in" in (tmp_path / "bench" / f"bench-{workload}.md").read_text()
    targets = pd.read_csv(tmp_path / "bench" / "bench-targets.csv", comment="#")
    assert len(targets) == 3 * (len(TARGETS[workload]) + 1)
