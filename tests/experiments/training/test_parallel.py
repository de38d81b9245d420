"""Many runs: the same rows whatever the number of processes, nothing twice, and failures that say what to do."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
from synthetic import without_seconds

from fastls.environment import usable_cores
from fastls.experiments.training import parallel
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.parallel import WorkerKilledError, run_all, run_groups
from fastls.experiments.training.store import RunStore, StoreError
from fastls.experiments.training.sweeps import LR_UB, SEARCH, Sweep
from fastls.experiments.training.training import execute

SWEEP = Sweep("multimnist", "digits", n_train=100, n_test=50, epochs=2, seeds=1, batch_size=50)
SGD = SWEEP.run("SGD", 0.05, 0)
FBLS = SWEEP.run("FBLS", LR_UB, 0, **SEARCH)
BAD = replace(FBLS, direction="no-such-direction")


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture(autouse=True, scope="module")
def threads_of_workers():
    """Torch's threads as two workers have them: results may depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, usable_cores() // 2))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def executed(monkeypatch) -> list[RunConfig]:
    configs = []

    def record(config, store, on_epoch):
        configs.append(config)
        return execute(config, store, on_epoch)

    monkeypatch.setattr(parallel, "execute", record)
    return configs


def test_two_processes_make_the_rows_of_one(tmp_path, executed, monkeypatch):
    """And the failure of a run comes up after the others are stored."""
    ticks = []
    monkeypatch.setattr(parallel.tqdm, "update", lambda bar, n=1: ticks.append(n))
    alone, together = RunStore(tmp_path / "alone"), RunStore(tmp_path / "together")
    expected = run_all([SGD, FBLS], alone)
    assert ticks == [1, 1, 1, 1]
    ticks.clear(), executed.clear()
    with pytest.raises(ValueError, match="no-such-direction"):
        run_all([BAD, FBLS, SGD, FBLS], together, jobs=2)
    assert sum(ticks) == 4 and 0 not in ticks  # duplicates are executed once; the bar moves when an epoch ends
    found = run_all([FBLS, SGD, FBLS], together, jobs=2)  # all there: no process is started
    assert [without_seconds(run) for run in found] == [without_seconds(expected[i]) for i in (1, 0, 1)]
    assert executed == []
    assert len([path for path in together.root.iterdir() if path.is_file()]) == 2


def test_order_and_duplicates(store, executed):
    found = run_all([FBLS, SGD, FBLS], store)
    assert [run.config for run in found] == [config.identity for config in (FBLS, SGD, FBLS)]
    assert executed == [FBLS, SGD]
    assert run_all([SGD, FBLS], store) == [found[1], found[0]]
    assert executed == [FBLS, SGD]


def test_only_what_is_missing_is_executed(store, executed):
    done = execute(SGD, store)
    assert run_all([SGD, FBLS], store)[0] == done
    assert executed == [FBLS]


def test_failure_comes_up_after_the_others_are_stored(store, executed):
    with pytest.raises(ValueError, match="no-such-direction"):
        run_all([BAD, SGD], store)
    assert executed == [BAD, SGD]
    assert len(store.load(SGD.label, SGD.identity).rows) == SGD.epochs


@pytest.mark.parametrize("jobs", [1, 2])
def test_unreadable_file_is_named_before_any_training(store, executed, jobs):
    path = store.save(FBLS.label, FBLS.identity, {}, [])
    path.write_bytes(b"\xff")
    with pytest.raises(StoreError, match=str(path)):
        run_all([SGD, BAD, FBLS], store, jobs=jobs)
    assert executed == [] and list(store.root.iterdir()) == [path]


@pytest.mark.parametrize("jobs", [0, -1])
def test_jobs_below_one_are_refused(store, jobs):
    with pytest.raises(ValueError, match=f"`jobs` must be at least 1, found {jobs}"):
        run_all([SGD], store, jobs=jobs)


def test_nothing_to_do(store, capsys):
    assert run_all([], store, jobs=2) == []
    assert capsys.readouterr() == ("", "")


def test_killed_worker(store):
    """As the kernel kills when memory is short: while the workers start, which keeps this test short."""

    def kill_one():
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        os.kill(min(child.pid for child in multiprocessing.active_children()), signal.SIGKILL)

    threading.Thread(target=kill_one, daemon=True).start()
    with pytest.raises(WorkerKilledError, match=f"was killed.*[12] of 2 runs.*{store.root}.*run again to resume"):
        run_all([SGD, FBLS], store, jobs=2)
    assert [len(run.rows) for run in run_all([SGD, FBLS], store)] == [2, 2]


def test_two_notebooks_that_want_the_same_run_train_it_once(store):
    """Both once trained it, and the slower one put its first rows in the place of a complete run."""
    epochs, runs, together = [], [], threading.Barrier(2)

    def want():
        together.wait()
        runs.append(execute(SGD, store, on_epoch=lambda: epochs.append(1)))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(epochs) == SGD.epochs and runs[0] == runs[1] == store.load(SGD.label, SGD.identity)
    assert [path.suffix for path in store.root.iterdir() if path.is_file()] == [".jsonl"]


def test_a_complete_run_is_read_once(store, monkeypatch):
    expected, read, load = [execute(SGD, store)], [], RunStore.load
    monkeypatch.setattr(RunStore, "load", lambda *arguments: read.append(1) or load(*arguments))
    assert run_all([SGD], store) == expected and len(read) == 1


def test_no_bar_where_the_environment_wants_none(store, monkeypatch, capsys):
    """As in a committed notebook, which would store it. tqdm reads the variable when it is imported."""
    command = "from test_parallel import *; run_all([SGD], RunStore(sys.argv[1]))"
    found = subprocess.run(
        [sys.executable, "-c", "import sys; " + command, str(store.root)],
        env=os.environ | {"TQDM_DISABLE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert store.load(SGD.label, SGD.identity)


def test_groups_are_the_lists_that_were_given_and_a_run_of_two_groups_is_trained_once(store):
    groups = run_groups({"both": [SGD, FBLS], "none": [], "again": [SGD]}, store, jobs=2)
    methods = {name: [run.config["method"] for run in runs] for name, runs in groups.items()}
    assert methods == {"both": ["SGD", "FBLS"], "none": [], "again": ["SGD"]}
    assert groups["again"][0].rows == groups["both"][0].rows
    assert len(list(store.root.glob("*.jsonl"))) == 2
