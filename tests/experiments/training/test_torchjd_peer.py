"""The peer from another library takes the step that ours takes."""

import copy

import pytest
import torch
from torch.nn.functional import mse_loss

from fastls import SGD, MultiTaskModel

pytest.importorskip("torchjd")
from fastls.experiments.training.optimizers.torchjd_peer import TorchJDMGDA  # noqa: E402


def network(tasks: int) -> MultiTaskModel:
    torch.manual_seed(0)
    heads = {f"task{t}": torch.nn.Linear(6, 1) for t in range(tasks)}
    encoder = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh())
    return MultiTaskModel(encoder, heads, dict.fromkeys(heads, mse_loss)).double()


@pytest.mark.parametrize("tasks, tolerance", [(2, 1e-9), (3, 1e-2)])
def test_the_step_is_that_of_sgd_with_mgda(tasks, tolerance):
    """Frank-Wolfe is exact for two tasks, and stops near the least norm for more."""
    ours, theirs = network(tasks), copy.deepcopy(network(tasks))
    inputs = torch.randn(8, 4, dtype=torch.float64)
    targets = {task: torch.randn(8, 1, dtype=torch.float64) for task in ours.tasks}
    record = SGD(ours, lr=0.1).step(inputs, targets)
    peer = TorchJDMGDA(theirs, lr=0.1).step(inputs, targets)
    torch.testing.assert_close(peer.losses, record.losses)
    torch.testing.assert_close(peer.weights, record.weights.to(peer.weights), rtol=0, atol=tolerance)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(other, mine, rtol=0, atol=tolerance)
    assert (peer.passes.encoder_forward, peer.passes.encoder_backward) == (1, tasks)
