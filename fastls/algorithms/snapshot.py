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
        self.generators = get_generators(device)

    @contextmanager
    def replay(self):
        """Within: generators as they were at the snapshot. After: as they were before."""
        now = get_generators(self.device)
        set_generators(self.generators, self.device)
        try:
            yield
        finally:
            set_generators(now, self.device)

    def call(self, parameters: dict[str, Tensor], inputs):
        """The module's output with other parameters and a fresh copy of its buffers; the module itself is untouched."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return functional_call(self.module, (parameters, buffers), (inputs,))


def get_generators(device: torch.device) -> list[Tensor]:
    """States of the generators that a pass on this device can draw from: the host's, and the device's own."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def set_generators(states: list[Tensor], device: torch.device) -> None:
    """Put back what `get_generators` found."""
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], device)
