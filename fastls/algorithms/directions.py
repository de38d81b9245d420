r"""Direction rules: from the Gramian of the task gradients to the weights of the common direction.

A rule is a function ``G (T, T) -> alpha (T,)`` with G_ij = ⟨g_i, g_j⟩, alpha ≥ 0, and d = Σ_t alpha_t g_t. The rule
does not know in which space the gradients were taken. Any such callable can replace a name from `DIRECTIONS`: a rule of
your own, or a weighting of TorchJD.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

Direction = Callable[[Tensor], Tensor]


def mean(gramian: Tensor) -> Tensor:
    """alpha_t = 1/T: the gradient of the mean loss. Not a common descent direction in general.

    Example:
        >>> mean(torch.eye(4))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    tasks = gramian.shape[0]
    return gramian.new_full((tasks,), 1 / tasks)


def mgda(gramian: Tensor) -> Tensor:
    r"""argmin αᵀGα over the simplex: the shortest vector in the convex hull of the gradients, solved exactly.

    The result satisfies (Gα)_t ≥ αᵀGα for every t, so d is a common descent direction unless d = 0. d = 0 exactly at
    the Pareto stationary points. The weights sum to one. Pass G in float64 for accurate weights.

    Raises:
        RuntimeError: the least-squares solver did not converge (never suppressed).

    Example:
        >>> mgda(torch.diag(torch.tensor([1.0, 4.0])))   # orthogonal gradients of length 1 and 2
        tensor([0.8000, 0.2000])

    Source: Désidéri (2012), https://doi.org/10.1016/j.crma.2012.03.014; the closed form for T = 2 from Sener and
    Koltun (2018), https://arxiv.org/abs/1810.04650. For T > 2, with RᵀR = G: non-negative least squares minimises
    ‖Rx‖² + (1 − 1ᵀx)². For x = cα the best c leaves q/(1 + q) with q = αᵀGα, so α = x/Σx has the smallest q.
    """
    tasks = gramian.shape[0]
    if tasks == 2:
        return _mgda_of_two(gramian)
    norms = gramian.diagonal().clamp_min(0).sqrt()
    if (norms == 0).any():  # a zero gradient is the shortest vector of the hull
        return _share_among(norms == 0, gramian)
    # Scale to unit rows, x_t = y_t / |g_t|: otherwise short gradients would lose accuracy beside long ones.
    unit = (gramian / torch.outer(norms, norms)).double().cpu()
    inverse = (norms.min() / norms).double().cpu().numpy()
    # torch, not NumPy: NumPy's threads would keep cores busy and, at forty tasks, slow the next passes by a third.
    eigenvalues, eigenvectors = torch.linalg.eigh((unit + unit.T) / 2)
    root = (eigenvectors * eigenvalues.clamp_min(0).sqrt()).T.numpy()
    y, _ = nnls(np.vstack([root, inverse]), np.append(np.zeros(tasks), 1.0))
    x = y * inverse
    return torch.from_numpy(x / x.sum()).to(gramian)


def _mgda_of_two(gramian: Tensor) -> Tensor:
    """Closed form: clamp(⟨g_2 − g_1, g_2⟩ / ‖g_1 − g_2‖², 0, 1) for the first weight."""
    g11, g12, g22 = gramian[0, 0], gramian[0, 1], gramian[1, 1]
    distance = g11 - 2 * g12 + g22
    first = torch.where(distance > 0, ((g22 - g12) / distance).clamp(0, 1), 0.5)  # equal gradients: any weights fit
    # If g_1 is far shorter than g_2, 1 − first is only rounding error, and g_2 is long enough for that to matter.
    second = torch.where(g22 > 1e10 * g11, ((g11 - g12) / distance).clamp(0, 1), 1 - first)
    return torch.stack([first, second])


def _share_among(chosen: Tensor, gramian: Tensor) -> Tensor:
    """Equal weights on the chosen tasks and none on the others."""
    return chosen.to(gramian) / chosen.sum()


def edm(gramian: Tensor) -> Tensor:
    r"""α_t = γ ν_t / ‖g_t‖, ν the MGDA weights of the unit gradients, γ such that Σα = 1. For T = 2 the bisector.

    The direction makes the same angle with every gradient of non-zero weight; rescaling a loss does not change where d
    points.

    Example:
        >>> edm(torch.diag(torch.tensor([1.0, 4.0])))    # |g_2| = 2 |g_1|: d is parallel to g_1/1 + g_2/2
        tensor([0.6667, 0.3333])

    Source: Katrutsa, Merkulov, Tursynbek and Oseledets (2020), "Follow the bisector", https://arxiv.org/abs/2007.06937.
    """
    norms = gramian.diagonal().clamp_min(0).sqrt()
    if len(norms) == 2:  # ν = (1/2, 1/2), whatever the angle
        return torch.where(norms.sum() > 0, norms.flip(0) / norms.sum(), 0.5)
    if (norms == 0).any():
        return _share_among(norms == 0, gramian)
    weights = mgda(gramian / torch.outer(norms, norms)) * (norms.min() / norms)
    return weights / weights.sum()


