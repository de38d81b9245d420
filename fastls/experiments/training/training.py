"""One training run: a configuration in, a row per epoch out. Resumable at the last finished epoch."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

import fastls
from fastls.algorithms.spaces import Passes
from fastls.datasets.common import MultiTaskData
from fastls.environment import describe_environment
from fastls.experiments.training.config import Options, RunConfig, Setting
from fastls.experiments.training.optimizers.methods import make_optimizer
from fastls.experiments.training.optimizers.rivals import evaluation_weights
from fastls.experiments.training.store import Run, RunStore, StoreError
from fastls.experiments.training.workloads import get_workload
from fastls.paths import write_atomically

ADVICE = "Delete it and run again."
PASSES = tuple(field.name for field in fields(Passes))


@functools.lru_cache(maxsize=2)
def load_data(
    dataset: str, source: str, n_train: int, n_test: int, device: str, options: Options = ()
) -> MultiTaskData:
    """The data of a run on its device, kept for the next run of the same process."""
    return get_workload(dataset).load(n_train=n_train, n_test=n_test, source=source, **dict(options)).to(device)


def load_data_of(setting: Setting) -> MultiTaskData:
    """The data of a setting on its device."""
    of = setting
    return load_data(of.dataset, of.source, of.n_train, of.n_test, of.device, of.data_options)


def is_complete(run: Run | None) -> bool:
    return run is not None and rows_are_complete(run.rows, run.config["epochs"])


def rows_are_complete(rows: Sequence[dict], epochs: int) -> bool:
    """Whether all epochs are there, or the last row says that the run diverged."""
    return bool(rows) and (len(rows) == epochs or rows[-1]["diverged"])


def execute(config: RunConfig, store: RunStore, on_epoch: Callable[[], None] = lambda: None) -> Run:
    """Train as configured and save one row per epoch; go on from the last saved epoch if there is one.

    If another process trains the same run, wait until it has ended.

    Args:
        config: the run.
        store: where rows go; a checkpoint lies beside them until the run is complete.
        on_epoch: called after every epoch that was trained here.

    Returns:
        The complete run.

    Raises:
        StoreError: the stored file or checkpoint is corrupt, or was made from other data.
        DataError: the data set is missing or damaged.
    """
    run = store.load(config.label, config.identity)
    checkpoint = store.path(config.label, config.identity).with_suffix(".checkpoint")
    if not is_complete(run):
        store.check_may_make(config.label, config.identity)
        with store.lock(config.label, config.identity):
            run = store.load(config.label, config.identity)  # the other process may have completed it
            if not is_complete(run):
                run = _train(config, store, run, checkpoint, on_epoch)
    checkpoint.unlink(missing_ok=True)
    return run


def _train(
    config: RunConfig, store: RunStore, stored: Run | None, checkpoint: Path, on_epoch: Callable[[], None]
) -> Run:
    data = load_data_of(config)
    training = Training(config, data)
    header = make_header(data, config.device)
    if checkpoint.exists():  # without a checkpoint the run starts again, and its stored rows are replaced
        header = continue_header(stored, header)
        training.restore(checkpoint, data.fingerprint)
        store.save(config.label, config.identity, header, training.rows)  # a kill may have come before this save
    while not training.finished:
        training.run_epoch()
        # The checkpoint holds the rows too and goes first: a kill between the two writes loses nothing.
        training.save(checkpoint, data.fingerprint)
        store.save(config.label, config.identity, header, training.rows)
        on_epoch()
    return store.load(config.label, config.identity)


def make_header(data: MultiTaskData, device: str) -> dict:
    """Where a run comes from: its data, versions and machine."""
    return {
        "data": {"source": data.source, "description": data.description, "fingerprint": data.fingerprint},
        "environment": describe_environment(device),
    }


def continue_header(stored: Run | None, header: dict) -> dict:
    """The header of a resumed run: its first environment, and in ``resumed_on`` all that differ from the first."""
    if stored is None:
        return header
    first, others = stored.header["environment"], stored.header.get("resumed_on", [])
    if header["environment"] not in (first, *others):
        others = [*others, header["environment"]]
    return header | {"environment": first} | ({"resumed_on": others} if others else {})


class Training:
    """Model, optimizer and rows of a run under way."""

    def __init__(self, config: RunConfig, data: MultiTaskData):
        self.config, self.data = config, data
        # Train metrics use as many images as the test set has: an unbiased estimate at a fraction of the cost. The
        # splits are kept, since a split that reads from disk keeps its reading processes.
        self.evaluated = {"train": data.train.first(len(data.test)), "test": data.test}
        torch.manual_seed(config.seed)
        self.workload = get_workload(config.dataset)
        self.model = self.workload.make_model(**dict(config.model_options)).to(config.device)
        self.optimizer = make_optimizer(config, self.model)
        # The running mean of the weights. From n = 2 on, step n enters with weight 9/(n + 9): the start is forgotten.
        self.average = AveragedModel(self.model, avg_fn=_average, use_buffers=True) if config.averaged else None
        decay_every = config.decay_every or config.epochs + 1
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, decay_every, gamma=0.5)
        self.rows: list[dict] = []

    @property
    def finished(self) -> bool:
        return rows_are_complete(self.rows, self.config.epochs)

    def run_epoch(self) -> None:
        """Train one epoch, evaluate, append its row."""
        epoch = len(self.rows) + 1
        bound = self.optimizer.lr
        try:
            records, seconds = self.train_epoch(epoch)
        except FloatingPointError:
            self.rows.append({"epoch": epoch, "diverged": True})
            return
        metrics = self.evaluate()
        if None in metrics.values():  # the last step of the epoch diverged
            self.rows.append({"epoch": epoch, "diverged": True})
            return
        row = {"epoch": epoch, "diverged": False, "seconds": round(seconds, 4), "lr": bound}
        self.rows.append(row | metrics | summarize_steps(records, bound))
        self.scheduler.step()

    def evaluate(self) -> dict[str, float | None]:
        """Metrics of the model, and of the mean of its weights where there is one, on both splits."""
        models = {"": self.model} | ({"averaged_": self.average.module} if self.average else {})
        with evaluation_weights(self.optimizer):
            return {
                f"{prefix}{split}_{name}": rounded(value)
                for prefix, model in models.items()
                for split, examples in self.evaluated.items()
                for name, value in self.workload.evaluate(model, examples).items()
            }

    def train_epoch(self, epoch: int) -> tuple[list[fastls.StepRecord], float]:
        """All batches once, in an order set by seed and epoch; seconds are measured with the device synchronised."""
        config, train = self.config, self.data.train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1_000_003 * config.seed + epoch))
        self.model.train()
        synchronize(config.device)
        start = time.perf_counter()
        batches = train.batches(order, config.batch_size, training=True)
        records = []
        for inputs, targets in batches:
            records.append(self.optimizer.step(inputs, targets))
            if self.average is not None:
                self.average.update_parameters(self.model)
        synchronize(config.device)
        return records, time.perf_counter() - start

    def save(self, path: Path, fingerprint: str) -> None:
        state = {
            "rows": self.rows,
            "fingerprint": fingerprint,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average and self.average.state_dict(),
            "generators": [torch.get_rng_state()]
            + ([torch.cuda.get_rng_state()] if self.config.device == "cuda" else []),
        }
        content = BytesIO()
        torch.save(state, content)
        write_atomically(path, content.getvalue())

    def restore(self, path: Path, fingerprint: str) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            found = state["fingerprint"]
            if found == fingerprint:
                self._set_state(state)
        except Exception as error:
            what = type(error).__name__
            raise StoreError(
                f"{path} must be a checkpoint of this run, found one unreadable ({what}). {ADVICE}"
            ) from error
        if found != fingerprint:
            raise StoreError(f"{path} must be made from the data at hand, {fingerprint}, found {found}. {ADVICE}")

    def _set_state(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["generators"][0])
        if self.config.device == "cuda":
            torch.cuda.set_rng_state(state["generators"][1])
        self.rows = state["rows"]


def _average(mean: torch.Tensor, new: torch.Tensor, count) -> torch.Tensor:
    """The running mean after one more step; `count` steps came before."""
    return torch.lerp(mean, new, 9 / (float(count) + 10)) if mean.is_floating_point() else new


def summarize_steps(records: list[fastls.StepRecord], bound: float) -> dict:
    """Step sizes, trials, gain and passes of an epoch's steps."""
    steps = np.array([record.step_size for record in records])
    low, median, high = np.quantile(steps, [0.05, 0.5, 0.95])
    gains = [float(record.gain) for record in records if record.gain is not None]
    passes = {
        name: rounded(np.mean([getattr(record.passes, name) for record in records]))
        for name in asdict(records[0].passes)
    }
    return {
        "step_median": rounded(median),
        "step_p05": rounded(low),
        "step_p95": rounded(high),
        "share_at_bound": rounded(np.mean(steps >= bound)),
        "trials": rounded(np.mean([record.trials for record in records])),
        "accepted": rounded(np.mean([record.accepted for record in records])),
        "gain_median": rounded(np.median(gains)) if gains else None,
        **passes,
    }


def rounded(value) -> float | None:
    """Seven significant digits, as many as float32 losses have. NaN and infinity become None: JSON has neither."""
    value = float(f"{float(value):.7g}")
    return value if np.isfinite(value) else None


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
