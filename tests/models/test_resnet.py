"""ResNet-18 with a linear layer per task: sizes, stems, precision, and batch normalisation through every algorithm."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18

from fastls import BLS, FBLS, MGDAUB, SGD, EqualWeight
from fastls.models.resnet import resnet18

LATENT = 512
TASKS = ("cat", "dog", "ship")


def batch(n: int = 8) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 32, 32, generator=generator)
    return images, {task: (torch.arange(n) % (2 + t) == 0).float() for t, task in enumerate(TASKS)}


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_shapes(stem):
    model = resnet18(TASKS, stem).eval()
    images, targets = batch(2)
    assert model.tasks == TASKS
    assert model.encoder(images).shape == (2, LATENT)
    for task, logits in model(images).items():
        assert logits.shape == (2,) and model.losses[task](logits, targets[task]).shape == ()


def test_the_encoder_is_torchvisions():
    torch.manual_seed(0)
    ours = resnet18(TASKS).encoder.eval()
    torch.manual_seed(0)
    theirs = torchvision_resnet18().eval()
    theirs.fc = nn.Identity()
    images, _ = batch(2)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_first_stages_alone(stages):
    """The features of torchvision's network after that stage, averaged over the image."""
    torch.manual_seed(0)
    ours = resnet18(TASKS, stages=stages).eval()
    torch.manual_seed(0)
    theirs = torchvision_resnet18().eval()
    names = ["conv1", "bn1", "relu", "maxpool", *(f"layer{stage}" for stage in range(1, stages + 1))]
    first = nn.Sequential(*(getattr(theirs, name) for name in names))
    images, _ = batch(2)
    torch.testing.assert_close(ours.encoder(images), first(images).mean((2, 3)))
    assert all(logits.shape == (2,) for logits in ours(images).values())
    assert sum(p.numel() for p in ours.encoder.parameters()) == sum(p.numel() for p in first.parameters())


@pytest.mark.parametrize("stages", [0, 5, 2.5])
def test_stages_that_the_network_does_not_have(stages):
    with pytest.raises(ValueError, match=f"`stages` must be a whole number from 1 to 4, found {stages}"):
        resnet18(TASKS, stages=stages)


def test_sizes():
    head = LATENT + 1
    encoder = sum(p.numel() for p in torchvision_resnet18().parameters()) - 1000 * head
    for stem, kernel in (("imagenet", 49), ("small", 9)):
        model = resnet18(TASKS, stem)
        assert sum(p.numel() for p in model.encoder.parameters()) == encoder - 3 * 64 * (49 - kernel)
        assert [sum(p.numel() for p in decoder.parameters()) for decoder in model.decoders.values()] == [head] * 3


def test_bfloat16_is_of_the_encoder_alone():
    torch.manual_seed(0)
    plain = resnet18(TASKS)
    torch.manual_seed(0)
    half = resnet18(TASKS, bfloat16=True)
    images, _ = batch()
    z, z_half = plain.encoder(images), half.encoder(images)
    assert z_half.dtype == torch.float32 and not torch.equal(z, z_half)
    assert (z_half - z).norm() < 0.1 * z.norm()
    assert all(logits.dtype == torch.float32 for logits in half(images).values())
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}


def test_unknown_stem_is_refused():
    with pytest.raises(ValueError, match=r"`stem` must be one of \['imagenet', 'small'\], found 'tiny'"):
        resnet18(TASKS, stem="tiny")


@pytest.mark.parametrize("algorithm", [SGD, BLS, MGDAUB, FBLS, EqualWeight])
def test_running_statistics_are_those_of_one_forward_pass(algorithm):
    torch.manual_seed(0)
    model, (images, targets) = resnet18(TASKS), batch()
    ordinary = copy.deepcopy(model)
    record = algorithm(model, 1e3 if algorithm in (BLS, FBLS) else 0.1).step(images, targets)
    ordinary.encoder(images)
    assert record.trials > 1 or algorithm not in (BLS, FBLS)
    for (name, found), expected in zip(model.named_buffers(), ordinary.buffers(), strict=True):
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_step_decreases_the_losses(bfloat16):
    torch.manual_seed(0)
    model, (images, targets) = resnet18(TASKS, bfloat16=bfloat16), batch()
    optimizer = FBLS(model, 0.1)
    losses = [optimizer.step(images, targets).losses for _ in range(4)]
    assert (losses[-1] < losses[0]).all()
