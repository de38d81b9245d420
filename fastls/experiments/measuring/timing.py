"""Seconds per epoch of several methods, interleaved on one machine, for comparison with the paper's tables of times.

Every round trains one epoch with each method in turn, each on its own network: a machine that slows down or warms up
affects all methods. Ratios are taken within a round. The order of the methods rotates from round to round.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from tqdm import tqdm

from fastls.datasets.common import MultiTaskData
from fastls.experiments.measuring.measurement import Measurement, changed
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.sweeps import DEFAULTS, GAIN, LR_UB, SEARCH, Sweep, default_run, gain_run
from fastls.experiments.training.training import PASSES, Training, summarize_steps

METHODS = ("EqualWeight", "SGD", "BLS", "MGDA-UB", "FBLS")
IN_TURN, WARM_START = "FBLS, in turn", "FBLS, warm start"
# FBLS with options. In turn: trials begin with the task that rejected the last trial; the steps are the same. Warm
# start: searches begin near the previous step instead of at lr_ub.
VARIANTS = {IN_TURN: {"order": "in turn"}, WARM_START: {"start": "previous"}}
# A former method that tried eight steps at once. Committed runs have its rows, and their keys contain its name.
RETIRED = ("FBLS, parallel",)
LR = 0.1
WARM_UP_IMAGES = 2_560
# Settings of the committed timings that their keys do not hold: see `changed`.
COMMITTED = {IN_TURN: {"order": "in turn"}, WARM_START: {"start": "previous"}, "warm_up_images": 2_560}


@dataclass(frozen=True)
class Timing(Measurement):
    """An interleaved timing: one row per round and method, with seconds, steps, and trials and passes per step.

    Attributes:
        rounds: measured epochs per method.
        methods: the methods that are timed, except `RETIRED` ones.
        lr: of the methods without a search; their time does not depend on it, as long as they do not diverge.
        epochs: does not affect the times, but is part of the key of timings of FBLS+gain and AdamFBLS.
    """

    name: ClassVar[str] = "timing"
    rounds: int
    methods: tuple[str, ...] = METHODS
    lr: float = LR
    epochs: int = 1

    @property
    def identity(self) -> dict:
        data = {name: value for name, value in self.setting.identity.items() if name != "n_test"}
        own = {"rounds": self.rounds, "methods": list(self.methods), "lr": self.lr, "lr_ub": LR_UB, **SEARCH}
        searches = {name: self.method_config(name).identity for name in self.methods if name in (GAIN, "AdamFBLS")}
        variants = {name: options for name, options in VARIANTS.items() if name in self.methods}
        unsaid = changed({"warm_up_images": WARM_UP_IMAGES} | variants, COMMITTED)
        return data | own | ({"searches": searches} if searches else {}) | unsaid

    def method_config(self, method: str) -> RunConfig:
        sweep = Sweep(**vars(self.setting), epochs=self.epochs, seeds=1)
        if method in DEFAULTS:
            return default_run(sweep, method, seed=0)
        if method == GAIN:
            return gain_run(sweep, seed=0)
        if method in VARIANTS:
            return sweep.run("FBLS", LR_UB, seed=0, **SEARCH, **VARIANTS[method])
        if method in ("BLS", "FBLS"):
            return sweep.run(method, LR_UB, seed=0, **SEARCH)
        return sweep.run(method, self.lr, seed=0)

    def measure(self, data: MultiTaskData) -> list[dict]:
        warm_up = replace(data, train=data.train.first(WARM_UP_IMAGES))
        methods = tuple(method for method in self.methods if method not in RETIRED)
        trainings = {method: Training(self.method_config(method), warm_up) for method in methods}
        for training in trainings.values():
            training.train_epoch(0)  # buffers of the first step are made here
            training.data = data
        return time_in_turn(trainings, tqdm(range(self.rounds), desc="timing", unit="round"))


def time_in_turn(trainings: dict[str, Training], turns, extra: Callable[[], dict] = dict) -> list[dict]:
    """One epoch with each method, round by round; each round begins with the next method. One row per epoch.

    Args:
        trainings: method -> its network and data.
        turns: numbers of the rounds.
        extra: called at the beginning of each round; its result is added to the rows of the round.
    """
    rows, methods = [], tuple(trainings)
    for turn in turns:
        first, more = turn % len(methods), extra()
        for method in methods[first:] + methods[:first]:
            records, seconds = trainings[method].train_epoch(turn + 1)
            summary = summarize_steps(records, trainings[method].optimizer.lr)
            row = {"round": turn, "method": method, "seconds": round(seconds, 5), "steps": len(records)}
            rows.append(row | {name: summary[name] for name in ("trials", *PASSES)} | more)
    return rows
