"""What a trial must leave as it was: random generators and buffers."""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Snapshot:
    """What a forward pass changes besides its result: random generators and module buffers.

    Trials replay a pass from here, so that dropout draws the same masks in all trials of a step and batch
    normalisation's running statistics see none of them.
    """

    def __init__(self, module: nn.Module, device: torch.device):
        self.module = module
        self.device = device
        self.buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self.generators = self._generators()

    def _generators(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def _set_generators(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)

    @contextmanager
    def replay(self):
        """Within: generators as they were at the snapshot. After: as they were before."""
        now = self._generators()
        self._set_generators(self.generators)
        try:
            yield
        finally:
            self._set_generators(now)

    def call(self, parameters: dict[str, Tensor], inputs):
        """The module's output with other parameters and a fresh copy of its buffers; the module itself is untouched."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return functional_call(self.module, (parameters, buffers), (inputs,))
