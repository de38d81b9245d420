"""Seconds per epoch of the five methods, interleaved on one machine: what the paper's tables of times compare.

Every round trains one epoch with each method in turn, each on a network of its own, so that a machine that slows down
or warms up does so for all. Ratios are taken within a round. The order turns from round to round.
"""

from dataclasses import dataclass, replace

from tqdm import tqdm

from fastls.algorithms.multitask_optimizer import StepRecord
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import FREE_RUNS, LR_UB, SEARCH, Protocol
from fastls.experiments.training.training import PASSES, Training, load_data_of, make_header, summarize_steps

METHODS = ("EqualWeight", "SGD", "BLS", "MGDA-UB", "FBLS")
IN_TURN, WARM_START = "FBLS, in turn", "FBLS, warm start"
# FBLS with options: trials that begin with the task that refused the last one, the steps being the same; searches that
# begin near the previous step in place of lr_ub.
VARIANTS = {IN_TURN: {"order": "in turn"}, WARM_START: {"start": "previous"}}
# Measured once, with eight steps tried at once, and gone since. Committed runs have its rows, and their keys its name.
RETIRED = ("FBLS, parallel",)
LR = 0.1
WARM_UP_IMAGES = 2_560


@dataclass(frozen=True)
class TimingConfig:
    """An interleaved timing; its hash is the key of the stored run.

    Attributes:
        protocol: data and device; its sweep is not used.
        rounds: measured epochs per method.
        methods: what is timed, `RETIRED` ones excepted.
        lr: of the methods without a search; their time does not depend on it, as long as they do not diverge.
    """

    protocol: Protocol
    rounds: int
    methods: tuple[str, ...] = METHODS
    lr: float = LR

    @property
    def label(self) -> str:
        return f"{self.protocol.dataset}-timing"

    @property
    def identity(self) -> dict:
        base = self.method_config("SGD")
        names = ("dataset", "source", "n_train", "batch_size", "device", "data_options", "model_options")
        data = {name: value for name, value in base.identity.items() if name in names}
        searches = {name: self.method_config(name).identity for name in self.methods if name in FREE_RUNS}
        own = {"rounds": self.rounds, "methods": list(self.methods), "lr": self.lr, "lr_ub": LR_UB, **SEARCH}
        return data | own | ({"searches": searches} if searches else {})

    def method_config(self, method: str) -> RunConfig:
        if method in FREE_RUNS:
            return FREE_RUNS[method](self.protocol, seed=0)
        if method in VARIANTS:
            return self.protocol.run("FBLS", LR_UB, seed=0, **SEARCH, **VARIANTS[method])
        if method in ("BLS", "FBLS"):
            return self.protocol.run(method, LR_UB, seed=0, **SEARCH)
        return self.protocol.run(method, self.lr, seed=0)


def execute_timing(config: TimingConfig, store: RunStore) -> Run:
    """Measure, save whole, and return a run with a row per round and method; nothing is measured twice.

    Raises:
        StoreError: the stored file is corrupt.
        DataError: the data set is missing or damaged.
    """
    return store.get_or_make(config.label, config.identity, lambda: _measure(config))


def _measure(config: TimingConfig) -> tuple[dict, list[dict]]:
    size = config.protocol
    data = load_data_of(size)
    warm_up = replace(data, train=data.train.first(WARM_UP_IMAGES))
    methods = tuple(method for method in config.methods if method not in RETIRED)
    trainings = {method: Training(config.method_config(method), warm_up) for method in methods}
    for training in trainings.values():
        training.train_epoch(0)  # buffers of the first step are made here
        training.data = data
    turns = range(config.rounds)
    order = [(turn, method) for turn in turns for method in turned(methods, turn)]
    rows = []
    for turn, method in tqdm(order, desc="timing", unit="epoch"):
        records, seconds = trainings[method].train_epoch(turn + 1)
        row = {"round": turn, "method": method, "seconds": round(seconds, 4), "steps": len(records)}
        rows.append(row | count_passes(trainings[method], records))
    return make_header(data, size.device), rows


def count_passes(training: Training, records: list[StepRecord]) -> dict[str, float]:
    """Trials and passes of a step: means over these steps."""
    summary = summarize_steps(records, training.optimizer.lr)
    return {name: summary[name] for name in ("trials", *PASSES)}


def turned(methods: tuple[str, ...], turn: int) -> tuple[str, ...]:
    """The methods in the order of a round: the first one moves on by one a round."""
    first = turn % len(methods)
    return methods[first:] + methods[:first]
