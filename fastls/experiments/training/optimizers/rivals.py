"""The usual optimizers, from other libraries, at their defaults, on the mean of the losses."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fastls.algorithms.optimizers import EqualWeight
from fastls.models.multitask import MultiTaskModel


def _prodigy(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    from prodigyopt import Prodigy

    return Prodigy(parameters, lr, use_bias_correction=True, safeguard_warmup=True)


def _schedule_free(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    from schedulefree import AdamWScheduleFree

    return AdamWScheduleFree(parameters, lr)


def _ldog(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    from dog import LDoG

    return LDoG(parameters, lr=lr)


# Method -> its optimizer, and its authors' default learning rate.
RIVALS: dict[str, tuple[Callable, float]] = {
    "AdamW": (torch.optim.AdamW, 1e-3),
    "NAdam": (torch.optim.NAdam, 2e-3),
    "Prodigy": (_prodigy, 1.0),
    "ScheduleFree": (_schedule_free, 2.5e-3),
    "LDoG": (_ldog, 1.0),
}


@contextmanager
def evaluation_weights(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside: the weights for evaluation. Schedule-Free evaluates other weights than those at which it trains."""
    inner = getattr(optimizer, "inner", None)
    switches = hasattr(inner, "eval")
    if switches:
        inner.eval()
    try:
        yield
    finally:
        if switches:
            inner.train()


class Rival(EqualWeight):
    """θ ← the step of another optimizer along the gradient of (1/T) Σ_t L_t.

    Args:
        model: a `MultiTaskModel`.
        lr: its learning rate.
        make: parameters, lr -> optimizer.

    Raises:
        ModuleNotFoundError: its package is not installed; requirements.txt names them.
    """

    def __init__(self, model: MultiTaskModel, lr: float, make: Callable):
        super().__init__(model, lr)
        self.inner = make([parameter for group in self.param_groups for parameter in group["params"]], lr)
        if hasattr(self.inner, "train"):
            self.inner.train()

    @torch.no_grad()
    def _move(self, direction: list[Tensor], step_size: float) -> None:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for parameter, gradient in zip(parameters, direction, strict=True):
            parameter.grad = gradient
        for group in self.inner.param_groups:
            group["lr"] = step_size  # a scheduler may have changed it
        self.inner.step()
        self.inner.zero_grad()

    def state_dict(self) -> dict:
        return {"outer": super().state_dict(), "inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state["outer"])
        self.inner.load_state_dict(state["inner"])
