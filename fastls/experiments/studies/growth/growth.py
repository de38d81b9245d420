"""Steps of growing models, on random inputs: the cost of more tasks, deeper encoders, wider decoders, larger batches.

One size of a ResNet grows at a time; beside it, two networks of other kinds are measured at one size. The methods step
in turn on the same batch, each with its own network.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from tqdm import tqdm

import fastls
from fastls.environment import describe_environment
from fastls.experiments.measuring.measurement import changed
from fastls.experiments.measuring.memory import MEGABYTE, measure_peak
from fastls.experiments.measuring.timing import WARM_START as WARM
from fastls.experiments.studies.growth.networks import TOKENS, Size, make_problem
from fastls.experiments.training.optimizers.torchjd_peer import TorchJDMGDA
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.training import synchronize

LR = 0.01
PLAIN, PEER = "plain PyTorch", "TorchJD MGDA"


@dataclass(frozen=True)
class Growth:
    """The sizes that grow, and the number of rounds in which they are measured.

    Attributes:
        series: pairs of the name of what varies and the sizes.
        side: of the square images, pixels.
        rounds: measured steps per method and size, after one warm-up step.
        peer_at_most: largest T times batch at which TorchJD is timed, since it keeps T gradients.
        device: "cpu" or "cuda".
    """

    series: tuple[tuple[str, tuple[Size, ...]], ...]
    side: int
    rounds: int
    peer_at_most: int
    device: str

    @property
    def identity(self) -> dict:
        """The values from which the key is made."""
        series = {name: [_describe(size) for size in sizes] for name, sizes in self.series}
        base = {"batch_size": self.series[0][1][0].batch}
        return {"kind": "growth", **vars(self), "series": series, "methods": list(METHODS), "lr": LR} | base

    def execute(self, store: RunStore) -> Run:
        """The stored run: one row per series, size, method and round, with ``ms``, ``trials`` and ``peak_mb``."""
        return store.get_or_make("growth", self.identity, self._measure)

    def _measure(self) -> tuple[dict, list[dict]]:
        different = dict.fromkeys(size for _, sizes in self.series for size in sizes)
        texts = f" or texts of {TOKENS} tokens" if any(size.network == "small BERT" for size in different) else ""
        description = f"random images of {self.side} × {self.side}{texts}"
        data = {"source": "noise", "description": description, "fingerprint": "none"}
        measured = {size: self._measure_size(size) for size in tqdm(different, desc="growth", unit="size")}
        rows = []
        for name, sizes in self.series:
            for size in sizes:
                rows += [{"varied": name} | _describe(size) | row for row in measured[size]]
        return {"data": data, "environment": describe_environment(self.device)}, rows

    def _measure_size(self, size: Size) -> list[dict]:
        model, inputs, targets = make_problem(size, self.side, self.device)
        methods = [name for name in METHODS if name != PEER or size.tasks * size.batch <= self.peer_at_most]
        peaks = {}
        for name in methods:
            peak = measure_peak(lambda name=name: start(name, model), lambda step: step(inputs, targets), self.device)
            peaks[name] = round(peak / MEGABYTE, 2)
        steps, rows = {name: start(name, model) for name in methods}, []
        for turn in range(self.rounds + 1):
            for name in methods[turn % len(methods) :] + methods[: turn % len(methods)]:
                synchronize(self.device)
                begin = time.perf_counter()
                trials = steps[name](inputs, targets)
                synchronize(self.device)
                ms = round(1000 * (time.perf_counter() - begin), 3)
                rows.append({"round": turn, "method": name, "ms": ms, "trials": trials, "peak_mb": peaks[name]})
        return [row for row in rows if row["round"] > 0]


def _describe(size: Size) -> dict:
    """The fields of a size, without ``network`` for the ResNet: the first run was measured when there was no other."""
    return changed(asdict(size), {"network": "ResNet"})


def start(method: str, model: fastls.MultiTaskModel) -> Callable[[Tensor, dict], int]:
    """A step of a method on its own copy of the model, which returns the number of its trials."""
    model = copy.deepcopy(model)
    return METHODS[method](model)


def _plain(model: fastls.MultiTaskModel) -> Callable[[Tensor, dict], int]:
    optimizer = torch.optim.SGD(model.parameters(), LR)

    def step(inputs, targets) -> int:
        optimizer.zero_grad()
        z = model.encoder(inputs)
        losses = [model.losses[task](model.decoders[task](z), targets[task]) for task in model.tasks]
        torch.stack(losses).mean().backward()
        optimizer.step()
        return 0

    return step


def _ours(make: Callable) -> Callable:
    def prepare(model: fastls.MultiTaskModel) -> Callable[[Tensor, dict], int]:
        optimizer = make(model)
        return lambda inputs, targets: optimizer.step(inputs, targets).trials

    return prepare


METHODS = {
    PLAIN: _plain,
    "EqualWeight": _ours(lambda model: fastls.EqualWeight(model, LR)),
    "FBLS": _ours(fastls.FBLS),
    WARM: _ours(lambda model: fastls.FBLS(model, line_search=fastls.Backtracking(growth=1.1))),
    PEER: _ours(lambda model: TorchJDMGDA(model, LR)),
}


def make_growth(size: str, device: str) -> Growth:
    """The growing ResNets of `bench` at one of its sizes, "laptop", "gpu" or "tiny"."""
    if size == "tiny":
        series = {"tasks": [Size(t, 1, 0, 2) for t in (1, 2)], "batch": [Size(2, 1, 0, batch) for batch in (2, 4)]}
        return _freeze(series, 32, 2, 4, device)
    tasks, blocks, widths = (1, 2, 5, 10, 20, 40), (1, 2, 4), (64, 512, 4096)
    batches = (16, 64, 256) if size == "laptop" else (64, 256, 1024)
    base = batches[0]
    series = {
        "tasks": [Size(tasks=t, batch=base) for t in tasks],
        "blocks": [Size(blocks=b, batch=base) for b in blocks],
        "width": [Size(width=w, batch=base) for w in widths],
        "batch": [Size(tasks=40, batch=b) for b in batches],
    }
    return _freeze(series, 64, 5 if size == "laptop" else 20, 20 * base, device)


def make_networks(size: str, device: str) -> Growth:
    """The other networks of `bench` at one of its sizes; TorchJD is timed only on those of `make_growth`."""
    if size == "tiny":
        return _freeze({"network": [Size(2, 2, 0, 2, "MTAN"), Size(4, 2, 0, 2, "small BERT")]}, 32, 2, 0, device)
    batch, rounds = (16, 10) if size == "laptop" else (64, 20)
    networks = [Size(tasks=3, batch=batch, network="MTAN"), Size(tasks=4, batch=batch, network="small BERT")]
    return _freeze({"network": networks}, 64, rounds, 0, device)


def _freeze(series: dict[str, list[Size]], *rest) -> Growth:
    return Growth(tuple((name, tuple(sizes)) for name, sizes in series.items()), *rest)
