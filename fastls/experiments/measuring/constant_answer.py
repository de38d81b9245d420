"""The loss of the best answer that ignores the input: a network with a larger loss has learned nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastls.datasets.common import MultiTaskData, Split
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.training.training import load_data_of
from fastls.experiments.training.workloads import get_workload
from fastls.models.multitask import MultiTaskModel
from fastls.models.pspnet import IGNORE, masked_cross_entropy, masked_l1

BATCH = 64


def _frequencies(y: Tensor, classes: int) -> Tensor:
    return ((y.bincount(minlength=classes) + 1) / (len(y) + classes)).log()


# Loss -> function of (training targets, classes): the constant output with the smallest mean loss. Frequencies count
# one more example per class (Laplace's rule): without it, a class that training lacks would make the loss infinite.
# An answer for pixels ends with two dimensions of size 1.
ANSWERS = {
    F.cross_entropy: _frequencies,
    F.binary_cross_entropy_with_logits: lambda y, _: ((y.sum() + 1) / (len(y) + 2)).logit(),
    F.mse_loss: lambda y, _: y.mean(),
    masked_cross_entropy: lambda y, classes: _frequencies(y[y != IGNORE], classes)[:, None, None],
    masked_l1: lambda y, _: y.transpose(0, 1).flatten(1).nanmedian(1).values.nan_to_num()[:, None, None],
}


def best_answer(loss: Callable, targets: Tensor, classes: int) -> Tensor:
    """The constant of `ANSWERS`. A `partial` of a loss, its sum over a batch, has the same constant as the loss."""
    return ANSWERS[loss.func if isinstance(loss, partial) else loss](targets, classes)


class Constant(nn.Module):
    """A decoder that gives one answer to every example, or to every pixel; of the inputs it uses only the shape."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = nn.Parameter(answer, requires_grad=False)

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        pixels = first.shape[-2:] if self.answer.dim() == 3 else ()
        return self.answer.expand(len(first), *self.answer.shape[: self.answer.dim() - len(pixels)], *pixels)


@dataclass(frozen=True)
class ConstantAnswer(Measurement):
    """One row: the test loss, mean over tasks, of the best constant answers on the training data.

    The workload's own metrics evaluate the answers, as they evaluate a network.
    """

    name: ClassVar[str] = "constant-answer"

    @property
    def identity(self) -> dict:
        identity = {name: value for name, value in self.setting.identity.items() if name != "batch_size"}
        return {"kind": "constant answer", "data_options": {}, "model_options": {}} | identity

    def load(self) -> MultiTaskData:
        return load_data_of(self.setting)

    def measure(self, data: MultiTaskData) -> list[dict]:
        workload = get_workload(self.setting.dataset)
        losses = workload.make_model(**dict(self.setting.model_options)).losses
        train, test = gather_targets(data.train), gather_targets(data.test)
        decoders = {}
        for task, loss in losses.items():
            labels = torch.cat([train[task].flatten(), test[task].flatten()])
            classes = 1 + int(labels[labels != IGNORE].nan_to_num().max())
            decoders[task] = Constant(best_answer(loss, train[task], classes))
        found = workload.evaluate(MultiTaskModel(nn.Identity(), decoders, losses), data.test)
        return [{"test_loss": sum(found[f"loss_{task}"] for task in losses) / len(losses)}]


def gather_targets(split: Split) -> dict[str, Tensor]:
    """Task -> the targets of all examples."""
    batches = [targets for _, targets in split.batches(torch.arange(len(split)), BATCH, training=False)]
    return {task: torch.cat([targets[task] for targets in batches]) for task in batches[0]}
