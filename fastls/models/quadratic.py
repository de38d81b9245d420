r"""Toy problems in two parameters: z = Aθ and losses of z that can be drawn, with the Pareto set in closed form.

The encoder is the matrix A, the decoders return z and have no parameter, and there are no data: a step is
``optimizer.step(None, dict.fromkeys(model.tasks))``. It moves ``model.encoder.theta``. All numbers are float64.
"""

from functools import partial

import torch
from torch import Tensor, nn

from fastls.models.multitask import MultiTaskModel

# Zeros of the two losses of `fonseca`. Their level lines are circles, so the Pareto set is the segment between both.
FONSECA_CENTRES = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64) / 2**0.5


class LinearEncoder(nn.Module):
    """z = Aθ; the inputs are ignored.

    Args:
        matrix: A, (k, p).
        start: θ at the start, (p,).
    """

    def __init__(self, matrix: Tensor, start: Tensor):
        super().__init__()
        self.register_buffer("matrix", matrix.clone())
        self.theta = nn.Parameter(start.clone())

    def forward(self, inputs) -> Tensor:
        return self.matrix @ self.theta


def quadratic_loss(z: Tensor, target, centre: Tensor, curvature: Tensor) -> Tensor:
    """½ (z − c)ᵀ H (z − c)."""
    offset = z - centre
    return offset @ curvature @ offset / 2


def bell_loss(z: Tensor, target, centre: Tensor) -> Tensor:
    """1 − exp(−‖z − c‖²), exact near the centre too; flat far from it, where the exponential underflows."""
    return -torch.expm1(-(z - centre).square().sum())


def quadratics(encoder: Tensor, centres: Tensor, curvatures: Tensor, start: Tensor) -> MultiTaskModel:
    r"""L_t = ½ (z − z_t*)ᵀ H_t (z − z_t*), z = Aθ: T convex losses; `pareto_set` holds their Pareto set.

    Args:
        encoder: A, (k, p).
        centres: z_t*, the minima, (T, k).
        curvatures: H_t, (T, k, k), symmetric positive definite.
        start: θ at the start, (p,).

    Returns:
        MultiTaskModel with the tasks "1", ..., "T".

    Raises:
        ValueError: shapes that do not fit, a number that is not finite, or a curvature that is not symmetric positive
            definite.

    Example:
        >>> model = quadratics(torch.eye(2), torch.eye(2), torch.eye(2).expand(2, 2, 2), start=torch.zeros(2))
        >>> model.tasks, model(None)["1"].tolist()
        (('1', '2'), [0.0, 0.0])
    """
    losses = _quadratic_losses(centres, curvatures)
    return _model(encoder, start, losses, latent=centres.shape[1])


def fonseca(encoder: Tensor, start: Tensor) -> MultiTaskModel:
    r"""L_1, L_2 = 1 − exp(−‖z ∓ (1, 1)/√2‖²), z = Aθ: two losses that are not convex.

    For an invertible A the Pareto set is, in z, the segment between `FONSECA_CENTRES`; the front is concave except
    near its ends. No other point is Pareto stationary, but far from both centres the gradients underflow to zero.

    Args:
        encoder: A, (2, p).
        start: θ at the start, (p,).

    Returns:
        MultiTaskModel with the tasks "1" and "2".

    Raises:
        ValueError: shapes that do not fit, or a number that is not finite.

    Example:
        >>> model = fonseca(torch.eye(2), start=torch.tensor([0.5, -0.5]))
        >>> round(model.losses["1"](model(None)["1"], None).item(), 4)       # ‖z − (1, 1)/√2‖² = 1.5
        0.7769

    Source: Fonseca and Fleming (1995), "An Overview of Evolutionary Algorithms in Multiobjective Optimization",
    https://doi.org/10.1162/evco.1995.3.1.1, for n = 2.
    """
    losses = [partial(bell_loss, centre=centre) for centre in FONSECA_CENTRES]
    return _model(encoder, start, losses, latent=2)


