"""The metrics of a data set: functions of a model and a split, one file per kind of task."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastls.datasets.common import Split
from fastls.models.multitask import MultiTaskModel


def predict(model: MultiTaskModel, split: Split, batch_size: int) -> Iterator[tuple[Tensor, dict, dict]]:
    """Inputs, outputs and targets of all examples, batch by batch; the model is in evaluation mode until the end."""
    model.eval()
    try:
        for inputs, targets in split.batches(torch.arange(len(split)), batch_size, training=False):
            yield inputs, model(inputs), targets
    finally:
        model.train()
