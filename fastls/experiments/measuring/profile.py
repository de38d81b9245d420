"""How a step of FBLS spends its time: torch's profiler times the named parts of a step."""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import ClassVar
from unittest.mock import patch

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from fastls.algorithms import functional, multitask_optimizer, spaces
from fastls.datasets.common import MultiTaskData
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.measuring.timing import Timing
from fastls.experiments.training.training import Training
from fastls.models import trial_state

STEPS = 3
# Part -> (owner, attribute) of its calls. A call inside another one counts as part of the outer call.
PARTS = {
    "encoder forward": [(spaces.Evaluation, "encode")],
    "decoders forward and backward": [(spaces.Evaluation, "_evaluate_decoders")],
    "trials": [(multitask_optimizer.CommonDirectionOptimizer, "_search")],
    "encoder backward": [(spaces.Evaluation, "pull_back")],
    "snapshot of the encoder": [(trial_state.Snapshot, "__init__")],
    "gradients, Gramian and weights": [
        (spaces.LatentSpace, "gradients"),
        (spaces.LatentSpace, "gramian"),
        (spaces.Evaluation, "own_slopes"),
        (functional, "weigh"),
        (functional, "is_stationary"),
    ],
    "update": [(multitask_optimizer.MultiTaskOptimizer, "_move")],
}
STEP, REST = "whole step", "checks and the rest"


@dataclass(frozen=True)
class Profile(Measurement):
    """One row per part of a step of FBLS: ``part``, ``ms`` per step, ``share`` of the step."""

    name: ClassVar[str] = "profile"

    @property
    def identity(self) -> dict:
        return Timing(self.setting, rounds=STEPS, methods=("FBLS",)).identity | {"profile": list(PARTS)}

    def measure(self, data: MultiTaskData) -> list[dict]:
        batch_size, on_gpu = self.setting.batch_size, self.setting.device == "cuda"
        training = Training(Timing(self.setting, rounds=1).method_config("FBLS"), data)
        inputs, targets = next(iter(data.train.batches(torch.arange(batch_size), batch_size, training=True)))
        training.model.train()
        training.optimizer.step(inputs, targets)  # warms up
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with mark_parts(), profile(activities=activities) as profiler:
            for _ in range(STEPS):
                with record_function(STEP):
                    training.optimizer.step(inputs, targets)
        # On a GPU each annotation appears twice: on the host and among the kernels. The host's has the device time.
        events = {event.key: event for event in profiler.key_averages() if event.device_type == DeviceType.CPU}
        spent = {
            part: (events[part].device_time_total if on_gpu else events[part].cpu_time_total) / 1000 / STEPS
            for part in (*PARTS, STEP)
            if part in events
        }
        whole = spent.pop(STEP)
        spent[REST] = whole - sum(spent.values())
        return [{"part": part, "ms": round(ms, 3), "share": round(ms / whole, 4)} for part, ms in spent.items()]


@contextmanager
def mark_parts():
    """Inside: every part of a step appears under its name in torch's profiler, and no part inside another."""
    running: list[str] = []
    with ExitStack() as stack:
        for part, calls in PARTS.items():
            for owner, attribute in calls:
                marked = _marked(getattr(owner, attribute), part, running)
                stack.enter_context(patch.object(owner, attribute, marked))
        yield


def _marked(function: Callable, part: str, running: list[str]) -> Callable:
    @wraps(function)
    def marked(*arguments, **keywords):
        if running:
            return function(*arguments, **keywords)
        running.append(part)
        try:
            with record_function(part):
                return function(*arguments, **keywords)
        finally:
            running.pop()

    return marked
