"""Toy problems in two parameters, and runs of the optimizers on them, step by step.

z = Aθ with A = Q diag(σ₁, σ₂): σ₁ sets the encoder's gain, σ₂/σ₁ its conditioning. Starts are given in z, so the
losses at the start do not depend on the encoder. All runs use the optimizers of the package itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.path import Path as Outline
from torch import Tensor

from fastls.algorithms.optimizers import BLS, FBLS, MGDAUB, SGD, EqualWeight
from fastls.algorithms.pareto import stationarity_gap
from fastls.algorithms.spaces import Passes
from fastls.experiments.studies.toy.second_order import NewtonMOO
from fastls.models.multitask import MultiTaskModel
from fastls.models.quadratic import FONSECA_CENTRES, fonseca, pareto_set, quadratics

TOLERANCE = 1e-6  # a stationarity gap at which a run has arrived
DIVERGED = 1e6  # a loss beyond which a run is given up
BACKWARD = 2  # a backward pass costs about as much as two forward passes
THETA = ["theta_1", "theta_2"]
PASSES = [field.name for field in fields(Passes)]
LR = 0.4  # of methods without a search; larger steps diverge soon with PCGrad, whose weights add up to two or more
OPTIMIZERS = {
    "EqualWeight": partial(EqualWeight, lr=LR),
    "SGD": partial(SGD, lr=LR),
    "BLS": BLS,
    "MGDA-UB": partial(MGDAUB, lr=LR),
    "FBLS": FBLS,
}
SECOND_ORDER = {"Newton": NewtonMOO, "latent Newton": partial(NewtonMOO, latent=True)}

# Round numbers, so that the Pareto set can be checked by hand: at equal weights z = (-7/9, 3/10).
CENTRES = torch.tensor([[-1.0, -0.5], [1.0, 0.5], [-0.2, 1.6]], dtype=torch.float64)
CURVATURES = torch.tensor(
    [[[4.0, 0.0], [0.0, 0.5]], [[0.5, 0.0], [0.0, 2.0]], [[1.0, -0.5], [-0.5, 1.0]]], dtype=torch.float64
)
STARTS = ((-2.0, 2.5), (2.0, 2.2), (-0.6, -2.0), (2.4, -1.2))  # in z
RATIO = 0.6  # default of σ₂/σ₁


@dataclass(frozen=True)
class Toy:
    """A problem in two parameters whose Pareto set is known in closed form.

    Attributes:
        encoder: A, (2, 2), invertible.
        make: ``make(encoder=A, start=θ)`` builds the model.
        pareto_z: (n, 2) points of the Pareto set in z, in order along a curve; if the set is an area, its boundary,
            with the first point repeated at the end.
    """

    encoder: Tensor
    make: Callable[..., MultiTaskModel]
    pareto_z: Tensor

    def to_theta(self, z: Tensor) -> Tensor:
        """θ = A⁻¹ z, row by row."""
        return torch.linalg.solve(self.encoder, z.T).T

    def model(self, start_z: Sequence[float]) -> MultiTaskModel:
        """The model, with θ such that ``z = Aθ`` is `start_z`."""
        start = torch.tensor([start_z], dtype=torch.float64)
        return self.make(encoder=self.encoder, start=self.to_theta(start)[0])


def make_encoder(scale: float = 1.0, ratio: float = RATIO) -> Tensor:
    """A = Q diag(σ₁, σ₂), Q the rotation by 30 degrees: the gain of a step lies between σ₂² and σ₁²."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    rotation = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    return scale * rotation @ torch.diag(torch.tensor([1.0, ratio], dtype=torch.float64))


def two_quadratics(scale: float = 1.0, ratio: float = RATIO) -> Toy:
    """Two convex quadratics; the Pareto set is a curve between their minima."""
    share = torch.linspace(0, 1, 4001, dtype=torch.float64)
    return _quadratics(torch.stack([1 - share, share], dim=1), make_encoder(scale, ratio))


def three_quadratics() -> Toy:
    """The two of `two_quadratics` and a third; the Pareto set is a triangle with curved sides."""
    share = torch.linspace(0, 1, 401, dtype=torch.float64)
    none = torch.zeros_like(share)
    edges = [[1 - share, share, none], [none, 1 - share, share], [share, none, 1 - share]]
    corner_to_corner = [torch.stack(edge, dim=1)[:-1] for edge in edges]
    weights = torch.cat([*corner_to_corner, corner_to_corner[0][:1]])
    return _quadratics(weights, make_encoder())


