"""Trajectories on the toy problems obey the definitions of the algorithms; distances and summaries their own."""

import numpy as np
import pandas as pd
import pytest
import torch

from fastls.algorithms.pareto import pareto_front
from fastls.experiments.studies.toy.toy import (
    CENTRES,
    CURVATURES,
    OPTIMIZERS,
    STARTS,
    TOLERANCE,
    distance_to_pareto_set,
    follow,
    follow_all,
    get_theta,
    losses_at,
    make_encoder,
    nonconvex_pair,
    same_options,
    summarize,
    sweep,
    three_quadratics,
    two_quadratics,
    weigh_passes,
)
from fastls.models.quadratic import pareto_set

PROBLEMS = {"two": two_quadratics, "three": three_quadratics, "nonconvex": nonconvex_pair}
problems = pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)


@problems
def test_bls_decreases_every_loss_in_every_step(make):
    run = follow(make(), "BLS", (0.5, -1.0), steps=40)
    assert len(run) > 5
    assert (run.filter(like="loss_").diff().iloc[1:] < 0).all(axis=None)


@pytest.mark.parametrize("method", ["BLS", "FBLS"])
@pytest.mark.parametrize("start", STARTS)
def test_searches_arrive_where_theory_promises_it(method, start):
    """A a rotation: the step in θ moves z just as it was tested."""
    run = follow(two_quadratics(ratio=1.0), method, start, steps=200)
    assert set(run["outcome"]) == {"arrived"} and run["gap"].iloc[-1] <= TOLERANCE < run["gap"].iloc[-2]


def test_passes_add_up_to_what_the_algorithms_cost():
    for method in OPTIMIZERS:
        run = follow(two_quadratics(), method, STARTS[0], steps=30)
        last, steps, trials = run.iloc[-1], run["step"].iloc[-1], run["trials"].sum()
        searched_encoder = trials if method == "BLS" else 0
        assert last["encoder_forward"] == steps + searched_encoder
        assert last["encoder_backward"] == steps * (2 if method in ("SGD", "BLS") else 1)
        assert last["decoder_forward"] == 2 * (steps + trials) and last["decoder_backward"] == 2 * steps
        assert (run[["encoder_forward", "decoder_forward"]].iloc[0] == 0).all()
        assert weigh_passes(run, "encoder").iloc[-1] == last["encoder_forward"] + 2 * last["encoder_backward"]


def test_constant_steps_are_constant_and_searched_ones_at_most_the_bound():
    assert set(follow(two_quadratics(), "SGD", STARTS[0], steps=5, lr=0.3)["step_size"].dropna()) == {0.3}
    run = follow(two_quadratics(), "FBLS", STARTS[0], steps=20, lr_ub=4.0)
    assert (run["step_size"].dropna() <= 4.0).all() and (run["bound"] == 4.0).all()
    assert (run["step_size"].dropna() == 4.0 / 2.0 ** (run["trials"].iloc[1:] - 1)).all()


def test_a_refused_search_ends_a_run_where_it_stands():
    run = follow(two_quadratics(), "BLS", (0.0, 0.0), steps=20, direction="mean")
    assert len(run) == 2 and set(run["outcome"]) == {"refused"} and not run["accepted"].iloc[-1]
    assert torch.allclose(*get_theta(run), atol=1e-8)


def test_a_run_ends_at_divergence_or_when_its_steps_are_spent():
    diverged = follow(two_quadratics(), "SGD", STARTS[0], steps=200, lr=10.0)
    assert set(diverged["outcome"]) == {"diverged"} and len(diverged) < 100
    short = follow(two_quadratics(), "SGD", STARTS[0], steps=3)
    assert set(short["outcome"]) == {"out of steps"} and list(short["step"]) == [0, 1, 2, 3]


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="`method` must be one of EqualWeight, SGD, .*found 'Adam'"):
        follow(two_quadratics(), "Adam", STARTS[0], steps=1)


