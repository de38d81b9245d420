"""Trials that begin with the task that refused the last one: the steps of all tasks together, for fewer passes."""

import math

import pytest
import torch
from helpers import SEARCHES, bare, batch, copies, counted, equal, mlp, names, noisy, trusted, with_silent
from torch import nn

from fastls import FBLS, Backtracking, Slopes
from fastls.algorithms.directions import DIRECTIONS


@pytest.mark.parametrize("algorithm", SEARCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("make", [mlp, noisy])
@pytest.mark.parametrize("tasks", [1, 2, 4])
@pytest.mark.parametrize("growth", [math.inf, 1.1])
def test_the_step_is_that_of_all_tasks_together(algorithm, make, tasks, direction, dtype, growth):
    found, passes = [], []
    for order in ("together", "in turn"):
        model, counter = counted(make(tasks, dtype, seed=3))
        search = Backtracking(0.3, 0.6, 1e-6, growth=growth, order=order)
        optimizer = trusted(algorithm(model, 30.0, direction, search))
        torch.manual_seed(3)
        records = [optimizer.step(*batch(tasks, dtype, step)) for step in range(3)]
        state = [*copies(model), *(buffer.clone() for buffer in model.buffers()), torch.get_rng_state()]
        found.append(([(record.step_size, record.accepted, record.trials) for record in records], state))
        passes.append(counter)
        assert sum(record.passes.decoder_forward for record in records) == counter.decoder_forward
    assert found[0][0] == found[1][0] and equal(found[0][1], found[1][1])
    assert any(trials > 1 for _, _, trials in found[0][0])  # some trials were refused
    together, in_turn = passes
    assert in_turn.encoder_forward == together.encoder_forward
    assert in_turn.encoder_backward == together.encoder_backward
    assert in_turn.decoder_backward == together.decoder_backward


@pytest.mark.parametrize("form", [6, 7, 8, 9])
@pytest.mark.parametrize("options", [{}, {"match_gain": True}])
def test_every_form_of_the_test_takes_the_same_step(form, options):
    found = []
    for order in ("together", "in turn"):
        optimizer = FBLS(mlp(3), 30.0, line_search=Backtracking(form=form, order=order), **options)
        records = [optimizer.step(*batch(3, seed=step)) for step in range(4)]
        found.append([(record.step_size, record.accepted, record.trials) for record in records])
    assert found[0] == found[1] and any(trials > 1 for _, _, trials in found[0])


def test_tasks_keep_their_numbers_where_one_before_them_is_not_active():
    found, forwards = [], []
    for order in ("together", "in turn"):
        model = with_silent(mlp(4), "task0")
        optimizer = FBLS(model, 30.0, line_search=Backtracking(0.4, order=order))
        records = [optimizer.step(*batch(4, seed=step)) for step in range(3)]
        found.append(([(record.step_size, record.accepted, record.trials) for record in records], copies(model)))
        forwards.append(sum(record.passes.decoder_forward for record in records))
    assert found[0][0] == found[1][0] and equal(found[0][1], found[1][1])
    assert forwards[1] < forwards[0]


@pytest.mark.parametrize("tasks", [1, 3, 10])
def test_a_refused_trial_costs_one_decoder_once_the_task_that_refuses_is_known(tasks):
    """L_0 = 50 z² + z asks for a small step, the other losses are straight lines."""
    losses = [lambda z: 50 * z.square().sum() + z.sum()] + [lambda z: z.sum()] * (tasks - 1)
    model = bare(nn.Linear(1, 1, bias=False), *losses)
    model.encoder.weight.data.fill_(1.0)
    optimizer = FBLS(model, 1.0, "mean", Backtracking(order="in turn"))
    record = optimizer.step(torch.ones(1, 1), dict.fromkeys(names(tasks)))
    assert record.accepted and record.trials > 3
    evaluated, first, accepted = tasks, tasks, tasks
    assert record.passes.decoder_forward == evaluated + first + (record.trials - 2) + accepted


def test_the_task_that_refuses_may_change():
    """At η = 1 both refuse, the first the more; at ½ and ¼ the second alone."""
    slopes = Slopes(own=torch.zeros(2), shared=torch.ones(2))
    losses_at = {1.0: (9.0, 1.2), 0.5: (0.5, 1.1), 0.25: (0.5, 1.1), 0.125: (0.5, 0.5)}
    asked = []

    class Phi:
        def for_tasks(self, eta, tasks):
            asked.append((eta, tuple(tasks)))
            return torch.tensor([losses_at[eta][t] for t in tasks])

    result = Backtracking(order="in turn")(Phi(), torch.ones(2), slopes, 1.0)
    assert result == (0.125, 4, True)
    assert asked == [(1.0, (0, 1)), (0.5, (0,)), (0.5, (1,)), (0.25, (1,)), (0.125, (1,)), (0.125, (0,))]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_refuses_and_is_asked_first_from_then_on(bad):
    asked = []

    class Phi:
        def for_tasks(self, eta, tasks):
            asked.append(tuple(tasks))
            return torch.tensor([(0.0, bad if eta > 0.3 else 0.0, 0.0)[t] for t in tasks])

    slopes = Slopes(own=torch.zeros(3), shared=torch.ones(3))
    assert Backtracking(order="in turn")(Phi(), torch.ones(3), slopes, 1.0) == (0.25, 3, True)
    assert asked == [(0, 1, 2), (1,), (1,), (0, 2)]


def test_a_search_that_fails_ends_at_the_floor():
    class Phi:
        def for_tasks(self, eta, tasks):
            return torch.full((len(tasks),), 2.0)

    slopes = Slopes(own=torch.zeros(2), shared=torch.ones(2))
    assert Backtracking(order="in turn", floor=0.1)(Phi(), torch.ones(2), slopes, 1.0) == (0.1, 4, False)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"`Backtracking\(order=...\)` must be 'together' or 'in turn', found 'x'"):
        Backtracking(order="x")
