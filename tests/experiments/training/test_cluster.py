"""Runs on a real Dask cluster of two processes on this machine, one of which is killed."""

import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from synthetic import without_seconds

from fastls.environment import SCHEDULER
from fastls.experiments.training import cluster
from fastls.experiments.training.cluster import ClusterError
from fastls.experiments.training.parallel import run_all
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.sweeps import Sweep
from fastls.experiments.training.training import execute

distributed = pytest.importorskip("distributed")
SWEEP = Sweep("multimnist", "digits", n_train=100, n_test=50, epochs=2, seeds=1, batch_size=50)
SHORT = [SWEEP.run("EqualWeight", lr, seed=0) for lr in (0.01, 0.02, 0.05)]


@pytest.fixture(scope="module")
def running():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as started:
        yield started


@pytest.fixture
def store(tmp_path, monkeypatch, running) -> RunStore:
    monkeypatch.setenv(SCHEDULER, running.scheduler_address)
    return RunStore(tmp_path / "runs")


def test_a_cluster_makes_the_rows_of_this_process(store, tmp_path, monkeypatch):
    """And a second client finds them in the store: it does not even ask for the cluster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = [execute(config, RunStore(tmp_path / "here")) for config in SHORT]
    torch.set_num_threads(threads)
    there = run_all(SHORT, store)
    assert [without_seconds(run) for run in there] == [without_seconds(run) for run in here]
    monkeypatch.setenv(SCHEDULER, "tcp://127.0.0.1:1")
    assert run_all(SHORT, store) == there


def test_a_worker_that_dies_costs_its_unfinished_run_alone(store, running, monkeypatch):
    """Four runs of two workers: one worker is killed once a run is stored, and every run is there in the end."""
    saved, killed = [], []
    save = RunStore.save

    def save_and_kill(self, *arguments):
        saved.append(time.monotonic())
        if not killed:
            worker = next(iter(running.workers.values()))
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
        return save(self, *arguments)

    monkeypatch.setattr(RunStore, "save", save_and_kill)
    longer = [replace(config, epochs=6, seed=seed) for config in SHORT[:2] for seed in (1, 2)]
    runs = run_all(longer, store)
    assert [len(run.rows) for run in runs] == [6] * 4 and len(saved) == 4 and killed
    assert {path.suffix for path in store.root.iterdir() if path.is_file()} == {".jsonl"}  # nothing half-written


def test_a_run_that_is_half_done_here_begins_again_there(store, monkeypatch):
    """And leaves no checkpoint; the bar gets the epochs that were lacking."""
    config, ticks = replace(SHORT[0], epochs=3, seed=3), []

    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        execute(config, store, on_epoch=stop)
    assert {path.suffix for path in store.root.iterdir() if path.is_file()} == {".jsonl", ".checkpoint"}
    failures = cluster.execute_on_cluster([config], store, os.environ[SCHEDULER], ticks.append)
    assert failures == [] and ticks == [2]
    assert {path.suffix for path in store.root.iterdir() if path.is_file()} == {".jsonl"}
    assert len(store.load(config.label, config.identity).rows) == 3


def test_a_run_that_fails_does_not_keep_the_others(store):
    bad = replace(SWEEP.run("SGD", 0.05, seed=0), direction="no-such-direction")
    with pytest.raises(ValueError, match="no-such-direction"):
        run_all([bad, SWEEP.run("EqualWeight", 0.1, seed=0)], store)
    assert [path.name.split("-")[1] for path in store.root.iterdir() if path.is_file()] == ["EqualWeight"]


def test_a_worker_with_other_code_is_refused(store, monkeypatch):
    monkeypatch.setattr(cluster, "SOURCE", "0" * 16)
    with pytest.raises(ClusterError, match="must run the fastls of this machine"):
        run_all([SWEEP.run("EqualWeight", 0.2, seed=0)], store)


def test_no_scheduler(store, monkeypatch):
    monkeypatch.setenv(SCHEDULER, "tcp://127.0.0.1:1")
    with pytest.raises(ClusterError, match="must answer at tcp://127.0.0.1:1"):
        run_all([SWEEP.run("EqualWeight", 0.3, seed=0)], store)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as empty:
        monkeypatch.setenv(SCHEDULER, empty.scheduler_address)
        with pytest.raises(ClusterError, match="must have a worker, found none"):
            run_all([SWEEP.run("EqualWeight", 0.3, seed=0)], store)


def test_a_worker_of_two_threads_is_refused(store, monkeypatch):
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as wide:
        monkeypatch.setenv(SCHEDULER, wide.scheduler_address)
        with pytest.raises(ClusterError, match="must have one thread"):
            run_all([SWEEP.run("EqualWeight", 0.3, seed=0)], store)
