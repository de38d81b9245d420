"""Peak memory of the methods: the weights, buffers, activations and gradients that a training holds at once.

On a GPU torch's allocator counts; on a CPU the allocations and releases that torch's profiler saw are added up, so that
the result does not depend on the machine's other work.
"""

import gc
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch.autograd.profiler import profile, record_function

from fastls.datasets.common import MultiTaskData
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.measuring.timing import METHODS, RETIRED, Timing
from fastls.experiments.training.training import Training, load_data_of

MEGABYTE = 1e6
MADE = "fastls: the network stands"  # mark in the profile: from here on memory counts


@dataclass(frozen=True)
class Memory(Measurement):
    """One row per method: ``peak_mb``, the peak memory of the network and of two steps, during the steps.

    The second step includes the memory that a method keeps from step to step.

    Attributes:
        methods: the methods that are measured, except `RETIRED` ones.
    """

    name: ClassVar[str] = "memory"
    methods: tuple[str, ...] = METHODS

    @property
    def identity(self) -> dict:
        identity = Timing(self.setting, rounds=1, methods=self.methods).identity
        return {name: value for name, value in identity.items() if name not in ("n_train", "rounds")}

    def load(self) -> MultiTaskData:
        """One batch; `n_train` is ignored."""
        return load_data_of(replace(self.setting, n_train=self.setting.batch_size, n_test=1))

    def measure(self, data: MultiTaskData) -> list[dict]:
        rows = []
        for method in (method for method in self.methods if method not in RETIRED):
            run = Timing(self.setting, rounds=1).method_config(method)
            peak = measure_peak(partial(Training, run, data), _take_two_steps, self.setting.device)
            rows.append({"method": method, "peak_mb": round(peak / MEGABYTE, 2)})
        return rows


def _take_two_steps(training: Training) -> None:
    for epoch in (1, 2):
        training.train_epoch(epoch)


def measure_peak(make: Callable[[], Any], work: Callable[[Any], None], device: str) -> int:
    """Peak memory on a device during ``work(make())``, in bytes, including tensors of `make` that still exist.

    Memory that `make` releases does not count: a network of two stages begins as one of four.
    """
    gc.collect()  # so that no earlier network is released during this measurement
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        made = make()
        torch.cuda.reset_peak_memory_stats()
        work(made)
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes its log into the notebook
    with profile(profile_memory=True) as profiler:
        made = make()
        with record_function(MADE):
            pass
        work(made)
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    (start,) = [event["ts"] for event in events if event["name"] == MADE]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    held = accumulate(size for _, size in changes)
    return max(total for (when, _), total in zip(changes, held, strict=True) if when >= start)
