"""What a trial must leave as it was, and find as the step found it: random generators, buffers, and the code's path."""

import random
from contextlib import contextmanager

import numpy as np
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
        self.draws = True

    def close(self) -> None:
        """Called after the pass: where it drew no random number, trials need not put the generators back."""
        self.draws = not _same(self.generators, get_generators(self.device))

    @contextmanager
    def replay(self):
        """Within: generators as they were at the snapshot, and no path that torch takes without gradients alone.

        After: as they were before.
        """
        draws = self.draws
        now = get_generators(self.device) if draws else None
        if draws:
            set_generators(self.generators, self.device)
        fast_path = torch.backends.mha.get_fastpath_enabled()  # else a Transformer in evaluation mode would take it
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            if draws:
                set_generators(now, self.device)

    def call(self, parameters: dict[str, Tensor], *inputs):
        """The module's output with other parameters and a fresh copy of its buffers; the module itself is untouched."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return functional_call(self.module, (parameters, buffers), inputs)

    @torch.no_grad()
    def restore(self) -> None:
        """Put buffers and generators back to what they were at the snapshot."""
        for name, buffer in self.module.named_buffers():
            buffer.copy_(self.buffers[name])
        set_generators(self.generators, self.device)


def get_generators(device: torch.device) -> list:
    """States of the generators that a pass on this device can draw from: torch's on the host, Python's, NumPy's global
    one, and the device's own."""
    states = [torch.get_rng_state(), random.getstate(), np.random.get_state()]  # noqa: NPY002
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def set_generators(states: list, device: torch.device) -> None:
    """Put back what `get_generators` found."""
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[3], device)


def _same(first: list, second: list) -> bool:
    """Whether two lists of states are equal."""
    (host, python, numpy, *own), (other_host, other_python, other_numpy, *other_own) = first, second
    return (
        torch.equal(host, other_host)
        and python == other_python
        and numpy[2] == other_numpy[2]
        and np.array_equal(numpy[1], other_numpy[1])
        and all(torch.equal(a, b) for a, b in zip(own, other_own, strict=True))
    )
