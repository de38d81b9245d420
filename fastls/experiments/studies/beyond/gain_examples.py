"""The use and the limits of the encoder's gain: an example, and measurements of single steps.

The gain itself is `StepRecord.gain`, computed in `fastls.algorithms.multitask_optimizer`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import pandas as pd
import torch

from fastls.algorithms.directions import compute_gramian, weigh
from fastls.algorithms.line_search import Backtracking
from fastls.algorithms.optimizers import FBLS
from fastls.algorithms.spaces import Evaluation, LatentSpace
from fastls.datasets.common import MultiTaskData
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.sweeps import GAIN, GROWTH, Sweep, gain_run, search_runs
from fastls.experiments.training.training import Training
from fastls.models.multitask import MultiTaskModel


class Square(torch.nn.Module):
    """z = θ²/2: an encoder whose Jacobian is θ itself."""

    def __init__(self, start: float):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def forward(self, _):
        return self.theta.square() / 2


def follow_curved_encoder(steps: int, start: float = 1.0, bound: float = 1000.0) -> pd.DataFrame:
    """L = z with z = θ²/2: in latent space L is a straight line, on which every step passes; in θ it is a parabola.

    Returns:
        One row per step: ``theta`` before it, ``loss``, ``step_size``, ``accepted``, ``trials`` and ``gain`` = θ².
    """
    model = MultiTaskModel(Square(start), {"task": torch.nn.Identity()}, {"task": lambda z, _: z.sum()})
    search = Backtracking(growth=GROWTH)
    optimizer = FBLS(model, bound, line_search=search, match_gain=True)
    optimizer.param_groups[0]["previous_step"] = 2.0  # a step of 2 moves θ to −θ
    rows = []
    for step in range(steps):
        theta = model.encoder.theta.item()
        record = optimizer.step(None, {"task": None})
        rows.append(
            {
                "step": step,
                "theta": theta,
                "loss": record.losses[0].item(),
                "step_size": record.step_size,
                "accepted": record.accepted,
                "trials": record.trials,
                "gain": record.gain.item(),
            }
        )
    return pd.DataFrame(rows)


def watch_steps(optimizer: FBLS, batches: Iterable, every: int) -> pd.DataFrame:
    """Take a step on every batch, and measure every `every`-th step, which costs extra passes.

    Returns:
        One row per measured step: ``step``; ``cosine`` of `measure_cosine`; ``gain`` and ``step_size``; ``fell``, the
        share of tasks whose loss on the batch is lower after the whole step, with the same seed for dropout.
    """
    rows = []
    for step, (inputs, targets) in enumerate(batches):
        measured = step % every == 0
        cosine = measure_cosine(optimizer, inputs, targets) if measured else None
        torch.manual_seed(step)  # again below: the same dropout masks
        record = optimizer.step(inputs, targets)
        if measured:
            torch.manual_seed(step)
            with torch.no_grad():
                z, model = optimizer.model.encoder(inputs), optimizer.model
                after = [head(z, inputs, targets[task]) for task, head in model.heads.items()]
            rows.append(
                {
                    "step": step,
                    "cosine": cosine,
                    "gain": float(record.gain),
                    "step_size": record.step_size,
                    "fell": (torch.stack(after) < record.losses).double().mean().item(),
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Watch(Measurement):
    """`watch_steps` of FBLS without and with the gain, with a column ``method``.

    Attributes:
        steps: number of steps of each method.
        every: one of so many steps is measured.
    """

    name: ClassVar[str] = "watched"
    steps: int
    every: int

    @property
    def identity(self) -> dict:
        data = {name: value for name, value in self.setting.identity.items() if name != "n_test"}
        beside = vars(self.setting)
        searches = {
            method: {name: value for name, value in config.identity.items() if name not in beside}
            for method, config in self.runs.items()
        }
        return data | {"watched": self.steps, "every": self.every, "searches": searches}

    @property
    def runs(self) -> dict[str, RunConfig]:
        sweep = Sweep(**vars(self.setting), epochs=1, seeds=1)
        return {"FBLS": search_runs(sweep, seed=0)[0], GAIN: gain_run(sweep, seed=0)}

    def measure(self, data: MultiTaskData) -> list[dict]:
        order = torch.arange(len(data.train)).repeat(-(-self.steps * self.setting.batch_size // len(data.train)))
        batches = list(islice(data.train.batches(order, self.setting.batch_size, training=True), self.steps))
        rows = []
        for method, config in self.runs.items():
            watched = watch_steps(Training(config, data).optimizer, batches, self.every)
            rows += watched.assign(method=method).to_dict("records")
        return rows


def measure_cosine(optimizer: FBLS, inputs, targets) -> float:
    """cos ∠(J Jᵀ d_z, d_z) on a batch, by one JVP through the encoder: the share of z's move that is along d_z.

    1 means that z moves in the direction of the trial. No trial sees the other part of the move, √(1 − cos²) of it.
    """
    model = optimizer.model
    batch = Evaluation(model, inputs, targets, replayable=True)
    gradients = LatentSpace().gradients(batch)
    weights, _ = weigh(optimizer.direction, compute_gramian(gradients), batch.own_slopes())
    direction = weights.to(gradients) @ gradients
    shared = batch.pull_back(batch.z.split(direction), last=True)
    start = batch.encoder_start
    primals = {name: parameter.detach() for name, parameter in batch.encoder_parameters.items()}
    tangents = dict(zip(primals, shared, strict=True))
    with start.replay():
        _, moved = torch.func.jvp(lambda parameters: start.call(parameters, inputs), (primals,), (tangents,))
    return torch.nn.functional.cosine_similarity(moved.flatten(), direction, dim=0).item()