def _quadratics(weights: Tensor, encoder: Tensor) -> Toy:
    problem = {"centres": CENTRES[: weights.shape[1]], "curvatures": CURVATURES[: weights.shape[1]]}
    return Toy(encoder, partial(quadratics, **problem), pareto_set(**problem, weights=weights))


def nonconvex_pair() -> Toy:
    """1 − exp(−‖z ∓ 1/√2‖²): the Pareto set is the segment between the minima, the front bulges outwards.

    Source: Fonseca and Fleming (1995), https://doi.org/10.1162/evco.1995.3.1.1.
    """
    share = torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]
    return Toy(make_encoder(), fonseca, torch.lerp(*FONSECA_CENTRES, share))


def losses_at(toy: Toy, theta: Tensor) -> Tensor:
    """(n, T) losses at n points θ, (n, 2)."""
    model = toy.model((0.0, 0.0))

    def losses(z: Tensor) -> Tensor:
        return torch.stack([model.losses[task](model.decoders[task](z), None) for task in model.tasks])

    return torch.vmap(losses)(theta @ toy.encoder.T).detach()


def distance_to_pareto_set(toy: Toy, theta: Tensor) -> Tensor:
    """(n,) Euclidean distances of the rows of θ to the polygon through `Toy.pareto_z`; zero in an area.

    The polygon differs from the true curve by about 1e-7 with two quadratics, by up to 1e-5 with three.
    """
    curve = toy.to_theta(toy.pareto_z)
    start, along = curve[:-1], curve.diff(dim=0)  # (m, 2)
    lengths = along.square().sum(dim=1)
    towards = theta[:, None] - start  # (n, m, 2)
    share = ((towards * along).sum(dim=2) / lengths).clamp(0, 1)
    distance = (towards - share[..., None] * along).norm(dim=2).amin(dim=1)
    if torch.equal(curve[0], curve[-1]):
        inside = torch.from_numpy(Outline(curve.numpy()).contains_points(theta.numpy()))
        distance = distance.masked_fill(inside, 0.0)
    return distance


def get_theta(frame: pd.DataFrame) -> Tensor:
    """(n, 2), the columns θ of `follow`."""
    return torch.tensor(frame[THETA].to_numpy())


