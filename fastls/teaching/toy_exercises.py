"""Exercises 6 to 8, on the toy problems, in the form of `theory_exercises`."""

import torch
from torch import Tensor

from fastls.algorithms.directions import compute_gramian, mgda
from fastls.algorithms.line_search import Slopes
from fastls.algorithms.merit_search import GoldenSection
from fastls.models.quadratic import pareto_set
from fastls.teaching.judge import Exercise
from fastls.teaching.theory_exercises import vector


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# Exercise 6


def pareto_point(H1: Tensor, z1: Tensor, H2: Tensor, z2: Tensor, weight: float) -> Tensor:
    return pareto_set(torch.stack([z1, z2]), torch.stack([H1, H2]), vector(weight, 1 - weight)[None])[0]


def _weighs_centres(H1, z1, H2, z2, weight) -> Tensor:
    return weight * z1 + (1 - weight) * z2


def _keeps_diagonals(H1, z1, H2, z2, weight) -> Tensor:
    return pareto_point(H1.diagonal().diag(), z1, H2.diagonal().diag(), z2, weight)


IDENTITY, TILTED, STRETCHED = matrix([1, 0], [0, 1]), matrix([2, 1], [1, 2]), matrix([1, 0], [0, 9])
PARETO_POINT = Exercise(
    number=6,
    solve=pareto_point,
    source="fastls.models.quadratic.pareto_set",
    first_hint="at the minimum w H1 (z − z1) + (1 − w) H2 (z − z2) = 0: solve this linear system for z.",
    shape_hint="the product of a matrix and a vector is H @ c; H * c multiplies entry by entry and is a matrix.",
    cases=[
        (
            (IDENTITY, vector(1, 0), IDENTITY, vector(0, 1), 0.25),
            "with equal round curvatures the point divides the segment from z2 to z1.",
        ),
        ((IDENTITY, vector(1, 0), 4 * IDENTITY, vector(0, 1), 0.5), "the steeper loss draws the point to its centre."),
        ((IDENTITY, vector(1, 0), STRETCHED, vector(0, 1), 0.5), "curvatures are matrices: the set is curved."),
        (
            (TILTED, vector(1, 0), STRETCHED, vector(-1, 2), 0.25),
            "neither matrix is a multiple of the other: solve the linear system for z.",
        ),
        ((TILTED, vector(1, 0), STRETCHED, vector(-1, 2), 1.0), "all weight on L1: the point is its minimum z1."),
        ((TILTED, vector(1, 0), STRETCHED, vector(-1, 2), 0.0), "all weight on L2: the point is its minimum z2."),
        (
            (torch.eye(3).double(), vector(1, 2, 3), 2 * torch.eye(3).double(), vector(0, 0, 1), 0.5),
            "z has three entries here: the size comes from the arguments.",
        ),
    ],
    mistakes=[
        (_weighs_centres, "this is w z1 + (1 − w) z2, right for equal curvatures alone: H1 and H2 weigh as well."),
        (
            lambda H1, z1, H2, z2, weight: pareto_point(H1, z1, H2, z2, 1 - weight),
            "the weights are exchanged: w is of L1.",
        ),
        (lambda H1, z1, H2, z2, weight: pareto_point(H1, z1, H2, z2, 0.5), "the weight is not used."),
        (
            _keeps_diagonals,
            "this uses the diagonals of H1 and H2 alone: products are H @ c, not H * c; solve, not divide.",
        ),
    ],
)


# Exercise 7


def losing_encoder(g1: Tensor, g2: Tensor) -> Tensor:
    """A = [w, ε w⊥]. g is the gradient with the wider angle to d; w lies between −g and d: ⟨w, d⟩ > 0 > ⟨w, g⟩."""
    d = _shortest(g1, g2)
    g = max(g1, g2, key=lambda g: g.norm() / (g @ d))
    aside = g - (g @ d) / (d @ d) * d
    w = d / (d @ d) - 2 * (g @ d) / (d @ d) * aside / (aside @ aside)
    return torch.stack([w, 0.01 * torch.stack([-w[1], w[0]])], dim=1)


def _shortest(g1: Tensor, g2: Tensor) -> Tensor:
    g = torch.stack([g1, g2])
    return mgda(compute_gramian(g)) @ g


