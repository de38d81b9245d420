"""Dominance, the front and the stationarity gap against their definitions, hand-computed cases and brute force."""

import itertools
import math
import time

import pytest
import torch

from fastls import dominates, mgda, pareto_front, stationarity_gap
from fastls.algorithms.directions import compute_gramian, is_stationary


def tied(count: int, objectives: int, seed: int, values: int = 4) -> torch.Tensor:
    """Integer points with many ties and duplicates."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(values, (count, objectives), generator=generator).double()


def is_better(a: list[float], b: list[float]) -> bool:
    """Definition 1, word by word."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2], [2, 3], True),
        ([1, 2], [1, 3], True),
        ([1, 2], [1, 2], False),
        ([1, 3], [2, 2], False),
        ([1, 2], [2, 1.9], False),
        ([1], [2], True),
        ([1, 1, 1], [1, 1, math.inf], True),
        ([math.inf, 1], [math.inf, 1], False),
        ([-math.inf, 1], [0, 1], True),
    ],
)
def test_dominance_by_hand(a, b, expected):
    assert dominates(torch.tensor(a), torch.tensor(b)).item() is expected


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
def test_dominance_is_a_strict_order(objectives):
    """On all pairs and triples of random points with many ties: irreflexive, antisymmetric, transitive."""
    points = tied(60, objectives, seed=objectives, values=3)
    D = dominates(points[:, None], points)  # D_ij: i dominates j
    assert D.any() and not D.all()
    assert not D.diagonal().any()
    assert not (D & D.T).any()
    through_another = (D.float() @ D.float()) > 0
    assert not (through_another & ~D).any()
    brute = [[is_better(a, b) for b in points.tolist()] for a in points.tolist()]
    assert D.tolist() == brute


def test_dominance_broadcasts_and_mixes_dtypes():
    a, b = tied(5, 3, seed=0), tied(7, 3, seed=1)
    assert dominates(a[:, None], b).shape == (5, 7)
    assert torch.equal(dominates(a[:, None].int(), b.float()), dominates(a[:, None], b))
    assert dominates(a[0], b).tolist() == [is_better(a[0].tolist(), other) for other in b.tolist()]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([[3.0, 4.0]], [0]),
        ([[1, 3], [2, 2], [3, 1]], [0, 1, 2]),
        ([[1, 3], [2, 2], [3, 1], [2, 3], [3, 3]], [0, 1, 2]),
        ([[2, 2], [2, 2], [2, 3], [3, 2]], [0, 1]),
        ([[1, 1], [1, 1], [0, 2]], [0, 1, 2]),
        ([[0, 5], [1, 5], [0, 5]], [0, 2]),
        ([[0.0, 1], [-0.0, 1], [-0.0, 2]], [0, 1]),
        ([[0, math.inf], [1, math.inf], [2, 0], [math.inf, math.inf]], [0, 2]),
        ([[math.inf, math.inf], [math.inf, math.inf]], [0, 1]),
        ([[2], [1], [1], [3]], [1, 2]),
        ([[1, 2, 3], [1, 2, 3], [3, 2, 1], [3, 2, 2], [2, 2, 2]], [0, 1, 2, 4]),
    ],
)
def test_fronts_by_hand(points, front):
    assert pareto_front(torch.tensor(points)).nonzero().flatten().tolist() == front


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize(("count", "values"), [(1, 2), (50, 3), (400, 20), (700, 400)])
def test_the_front_is_its_definition(objectives, count, values):
    """No member is dominated, every other point is dominated by a member, and the mask is the brute-force one."""
    points = tied(count, objectives, seed=values, values=values)
    mask = pareto_front(points)
    D = dominates(points[:, None], points)
    assert mask.any()
    assert not D[:, mask].any()
    assert D[mask][:, ~mask].any(dim=0).all()
    assert torch.equal(mask, ~D.any(dim=0))


def test_the_front_follows_its_points():
    """Reordering the points reorders the mask; swapping the objectives changes nothing."""
    points = tied(300, 2, seed=1, values=30)
    mask = pareto_front(points)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    assert torch.equal(pareto_front(points[order]), mask[order])
    assert torch.equal(pareto_front(points.flip(1)), mask)


