"""Runs on other machines: a running Dask cluster trains them, and this process stores their rows.

Workers need fastls and the data sets, but nothing from this machine's disk. A run comes back whole. If its worker dies,
the run begins again on another worker; a run that is half-done here also begins again. The keys of runs are their names
on the cluster, so two clients with the same code share a run that both want.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.store import Run, RunStore, compute_key
from fastls.experiments.training.training import execute


def _digest_source() -> str:
    """Sixteen hexadecimal digits of the sha256 of the package's source: equal digits, equal training."""
    package = Path(__file__).parents[2]
    digest = sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


SOURCE = _digest_source()  # of the source at import; later changes of the files do not matter


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
        on_epochs: called with the number of epochs that the store lacked, once a run is stored.

    Returns:
        The exceptions of the runs that failed; all other runs are stored.

    Raises:
        ClusterError: `distributed` is not installed, no scheduler answers, or it has no worker.
        StoreError: the store may make no run.
    """
    for config in configs:
        store.check_may_make(config.label, config.identity)
    try:
        from distributed import Client, as_completed
    except ModuleNotFoundError as error:
        raise ClusterError("--scheduler needs distributed: pip install -e '.[cluster]' in the clone.") from error
    try:
        client = Client(address, timeout="10s")
    except OSError as error:
        raise ClusterError(f"A Dask scheduler must answer at {address}, none did; start one.") from error
    failures = []
    with client:
        if not client.scheduler_info()["workers"]:
            raise ClusterError(f"The cluster at {address} must have a worker, found none: `dask worker {address}`.")
        futures = {
            client.submit(_train, config, SOURCE, key=f"{config.label}-{compute_key(config.identity)}-{SOURCE}"): config
            for config in configs
        }
        for future in as_completed(futures):
            config = futures[future]
            if failure := future.exception():
                failures.append(failure)
                continue
            run, stored = future.result(), store.load(config.label, config.identity)
            store.save(config.label, config.identity, run.header, run.rows)
            store.path(config.label, config.identity).with_suffix(".checkpoint").unlink(missing_ok=True)
            on_epochs(config.epochs - (len(stored.rows) if stored else 0))
    return failures


def _train(config: RunConfig, source: str) -> Run:
    """On a worker: train a run in a temporary folder."""
    from distributed import get_worker

    if get_worker().state.nthreads != 1:
        raise ClusterError("A worker must have one thread, since torch's generators belong to all: use --nthreads 1.")
    if SOURCE != source:
        raise ClusterError(
            f"{get_worker().address} must run the fastls of this machine, found another: update it and restart it."
        )
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        return execute(config, RunStore(Path(folder)))
