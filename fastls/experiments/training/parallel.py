"""Execute the runs that the store lacks: one after the other, in several processes, or on a cluster."""

import os
import queue
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import torch
from tqdm import tqdm

from fastls.environment import SCHEDULER, process_context, usable_cores
from fastls.experiments.training.cluster import execute_on_cluster
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.training import execute, is_complete


class WorkerKilledError(RuntimeError):
    """A process that executed runs was killed without a message, perhaps for lack of memory."""


def run_all(configs: Sequence[RunConfig], store: RunStore, jobs: int = 1) -> list[Run]:
    """Execute the runs that are not complete in the store, and return all, in the order of `configs`.

    Args:
        configs: the runs; one that occurs twice is executed once.
        store: where they are kept.
        jobs: how many runs at once. They divide the cores among them; on a GPU they share the GPU. If the environment
            variable `SCHEDULER` is set, the cluster decides.

    Raises:
        ValueError: ``jobs < 1``.
        StoreError: a stored file cannot be used; nothing has been trained.
        WorkerKilledError: a process was killed; finished epochs are in the store.
        ClusterError: the cluster cannot be used.
        Exception: that of the first run that failed, raised after the others have ended; their rows are in the store.
    """
    if jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, found {jobs}.")
    stored = {config: store.load(config.label, config.identity) for config in configs}
    missing = [config for config, run in stored.items() if not is_complete(run)]
    if missing:
        _execute_missing(missing, sum(len(stored[config].rows) for config in missing if stored[config]), store, jobs)
        stored |= {config: store.load(config.label, config.identity) for config in missing}
    return [stored[config] for config in configs]


def _execute_missing(missing: list[RunConfig], done: int, store: RunStore, jobs: int) -> None:
    """Execute these runs, of whose epochs `done` are stored, and raise the exception of the first that failed."""
    with tqdm(total=sum(config.epochs for config in missing), initial=done, unit="epoch") as bar:
        if os.environ.get(SCHEDULER):
            failures = execute_on_cluster(missing, store, os.environ[SCHEDULER], bar.update)
        elif jobs == 1 or len(missing) < 2:
            failures = _execute_in_turn(missing, store, bar)
        else:
            failures = _execute_in_processes(missing, store, min(jobs, len(missing)), bar.update)
    if failures:
        raise failures[0]


def run_groups(groups: Mapping[str, Sequence[RunConfig]], store: RunStore, jobs: int = 1) -> dict[str, list[Run]]:
    """`run_all` for several named lists as one queue: no list waits for the last run of the previous list."""
    runs = iter(run_all([config for some in groups.values() for config in some], store, jobs))
    return {name: [next(runs) for _ in some] for name, some in groups.items()}


def _execute_in_turn(configs: list[RunConfig], store: RunStore, bar: tqdm) -> list[Exception]:
    failures = []
    for config in configs:
        bar.set_description(config.label)
        try:
            execute(config, store, on_epoch=bar.update)
        except Exception as failure:
            failures.append(failure)
    return failures


def _execute_in_processes(
    configs: list[RunConfig], store: RunStore, jobs: int, on_epochs: Callable[[int], None]
) -> list[Exception]:
    context = process_context(__name__)
    ticks = context.Queue()
    threads = max(1, usable_cores() // jobs)
    given = (ticks, threads, dict(os.environ))
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=given)
    try:
        futures = [pool.submit(_execute, config, store) for config in configs]
        pending = set(futures)
        while pending:
            pending = wait(pending, timeout=0.5).not_done
            _pass_on(ticks, on_epochs)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, runs that wait for their turn must not start
    _pass_on(ticks, on_epochs)
    failures = [failure for future in futures if (failure := future.exception())]
    killed = [failure for failure in failures if isinstance(failure, BrokenProcessPool)]
    if killed:
        raise WorkerKilledError(
            f"A process that executed runs was killed, perhaps for lack of memory, and {len(killed)} of {len(configs)} "
            f"runs are not finished. Finished epochs are in {store.root}: run again to resume, with fewer `jobs` "
            "if memory is short."
        ) from killed[0]
    return failures


def _pass_on(ticks, on_epochs: Callable[[int], None]) -> None:
    """Report the epochs that have ended in the workers since the last call."""
    count = 0
    while True:
        try:
            count += ticks.get_nowait()
        except queue.Empty:
            break
    if count:
        on_epochs(count)


_ticks = None  # the queue of a worker process: a process can inherit it, but a task cannot carry it


def _start_worker(ticks, threads: int, environment: dict[str, str]) -> None:
    global _ticks
    _ticks = ticks
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once; else it would begin the next run
    torch.set_num_threads(threads)


def _execute(config: RunConfig, store: RunStore) -> None:
    execute(config, store, on_epoch=partial(_ticks.put, 1))
