"""Metrics of binary tasks, from logits that are known."""

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from fastls import MultiTaskModel
from fastls.datasets.cifar10 import CLASSES
from fastls.datasets.common import ImageSplit
from fastls.experiments.training.metrics import one_vs_rest
from fastls.experiments.training.metrics.one_vs_rest import evaluate_one_vs_rest


class Column(nn.Module):
    def __init__(self, column: int):
        super().__init__()
        self.column = column

    def forward(self, z):
        return z[:, self.column]


def make_model(tasks) -> MultiTaskModel:
    """Reads the logit of task t from pixel t."""
    heads = {task: Column(t) for t, task in enumerate(tasks)}
    return MultiTaskModel(nn.Flatten(), heads, dict.fromkeys(tasks, binary_cross_entropy_with_logits))


def make_split(logits: torch.Tensor, targets: torch.Tensor, tasks) -> ImageSplit:
    """Pixels that become these whole logits (N, T); targets (N, T)."""
    pixels = (logits + 100).to(torch.uint8)[:, :, None, None]
    return ImageSplit(pixels, dict(zip(tasks, targets.T.float(), strict=True)), mean=100 / 255, std=1 / 255)


def test_errors_by_hand():
    logits = torch.tensor([[2.0, -1.0], [-1.0, -1.0], [3.0, -1.0], [-4.0, -1.0]])
    targets = torch.tensor([[1, 1], [1, 0], [0, 0], [0, 0]])
    metrics = evaluate_one_vs_rest(make_model("ab"), make_split(logits, targets, "ab"))
    expected = binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").mean(0)
    assert [metrics["loss_a"], metrics["loss_b"]] == pytest.approx(expected.tolist(), rel=1e-4)
    assert (metrics["error_a"], metrics["balanced_error_a"]) == (0.5, 0.5)
    assert (metrics["error_b"], metrics["balanced_error_b"]) == (0.25, 0.5)  # always "rest"
    assert "ten_way_accuracy" not in metrics


def test_always_saying_rest():
    targets = torch.eye(10).repeat(3, 1)
    metrics = evaluate_one_vs_rest(make_model(CLASSES), make_split(-torch.ones(30, 10), targets, CLASSES))
    assert all(metrics[f"error_{task}"] == pytest.approx(0.1) for task in CLASSES)
    assert all(metrics[f"balanced_error_{task}"] == 0.5 for task in CLASSES)


def test_ten_way_accuracy_takes_the_largest_logit():
    targets = torch.eye(10).repeat(2, 1)
    logits = 5 * targets - 9  # all below zero, the right one the largest
    logits[3:8] = -logits[3:8]  # the right one the smallest
    metrics = evaluate_one_vs_rest(make_model(CLASSES), make_split(logits, targets, CLASSES))
    assert metrics["ten_way_accuracy"] == pytest.approx(15 / 20)


@pytest.mark.parametrize("extra", [torch.zeros(10), torch.ones(10)], ids=["no class", "every class"])
def test_no_ten_way_accuracy_where_the_tasks_do_not_part_the_images(extra):
    targets = torch.vstack([torch.eye(10), extra])
    metrics = evaluate_one_vs_rest(make_model(CLASSES), make_split(torch.zeros(11, 10), targets, CLASSES))
    assert "ten_way_accuracy" not in metrics


def test_a_task_with_one_answer_alone_has_a_balanced_error():
    metrics = evaluate_one_vs_rest(make_model("a"), make_split(torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1), "a"))
    assert metrics["balanced_error_a"] == 0.5


def test_in_parts_as_in_one_and_back_in_training_mode(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-9, 9, (50, 10), generator=generator).float()
    model, split = make_model(CLASSES), make_split(logits, torch.eye(10).repeat(5, 1), CLASSES)
    whole = evaluate_one_vs_rest(model, split)
    monkeypatch.setattr(one_vs_rest, "BATCH", 7)
    assert evaluate_one_vs_rest(model, split) == pytest.approx(whole)
    assert model.training
