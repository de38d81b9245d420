"""Classification with one label per task, as in MultiMNIST."""

import torch

from fastls.datasets.common import Split
from fastls.experiments.training.metrics import predict
from fastls.models.multitask import MultiTaskModel

BATCH = 1000


@torch.no_grad()
def evaluate_classifiers(model: MultiTaskModel, split: Split) -> dict[str, float]:
    """Mean loss and error (1 − accuracy) by task, in evaluation mode: ``loss_left``, ``error_left``, ...

    Args:
        model: its decoders return scores (B, classes).
        split: targets are (N,) int64.
    """
    losses = dict.fromkeys(model.tasks, 0.0)
    errors = dict.fromkeys(model.tasks, 0)
    for _, outputs, targets in predict(model, split, BATCH):
        for task, output in outputs.items():
            losses[task] += model.losses[task](output, targets[task]).double() * len(output)
            errors[task] += (output.argmax(1) != targets[task]).sum()
    metrics = {f"loss_{task}": float(losses[task] / len(split)) for task in model.tasks}
    return metrics | {f"error_{task}": float(errors[task] / len(split)) for task in model.tasks}
