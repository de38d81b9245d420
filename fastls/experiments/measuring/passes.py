"""Seconds of one pass through encoder and decoder: a step's time is predicted from these and its counted passes."""

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fastls.datasets.common import MultiTaskData
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.measuring.timing import Timing
from fastls.experiments.training.training import PASSES, Training, synchronize
from fastls.models.multitask import MultiTaskModel
from fastls.models.parts import trainable


@dataclass(frozen=True)
class PassTiming(Measurement):
    """One row per round, on the first batch: ``seconds_encoder_forward`` and so on.

    Attributes:
        rounds: how often each pass is measured.
    """

    name: ClassVar[str] = "passes"
    rounds: int

    @property
    def identity(self) -> dict:
        return Timing(self.setting, self.rounds, methods=("FBLS",)).identity

    def measure(self, data: MultiTaskData) -> list[dict]:
        batch = replace(data, train=data.train.first(self.setting.batch_size))
        training = Training(Timing(self.setting, self.rounds).method_config("FBLS"), batch)
        measure_passes(training)  # warms up
        return [{"round": turn} | measure_passes(training) for turn in range(self.rounds)]


def measure_passes(training: Training) -> dict[str, float]:
    """Seconds of each kind of pass, ``seconds_encoder_forward`` and so on: means over the batches; nothing moves."""
    train, config = training.data.train, training.config
    batches = train.batches(torch.arange(len(train)), config.batch_size, training=True)
    training.model.train()
    seconds = [_time_passes(training.model, inputs, targets, config.device) for inputs, targets in batches]
    return {f"seconds_{name}": round(mean, 6) for name, mean in pd.DataFrame(seconds).mean().items()}


def _time_passes(model: MultiTaskModel, inputs, targets: dict[str, Tensor], device: str) -> dict[str, float]:
    times = [_now(device)]
    z = model.encoder(inputs)
    times.append(_now(device))
    copies = [z.detach().requires_grad_() for _ in model.tasks]
    heads = zip(model.heads.items(), copies, strict=True)
    losses = [head(copy, inputs, targets[task]) for (task, head), copy in heads]
    times.append(_now(device))
    owned = [parameter for decoder in model.decoders.values() for parameter in trainable(decoder).values()]
    latent = torch.autograd.grad(sum(losses), [*copies, *owned])[0]
    times.append(_now(device))
    torch.autograd.grad(z, list(trainable(model.encoder).values()), latent, allow_unused=True)
    times.append(_now(device))
    encoder_forward, all_forward, all_backward, encoder_backward = np.diff(times)
    decoder_forward, decoder_backward = all_forward / len(losses), all_backward / len(losses)
    return dict(zip(PASSES, (encoder_forward, encoder_backward, decoder_forward, decoder_backward), strict=True))


def _now(device: str) -> float:
    synchronize(device)
    return time.perf_counter()


def encoder_share(rows: pd.DataFrame, tasks) -> pd.Series:
    """Share of the encoder in one forward and backward of the whole model, one value per row of `measure_passes`."""
    encoder = rows["seconds_encoder_forward"] + rows["seconds_encoder_backward"]
    decoders = tasks * (rows["seconds_decoder_forward"] + rows["seconds_decoder_backward"])
    return encoder / (encoder + decoders)
