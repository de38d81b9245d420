"""Weights from Gramians: optimality on matrices of known rank and stationarity, closed forms, brute force.

Comparisons are made on d = Fᵀα, never on α, which is not unique when gradients are dependent.
"""

import itertools

import pytest
import torch
from helpers import batch, mlp
from torch import Tensor

from fastls import DIRECTIONS, FBLS, edm, mean, mgda, pcgrad
from fastls.algorithms.directions import compute_gramian, get_direction, weigh

COLUMNS = 12
SCALES = [0.0, 1e-10, 1e3, 1e5, 1e10, 1e15]
SIZES = [1, 2, 3, 5, 10]


def low_rank(tasks: int, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coordinates (T, r) and an orthonormal basis (r, n) of the row space."""
    coordinates = torch.randn(tasks, rank, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.randn(COLUMNS, rank, generator=generator, dtype=torch.float64))
    return coordinates, basis.T


def non_stationary(tasks: int, rank: int, generator: torch.Generator) -> Tensor:
    """Every row has a positive component along the first basis vector, so a common descent direction exists."""
    coordinates, basis = low_rank(tasks, rank, generator)
    coordinates[:, 0] = coordinates[:, 0].abs() + 0.1
    return coordinates @ basis


def strongly_stationary(tasks: int, rank: int, generator: torch.Generator) -> Tensor:
    """Rows made orthogonal to some w > 0, so wᵀF = 0: every task has a weight in a vanishing combination."""
    coordinates, basis = low_rank(tasks, rank, generator)
    w = torch.rand(tasks, generator=generator, dtype=torch.float64) + 0.1
    w /= w.norm()
    return (coordinates - torch.outer(w, w @ coordinates)) @ basis


def weakly_stationary(tasks: int, rank: int, generator: torch.Generator) -> Tensor:
    """Half of the tasks are stationary among themselves; the others gain along a vector orthogonal to all those."""
    half = (tasks + 1) // 2
    coordinates, basis = low_rank(tasks, rank + 1, generator)
    F = torch.empty(tasks, COLUMNS, dtype=torch.float64)
    w = torch.rand(half, generator=generator, dtype=torch.float64) + 0.1
    w /= w.norm()
    stationary = coordinates[:half, :rank]
    F[:half] = (stationary - torch.outer(w, w @ stationary)) @ basis[:rank]
    coordinates[half:, rank] = coordinates[half:, rank].abs() + 0.1
    F[half:] = coordinates[half:] @ basis
    return F


def matrices(kind, tasks: int) -> list[Tensor]:
    ranks = sorted({1, (tasks + 1) // 2, tasks})
    return [kind(tasks, rank, torch.Generator().manual_seed(seed)) for rank in ranks for seed in range(3)]


def lengthened(F: Tensor, decades: float) -> Tensor:
    """The rows multiplied by factors spread over so many powers of ten; cone and stationarity stay the same."""
    exponents = torch.linspace(-decades / 2, decades / 2, F.shape[0], dtype=F.dtype)
    return F * 10 ** exponents[:, None]


def combine(F: Tensor, direction) -> Tensor:
    return direction(F @ F.T) @ F


def assert_minimal(F: Tensor, alpha: Tensor) -> None:
    """The KKT conditions of min αᵀGα over the simplex, up to rounding of the products that enter them."""
    lengths = F.norm(dim=1)
    products = F @ (alpha @ F)  # (Gα)_t
    value = alpha @ products
    slack = 1e-10 * lengths * (alpha @ lengths)
    assert alpha.isfinite().all() and (alpha >= 0).all()
    assert alpha.sum().item() == pytest.approx(1, abs=1e-12)
    assert (products >= value - slack).all()
    assert (alpha * (products - value) <= slack + 1e-10 * value).all()


@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("kind", [non_stationary, strongly_stationary, weakly_stationary])
@pytest.mark.parametrize("scale", SCALES)
def test_mgda_satisfies_kkt_at_every_scale(kind, tasks, scale):
    for F in matrices(kind, tasks):
        assert_minimal(scale * F, mgda(scale * F @ F.T * scale))


@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("decades", [4, 10])
@pytest.mark.parametrize("kind", [non_stationary, strongly_stationary, weakly_stationary])
def test_mgda_satisfies_kkt_for_rows_of_very_different_length(kind, tasks, decades):
    for F in matrices(kind, tasks):
        for rows in (lengthened(F, decades), lengthened(F, -decades)):
            assert_minimal(rows, mgda(rows @ rows.T))


@pytest.mark.parametrize("rule", [mgda, edm])
@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("decades", [0, 8])
def test_a_common_descent_direction_is_found_where_one_exists(rule, tasks, decades):
    for F in matrices(non_stationary, tasks):
        rows = lengthened(F, decades)
        assert (rows @ combine(rows, rule) > 0).all()


@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("kind", [strongly_stationary, weakly_stationary])
def test_mgda_vanishes_at_stationary_points(kind, tasks):
    for F in matrices(kind, tasks):
        assert combine(F, mgda).norm() <= 1e-7 * F.norm()


@pytest.mark.parametrize("rule", [mgda, edm])
@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_permuting_the_tasks_leaves_the_direction(rule, tasks):
    F = non_stationary(tasks, tasks, torch.Generator().manual_seed(tasks))
    for order in itertools.islice(itertools.permutations(range(tasks)), 10):
        assert torch.allclose(combine(F[list(order)], rule), combine(F, rule), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
def test_repeating_a_task_leaves_the_mgda_direction(tasks):
    F = non_stationary(tasks, tasks, torch.Generator().manual_seed(tasks))
    for t in range(tasks):
        assert torch.allclose(combine(torch.cat([F, F[t : t + 1]]), mgda), combine(F, mgda), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rule", [mgda, edm])
@pytest.mark.parametrize("tasks", SIZES)
def test_a_zero_gradient_stops_everything(rule, tasks):
    F = non_stationary(tasks, tasks, torch.Generator().manual_seed(0))
    F[tasks // 2] = 0
    alpha = rule(F @ F.T)
    assert alpha.sum() == 1 and (alpha >= 0).all() and (alpha @ F == 0).all()


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, 2.0, 3.0])
@pytest.mark.parametrize("ratio", [1e-3, 0.5, 1.0, 2.0, 1e3])
def test_the_closed_form_of_mgda_for_two_equals_the_general_solver(angle, ratio):
    """The general solver takes over when one of the two gradients is given twice."""
    F = torch.zeros(2, 3, dtype=torch.float64)
    F[0, 0] = 1
    F[1, :2] = ratio * torch.tensor([angle, torch.pi / 2 - angle], dtype=torch.float64).cos()
    expected = combine(torch.cat([F, F[:1]]), mgda)
    assert torch.allclose(combine(F, mgda), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", [mgda, edm])
def test_equal_gradients_give_that_gradient(rule):
    row = torch.arange(1.0, 5.0, dtype=torch.float64)
    for tasks in (1, 2, 3, 7):
        assert torch.allclose(combine(row.expand(tasks, -1), rule), row)


@pytest.mark.parametrize("tasks", [2, 3, 4, 6])
@pytest.mark.parametrize("decades", [0, 6])
def test_edm_makes_equal_angles_with_the_active_gradients(tasks, decades):
    for F in matrices(non_stationary, tasks):
        rows = lengthened(F, decades)
        alpha = edm(rows @ rows.T)
        d = alpha @ rows
        cosines = rows @ d / rows.norm(dim=1) / d.norm()
        active = alpha * rows.norm(dim=1) > 1e-9 * (alpha * rows.norm(dim=1)).max()
        assert alpha.sum().item() == pytest.approx(1) and (alpha >= 0).all()
        assert torch.allclose(cosines[active], cosines[active][0], atol=1e-6)
        assert (cosines >= cosines[active][0] - 1e-6).all()


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_edm_does_not_turn_when_losses_are_rescaled(tasks):
    F = non_stationary(tasks, tasks, torch.Generator().manual_seed(3))
    d = combine(F, edm)
    turned = combine(lengthened(F, 6), edm)
    assert torch.allclose(turned / turned.norm(), d / d.norm(), atol=1e-8)
    mgda_turned, mgda_d = combine(lengthened(F, 6), mgda), combine(F, mgda)
    assert not torch.allclose(mgda_turned / mgda_turned.norm(), mgda_d / mgda_d.norm(), atol=1e-2)


def test_edm_of_two_is_the_bisector():
    g1, g2 = torch.randn(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [[1], [9]]
    )
    bisector = (g2.norm() * g1 + g1.norm() * g2) / (g1.norm() + g2.norm())
    assert torch.allclose(combine(torch.stack([g1, g2]), edm), bisector)


def pcgrad_in_vectors(F: Tensor, generator: torch.Generator) -> Tensor:
    """Algorithm 1 of Yu et al. (2020), literally."""
    total = torch.zeros_like(F[0])
    for i in range(len(F)):
        g = F[i].clone()
        for j in torch.randperm(len(F), generator=generator).tolist():
            if j != i and g @ F[j] < 0:
                g -= (g @ F[j]) / (F[j] @ F[j]) * F[j]
        total += g
    return total


@pytest.mark.parametrize("tasks", [1, 2, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_pcgrad_equals_projections_of_vectors(tasks, seed):
    F = torch.randn(tasks, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = pcgrad(F @ F.T, torch.Generator().manual_seed(seed))
    expected = pcgrad_in_vectors(F, torch.Generator().manual_seed(seed))
    assert torch.allclose(weights @ F, expected, rtol=1e-9, atol=1e-9)


def test_pcgrad_follows_its_generator_or_the_global_one():
    F = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_seed = [pcgrad(F @ F.T, torch.Generator().manual_seed(seed)) for seed in [*range(8), 0]]
    assert torch.equal(by_seed[0], by_seed[-1])
    assert any(not torch.allclose(by_seed[0], other) for other in by_seed[1:-1])
    torch.manual_seed(7)
    first = pcgrad(F @ F.T)
    torch.manual_seed(7)
    assert torch.equal(first, pcgrad(F @ F.T))


def test_pcgrad_sums_and_mean_averages():
    orthogonal = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    assert pcgrad(orthogonal).tolist() == [1, 1, 1]
    assert mean(orthogonal).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tasks", [1, 2, 4])
def test_every_rule_keeps_shape_and_dtype(name, dtype, tasks):
    F = torch.randn(tasks, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))
    weights = get_direction(name)(F @ F.T)
    assert weights.shape == (tasks,) and weights.dtype == dtype


@pytest.mark.parametrize("length", [1, 100, 2**16, 150_000])  # blocks have 2¹⁸ numbers on a CPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gramian_by_blocks_is_the_float64_product(length, dtype):
    F = torch.randn(4, length, generator=torch.Generator().manual_seed(0)).to(dtype)
    F[1] = F[0] + 1e-6 * F[1]  # in a float32 product their distance would be lost
    gramian = compute_gramian(F)
    expected = F.double() @ F.double().T
    assert gramian.dtype == torch.float64
    assert torch.allclose(gramian, expected, rtol=1e-13, atol=1e-14 * length)


class InverseNorm(torch.nn.Module):
    """A weighting in the manner of TorchJD: a module from the Gramian to the weights."""

    def forward(self, gramian: Tensor) -> Tensor:
        return 1 / gramian.diagonal().sqrt()


def test_a_module_from_gramian_to_weights_serves_as_direction():
    record = FBLS(mlp(3), direction=InverseNorm()).step(*batch(3))
    assert (record.weights > 0).all() and record.weights.shape == (3,)
    assert record.weights.unique().numel() == 3


def test_unknown_direction_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match=r"`direction` must be .*'edm', 'mean', 'mgda', 'pcgrad'.*found 'mgd'"):
        get_direction("mgd")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.ones(3), r"`rule` must return weights of shape \(2,\), found \(3,\)"),
        (torch.ones(2, 1), r"`rule` must return weights of shape \(2,\), found \(2, 1\)"),
        ([0.5, 0.5], r"`rule` must return weights of shape \(2,\), found list"),
        (torch.tensor([1.5, -0.5]), r"`rule` must return finite weights ≥ 0, found \[1.5, -0.5\]"),
        (torch.tensor([float("nan"), 1.0]), r"`rule` must return finite weights ≥ 0, found \[nan, 1.0\]"),
        (torch.tensor([float("inf"), 1.0]), r"`rule` must return finite weights ≥ 0, found \[inf, 1.0\]"),
    ],
)
def test_bad_weights_are_refused(returned, message):
    def rule(gramian):
        return returned

    with pytest.raises(ValueError, match=message):
        weigh(rule, torch.eye(2), torch.zeros(2))
