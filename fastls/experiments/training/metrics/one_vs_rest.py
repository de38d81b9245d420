"""Binary tasks with one logit each. In CIFAR-10's one-vs-rest tasks, nine tenths of the images are "rest"."""

import torch

from fastls.datasets.common import Split
from fastls.experiments.training.metrics import predict
from fastls.models.multitask import MultiTaskModel

BATCH = 1000


@torch.no_grad()
def evaluate_one_vs_rest(model: MultiTaskModel, split: Split) -> dict[str, float]:
    """Loss, error and balanced error by task, in evaluation mode; ten-way accuracy if the tasks are ten classes.

    ``error_cat`` is 1 − accuracy at logit 0. ``balanced_error_cat`` is 1 − the mean accuracy of the two classes, so
    always answering "rest" scores ½. ``ten_way_accuracy`` takes the task of the largest logit as the class; it is
    computed if every image belongs to exactly one of ten tasks.

    Args:
        model: its decoders return logits (B,).
        split: targets are (N,) float32 in {0, 1}.
    """
    batches = [[_stack(part, model.tasks) for part in batch] for _, *batch in predict(model, split, BATCH)]
    logits, targets = (torch.cat(parts, dim=1) for parts in zip(*batches, strict=True))  # (T, N) each
    answers = targets > 0.5
    right = (logits > 0) == answers
    metrics = {}
    for t, task in enumerate(model.tasks):
        found = [right[t][answers[t] == answer].double().mean() for answer in answers[t].unique()]
        metrics[f"loss_{task}"] = float(model.losses[task](logits[t].double(), targets[t].double()))
        metrics[f"error_{task}"] = float(1 - right[t].double().mean())
        metrics[f"balanced_error_{task}"] = float(1 - sum(found) / len(found))
    if len(model.tasks) == 10 and bool((answers.sum(0) == 1).all()):
        metrics["ten_way_accuracy"] = float((logits.argmax(0) == answers.int().argmax(0)).double().mean())
    return metrics


def _stack(parts: dict[str, torch.Tensor], tasks: tuple[str, ...]) -> torch.Tensor:
    """One row per task."""
    return torch.stack([parts[task] for task in tasks])