def scalar_chain(c: float, start: float = 1.0) -> MultiTaskModel:
    r"""z = cθ, L = z²/2, T = 1: here the step that FBLS tests differs from the step that it takes.

    In z the test accepts η = 1 for every β ≤ 1/2, and the step is θ ← (1 − c²)θ.

    Example:
        >>> model = scalar_chain(2.0, start=3.0)
        >>> model.losses["1"](model(None)["1"], None).item()
        18.0
    """
    one = torch.ones(1, 1, dtype=torch.float64)
    return quadratics(c * one, centres=0 * one, curvatures=one[None], start=start * one[0])


def pareto_set(centres: Tensor, curvatures: Tensor, weights: Tensor) -> Tensor:
    r"""z(w) = (Σ_t w_t H_t)⁻¹ Σ_t w_t H_t z_t*: the minimisers of Σ_t w_t L_t of `quadratics`, in z.

    For all weights ≥ 0 together, these are exactly the Pareto optimal points, since the losses are strictly convex. For
    an invertible A, θ = A⁻¹ z.

    Args:
        centres: z_t*, the minima, (T, k).
        curvatures: H_t, (T, k, k), symmetric positive definite.
        weights: (n, T), one row per point, not negative and not all zero.

    Returns:
        (n, k) float64.

    Raises:
        ValueError: shapes that do not fit, a curvature that is not symmetric positive definite, or bad weights.

    Example:
        >>> identities = torch.eye(2).expand(2, 2, 2)
        >>> pareto_set(torch.eye(2), identities, torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    _check_quadratics(centres, curvatures)
    tasks = len(centres)
    if weights.dim() != 2 or weights.shape[1] != tasks:
        raise ValueError(f"`weights` must have shape (n, {tasks}), found {tuple(weights.shape)}.")
    if not bool(((weights >= 0) & weights.isfinite()).all() and (weights.sum(1) > 0).all()):
        raise ValueError("`weights` must be finite and ≥ 0 with a positive one in every row; at least one row is not.")
    centres, curvatures, weights = centres.double(), curvatures.double(), weights.double()
    mixed = torch.einsum("nt,tij->nij", weights, curvatures)  # (n, k, k)
    pull = torch.einsum("nt,tij,tj->ni", weights, curvatures, centres)  # (n, k)
    return torch.linalg.solve(mixed, pull)


def _quadratic_losses(centres: Tensor, curvatures: Tensor) -> list:
    _check_quadratics(centres, curvatures)
    return [
        partial(quadratic_loss, centre=centre, curvature=curvature)
        for centre, curvature in zip(centres.double(), curvatures.double(), strict=True)
    ]


def _model(encoder: Tensor, start: Tensor, losses: list, latent: int) -> MultiTaskModel:
    if encoder.dim() != 2 or len(encoder) != latent or not bool(encoder.isfinite().all()):
        raise ValueError(f"`encoder` must be a finite matrix of {latent} rows, found shape {tuple(encoder.shape)}.")
    if start.shape != encoder.shape[1:] or not bool(start.isfinite().all()):
        raise ValueError(
            f"`start` must be finite with one number a column of `encoder`, shape {tuple(encoder.shape[1:])}, "
            f"found {start.tolist()}."
        )
    tasks = [str(t) for t in range(1, len(losses) + 1)]
    decoders = {task: nn.Identity() for task in tasks}
    return MultiTaskModel(
        LinearEncoder(encoder.double(), start.double()), decoders, dict(zip(tasks, losses, strict=True))
    )


def _check_quadratics(centres: Tensor, curvatures: Tensor) -> None:
    if centres.dim() != 2 or 0 in centres.shape or not bool(centres.isfinite().all()):
        raise ValueError(f"`centres` must be finite and of shape (T, k), found shape {tuple(centres.shape)}.")
    tasks, latent = centres.shape
    if curvatures.shape != (tasks, latent, latent):
        raise ValueError(f"`curvatures` must have shape {(tasks, latent, latent)}, found {tuple(curvatures.shape)}.")
    for task, curvature in enumerate(curvatures.double(), start=1):
        if not torch.equal(curvature, curvature.T) or bool(torch.linalg.cholesky_ex(curvature).info):
            raise ValueError(
                f"`curvatures` must be symmetric positive definite, found {curvature.tolist()} for task '{task}'."
            )
