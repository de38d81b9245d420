"""Runs on other machines: a running Dask cluster trains them, and this process stores their rows.

Workers need fastls, the data sets and nothing of this machine's disk. A run comes back whole; one whose worker dies
begins again on another worker. Runs have their keys as names on the cluster, so that two clients share a run that both
want.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.store import Run, RunStore, compute_key
from fastls.experiments.training.training import execute
from fastls.paths import ROOT


class ClusterError(RuntimeError):
    """A cluster that cannot be used. The message says why, and what to do."""


def execute_on_cluster(
    configs: list[RunConfig], store: RunStore, address: str, on_epochs: Callable[[int], None]
) -> list[Exception]:
    """Train runs on a Dask cluster and store each as it comes back.

    Args:
        configs: the runs.
        store: where their rows are kept, on this machine.
        address: of the scheduler, such as "tcp://10.0.0.1:8786".
        on_epochs: called with a run's number of epochs once it is stored.

    Returns:
        What the runs that failed raised; all others are stored.

    Raises:
        ClusterError: `distributed` is not installed, no scheduler answers, or it has no worker.
        StoreError: the store may make no run.
    """
    for config in configs:
        store.check_may_make(config.label, config.identity)
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError as error:
        raise ClusterError("--scheduler needs the package distributed: pip install 'fastls[cluster]'.") from error
    try:
        client = Client(address, timeout="10s")
    except OSError as error:
        raise ClusterError(f"A Dask scheduler must answer at {address}, none did; start one.") from error
    failures = []
    with client:
        if not client.scheduler_info()["workers"]:
            raise ClusterError(f"The cluster at {address} must have a worker, found none: `dask worker {address}`.")
        source = digest_source()
        futures = {
            client.submit(_train, config, source, key=f"{config.label}-{compute_key(config.identity)}"): config
            for config in configs
        }
        for future in as_completed(futures):
            config = futures[future]
            if failure := future.exception():
                failures.append(failure)
                continue
            run = future.result()
            store.save(config.label, config.identity, run.header, run.rows)
            on_epochs(config.epochs)
    return failures


def digest_source() -> str:
    """Sixteen hexadecimal digits of the sha256 of the package's source: two machines with the same train the same."""
    files = sorted((ROOT / "fastls").rglob("*.py"))
    return sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _train(config: RunConfig, source: str) -> Run:
    """On a worker: train a run in a folder that is thrown away afterwards."""
    from distributed import get_worker

    if get_worker().state.nthreads != 1:
        raise ClusterError("A worker must have one thread, since torch's generators belong to all: use --nthreads 1.")
    if digest_source() != source:
        raise ClusterError(f"{get_worker().address} must have the fastls of this machine, found another: update it.")
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        return execute(config, RunStore(Path(folder)))