def pcgrad(gramian: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Remove from each g_i the part that opposes g_j where the two conflict, for all j in random order; then add up.

    The weights do not sum to one (without conflict each is 1), and for T ≥ 3 the sum need not be a common descent
    direction. The order is drawn from `generator`, or from torch's global one, so that `torch.manual_seed` decides it.
    For T ≤ 2 the order does not matter and nothing is drawn.

    Example:
        >>> pcgrad(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]))
        tensor([1.5000, 1.5000])

    Source: Yu et al. (2020), "Gradient Surgery for Multi-Task Learning", https://arxiv.org/abs/2001.06782.
    """
    tasks = gramian.shape[0]
    G = gramian.cpu()  # T is tiny and the loop is sequential
    total = torch.zeros(tasks, dtype=G.dtype)
    for i in range(tasks):
        weights = torch.zeros(tasks, dtype=G.dtype)
        weights[i] = 1
        order = torch.randperm(tasks, generator=generator).tolist() if tasks > 2 else range(tasks)
        for j in order:
            inner = G[j] @ weights
            if j != i and inner < 0:
                weights[j] -= inner / G[j, j]
        total += weights
    return total.to(gramian)


DIRECTIONS: dict[str, Direction] = {"mean": mean, "mgda": mgda, "edm": edm, "pcgrad": pcgrad}


def get_direction(direction: str | Direction) -> Direction:
    """The rule of that name, or the callable itself; ValueError for an unknown name."""
    if callable(direction):
        return direction
    if direction not in DIRECTIONS:
        raise ValueError(f"`direction` must be a callable or one of {sorted(DIRECTIONS)}, found {direction!r}.")
    return DIRECTIONS[direction]


def compute_gramian(gradients: Tensor) -> Tensor:
    """G = F Fᵀ, (T, T) float64, from the gradients F of shape (T, n), one row per task.

    The sum runs over blocks of columns, so that no second copy of F is held. On a CPU a block fits into the cache:
    for T = 10 and 11 million parameters the sum takes a third of the time that it takes with blocks of 20 MB.
    """
    tasks, length = gradients.shape
    columns = max(1, min(length, (2**18 if gradients.device.type == "cpu" else 2**22) // tasks))
    buffer = gradients.new_empty(tasks * columns, dtype=torch.float64)
    gramian = gradients.new_zeros((tasks, tasks), dtype=torch.float64)
    for block in gradients.split(columns, dim=1):
        block = buffer[: block.numel()].view_as(block).copy_(block)
        gramian += block @ block.T
    return gramian


def find_active(gramian: Tensor, own: Tensor) -> Tensor:
    r"""(T,) bool, which tasks are active in a step: those with g_t ≠ 0 or ∂L_t/∂θ_t ≠ 0; `own` is (T,), ‖∂L_t/∂θ_t‖².

    If a batch has no target of a task (no car in a crop), the task's loss is zero and its gradients vanish. Zero is the
    shortest vector of any hull: this task would stop the encoder and make every search fail. So the direction and the
    test of this batch leave the task out. If no decoder has a gradient of its own, all tasks are active: g_t = 0 then
    means a Pareto stationary point (Definition 3), and nothing should move.

    Example:
        >>> find_active(torch.diag(torch.tensor([1.0, 0.0, 0.0])), own=torch.tensor([1.0, 2.0, 0.0]))
        tensor([ True,  True, False])
    """
    return (gramian.diagonal() + own > 0) | (own == 0).all()


def weigh(direction: Direction, gramian: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """alpha, (T,), and which tasks are active, (T,) bool. The rule sees active tasks only; the others get weight 0.

    ValueError unless the rule returns a finite weight ≥ 0 for every active task.
    """
    active = find_active(gramian, own)
    found, shape = direction(gramian[active][:, active]), (int(active.sum()),)
    name = getattr(direction, "__name__", type(direction).__name__)
    if not isinstance(found, Tensor) or found.shape != shape:
        wrong = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"Direction `{name}` must return weights of shape {shape}, found {wrong}.")
    if not (found.isfinite() & (found >= 0)).all():
        raise ValueError(f"Direction `{name}` must return finite weights ≥ 0, found {found.tolist()}.")
    weights = torch.zeros_like(own)
    weights[active] = found.detach().to(gramian)
    return weights, active


def is_stationary(gramian: Tensor, weights: Tensor, own: Tensor, dtype: torch.dtype) -> Tensor:
    r"""() bool: whether d and every ∂L_t/∂θ_t vanish up to rounding, Pareto stationarity (Definition 3) of a batch.

    ‖d‖² = αᵀGα is compared with the largest ‖α_t g_t‖²: terms that cancel leave a rounding error relative to their own
    size. `dtype` is the type in which the gradients were computed.
    """
    largest = (weights.square() * gramian.diagonal()).max()
    rounding = max(10 * torch.finfo(torch.float64).eps, (10 * torch.finfo(dtype).eps) ** 2)
    return torch.maximum(weights @ gramian @ weights, own.max()) <= rounding * largest
