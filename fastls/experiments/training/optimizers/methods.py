"""Method by name -> the optimizer of a run."""

import math
from collections.abc import Callable

import fastls
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.optimizers.rivals import RIVALS, Rival
from fastls.experiments.training.optimizers.sgd_reading import SGDSeparateForwards
from fastls.experiments.training.optimizers.torchjd_peer import TorchJDMGDA
from fastls.experiments.training.sweeps import GROWTH
from fastls.models.multitask import MultiTaskModel


def make_optimizer(config: RunConfig, model: MultiTaskModel):
    """The optimizer of a configuration."""
    return BUILDERS[config.method](config, model)


def _rival(make: Callable) -> Callable:
    return lambda config, model: Rival(model, config.lr, make)


def _constant(optimizer: type) -> Callable:
    return lambda config, model: optimizer(model, config.lr, config.direction)


def _search(config: RunConfig) -> fastls.Backtracking:
    growth = GROWTH if config.start == "previous" else math.inf
    return fastls.Backtracking(
        config.beta, config.gamma, config.floor, config.form, growth=growth, order=config.order or "together"
    )


def _bls(config: RunConfig, model: MultiTaskModel) -> fastls.BLS:
    return fastls.BLS(model, config.lr, config.direction, _search(config))


def _fbls(config: RunConfig, model: MultiTaskModel) -> fastls.FBLS:
    return fastls.FBLS(model, config.lr, config.direction, _search(config), match_gain=bool(config.match_gain))


def _adam_fbls(config: RunConfig, model: MultiTaskModel) -> fastls.AdamFBLS:
    if not config.bounded:
        raise ValueError("AdamFBLS is made with `bounded=True` alone: its first version left, and its rows stay.")
    return fastls.AdamFBLS(model, config.direction)


BUILDERS: dict[str, Callable] = {
    "SGD": _constant(fastls.SGD),
    "SGD, T forwards": _constant(SGDSeparateForwards),
    "MGDA-UB": _constant(fastls.MGDAUB),
    "TorchJD MGDA": lambda config, model: TorchJDMGDA(model, config.lr),
    "BLS": _bls,
    "FBLS": _fbls,
    "AdamFBLS": _adam_fbls,
    "EqualWeight": lambda config, model: fastls.EqualWeight(model, config.lr),
    **{name: _rival(make) for name, (make, _) in RIVALS.items()},
}
