"""Small models and counters that the tests of the algorithms share."""

import torch
import torch.nn.functional as F
from torch import nn

from fastls import BLS, FBLS, MGDAUB, SGD, EqualWeight, MultiTaskModel
from fastls.algorithms.spaces import Passes

FOUR = [SGD, BLS, MGDAUB, FBLS]
FIVE = [*FOUR, EqualWeight]
SEARCHES = [BLS, FBLS]
LATENT = [MGDAUB, FBLS]


def names(count: int) -> list[str]:
    return [f"task{t}" for t in range(count)]


def mlp(tasks: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> MultiTaskModel:
    """5 → 6 → 4 with tanh, and a two-layer head of one output per task under the squared error."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    heads = {name: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)) for name in names(tasks)}
    return MultiTaskModel(encoder, heads, dict.fromkeys(heads, F.mse_loss)).to(dtype)


def noisy(tasks: int, dtype: torch.dtype, seed: int) -> MultiTaskModel:
    """Decoders with batch normalisation and dropout, the modules that trials must not disturb."""
    torch.manual_seed(seed)

    def head():
        layers = (nn.Linear(4, 6, dtype=dtype), nn.BatchNorm1d(6, dtype=dtype), nn.ReLU(), nn.Dropout(0.3))
        return nn.Sequential(*layers, nn.Linear(6, 1, dtype=dtype))

    heads = {name: head() for name in names(tasks)}
    return MultiTaskModel(nn.Linear(5, 4, dtype=dtype), heads, dict.fromkeys(heads, F.mse_loss))


def with_silent(model: MultiTaskModel, silent: str) -> MultiTaskModel:
    """The same networks, the loss of one task zero for every output."""
    losses = model.losses | {silent: lambda output, target: F.mse_loss(output, target) * 0}
    return MultiTaskModel(model.encoder, dict(model.decoders), losses)


def batch(tasks: int = 2, dtype: torch.dtype = torch.float64, seed: int = 1) -> tuple:
    """Eight inputs and, for every task, other targets."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 5, generator=generator, dtype=dtype)
    return inputs, {name: 2 * torch.randn(8, 1, generator=generator, dtype=dtype) for name in names(tasks)}


def bare(encoder: nn.Module, *losses) -> MultiTaskModel:
    """Decoders that hand z on unchanged; loss t is a function of z alone."""
    heads = {name: nn.Identity() for name in names(len(losses))}
    takes_target = {name: lambda z, _, loss=loss: loss(z) for name, loss in zip(heads, losses, strict=True)}
    return MultiTaskModel(encoder, heads, takes_target)


def copies(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class CountBackward(torch.autograd.Function):
    """The identity, which counts the backward passes through it."""

    @staticmethod
    def forward(ctx, value, counter, key):
        ctx.counter, ctx.key = counter, key
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        count(ctx.counter, ctx.key)
        return gradient, None, None


class Counted(nn.Module):
    """A module whose passes are counted from outside of the algorithms."""

    def __init__(self, inner: nn.Module, counter: Passes, part: str):
        super().__init__()
        self.inner, self.counter, self.part = inner, counter, part

    def forward(self, inputs):
        count(self.counter, f"{self.part}_forward")
        return CountBackward.apply(self.inner(inputs), self.counter, f"{self.part}_backward")


def count(counter: Passes, key: str) -> None:
    setattr(counter, key, getattr(counter, key) + 1)


def counted(model: MultiTaskModel) -> tuple[MultiTaskModel, Passes]:
    counter = Passes()
    heads = {task: Counted(decoder, counter, "decoder") for task, decoder in model.decoders.items()}
    return MultiTaskModel(Counted(model.encoder, counter, "encoder"), heads, model.losses), counter


def trusted(optimizer):
    """The optimizer without its look at the model before the first step, so that all passes are those of steps."""
    optimizer.compared, optimizer.compared_mode = frozenset(optimizer.model.tasks), optimizer.model.training
    return optimizer
