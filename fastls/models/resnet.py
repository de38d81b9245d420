"""ResNet-18 with one linear layer per task, for CIFAR-10 as ten one-vs-rest tasks.

The encoder is torchvision's network (He et al., 2016, https://arxiv.org/abs/1512.03385), from scratch, up to its
global pooling: a latent space of 512. Filatov and Merkulov (2021) only say "scratch ResNet-18 and as decoder one fully
connected layer".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18 as torchvision_resnet18

from fastls.models.multitask import MultiTaskModel

STEMS = ("imagenet", "small")
STAGES = 4
WHOLE = {"stem": "imagenet", "bfloat16": False, "stages": STAGES}  # the defaults, which keys of runs leave out


def resnet18(
    tasks: tuple[str, ...], stem: str = "imagenet", bfloat16: bool = False, stages: int = STAGES
) -> MultiTaskModel:
    """ResNet-18 encoder (colour images to 512 features), one logit and binary cross-entropy per task.

    Args:
        tasks: names of the tasks; each gets its own linear layer.
        stem: "imagenet", a 7 × 7 convolution of stride 2 and a maximum over 3 × 3, of stride 2; or "small", only a
            3 × 3 convolution, usual for images of 32 × 32; "small" costs about fifteen times as much.
        bfloat16: run the encoder under autocast to bfloat16, for a GPU; z, decoders and losses stay float32.
        stages: how many of the four stages are kept, at least 1; the last has three quarters of all parameters.

    Returns:
        MultiTaskModel whose encoder takes (B, 3, H, W) and returns z of shape (B, 64 · 2^(stages − 1)), which is
        (B, 512) for the whole network; a decoder returns logits (B,), its loss takes targets (B,) float32 in {0, 1}.

    Raises:
        ValueError: an unknown stem, or a number of stages that the network does not have.

    Example:
        >>> model = resnet18(("cat", "dog"))
        >>> {task: tuple(logits.shape) for task, logits in model(torch.zeros(4, 3, 32, 32)).items()}
        {'cat': (4,), 'dog': (4,)}
    """
    if stem not in STEMS:
        raise ValueError(f"`stem` must be one of {list(STEMS)}, found {stem!r}.")
    if stages not in range(1, STAGES + 1):
        raise ValueError(f"`stages` must be a whole number from 1 to {STAGES}, found {stages!r}.")
    encoder = torchvision_resnet18()
    for dropped in range(stages + 1, STAGES + 1):
        setattr(encoder, f"layer{dropped}", nn.Identity())
    encoder.fc = nn.Identity()
    if stem == "small":
        encoder.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
        encoder.maxpool = nn.Identity()
    encoder = encoder.to(memory_format=torch.channels_last)
    heads = {task: nn.Sequential(nn.Linear(64 * 2 ** (stages - 1), 1), nn.Flatten(0)) for task in tasks}
    losses = dict.fromkeys(tasks, F.binary_cross_entropy_with_logits)
    return MultiTaskModel(Bfloat16(encoder) if bfloat16 else encoder, heads, losses)


class Bfloat16(nn.Module):
    """A module under autocast to bfloat16, with its result in float32."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return self.module(inputs).float()
