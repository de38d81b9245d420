"""The trial at a step of size 0: it notices losses with a state, and leaves no trace."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from any_model import LOSSES, METHODS, Encoder, data, heads, make
from helpers import SEARCHES, copies, equal
from torch import nn

from fastls import FBLS, MultiTaskModel


class Queue:
    """A loss beside the mean of what it has seen, which it keeps in a list."""

    def __init__(self):
        self.seen = []

    def __call__(self, output, target):
        self.seen.append(output.detach().mean())
        return F.mse_loss(output, target) + torch.stack(self.seen).sum()


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_loss_with_a_state_is_warned_of_once(algorithm):
    model = MultiTaskModel(Encoder(), heads(), LOSSES | {"b": Queue()})
    optimizer = algorithm(model, 1e-3)
    with pytest.warns(UserWarning, match="A trial at a step of size 0 must find the losses.*'b': "):
        optimizer.step(*data())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        optimizer.step(*data())


def test_the_trial_is_compared_again_when_the_mode_flips():
    class Forgetful(nn.Module):
        """In evaluation mode it answers without gradients otherwise."""

        def forward(self, z):
            return z * (1 if self.training or torch.is_grad_enabled() else 2)

    mine = {task: nn.Sequential(Forgetful(), head) for task, head in heads().items()}
    model = MultiTaskModel(Encoder(), mine, LOSSES)
    optimizer = FBLS(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        optimizer.step(*data())
    model.eval()
    with pytest.warns(UserWarning, match="A trial at a step of size 0"):
        optimizer.step(*data())


def test_a_state_in_buffers_is_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

        def forward(self, output, target):
            self.calls += 1
            return F.mse_loss(output, target) * self.calls

    loss = Counting()
    model = MultiTaskModel(Encoder(), heads(), LOSSES | {"a": loss})
    optimizer = FBLS(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        optimizer.step(*data())
    assert loss.calls == 1


@pytest.mark.parametrize("algorithm", METHODS)
def test_the_look_before_the_first_step_leaves_no_trace(algorithm):
    """The first step is the step that it would be without it, generators and the caller's `.grad` included."""
    found = []
    for look in (False, True):
        torch.manual_seed(0)
        noisy = {t: nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), head).double() for t, head in heads().items()}
        model = MultiTaskModel(Encoder(), noisy, LOSSES)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer = make(algorithm, model)
        if not look:
            optimizer.compared, optimizer.compared_mode = frozenset(optimizer.model.tasks), True
        optimizer.step(*data())
        grads = [parameter.grad for parameter in model.parameters()]
        found.append([*copies(model), *model.buffers(), *grads, torch.get_rng_state()])
    assert equal(*found)
