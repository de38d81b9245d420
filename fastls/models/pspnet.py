"""A dilated ResNet with one PSPNet decoder per dense task, for Cityscapes.

The encoder is torchvision's network (He et al., 2016, https://arxiv.org/abs/1512.03385) up to its last feature map z.
z has an eighth of the image's height and width: ResNet-50's last two stages are dilated instead of halving it. A
decoder pools z over 1, 2, 3 and 6 bins per side (Zhao et al., 2017, https://arxiv.org/abs/1612.01105). Filatov and
Merkulov (2021) say "ResNet-50 pre-trained on Imagenet, and as decoders, we use PSPNet".
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from fastls.models.multitask import MultiTaskModel

STRIDE = 8  # of z
BINS = (1, 2, 3, 6)
IGNORE = 255  # label that the cross-entropy ignores
WEIGHTS = ("none", "imagenet")
STAGES = {"resnet18": (2,), "resnet50": (2, 3, 4)}  # torchvision cannot dilate ResNet-18: it ends at stride 8


def pspnet(
    classes: int = 19,
    encoder: str = "resnet50",
    stages: int = 4,
    channels: int = 512,
    dropout: float = 0.1,
    weights: str = "none",
) -> MultiTaskModel:
    """Encoder and decoders for the tasks "semantic", "instance" and "disparity".

    Args:
        classes: of the semantic task.
        encoder: "resnet50", or "resnet18" for small machines.
        stages: how many of the encoder's four stages to keep: 2 with ResNet-18; 2, 3 or 4 with ResNet-50.
        channels: of the hidden layers of a decoder.
        dropout: probability of dropping a channel before a decoder's last layer.
        weights: of the encoder: "none" for random ones, or "imagenet".

    Returns:
        MultiTaskModel whose encoder takes (B, 3, H, W), H and W multiples of 8 from 16, and returns z of shape
        (B, C, H/8, W/8). Outputs are (B, classes, H, W), (B, 2, H, W) and (B, 1, H, W); their losses are means over
        the pixels that have a target, and zero if no pixel has one.

    Raises:
        ValueError: an unknown encoder, unknown weights, or stages that the encoder cannot end at.
        FileNotFoundError: the weights are not on this machine and cannot be downloaded.

    Example:
        >>> model = pspnet(encoder="resnet18", stages=2, channels=8)
        >>> {task: tuple(output.shape) for task, output in model(torch.zeros(2, 3, 32, 64)).items()}
        {'semantic': (2, 19, 32, 64), 'instance': (2, 2, 32, 64), 'disparity': (2, 1, 32, 64)}
    """
    _check_options(encoder, stages, weights)
    network = make_encoder(encoder, stages, weights)
    features = network[-1][0].expansion * 64 * 2 ** (stages - 1)
    outputs = {"semantic": classes, "instance": 2, "disparity": 1}
    decoders = {task: PSPDecoder(features, channels, output, dropout) for task, output in outputs.items()}
    losses = {"semantic": masked_cross_entropy, "instance": masked_l1, "disparity": masked_l1}
    return MultiTaskModel(network, decoders, losses).to(memory_format=torch.channels_last)


def _check_options(encoder: str, stages: int, weights: str) -> None:
    if encoder not in STAGES:
        raise ValueError(f"`encoder` must be one of {sorted(STAGES)}, found {encoder!r}.")
    if stages not in STAGES[encoder]:
        raise ValueError(f"`stages` must be one of {list(STAGES[encoder])} with {encoder}, found {stages}.")
    if weights not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {list(WEIGHTS)}, found {weights!r}.")


def make_encoder(encoder: str, stages: int, weights: str) -> nn.Sequential:
    """The first stages of a torchvision ResNet, of stride 8, without its classifier."""
    dilation = [False, encoder == "resnet50", encoder == "resnet50"]
    network = torchvision.models.get_model(encoder, replace_stride_with_dilation=dilation)
    if weights == "imagenet":
        network.load_state_dict(_read_weights(encoder))
    names = ["conv1", "bn1", "relu", "maxpool", *(f"layer{stage + 1}" for stage in range(stages))]
    return nn.Sequential(*(getattr(network, name) for name in names))


def find_weights(encoder: str) -> str:
    """ "imagenet" if torchvision's file of these weights lies on this machine, else "none"."""
    return "imagenet" if _weights_path(encoder).exists() else "none"


def _weights_path(encoder: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(_imagenet(encoder).url).name


def _imagenet(encoder: str) -> torchvision.models.WeightsEnum:
    return torchvision.models.get_model_weights(encoder).IMAGENET1K_V1


def _read_weights(encoder: str) -> dict[str, Tensor]:
    try:
        return _imagenet(encoder).get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise FileNotFoundError(
            f"{_weights_path(encoder)} must hold the ImageNet weights of {encoder}, found none, and "
            f"{_imagenet(encoder).url} cannot be fetched ({error}). Put the file there, or train with weights='none'."
        ) from error


class PSPDecoder(nn.Module):
    """z (B, features, h, w) to (B, outputs, 8h, 8w): pyramid pooling beside z, a 3 × 3 convolution, scores per pixel.

    The branch of one bin has a bias instead of batch normalisation: in a batch of one image each channel has a single
    value, which has no variance.
    """

    def __init__(self, features: int, channels: int, outputs: int, dropout: float):
        super().__init__()
        self.branches = nn.ModuleList(_make_branch(features, channels, bins) for bins in BINS)
        self.head = nn.Sequential(
            nn.Conv2d(features + len(BINS) * channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, outputs, kernel_size=1),
            nn.Upsample(scale_factor=STRIDE, mode="bilinear"),
        )

    def forward(self, z: Tensor) -> Tensor:
        pooled = [F.interpolate(branch(z), size=z.shape[2:], mode="bilinear") for branch in self.branches]
        return self.head(torch.cat([z, *pooled], dim=1))


def _make_branch(features: int, channels: int, bins: int) -> nn.Sequential:
    norm = [] if bins == 1 else [nn.BatchNorm2d(channels)]
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(bins), nn.Conv2d(features, channels, kernel_size=1, bias=bins == 1), *norm, nn.ReLU()
    )


def masked_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels whose label is not `IGNORE`; zero with a zero gradient where there is none.

    Args:
        scores: (B, classes, H, W).
        labels: (B, H, W) int64.

    Example:
        >>> masked_cross_entropy(torch.zeros(1, 4, 1, 2), torch.tensor([[[3, IGNORE]]]))    # log 4, one pixel counts
        tensor(1.3863)
    """
    total = F.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp_min(1)


def masked_l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean |output − target| over the targets that are not NaN; zero with a zero gradient where there is none.

    Args:
        output, target: of the same shape.

    Example:
        >>> masked_l1(torch.zeros(3), torch.tensor([2.0, float("nan"), -4.0]))
        tensor(3.)
    """
    known = ~target.isnan()
    return torch.where(known, output - target, 0).abs().sum() / known.sum().clamp_min(1)
