"""Exercises 6 to 8, on the toy problems: made as the five on the theory."""

import math

import torch
from torch import Tensor

from fastls.algorithms.merit_search import compute_merit
from fastls.algorithms.optimizers import MGDAUB
from fastls.models.quadratic import pareto_set, quadratics
from fastls.teaching.judge import Exercise
from fastls.teaching.theory_exercises import vector


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# Exercise 6


def pareto_point(H1: Tensor, c1: Tensor, H2: Tensor, c2: Tensor, weight: float) -> Tensor:
    return pareto_set(torch.stack([c1, c2]), torch.stack([H1, H2]), vector(weight, 1 - weight)[None])[0]


def _weighs_centres(H1, c1, H2, c2, weight) -> Tensor:
    return weight * c1 + (1 - weight) * c2


def _keeps_diagonals(H1, c1, H2, c2, weight) -> Tensor:
    return pareto_point(H1.diagonal().diag(), c1, H2.diagonal().diag(), c2, weight)


IDENTITY, TILTED, STRETCHED = matrix([1, 0], [0, 1]), matrix([2, 1], [1, 2]), matrix([1, 0], [0, 9])
PARETO_POINT = Exercise(
    number=6,
    solve=pareto_point,
    source="fastls.models.quadratic.pareto_set",
    first_hint="at the minimum w H1 (z − c1) + (1 − w) H2 (z − c2) = 0: solve this linear system for z.",
    cases=[
        (
            (IDENTITY, vector(1, 0), IDENTITY, vector(0, 1), 0.25),
            "with equal round curvatures the point divides the segment from c2 to c1.",
        ),
        ((IDENTITY, vector(1, 0), 4 * IDENTITY, vector(0, 1), 0.5), "the steeper loss draws the point to its centre."),
        ((IDENTITY, vector(1, 0), STRETCHED, vector(0, 1), 0.5), "curvatures are matrices: the set is curved."),
        (
            (TILTED, vector(1, 0), STRETCHED, vector(-1, 2), 0.25),
            "neither matrix is a multiple of the other: solve the linear system for z.",
        ),
        ((TILTED, vector(1, 0), STRETCHED, vector(-1, 2), 1.0), "all weight on L1: the point is its minimum c1."),
        ((TILTED, vector(1, 0), STRETCHED, vector(-1, 2), 0.0), "all weight on L2: the point is its minimum c2."),
        (
            (torch.eye(3).double(), vector(1, 2, 3), 2 * torch.eye(3).double(), vector(0, 0, 1), 0.5),
            "z has three entries here: the size comes from the arguments.",
        ),
    ],
    mistakes=[
        (_weighs_centres, "this is w c1 + (1 − w) c2, right for equal curvatures alone: H1 and H2 weigh as well."),
        (
            lambda H1, c1, H2, c2, weight: pareto_point(H1, c1, H2, c2, 1 - weight),
            "the weights are exchanged: w is of L1.",
        ),
        (lambda H1, c1, H2, c2, weight: pareto_point(H1, c1, H2, c2, 0.5), "the weight is not used."),
        (
            _keeps_diagonals,
            "this uses the diagonals of H1 and H2 alone: products are H @ c, not H * c; solve, not divide.",
        ),
    ],
)


# Exercise 7


def gain(A: Tensor, d_z: Tensor) -> float:
    """The gain that the record of a step reports: one task, whose gradient at z = 0 is d_z."""
    start = A.new_zeros(A.shape[1])
    model = quadratics(A, -d_z[None], torch.eye(len(d_z)).to(A)[None], start)
    return MGDAUB(model, lr=1.0).step(None, dict.fromkeys(model.tasks)).gain.item()


def _stretch(pulled: Tensor, d_z: Tensor) -> float:
    return (pulled.square().sum() / d_z.square().sum()).item()


GAIN = Exercise(
    number=7,
    solve=gain,
    source="the gain in the record of a step",
    first_hint="θ moves by −η Aᵀ d_z, so z moves by −η A Aᵀ d_z; compare its part along d_z with d_z.",
    cases=[
        ((IDENTITY, vector(1, 0)), "with A the identity the step does just what was tried: ρ = 1."),
        ((matrix([3, 0], [0, 1]), vector(1, 0)), "squared norms: an A that stretches by 3 has ρ = 9."),
        ((matrix([3, 0], [0, 1]), vector(2, 2)), "d_z is not of unit length: divide by ‖d_z‖²."),
        ((matrix([1, 2], [0, 1]), vector(1, 0)), "it is the transpose of A that takes d_z back to θ."),
        ((matrix([1, 2], [0, 1], [3, 0]), vector(1, -1, 2)), "A is 3 × 2: d_z has as many entries as A has rows."),
    ],
    mistakes=[
        (lambda A, d_z: (A.T @ d_z).square().sum().item(), "d_z is not of unit length: divide by ‖d_z‖²."),
        (lambda A, d_z: math.sqrt(gain(A, d_z)), "these are the norms; the gain compares their squares."),
        (
            lambda A, d_z: ((A.T @ d_z).square().sum() / d_z.norm()).item(),
            "the denominator is ‖d_z‖, not squared: the gain must not depend on the length of d_z.",
        ),
        (
            lambda A, d_z: _stretch(A @ d_z, d_z) if A.shape[0] == A.shape[1] else math.nan,
            "this is ‖A d_z‖²; d_z lives where z does, and the transpose of A takes it back to θ.",
        ),
        (
            lambda A, d_z: _stretch(A @ (A.T @ d_z), d_z),
            "this is ‖A Aᵀ d_z‖², all of the movement of z; the gain is its part along d_z.",
        ),
    ],
)


# Exercise 8


def merit(new_losses: Tensor, losses: Tensor) -> float:
    return compute_merit(new_losses, losses)


MERIT = Exercise(
    number=8,
    solve=merit,
    source="the merit of fastls.GoldenSection",
    first_hint="the change of every loss, new minus old; of these, the worst.",
    cases=[
        ((vector(1, 2), vector(2, 4)), "both losses fall, by 1 and by 2: the worst change is −1."),
        ((vector(5, 3), vector(2, 4)), "one loss rises by 3: the other cannot make up for it."),
        ((vector(5, 1), vector(6, 0.5)), "the worst change need not be that of the largest loss."),
        ((vector(1, 2, 3), vector(1, 2, 3)), "nothing moved: the merit is 0."),
        ((vector(1, 1, 7), vector(2, 5, 8.5)), "three losses, of which the first falls least."),
    ],
    mistakes=[
        (lambda new, old: (new - old).sum().item(), "this is the sum of the changes; asked for is the largest."),
        (lambda new, old: (new - old).mean().item(), "this is the mean of the changes; asked for is the largest."),
        (lambda new, old: (new - old).min().item(), "this is the best change; asked for is the worst, the largest."),
        (
            lambda new, old: (old - new).max().item(),
            "the sign is exchanged: new minus old, so that a decrease is negative.",
        ),
        (
            lambda new, old: (old - new).min().item(),
            "the sign is exchanged: new minus old, so that a decrease is negative.",
        ),
        (
            lambda new, old: (new.max() - old.max()).item(),
            "this compares the largest loss after with the largest before; take the changes first, then the largest.",
        ),
        (lambda new, old: new.max().item(), "the losses at the start are missing."),
        (
            lambda new, old: (new - old).abs().max().item(),
            "without the absolute value: a decrease is negative, and good.",
        ),
    ],
)
