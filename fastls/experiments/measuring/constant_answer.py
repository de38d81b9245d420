"""The loss of the best answer that looks at no input: what a network must get below to have learned anything."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastls.datasets.common import Split
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import Protocol
from fastls.experiments.training.training import load_data_of, make_header
from fastls.experiments.training.workloads import get_workload

# Loss -> targets of training, classes -> the constant output of least mean loss, but for Laplace's rule in frequencies:
# an example more of each class, so that one that training lacks does not make the loss infinite.
ANSWERS = {
    F.cross_entropy: lambda y, classes: ((y.bincount(minlength=classes) + 1) / (len(y) + classes)).log(),
    F.binary_cross_entropy_with_logits: lambda y, _: ((y.sum() + 1) / (len(y) + 2)).logit(),
    F.mse_loss: lambda y, _: y.mean(),
}


def execute_constant_answer(protocol: Protocol, store: RunStore) -> Run:
    """One row: the test loss, mean over tasks, of the constant answer that training suggests to each.

    Raises:
        DataError: the data set is missing or damaged.
    """
    names = ("dataset", "source", "n_train", "n_test", "device")
    config = {name: getattr(protocol, name) for name in names} | {"kind": "constant answer"}
    config |= {"data_options": dict(protocol.data_options), "model_options": dict(protocol.model_options)}
    return store.get_or_make(f"{protocol.dataset}-constant-answer", config, lambda: _measure(protocol))


def _measure(protocol: Protocol) -> tuple[dict, list[dict]]:
    data = load_data_of(protocol)
    losses = get_workload(protocol.dataset).make_model(**dict(protocol.model_options)).losses
    train, test = gather_targets(data.train), gather_targets(data.test)
    found = []
    for task, loss in losses.items():
        classes = 1 + int(max(train[task].max(), test[task].max()))
        answer = ANSWERS[loss](train[task], classes)
        found.append(loss(answer.expand(len(test[task]), *answer.shape), test[task]).item())
    return make_header(data, protocol.device), [{"test_loss": sum(found) / len(found)}]


def gather_targets(split: Split) -> dict[str, Tensor]:
    """Task -> the targets of all examples."""
    batches = [targets for _, targets in split.batches(torch.arange(len(split)), 1024, training=False)]
    return {task: torch.cat([targets[task] for targets in batches]) for task in batches[0]}
