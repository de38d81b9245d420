"""LeNet-5 with two heads has the sizes that its docstring names."""

import pytest
import torch
from torch import nn

from fastls.models.lenet import LATENT, lenet


@pytest.mark.parametrize("tasks", [("left", "right"), ("a", "b", "c")])
def test_shapes(tasks):
    model = lenet(tasks, classes=7)
    images = torch.rand(3, 1, 28, 28)
    assert model.tasks == tasks
    assert model.encoder(images).shape == (3, LATENT)
    assert {task: tuple(output.shape) for task, output in model(images).items()} == dict.fromkeys(tasks, (3, 7))


def test_sizes():
    model = lenet()
    encoder = 10 * 1 * 25 + 10 + 20 * 10 * 25 + 20 + 320 * 50 + 50
    head = 50 * 50 + 50 + 50 * 10 + 10
    assert sum(p.numel() for p in model.encoder.parameters()) == encoder
    assert [sum(p.numel() for p in decoder.parameters()) for decoder in model.decoders.values()] == [head, head]


def test_the_seed_decides_the_weights_and_heads_start_apart():
    torch.manual_seed(0)
    first = lenet()
    torch.manual_seed(0)
    second = lenet()
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.decoders["left"][0].weight, first.decoders["right"][0].weight)


def test_dropout_is_of_the_asked_probability_and_only_in_the_heads():
    model = lenet(dropout=0.35)
    assert [m.p for m in model.decoders.modules() if isinstance(m, nn.Dropout)] == [0.35, 0.35]
    assert not any(isinstance(m, nn.Dropout) for m in model.encoder.modules())
