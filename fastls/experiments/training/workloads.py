"""Workloads: a data set with its loader, its network and its metrics."""

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
        evaluate: metrics of a model on a split, in evaluation mode: ``loss_<task>`` and others.
    """

    load: Callable[..., MultiTaskData]
    make_model: Callable[..., MultiTaskModel]
    evaluate: Callable[[MultiTaskModel, Split], dict[str, float]]


# Imports inside the functions, so that a small experiment does not load the libraries of a large one.
def _multimnist() -> Workload:
    from fastls.datasets.multimnist import load_multimnist
    from fastls.experiments.training.metrics.classification import evaluate_classifiers
    from fastls.models.lenet import lenet

    return Workload(load_multimnist, lenet, evaluate_classifiers)


def _cifar10() -> Workload:
    from fastls.datasets.cifar10 import load_cifar10, task_classes
    from fastls.experiments.training.metrics.one_vs_rest import evaluate_one_vs_rest
    from fastls.models.resnet import resnet18

    def make_model(tasks: int = 10, **options) -> MultiTaskModel:
        return resnet18(tuple(task_classes(tasks)), **options)

    return Workload(load_cifar10, make_model, evaluate_one_vs_rest)


def _stsb() -> Workload:
    from fastls.datasets.stsb import find_checkpoint, load_stsb
    from fastls.experiments.training.metrics.regression import evaluate_regressors
    from fastls.models.bert import bert

    def make_model(weights: str = "random", **options) -> MultiTaskModel:
        return bert(checkpoint=find_checkpoint(weights), **options)

    return Workload(load_stsb, make_model, evaluate_regressors)


def _cityscapes() -> Workload:
    from fastls.datasets.cityscapes import load_cityscapes
    from fastls.experiments.training.metrics.dense import evaluate_dense
    from fastls.models.pspnet import pspnet

    return Workload(load_cityscapes, pspnet, evaluate_dense)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "multimnist": _multimnist,
    "cifar10": _cifar10,
    "stsb": _stsb,
    "cityscapes": _cityscapes,
}


def get_workload(name: str) -> Workload:
    """The workload of a data set.

    Raises:
        ValueError: an unknown name.
    """
    if name not in WORKLOADS:
        raise ValueError(f"`dataset` must be one of {sorted(WORKLOADS)}, found {name!r}.")
    return WORKLOADS[name]()
