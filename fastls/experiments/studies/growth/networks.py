"""The networks whose steps `fastls.experiments.studies.growth.growth` times, on random inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

import fastls
from fastls.models.bert import VOCABULARY, bert

LATENT = 512  # numbers in z per sample, of the ResNet
CHANNELS = (64, 128, 256, 512)  # of the stages of a ResNet
# The keys of stored runs hold only a network's name: a changed network needs another name.
TOKENS = 32  # of a text


@dataclass(frozen=True)
class Size:
    """A model and its batch.

    Attributes:
        tasks: T.
        blocks: of each of the four stages of the ResNet; 2 makes a ResNet-18.
        width: of the hidden layer of a decoder of the ResNet; 0 for none.
        batch: images or texts.
        network: a key of `NETWORKS`.
    """

    tasks: int = 10
    blocks: int = 2
    width: int = 0
    batch: int = 16
    network: str = "ResNet"


def make_problem(size: Size, side: int, device: str) -> tuple[fastls.MultiTaskModel, Tensor | dict, dict[str, Tensor]]:
    """A network, a random batch, and a target of 0 or 1 for every task."""
    torch.manual_seed(0)
    tasks = tuple(f"attribute {t}" for t in range(1, size.tasks + 1))
    model, inputs = NETWORKS[size.network](size, tasks, side)
    targets = {task: torch.randint(2, (size.batch,)).float().to(device) for task in tasks}
    inputs = {name: part.to(device) for name, part in inputs.items()} if isinstance(inputs, dict) else inputs.to(device)
    return model.to(device), inputs, targets


def _resnet(size: Size, tasks: tuple[str, ...], side: int) -> tuple[fastls.MultiTaskModel, Tensor]:
    """A decoder for each of T binary targets, as for the attributes of CelebA; z is one vector per sample."""
    encoder = ResNet(BasicBlock, [size.blocks] * 4)
    encoder.fc = nn.Identity()
    return _classify(encoder, {task: make_decoder(size.width) for task in tasks}), _images(size, side)


def _mtan(size: Size, tasks: tuple[str, ...], side: int) -> tuple[fastls.MultiTaskModel, Tensor]:
    """Attention over all stages of a ResNet: z is eight feature maps, and every decoder is a network itself.

    Source: Liu, Johns and Davison (2019), "End-to-End Multi-Task Learning with Attention",
    https://arxiv.org/abs/1803.10704. Here each task has its own layers between the stages, and targets are binary.
    """
    return _classify(Stages(size.blocks), {task: Attention() for task in tasks}), _images(size, side)


def _small_bert(size: Size, tasks: tuple[str, ...], side: int) -> tuple[fastls.MultiTaskModel, dict]:
    """BERT of 4 layers × 256: a small encoder, but still far larger than its decoders."""
    model = bert(tasks, layers=4, width=256, decoder_width=256)
    ids = torch.randint(VOCABULARY, (size.batch, TOKENS))
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


NETWORKS = {"ResNet": _resnet, "MTAN": _mtan, "small BERT": _small_bert}


class Stages(nn.Module):
    """A ResNet that returns the output of the first block and of the last block of each stage."""

    def __init__(self, blocks: int):
        super().__init__()
        resnet = ResNet(BasicBlock, [blocks] * 4)
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x, features = self.stem(images), []
        for stage in self.stages:
            first = stage[0](x)
            x = stage[1:](first)
            features += [first, x]
        return tuple(features)


class Attention(nn.Module):
    """A task's masks on the shared features, stage by stage, and its output."""

    def __init__(self):
        super().__init__()
        seen = (CHANNELS[0], *(2 * channels for channels in CHANNELS[1:]))  # plus the channels from the stage before
        self.masks = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(before, channels // 4, 1), nn.BatchNorm2d(channels // 4), nn.ReLU()),
                *(nn.Conv2d(channels // 4, channels, 1), nn.BatchNorm2d(channels), nn.Sigmoid()),
            )
            for before, channels in zip(seen, CHANNELS, strict=True)
        )
        self.passing = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))
            for channels, after in zip(CHANNELS, CHANNELS[1:], strict=False)
        )
        self.output = nn.Linear(CHANNELS[-1], 1)

    def forward(self, z: tuple[Tensor, ...]) -> Tensor:
        passed = self.masks[0](z[0]) * z[1]
        for stage, (mask, passing) in enumerate(zip(self.masks[1:], self.passing, strict=True), start=1):
            passed = mask(torch.cat([z[2 * stage], passing(passed)], dim=1)) * z[2 * stage + 1]
        return self.output(passed.mean(dim=(2, 3)))


def make_decoder(width: int) -> nn.Module:
    if not width:
        return nn.Linear(LATENT, 1)
    return nn.Sequential(nn.Linear(LATENT, width), nn.ReLU(), nn.Linear(width, 1))


def _classify(encoder: nn.Module, decoders: dict[str, nn.Module]) -> fastls.MultiTaskModel:
    return fastls.MultiTaskModel(encoder, decoders, dict.fromkeys(decoders, binary_loss))


def _images(size: Size, side: int) -> Tensor:
    return torch.randn(size.batch, 3, side, side)


def binary_loss(output: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(output.flatten(), target)
