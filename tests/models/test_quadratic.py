"""The toy problems are their formulas, and the closed-form Pareto sets are stationary and not dominated."""

import copy
import math

import pytest
import torch

from fastls import BLS, FBLS, MGDAUB, SGD, EqualWeight, dominates, stationarity_gap
from fastls.models.quadratic import FONSECA_CENTRES, fonseca, pareto_set, quadratics, scalar_chain

DOUBLE = {"dtype": torch.float64}
ENCODER = torch.tensor([[1.0, 0.5], [-0.3, 2.0]], **DOUBLE)
CENTRES = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]], **DOUBLE)
CURVATURES = torch.tensor([[[3.0, 1.0], [1.0, 2.0]], [[1.0, -0.5], [-0.5, 4.0]], [[2.0, 0.0], [0.0, 0.5]]], **DOUBLE)
START = torch.tensor([2.0, -3.0], **DOUBLE)
EYE = torch.eye(2, **DOUBLE)


def losses_at(model, theta) -> torch.Tensor:
    with torch.no_grad():
        model.encoder.theta.copy_(theta)
    outputs = model(None)
    return torch.stack([model.losses[task](outputs[task], None) for task in model.tasks])


def gap_at(model, theta) -> float:
    losses = losses_at(model, theta)
    rows = [torch.autograd.grad(loss, model.encoder.theta, retain_graph=True)[0] for loss in losses]
    return stationarity_gap(torch.stack(rows)).item()


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_losses_and_gradients_are_the_formulas(tasks):
    model = quadratics(ENCODER, CENTRES[:tasks], CURVATURES[:tasks], START)
    assert model.tasks == tuple("123"[:tasks])
    losses = losses_at(model, START)
    for loss, c, H in zip(losses, CENTRES, CURVATURES, strict=False):
        offset = ENCODER @ START - c
        assert loss.item() == pytest.approx((offset @ H @ offset).item() / 2)
        gradient = torch.autograd.grad(loss, model.encoder.theta, retain_graph=True)[0]
        assert torch.allclose(gradient, ENCODER.T @ H @ offset)


def test_all_is_float64_and_the_arguments_are_left_alone():
    encoder, start = torch.eye(2), torch.ones(2)
    model = quadratics(encoder, CENTRES.float(), CURVATURES.float(), start)
    assert model.encoder.theta.dtype == model(None)["1"].dtype == torch.float64
    given = torch.ones(2, **DOUBLE)
    model = quadratics(EYE, CENTRES, CURVATURES, given)
    SGD(model, lr=0.1).step(None, dict.fromkeys(model.tasks))
    assert given.tolist() == [1, 1] and model.encoder.theta.tolist() != [1, 1]


@pytest.mark.parametrize("algorithm", [SGD, BLS, MGDAUB, FBLS, EqualWeight])
@pytest.mark.parametrize(
    "make",
    [
        lambda: quadratics(ENCODER, CENTRES, CURVATURES, START),
        lambda: quadratics(ENCODER, CENTRES[:1], CURVATURES[:1], START),
        lambda: fonseca(EYE, torch.tensor([0.9, -0.4])),
        lambda: scalar_chain(0.5),
    ],
)
def test_every_optimizer_steps_without_data(algorithm, make):
    model = make()
    start = model.encoder.theta.tolist()
    record = algorithm(model, 0.1).step(None, dict.fromkeys(model.tasks))
    assert record.losses.dtype == torch.float64 and len(record.losses) == len(model.tasks)
    assert model.encoder.theta.tolist() != start
    assert list(model.state_dict()) == ["encoder.theta", "encoder.matrix"]


def test_a_copy_is_independent():
    model = quadratics(ENCODER, CENTRES, CURVATURES, START)
    other = copy.deepcopy(model)
    before = losses_at(model, START).tolist()
    losses_at(other, torch.zeros(2))
    assert losses_at(model, model.encoder.theta.detach()).tolist() == before


def test_fonseca_by_hand():
    model = fonseca(EYE, START)
    assert losses_at(model, FONSECA_CENTRES[0]).tolist() == pytest.approx([0, 1 - math.exp(-4)])
    assert losses_at(model, FONSECA_CENTRES[1]).tolist() == pytest.approx([1 - math.exp(-4), 0])
    assert losses_at(model, torch.zeros(2)).tolist() == pytest.approx([1 - math.exp(-1)] * 2)
    near = losses_at(model, FONSECA_CENTRES[0] + torch.tensor([1e-10, 0.0]))
    assert near[0].item() == pytest.approx(1e-20)  # 1 − exp(−x) would give zero


@pytest.mark.parametrize("far", [30.0, 1e5, 1e160])
def test_fonseca_is_flat_but_finite_far_away(far):
    model, theta = fonseca(EYE, START), torch.full((2,), far, **DOUBLE)
    assert losses_at(model, theta).tolist() == [1, 1]
    assert gap_at(model, theta) == 0  # not NaN: the exponential vanishes faster than the distance grows


