"""Regression of one number per task, as in STS-B."""

import numpy as np
import torch
from scipy import stats

from fastls.datasets.common import Split
from fastls.experiments.training.metrics import predict
from fastls.models.multitask import MultiTaskModel

BATCH = 64


@torch.no_grad()
def evaluate_regressors(model: MultiTaskModel, split: Split) -> dict[str, float]:
    """Mean loss and correlations by task, in evaluation mode: ``loss_score_1``, ``pearson_score_1``, ``spearman_...``.

    Args:
        model: its decoders return (B,), its losses are means over the batch.
        split: targets are (N,) float32.
    """
    found: dict[str, list] = {task: [] for task in model.tasks}
    wanted: dict[str, list] = {task: [] for task in model.tasks}
    losses = dict.fromkeys(model.tasks, 0.0)
    for _, outputs, targets in predict(model, split, BATCH):
        for task, output in outputs.items():
            losses[task] += float(model.losses[task](output, targets[task])) * len(output)
            found[task].append(output.double().cpu())
            wanted[task].append(targets[task].double().cpu())
    metrics = {f"loss_{task}": losses[task] / len(split) for task in model.tasks}
    for task in model.tasks:
        predicted, true = torch.cat(found[task]).numpy(), torch.cat(wanted[task]).numpy()
        metrics[f"pearson_{task}"], metrics[f"spearman_{task}"] = correlations(predicted, true)
    return metrics


def correlations(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's correlation; zero if either argument is constant, where neither is defined.

    Example:
        >>> correlations(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 2.0]))[1]
        1.0
    """
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return 0.0, 0.0
    return float(stats.pearsonr(predicted, true).statistic), float(stats.spearmanr(predicted, true).statistic)
