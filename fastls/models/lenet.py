"""LeNet-5 with one head per digit, for MultiMNIST.

The sizes are those of the MultiMNIST notebook of Katrutsa et al. (2020, https://github.com/amkatrutsa/edm), by one
of the paper's authors: convolutions of 10 and 20 channels, a latent space of 50, heads 50-50-10, dropout 0.2. The
paper itself says "LeNet-5".
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from fastls.models.multitask import MultiTaskModel

LATENT = 50


def lenet(
    tasks: tuple[str, ...] = ("left", "right"),
    classes: int = 10,
    dropout: float = 0.2,
    reduction: str = "mean",
    latent_scale: float = 1.0,
) -> MultiTaskModel:
    """LeNet-5 encoder (28 × 28 grey images to 50 features) and a two-layer head with cross-entropy per task.

    Args:
        tasks: names of the tasks; each gets its own head.
        classes: number of classes of every task.
        dropout: probability of dropping a hidden unit of a head.
        reduction: of the losses, "mean" or "sum" over the batch.
        latent_scale: factor of the initial weights and bias of the encoder's last layer, and so of z.

    Returns:
        MultiTaskModel whose encoder takes (B, 1, 28, 28) and returns z of shape (B, 50).
    """
    encoder = nn.Sequential(
        nn.Conv2d(1, 10, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(320, LATENT),
        nn.ReLU(),
    ).to(memory_format=torch.channels_last)  # half the time of the default layout on the CPUs we tried
    with torch.no_grad():
        for parameter in encoder[-2].parameters():
            parameter *= latent_scale
    heads = {
        task: nn.Sequential(nn.Linear(LATENT, 50), nn.ReLU(), nn.Dropout(dropout), nn.Linear(50, classes))
        for task in tasks
    }
    loss = F.cross_entropy if reduction == "mean" else partial(F.cross_entropy, reduction=reduction)
    return MultiTaskModel(encoder, heads, dict.fromkeys(tasks, loss))
