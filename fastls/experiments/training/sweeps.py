"""The runs behind each figure and table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastls.experiments.training.config import FIELDS, RunConfig, Setting
from fastls.experiments.training.optimizers.rivals import RIVALS

# "We choose eight step sizes evenly from log-range between -3 and -1" (section MultiMNIST of the paper).
STEP_SIZES = tuple(float(f"{step:.4g}") for step in np.logspace(-3, -1, 8))
BETAS = (0.1, 0.2, 0.3, 0.4)
# β and lr_ub from the paper, γ by our choice: the paper does not give it.
SEARCH = {"beta": 0.1, "gamma": 0.5, "floor": 1e-10, "form": 6}
LR_UB = 1.0
GUARD = 1000.0  # lr_ub of a search whose user chooses none: no step is larger
GROWTH = 1.1  # of a search that begins near its last step
GAIN = "FBLS+gain"  # the name of `gain_run`


@dataclass(frozen=True)
class Sweep(Setting):
    """A setting and the runs on it; the parameters of a notebook.

    Attributes:
        epochs: of every run.
        seeds: number of repetitions, seeds 0, 1, ...
        step_sizes: constant steps of the methods without a search.
        betas: β of the comparison of BLS with FBLS.
        beta_seeds: repetitions of that comparison, which costs more than all other runs.
        decay_every: epochs between two halvings of lr_ub in FBLS+decay.
    """

    epochs: int
    seeds: int
    step_sizes: tuple[float, ...] = STEP_SIZES
    betas: tuple[float, ...] = BETAS
    beta_seeds: int = 1
    decay_every: int = 10

    def run(self, method: str, lr: float, seed: int, **options) -> RunConfig:
        options = ({"direction": "mgda"} if "direction" in FIELDS[method] else {"direction": None}) | options
        return RunConfig(**vars(self.setting), method=method, lr=float(lr), epochs=self.epochs, seed=seed, **options)


def search_runs(sweep: Sweep, seed: int) -> list[RunConfig]:
    """FBLS and FBLS+decay."""
    return [
        sweep.run("FBLS", LR_UB, seed, **SEARCH),
        sweep.run("FBLS", LR_UB, seed, **SEARCH, decay_every=sweep.decay_every),
    ]


def gain_run(sweep: Sweep, seed: int, bound: float = GUARD, beta: float = 0.3, **options) -> RunConfig:
    """FBLS with the gain in its trials and a start near the previous step; by default the bound is only a guard."""
    search = SEARCH | {"beta": beta, "start": "previous"}
    return sweep.run("FBLS", bound, seed, **search, match_gain=True, **options)


# Methods that need no setting from the user: each has one setting for all models.
DEFAULTS = ("AdamFBLS", *RIVALS)


def default_run(sweep: Sweep, method: str, seed: int, **options) -> RunConfig:
    """A method of `DEFAULTS`: a rival at its authors' learning rate, AdamFBLS with its guard."""
    if method in RIVALS:
        return sweep.run(method, RIVALS[method][1], seed, **options)
    return sweep.run(method, GUARD, seed, bounded=True, **options)


def beta_runs(sweep: Sweep, seed: int, *methods: str) -> list[RunConfig]:
    """One run of each of these searches for every β."""
    return [sweep.run(method, LR_UB, seed, **(SEARCH | {"beta": beta})) for method in methods for beta in sweep.betas]


def comparison_runs(sweep: Sweep, methods: Sequence[str]) -> list[RunConfig]:
    """`step_size_runs` of these methods, BLS at the bound alone and all others at each step size of the sweep."""
    return step_size_runs(sweep, {name: (LR_UB,) if name == "BLS" else sweep.step_sizes for name in methods}, {})


def step_size_runs(sweep: Sweep, methods: dict[str, Sequence[float]], fewer_seeds: dict[float, int]) -> list[RunConfig]:
    """FBLS, FBLS+decay and each method at its steps, seed by seed: an interrupted sweep leaves whole seeds.

    Args:
        sweep: the size.
        methods: method -> its constant steps, or the bounds of BLS.
        fewer_seeds: step -> its number of seeds, if that is below ``sweep.seeds``.
    """
    runs = []
    for seed in range(sweep.seeds):
        runs += search_runs(sweep, seed)
        for method, steps in methods.items():
            kept = [step for step in steps if seed < fewer_seeds.get(step, sweep.seeds)]
            runs += [sweep.run(method, step, seed, **(SEARCH if method == "BLS" else {})) for step in kept]
    return runs