def front_weights(tasks: int, count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(tasks)
    inner = torch.rand(count, tasks, generator=generator, **DOUBLE)
    return torch.cat([inner, torch.eye(tasks, **DOUBLE)])


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_the_pareto_set_of_quadratics_is_stationary_and_not_dominated(tasks):
    model = quadratics(ENCODER, CENTRES[:tasks], CURVATURES[:tasks], START)
    z = pareto_set(CENTRES[:tasks], CURVATURES[:tasks], front_weights(tasks))
    thetas = torch.linalg.solve(ENCODER, z.T).T
    assert max(gap_at(model, theta) for theta in thetas) < 1e-13
    assert torch.allclose(z[-tasks:], CENTRES[:tasks])  # all weight on one task: its own minimum
    members = torch.stack([losses_at(model, theta).detach() for theta in thetas])
    generator = torch.Generator().manual_seed(9)
    others = torch.stack([losses_at(model, 2 * torch.randn(2, generator=generator)).detach() for _ in range(500)])
    assert not dominates(others[:, None], members).any()
    if tasks == 2:
        assert gap_at(model, thetas[0] + torch.tensor([0.0, 0.1])) > 1e-2


def test_the_pareto_set_does_not_change_with_the_scale_of_the_weights():
    weights = front_weights(3)
    assert torch.allclose(pareto_set(CENTRES, CURVATURES, weights), pareto_set(CENTRES, CURVATURES, 7 * weights))


def test_the_pareto_set_of_fonseca_is_the_segment_between_its_centres():
    model = fonseca(ENCODER, START)
    share = torch.linspace(0, 1, 21, **DOUBLE)
    segment = pareto_set(FONSECA_CENTRES, EYE.expand(2, 2, 2), torch.stack([share, 1 - share], dim=1))
    assert torch.allclose(segment, FONSECA_CENTRES[1] + share[:, None] * (FONSECA_CENTRES[0] - FONSECA_CENTRES[1]))
    thetas = torch.linalg.solve(ENCODER, segment.T).T
    assert max(gap_at(model, theta) for theta in thetas) < 1e-13
    beside = torch.linalg.solve(ENCODER, (segment + torch.tensor([0.1, -0.1])).T).T
    assert min(gap_at(model, theta) for theta in beside) > 1e-2
    first, second = torch.stack([losses_at(model, theta).detach() for theta in thetas]).T
    chord = first[0] + (second - second[0]) / (second[-1] - second[0]) * (first[-1] - first[0])
    assert (first[1:-1] > chord[1:-1]).all()  # the front bulges away from the origin


@pytest.mark.parametrize("c", [0.5, math.sqrt(2), -3.0])
def test_the_scalar_chain_is_its_formula(c):
    model = scalar_chain(c, start=2.0)
    assert model.tasks == ("1",) and model.encoder.theta.tolist() == [2.0]
    assert losses_at(model, torch.tensor([2.0])).tolist() == pytest.approx([2 * c**2])


NOT_SYMMETRIC = torch.tensor([[1.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centres": torch.zeros(0, 2)}, r"`centres` must be finite and of shape \(T, k\), found shape \(0, 2\)"),
        ({"centres": torch.zeros(2)}, r"`centres` must be finite and of shape \(T, k\), found shape \(2,\)"),
        ({"centres": CENTRES * math.nan}, "`centres` must be finite"),
        ({"curvatures": CURVATURES[:2]}, r"`curvatures` must have shape \(3, 2, 2\), found \(2, 2, 2\)"),
        ({"curvatures": -CURVATURES}, r"symmetric positive definite, found \[\[-3.0, -1.0\], .* for task '1'"),
        ({"curvatures": torch.stack([EYE, EYE * 0, EYE])}, "symmetric positive definite, found .* for task '2'"),
        ({"curvatures": NOT_SYMMETRIC.expand(3, 2, 2)}, "symmetric positive definite, found .* for task '1'"),
        ({"curvatures": CURVATURES * math.nan}, "symmetric positive definite"),
        ({"encoder": torch.eye(3)}, r"`encoder` must be a finite matrix of 2 rows, found shape \(3, 3\)"),
        ({"encoder": torch.ones(2)}, r"`encoder` must be a finite matrix of 2 rows, found shape \(2,\)"),
        ({"encoder": EYE * math.inf}, "`encoder` must be a finite matrix"),
        ({"start": torch.zeros(3)}, r"`start` must be finite .* shape \(2,\), found \[0.0, 0.0, 0.0\]"),
        ({"start": START * math.nan}, r"`start` must be finite .* found \[nan, nan\]"),
    ],
)
def test_bad_problems_are_refused(change, message):
    given = {"encoder": ENCODER, "centres": CENTRES, "curvatures": CURVATURES, "start": START}
    with pytest.raises(ValueError, match=message):
        quadratics(**given | change)


@pytest.mark.parametrize("encoder", [torch.eye(3), torch.ones(2)])
def test_fonseca_lives_in_two_dimensions(encoder):
    with pytest.raises(ValueError, match="`encoder` must be a finite matrix of 2 rows"):
        fonseca(encoder, START)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(3), r"`weights` must have shape \(n, 3\), found \(3,\)"),
        (torch.ones(4, 2), r"`weights` must have shape \(n, 3\), found \(4, 2\)"),
        (torch.tensor([[1.0, 1.0, -0.5]]), "`weights` must be finite and ≥ 0"),
        (torch.tensor([[1.0, 1.0, math.nan]]), "`weights` must be finite and ≥ 0"),
        (torch.zeros(1, 3), "with a positive one in every row"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        pareto_set(CENTRES, CURVATURES, weights)
