"""What is trained: a data set with its loader, the network for it, and what it is judged by."""

from collections.abc import Callable
from dataclasses import dataclass

from fastls.datasets.common import MultiTaskData, Split
from fastls.models.multitask import MultiTaskModel


@dataclass(frozen=True)
class Workload:
    """One data set of the paper.

    Attributes:
        load: ``load(n_train=, n_test=, source=, **data_options) -> MultiTaskData``.
        make_model: ``make_model(**model_options) -> MultiTaskModel``, initialised from torch's generator.
        evaluate: metrics of a model on a split, in evaluation mode: ``loss_<task>`` and what else there is.
    """

    load: Callable[..., MultiTaskData]
    make_model: Callable[..., MultiTaskModel]
    evaluate: Callable[[MultiTaskModel, Split], dict[str, float]]


# The imports wait, so that a small experiment does not load the libraries of a large one.
def _multimnist() -> Workload:
    from fastls.datasets.multimnist import load_multimnist
    from fastls.experiments.metrics.classification import evaluate_classifiers
    from fastls.models.lenet import lenet

    return Workload(load_multimnist, lenet, evaluate_classifiers)


WORKLOADS: dict[str, Callable[[], Workload]] = {"multimnist": _multimnist}


def get_workload(name: str) -> Workload:
    """The workload of a data set.

    Raises:
        ValueError: an unknown name.
    """
    if name not in WORKLOADS:
        raise ValueError(f"`dataset` must be one of {sorted(WORKLOADS)}, found {name!r}.")
    return WORKLOADS[name]()