@pytest.mark.parametrize("kind", ["random", "all on the front", "all equal"])
def test_a_hundred_thousand_points_take_less_than_a_second(kind):
    first = torch.rand(10**5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    second = {"random": first.flip(0), "all on the front": 1 / (1 + first), "all equal": first * 0}[kind]
    points = torch.stack([first * 0 if kind == "all equal" else first, second], dim=1)
    start = time.process_time()
    mask = pareto_front(points)
    assert time.process_time() - start < 1
    front = points[mask]
    assert len(front) == 10**5 if kind != "random" else 1 < len(front) < 1000
    if kind == "random":
        assert not dominates(front[:, None], front).any()
        below = torch.zeros(10**5, dtype=torch.bool)
        for member in front:
            below |= dominates(member, points)
        assert torch.equal(below, ~mask)


def test_beyond_two_objectives_blocks_do_not_show():
    """More points than a block holds, most of them on the front."""
    points = torch.rand(1000, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(pareto_front(points), ~dominates(points[:, None], points).any(dim=0))


@pytest.mark.parametrize(
    ("gradients", "gap"),
    [
        ([[3.0, 4.0]], 5),
        ([[1, 0], [0, 1]], math.sqrt(0.5)),
        ([[1, 0], [-1, 0]], 0),
        ([[1, 0], [-3, 0]], 0),
        ([[3, 1], [-1, 1]], 1),
        ([[1, 1], [3, 3]], math.sqrt(2)),
        ([[0, 0], [5, 5]], 0),
        ([[2, 1], [2, 1]], math.sqrt(5)),
        ([[0, 2], [math.sqrt(3), -1], [-math.sqrt(3), -1]], 0),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], math.sqrt(1 / 3)),
        ([[2.0], [-1.0], [7.0]], 0),
    ],
)
def test_gaps_by_hand(gradients, gap):
    found = stationarity_gap(torch.tensor(gradients))
    assert found.dtype == torch.float64 and found.shape == ()
    assert found.item() == pytest.approx(gap, abs=1e-7 if gap == 0 else None)


@pytest.mark.parametrize("tasks", [2, 3, 6])
@pytest.mark.parametrize("parameters", [2, 40])
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_the_gap_is_zero_up_to_rounding_where_the_gradients_cancel(tasks, parameters, scale):
    """The square root of αᵀGα would be about 1e-8 of the gradients."""
    generator = torch.Generator().manual_seed(tasks)
    weights = torch.rand(tasks, generator=generator, dtype=torch.float64) + 0.1
    F = scale * torch.randn(tasks, parameters, generator=generator, dtype=torch.float64)
    F[-1] = -(weights[:-1] @ F[:-1]) / weights[-1]
    assert stationarity_gap(F).item() < 1e-13 * F.norm(dim=1).max().item()
    G = compute_gramian(F)
    assert is_stationary(G, mgda(G), torch.zeros(tasks), F.dtype)


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_no_weights_of_the_simplex_give_less_than_the_gap(tasks):
    generator = torch.Generator().manual_seed(tasks)
    F = torch.randn(tasks, 4, generator=generator, dtype=torch.float64)
    steps = 12
    grid = [c for c in itertools.product(range(steps + 1), repeat=tasks) if sum(c) == steps]
    lengths = (torch.tensor(grid, dtype=torch.float64) / steps @ F).norm(dim=1)
    gap = stationarity_gap(F)
    assert gap <= lengths.min() + 1e-12
    assert gap >= lengths.min() - F.norm(dim=1).max() * tasks / steps  # the grid comes as close


def test_the_gap_leaves_no_graph():
    assert not stationarity_gap(torch.ones(2, 3, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.tensor(1.0), torch.ones(2), r"`a` must have shape \(..., m\), m ≥ 1, found \(\)"),
        (torch.ones(2), torch.ones(3, 0), r"`b` must have shape \(..., m\), m ≥ 1, found \(3, 0\)"),
        (torch.ones(4, 2), torch.ones(4, 3), "same objectives, found 2 and 3"),
        (torch.ones(4, 1), torch.ones(4, 3), "same objectives, found 1 and 3"),
        (torch.ones(4, 2), torch.ones(5, 2), r"must broadcast, found shapes \(4, 2\) and \(5, 2\)"),
        (torch.ones(2), torch.tensor([1.0, math.nan]), "`b` must not hold NaN, found 1"),
    ],
)
def test_dominance_refuses(a, b, message):
    with pytest.raises(ValueError, match=message):
        dominates(a, b)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.ones(0, 2), r"`points` must have shape \(n, m\), n ≥ 1 and m ≥ 1, found \(0, 2\)"),
        (torch.ones(3, 0), r"n ≥ 1 and m ≥ 1, found \(3, 0\)"),
        (torch.ones(3), r"n ≥ 1 and m ≥ 1, found \(3,\)"),
        (torch.ones(3, 2, 2), r"n ≥ 1 and m ≥ 1, found \(3, 2, 2\)"),
        (torch.tensor([[1.0, math.nan], [math.nan, 2.0]]), "`points` must not hold NaN, found 2"),
    ],
)
def test_the_front_refuses(points, message):
    with pytest.raises(ValueError, match=message):
        pareto_front(points)


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (torch.ones(0, 2), r"`gradients` must have shape \(T, n\), T ≥ 1 and n ≥ 1, found \(0, 2\)"),
        (torch.ones(2, 0), r"T ≥ 1 and n ≥ 1, found \(2, 0\)"),
        (torch.ones(2), r"T ≥ 1 and n ≥ 1, found \(2,\)"),
        (torch.tensor([[1.0, math.nan]]), "`gradients` must be finite"),
        (torch.tensor([[1.0, math.inf]]), "`gradients` must be finite"),
    ],
)
def test_the_gap_refuses(gradients, message):
    with pytest.raises(ValueError, match=message):
        stationarity_gap(gradients)