def _loses_descent(found: Tensor, expected: Tensor, g1: Tensor, g2: Tensor) -> bool:
    """Whether A is regular and the step −A Aᵀ d_z in z raises one of the losses, to first order."""
    moved = found.double() @ found.double().T @ _shortest(g1, g2)
    return bool(torch.linalg.matrix_rank(found.double()) == 2 and min(g1 @ moved, g2 @ moved) < 0)


LOSING_ENCODER = Exercise(
    number=7,
    solve=losing_encoder,
    source="the sign of ⟨g_t, A Aᵀ d_z⟩",
    first_hint="the step moves z by −η A Aᵀ d_z. Let A Aᵀ be nearly w wᵀ: which w makes ⟨g1, w⟩⟨w, d_z⟩ negative?",
    cases=[
        ((vector(1, 1), vector(1, -1)), "here d_z = (1, 0): a w close to (1, 2) turns the step against g2."),
        ((vector(1, 2), vector(1, -1)), "here d_z = (1, 0) too; print ⟨g_t, A Aᵀ d_z⟩ for both tasks."),
        ((vector(2, 1), vector(-1, 1)), "d_z is another vector now: compute it, as in exercise 2."),
        ((vector(0, 3), vector(1, 3.5)), "both gradients are nearly parallel: w must be nearly orthogonal to d_z."),
    ],
    mistakes=[
        (
            lambda g1, g2: torch.eye(2).double(),
            "the identity moves z as tested: nothing is lost. A must stretch one direction far more than the other.",
        ),
        (
            lambda g1, g2: torch.stack([g1, g2]),
            "this A depends on the gradients in the right way, but A Aᵀ d_z does not point against one of them.",
        ),
    ],
    agree=_loses_descent,
    asked="a regular A with ⟨g_t, A Aᵀ d_z⟩ < 0 for one of the tasks",
    shape_hint="A is a 2 × 2 matrix: z and θ have two numbers each.",
)


# Exercise 8


def best_step(slopes: Tensor, curvatures: Tensor, lr_ub: float) -> float:
    def phi(eta: float) -> Tensor:
        return -slopes * eta + curvatures * eta**2 / 2

    parts = Slopes(own=torch.zeros_like(slopes), shared=slopes)
    return GoldenSection(tolerance=1e-9)(phi, torch.zeros_like(slopes), parts, lr_ub).step_size


def _are_close_enough(found: Tensor, expected: Tensor, *arguments) -> bool:
    """Equal up to 1e-4: a search that sees only values resolves no more than the square root of rounding."""
    return torch.allclose(found.double(), expected.double(), rtol=1e-4)


def _lowest(slopes, curvatures, lr_ub, choose) -> float:
    return min(choose(slopes / curvatures).item(), lr_ub)


BEST_STEP = Exercise(
    number=8,
    solve=best_step,
    source="fastls.GoldenSection",
    first_hint="draw both parabolas. The lowest point of the upper one is its vertex, or the point where they cross.",
    cases=[
        ((vector(1, 1), vector(1, 1), 10.0), "twice the same parabola: its vertex is at s/h."),
        ((vector(1, 4), vector(1, 2), 10.0), "the first parabola is the upper one at its vertex: the vertex it is."),
        ((vector(4, 1), vector(2, 1), 10.0), "the second parabola is the upper one at its vertex: the vertex it is."),
        (
            (vector(1, 2), vector(0.5, 3), 10.0),
            "neither vertex is on the upper parabola: the answer is where they cross.",
        ),
        ((vector(2, 1), vector(3, 0.5), 10.0), "the order of the tasks does not matter."),
        ((vector(1, 1), vector(1, 1), 0.25), "the lowest point lies beyond lr_ub: the bound is the answer."),
    ],
    mistakes=[
        (
            lambda s, h, lr_ub: _lowest(s, h, lr_ub, torch.min),
            "this is the nearer vertex. The other parabola may be the upper one there.",
        ),
        (
            lambda s, h, lr_ub: _lowest(s, h, lr_ub, torch.max),
            "this is the farther vertex. The other parabola may be the upper one there.",
        ),
        (
            lambda s, h, lr_ub: _lowest(s.sum(), h.sum(), lr_ub, torch.max),
            "this minimises the sum of the losses; asked for is the largest change.",
        ),
    ],
    agree=_are_close_enough,
)
