r"""What optimal means for several losses at once: dominance, the front, and how far from stationary a point is.

Definitions 1 to 3 of Filatov and Merkulov (2021), https://arxiv.org/abs/2110.00874. Points are vectors of m losses,
less is better. Infinite losses are ordered like numbers, so a diverged run can be compared; NaN raises an error.
"""

import torch
from torch import Tensor

from fastls.algorithms.directions import compute_gramian, mgda

ROWS = 256  # points that are compared with the front at once, for three objectives or more


def dominates(a: Tensor, b: Tensor) -> Tensor:
    r"""a_i ≤ b_i for every i and a_j < b_j for some j: a is as good as b in everything and better in something.

    Takes losses (..., m) and (..., m), broadcasts their leading dimensions, and returns (...) bool.

    Raises:
        ValueError: no objective, different numbers of objectives, leading dimensions that do not fit, or a NaN.

    Example:
        >>> points = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 3.0]])
        >>> dominates(torch.tensor([1.0, 2.0]), points)
        tensor([False, False,  True])

    Source: Definition 1.
    """
    for name, losses in (("a", a), ("b", b)):
        if losses.dim() == 0 or losses.shape[-1] == 0:
            raise ValueError(f"`{name}` must have shape (..., m), m ≥ 1, found {tuple(losses.shape)}.")
        _check_no_nan(name, losses)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"`a` and `b` must have the same objectives, found {a.shape[-1]} and {b.shape[-1]}.")
    try:
        torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError as error:
        raise ValueError(
            f"The leading dimensions of `a` and `b` must broadcast, found shapes {tuple(a.shape)} and {tuple(b.shape)}."
        ) from error
    return _dominates(a, b)


def pareto_front(points: Tensor) -> Tensor:
    r"""The members that no other member dominates: {p : there is no q among the points with q ≤ p, q ≠ p}.

    Equal points do not dominate each other, so all copies of a member are kept. O(n log n) for two objectives; for
    more, O(n · members), in blocks, so that memory stays O(n). Takes points (n, m), returns (n,) bool in their order.

    Raises:
        ValueError: another shape, no point, no objective, or a NaN.

    Example:
        >>> pareto_front(torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [2.0, 3.0], [1.0, 3.0]]))
        tensor([ True,  True,  True, False,  True])

    Source: Definition 2, among finitely many points; the sweep for two objectives is that of Kung, Luccio and
    Preparata (1975), https://doi.org/10.1145/321906.321910.
    """
    if points.dim() != 2 or 0 in points.shape:
        raise ValueError(f"`points` must have shape (n, m), n ≥ 1 and m ≥ 1, found {tuple(points.shape)}.")
    _check_no_nan("points", points)
    objectives = points.shape[1]
    if objectives == 1:
        return points[:, 0] == points.min()
    if objectives == 2:
        return _front_of_two(points)
    return _front_of_many(points)


def stationarity_gap(gradients: Tensor) -> Tensor:
    r"""min ‖Σ_t α_t g_t‖ over α ≥ 0, Σα = 1: zero exactly at the Pareto stationary points.

    The gap measures how far a point is from Definition 3, in the units of a gradient. The optimizers use another test,
    `fastls.algorithms.directions.is_stationary`: is the direction of their rule only a rounding error of its terms, so
    that a step along it has no meaning? If the weights of this direction sum to one, the gap is at most its length.

    Definition 3 also asks that every decoder's own gradient is zero. The gap does not see this part, so it is complete
    only if the decoders have no parameters. Takes gradients (T, n), one row ∂L_t/∂θ_sh per task, and returns a float64
    scalar on their device.

    Raises:
        ValueError: another shape, no task, no parameter, or a gradient that is not finite.

    Example:
        >>> stationarity_gap(torch.tensor([[3.0, 1.0], [-1.0, 1.0]])).item()     # the segment passes above the origin
        1.0

    Source: Definition 3; the minimum is that of Désidéri (2012), https://doi.org/10.1016/j.crma.2012.03.014.
    """
    if gradients.dim() != 2 or 0 in gradients.shape:
        raise ValueError(f"`gradients` must have shape (T, n), T ≥ 1 and n ≥ 1, found {tuple(gradients.shape)}.")
    if not bool(gradients.isfinite().all()):
        raise ValueError("`gradients` must be finite, found NaN or infinity.")
    gradients = gradients.detach().double()
    # The sum first, then its norm: αᵀGα would be only rounding once the terms cancel to half of the digits.
    return torch.linalg.vector_norm(mgda(compute_gramian(gradients)) @ gradients)


def _dominates(a: Tensor, b: Tensor) -> Tensor:
    return (a <= b).all(dim=-1) & (a < b).any(dim=-1)


def _front_of_two(points: Tensor) -> Tensor:
    """Sweep in lexicographic order; remember the smallest second loss so far."""
    order = _lexicographic_order(points)
    first, second = points[order].T.contiguous()
    start = torch.searchsorted(first, first)  # where the run of equal first losses begins
    least = second.cummin(dim=0).values
    dominated = (start > 0) & (least[start - 1] <= second)  # by a point with a smaller first loss
    dominated |= second > second[start]  # by a point with the same first loss
    return torch.empty_like(dominated).scatter_(0, order, ~dominated)


def _front_of_many(points: Tensor) -> Tensor:
    """Sweep in blocks: a dominating point comes earlier or in the same block; the front replaces earlier blocks."""
    order = _lexicographic_order(points)
    front, kept = points[:0], []
    for block in points[order].split(ROWS):
        kept.append(~_dominates(torch.cat([front, block]), block[:, None]).any(dim=1))
        front = torch.cat([front, block[kept[-1]]])
    kept = torch.cat(kept)
    return torch.empty_like(kept).scatter_(0, order, kept)


def _lexicographic_order(points: Tensor) -> Tensor:
    order = torch.arange(len(points), device=points.device)
    for column in reversed(points.unbind(1)):
        order = order[column[order].argsort(stable=True)]
    return order


def _check_no_nan(name: str, losses: Tensor) -> None:
    if bool(losses.isnan().any()):
        raise ValueError(f"`{name}` must not hold NaN, found {int(losses.isnan().sum())}: NaN has no order.")