def test_random_orders_of_pcgrad_are_the_same_each_time_and_leave_the_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (follow(three_quadratics(), "BLS", STARTS[1], steps=8, direction="pcgrad") for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_losses_at_the_start_do_not_depend_on_the_encoder():
    for start in STARTS:
        values = [
            follow(two_quadratics(scale, ratio), "BLS", start, steps=1)[["loss_1", "loss_2"]].iloc[0].to_numpy()
            for scale, ratio in ((1.0, 0.6), (3.0, 1.0), (0.2, 0.1))
        ]
        offset = torch.tensor(start, dtype=torch.float64) - CENTRES[:2]
        by_hand = torch.einsum("ti,tij,tj->t", offset, CURVATURES[:2], offset) / 2
        assert np.allclose(values, by_hand, rtol=1e-10)


def test_the_encoder_has_the_gains_that_it_says():
    singular_values = torch.linalg.svdvals(make_encoder(scale=2.0, ratio=0.3))
    assert singular_values.tolist() == pytest.approx([2.0, 0.6])


def test_the_pareto_set_by_hand():
    """At equal weights (4 + 1/2) z_1 = -4 + 1/2 and (1/2 + 2) z_2 = -1/4 + 1."""
    toy = two_quadratics()
    assert toy.pareto_z[2000].tolist() == pytest.approx([-7 / 9, 3 / 10])
    assert torch.allclose(toy.pareto_z[[0, -1]], CENTRES[:2])
    assert torch.allclose(toy.to_theta(toy.pareto_z) @ toy.encoder.T, toy.pareto_z)


@problems
def test_points_of_the_pareto_set_are_stationary_and_not_dominated(make):
    toy = make()
    chosen = toy.pareto_z[:: len(toy.pareto_z) // 20]
    gaps = [follow(toy, "BLS", z, steps=1)["gap"].iloc[0] for z in chosen.tolist()]
    assert max(gaps) < 1e-7
    side = torch.linspace(-2, 2, 50, dtype=torch.float64)
    around = toy.to_theta(torch.cat([chosen, torch.cartesian_prod(side, side)]))
    losses = losses_at(toy, around)
    weak = (chosen[:, None] == CENTRES).all(dim=2).any(dim=1)  # a minimum of one loss: its losses may be tied
    assert pareto_front(losses)[: len(chosen)][~weak].all()


def test_distance_is_zero_on_the_set_and_grows_along_its_normal():
    toy = two_quadratics()
    curve = toy.to_theta(toy.pareto_z)
    assert distance_to_pareto_set(toy, curve[::400]).max() < 1e-12
    tangent = curve[2001] - curve[1999]
    normal = torch.stack([-tangent[1], tangent[0]]) / tangent.norm()
    steps = torch.tensor([1e-4, 1e-2, 0.1], dtype=torch.float64)
    assert torch.allclose(distance_to_pareto_set(toy, curve[2000] + steps[:, None] * normal), steps, rtol=1e-3)


def test_distance_to_an_area_is_zero_within():
    toy = three_quadratics()
    weights = torch.tensor([[0.4, 0.3, 0.3], [0.2, 0.2, 0.6], [0.6, 0.3, 0.1]], dtype=torch.float64)
    inside = toy.to_theta(pareto_set(CENTRES, CURVATURES, weights))
    outside = toy.to_theta(torch.tensor([[3.0, 3.0]], dtype=torch.float64))
    assert distance_to_pareto_set(toy, inside).max() == 0
    assert distance_to_pareto_set(toy, outside).item() > 1


def test_the_front_of_the_nonconvex_pair_bulges_outwards():
    toy = nonconvex_pair()
    total = losses_at(toy, toy.to_theta(toy.pareto_z)).sum(dim=1)
    assert total[200] > total[0] + 0.2 and total[200] > total[-1] + 0.2


def test_summarize_counts_a_start_that_did_not_arrive_as_infinitely_long():
    toy = two_quadratics()
    runs = {"quick": ("BLS", {}), "too long": ("SGD", {"lr": 10.0})}
    frame = follow_all(toy, runs, STARTS[:3], steps=60)
    table = summarize(frame)
    assert list(table.index) == ["quick", "too long"]
    assert list(table["arrived"]) == [3, 0] and list(table["starts"]) == [3, 3]
    steps = frame[frame["label"] == "quick"].groupby("start")["step"].max()
    assert table["steps"]["quick"] == steps.median() and np.isnan(table["steps"]["too long"])
    assert table["loss rose"]["quick"] == 0 and 0 < table["loss rose"]["too long"] <= 1
    assert table["at bound"]["too long"] == 1 and 0 < table["at bound"]["quick"] < 1


def test_sweep_has_a_row_a_value_and_label():
    toy = two_quadratics()
    table = sweep([0.5, 1.0], lambda lr: follow_all(toy, same_options(["SGD", "MGDA-UB"], lr=lr), STARTS[:1], 80))
    assert list(zip(table["value"], table["label"], strict=True)) == [
        (0.5, "SGD"),
        (0.5, "MGDA-UB"),
        (1.0, "SGD"),
        (1.0, "MGDA-UB"),
    ]
    assert (table["arrived"] == 1).all() and (table["trials"] == 0).all()