def follow(toy: Toy, method: str, start_z: Sequence[float], steps: int, **options) -> pd.DataFrame:
    r"""One row before the first step and one after each step, until the gap is below `TOLERANCE` or the run ends.

    Args:
        toy: the problem.
        method: one of `OPTIMIZERS` or `SECOND_ORDER`.
        start_z: where z starts.
        steps: the largest number of steps.
        **options: of the optimizer; without ``lr`` the methods without a search take `LR`.

    Returns:
        Columns ``step``; after this step: ``theta_1``, ``theta_2``, ``loss_1`` to ``loss_T``, ``gap`` (in θ); of this
        step: ``step_size`` and its ``bound`` (``lr``), ``trials``, ``accepted``, ``gain``; the passes of all steps so
        far; and ``outcome``, the same in all rows: "arrived", "refused" (the search failed; without noise it would fail
        again in every step), "diverged" or "out of steps".

    Raises:
        ValueError: an unknown method, or options that the optimizer refuses.

    Example:
        >>> run = follow(two_quadratics(), "BLS", (2.0, 2.0), steps=100)
        >>> run["outcome"].iloc[-1], bool(run["gap"].iloc[-1] <= TOLERANCE)
        ('arrived', True)
    """
    known = OPTIMIZERS | SECOND_ORDER
    if method not in known:
        raise ValueError(f"`method` must be one of {', '.join(known)}, found {method!r}.")
    model = toy.model(start_z)
    optimizer = known[method](model, **options)
    targets = dict.fromkeys(model.tasks)
    passes = dict.fromkeys(PASSES, 0)
    start = {"step_size": np.nan, "bound": optimizer.lr, "trials": 0, "accepted": True, "gain": np.nan}
    rows = [_look(model) | start | passes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # with three tasks PCGrad draws the order of its projections
        while not (outcome := _outcome(rows[-1])) and len(rows) <= steps:
            record = optimizer.step(None, targets)
            passes = {name: count + getattr(record.passes, name) for name, count in passes.items()}
            taken = {name: getattr(record, name) for name in ("step_size", "trials", "accepted")}
            gain = np.nan if record.gain is None else record.gain.item()
            rows.append(_look(model) | start | taken | {"gain": gain} | passes)
    return pd.DataFrame(rows).rename_axis("step").reset_index().assign(outcome=outcome or "out of steps")


def _look(model: MultiTaskModel) -> dict[str, float]:
    """The model's current θ, losses and stationarity gap in θ."""
    theta = model.encoder.theta
    z = model.encoder(None)
    losses = [model.losses[task](model.decoders[task](z), None) for task in model.tasks]
    gradients = torch.stack([torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in losses])
    return (
        dict(zip(THETA, theta.tolist(), strict=True))
        | {f"loss_{t}": loss.item() for t, loss in enumerate(losses, 1)}
        | {"gap": stationarity_gap(gradients).item()}
    )


def _outcome(row: dict) -> str:
    """How a run has ended, or "" if it goes on."""
    if row["gap"] <= TOLERANCE:
        return "arrived"
    if not row["accepted"]:
        return "refused"
    return "diverged" if max(value for name, value in row.items() if name.startswith("loss_")) > DIVERGED else ""


def follow_all(
    toy: Toy, runs: Mapping[str, tuple[str, dict]], starts: Sequence[Sequence[float]], steps: int
) -> pd.DataFrame:
    """`follow` for every run, label -> (method, options), from every start: its rows with ``label`` and ``start``."""
    return pd.concat(
        [
            follow(toy, method, start, steps, **options).assign(label=label, method=method, start=i)
            for label, (method, options) in runs.items()
            for i, start in enumerate(starts)
        ],
        ignore_index=True,
    )


def same_options(methods: Sequence[str], **options) -> dict[str, tuple[str, dict]]:
    """Runs for `follow_all`, one per method, labelled by its name."""
    return {method: (method, options) for method in methods}


def sweep(values: Sequence[float], follow_at: Callable[[float], pd.DataFrame]) -> pd.DataFrame:
    """`summarize` of ``follow_at(value)`` for every value: one row per ``value`` and ``label``."""
    return pd.concat({value: summarize(follow_at(value)) for value in values}, names=["value"]).reset_index()


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per label: how many starts arrived, and the medians over the starts of their steps, trials and passes.

    A start that does not arrive counts as infinitely many steps; an infinite median is left out (NaN). ``encoder
    passes`` and ``decoder passes`` are those of `weigh_passes`. ``largest gap`` is the largest final gap. ``at bound``
    and ``loss rose`` are shares of all steps: steps as long as the bound, and steps after which some loss was larger.
    """
    runs = frame.groupby(["label", "start"], sort=False)
    spent = runs["step"].max().to_frame("steps")
    spent["trials"] = runs["trials"].sum()
    spent["encoder passes"] = weigh_passes(frame, "encoder").groupby([frame["label"], frame["start"]]).max()
    spent["decoder passes"] = weigh_passes(frame, "decoder").groupby([frame["label"], frame["start"]]).max()
    arrived = runs["outcome"].first() == "arrived"
    by_label = spent.where(arrived, np.inf).groupby("label", sort=False)
    table = by_label.median().replace(np.inf, np.nan)
    table.insert(0, "arrived", arrived.groupby("label", sort=False).sum())
    table.insert(1, "starts", by_label.size())
    table["largest gap"] = runs["gap"].last().groupby("label", sort=False).max()
    steps = spent["steps"].groupby("label").sum()
    table["at bound"] = (frame["step_size"] >= frame["bound"]).groupby(frame["label"]).sum() / steps
    rose = frame.filter(like="loss_").groupby([frame["label"], frame["start"]]).diff().gt(0).any(axis=1)
    table["loss rose"] = rose.groupby(frame["label"]).sum() / steps
    return table


def weigh_passes(frame: pd.DataFrame, part: str) -> pd.Series:
    """Forward passes through "encoder" or "decoder", plus `BACKWARD` times the backward passes."""
    return frame[f"{part}_forward"] + BACKWARD * frame[f"{part}_backward"]
