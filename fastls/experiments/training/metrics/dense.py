"""Dense tasks, as in Cityscapes: a class, the offset to an instance's centre and a disparity for every pixel."""

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from fastls.datasets.common import Split
from fastls.experiments.training.metrics import predict
from fastls.models.multitask import MultiTaskModel
from fastls.models.pspnet import IGNORE

BATCH = 8


@torch.no_grad()
def evaluate_dense(model: MultiTaskModel, split: Split) -> dict[str, float]:
    """Losses, pixel error and mean intersection over union, in evaluation mode.

    Args:
        model: with the tasks "semantic", "instance" and "disparity", see `fastls.models.pspnet`.
        split: its batches have the targets of these losses.

    Returns:
        ``loss_<task>``, a mean over all pixels of the split that have a target, or zero if none has (for "instance"
        and "disparity" the l1 error in pixels); ``error_semantic``, 1 − the share of pixels whose class is right;
        ``miou``, over the classes that occur in labels or predictions, as in the official evaluation.
    """
    device = next(model.parameters()).device
    totals, counts = dict.fromkeys(model.tasks, 0.0), dict.fromkeys(model.tasks, 0)
    scores: dict[str, MulticlassAccuracy | MulticlassJaccardIndex] = {}
    for _, outputs, targets in predict(model, split, BATCH):
        scores = scores or _make_scores(outputs["semantic"].shape[1], device)
        for task, output in outputs.items():
            count = _count_targets(targets[task])
            totals[task] += model.losses[task](output, targets[task]).double() * count
            counts[task] += count
        for score in scores.values():
            score.update(outputs["semantic"].argmax(1), targets["semantic"])
    metrics = {f"loss_{task}": float(totals[task] / counts[task].clamp_min(1)) for task in model.tasks}
    accuracy, miou = (float(scores[name].compute()) for name in ("accuracy", "miou"))
    return metrics | {"error_semantic": 1 - accuracy, "miou": miou}


def _make_scores(classes: int, device: torch.device) -> dict[str, MulticlassAccuracy | MulticlassJaccardIndex]:
    options = {"num_classes": classes, "ignore_index": IGNORE, "validate_args": False}
    accuracy = MulticlassAccuracy(average="micro", **options)
    return {"accuracy": accuracy.to(device), "miou": MulticlassJaccardIndex(**options).to(device)}


def _count_targets(target: Tensor) -> Tensor:
    """Pixels that count: those with a label, or those whose value is known."""
    return (~target.isnan() if target.is_floating_point() else target != IGNORE).sum()
