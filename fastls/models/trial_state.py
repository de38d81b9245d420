"""The state that a trial must share with its step, and must not change.

Random generators (dropout), buffers (the statistics of batch normalisation), and the code path that torch takes.
"""

import random
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call


class Snapshot:
    """What a forward pass changes besides its result: random generators and module buffers.

    Trials replay a pass from this state: dropout draws the same masks in all trials of a step, and no trial changes
    the running statistics of batch normalisation.

    Args:
        module: the module that is run; None keeps nothing.
        device: of its parameters.
        elsewhere: whether the module may draw from Python's and NumPy's generators, which are slower to save.
    """

    def __init__(self, module: nn.Module | None, device: torch.device, elsewhere: bool = True):
        self.module = module
        self.device = device
        self.elsewhere = elsewhere
        keeps = module is not None
        self.buffers = {name: buffer.clone() for name, buffer in module.named_buffers()} if keeps else {}
        self.generators = get_generators(device, elsewhere) if keeps else []
        self.draws = True

    def close(self) -> None:
        """Called after the pass: if the pass drew no random number, trials need not reset the generators."""
        if self.module is not None:
            self.draws = not same_generators(self.generators, get_generators(self.device, self.elsewhere))

    @contextmanager
    def replay(self):
        """Inside: the generators of the snapshot, and none of the code paths that torch takes only without gradients.

        Afterwards: generators and paths as before.
        """
        draws = self.draws
        now = get_generators(self.device, self.elsewhere) if draws else None
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
            if name not in self.buffers or self.buffers[name].shape != buffer.shape:
                raise ValueError(
                    f"Buffer {name} must exist and keep its shape, found that a forward pass makes or resizes it. Give "
                    "it its final shape before you make the optimizer."
                )
            buffer.copy_(self.buffers[name])
        set_generators(self.generators, self.device)


def get_generators(device: torch.device, elsewhere: bool) -> list:
    """States of the generators that a pass on this device can draw from: torch's on the host and, if it is not the
    CPU, on the device; with `elsewhere` Python's, and NumPy's global one."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return [*states, random.getstate(), np.random.get_state()] if elsewhere else states


def set_generators(states: list, device: torch.device) -> None:
    """Put back what `get_generators` found."""
    torch.set_rng_state(states[0])
    own = int(device.type != "cpu")
    if own:
        torch.get_device_module(device).set_rng_state(states[1], device)
    for put_back, state in zip((random.setstate, np.random.set_state), states[1 + own :], strict=False):
        put_back(state)


def same_generators(first: list, second: list) -> bool:
    """Whether two lists of states are equal."""
    return all(_same(a, b) for a, b in zip(first, second, strict=True))


def _same(first, second) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first[1], np.ndarray):  # NumPy's
        return first[2:] == second[2:] and np.array_equal(first[1], second[1])
    return first == second
