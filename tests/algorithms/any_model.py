"""Small models with parts that other people write, and their batches."""

import warnings

import torch
import torch.nn.functional as F
from helpers import FIVE, copies
from torch import nn

from fastls import AdamFBLS

LOSSES = {"a": F.mse_loss, "b": F.mse_loss}
METHODS = [*FIVE, AdamFBLS]


def make(algorithm, model):
    return algorithm(model) if algorithm is AdamFBLS else algorithm(model, 0.1)


def linear(*shape: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(*shape, dtype=torch.float64)


def heads(width: int = 4) -> dict[str, nn.Module]:
    return {"a": linear(width, 1, seed=1), "b": linear(width, 1, seed=2)}


def data(seed: int = 0) -> tuple[torch.Tensor, dict]:
    generator = torch.Generator().manual_seed(seed)
    inputs, a, b = (torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (5, 1, 1))
    return inputs, {"a": a, "b": b}


def after_steps(algorithm, model, steps: int = 3, prepare=lambda inputs: inputs) -> list[torch.Tensor]:
    optimizer = make(algorithm, model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        for seed in range(steps):
            inputs, targets = data(seed)
            optimizer.step(prepare(inputs), targets)
    return copies(model)


class Encoder(nn.Module):
    """What `make` makes of a linear layer's output."""

    def __init__(self, make=lambda z: z):
        super().__init__()
        self.inner, self.make = linear(5, 4), make

    def forward(self, inputs):
        return self.make(self.inner(inputs))


class Reads(nn.Module):
    """A linear head on what `read` takes from a tree."""

    def __init__(self, inner: nn.Module, read):
        super().__init__()
        self.inner, self.read = inner, read

    def forward(self, z):
        return self.inner(self.read(z))
