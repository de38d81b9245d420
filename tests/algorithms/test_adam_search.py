"""FBLS along Adam's step: its step against torch's Adam, its test recomputed, and what a failure leaves."""

import copy

import pytest
import torch
from helpers import batch, copies, equal, mlp
from torch.nn.functional import cross_entropy

from fastls import SGD, AdamFBLS
from fastls.algorithms.adam_search import BETA, FIRST_STEP, GROWTH, BoundedBacktracking, polyak_step
from fastls.algorithms.line_search import Backtracking, Slopes


def loss_of(model, inputs, targets, task="task0") -> torch.Tensor:
    return model.losses[task](model(inputs)[task], targets[task])


def test_it_moves_as_adam_would_with_its_step_sizes():
    """With one task d_z = ∂L/∂z, so that all parameters move along their gradients of L."""
    model, (inputs, targets) = mlp(1), batch(1)
    theirs = copy.deepcopy(model)
    optimizer, adam = AdamFBLS(model), torch.optim.Adam(theirs.parameters(), lr=0.0, betas=(0.9, 0.99), eps=1e-8)
    for _ in range(150):
        step = optimizer.step(inputs, targets).step_size
        adam.zero_grad()
        loss_of(theirs, inputs, targets).backward()
        adam.param_groups[0]["lr"] = step
        adam.step()
    assert step > 1e-4
    torch.testing.assert_close(copies(model), copies(theirs))


def recompute(before, moments, count, inputs, targets, record):
    """ρ, and the function of η by how much each loss clears its bound, from the model before the step."""

    def precondition(parameters, gradients):
        squares = [0.99 * moments[p] + 0.01 * g**2 for p, g in zip(parameters, gradients, strict=True)]
        return [g / ((v / (1 - 0.99**count)).sqrt() + 1e-8) for g, v in zip(gradients, squares, strict=True)]

    z = before.encoder(inputs)
    latent, own, steps = {}, {}, {}
    for task in before.tasks:
        parameters = list(before.decoders[task].parameters())
        loss = before.losses[task](before.decoders[task](z), targets[task])
        latent[task], *own[task] = torch.autograd.grad(loss, [z, *parameters], retain_graph=True)
        steps[task] = precondition(parameters, own[task])
    d_z = sum(weight * latent[task] for weight, task in zip(record.weights, before.tasks, strict=True))
    shared = list(before.encoder.parameters())
    g_sh = torch.autograd.grad(z, shared, d_z)
    rho = inner(g_sh, precondition(shared, g_sh)) / d_z.square().sum()

    @torch.no_grad()
    def margins(eta):
        for loss, task in zip(record.losses, before.tasks, strict=True):
            names, old = zip(*before.decoders[task].named_parameters(), strict=True)
            moved = {name: p - eta * d for name, p, d in zip(names, old, steps[task], strict=True)}
            output = torch.func.functional_call(before.decoders[task], moved, z - eta * rho * d_z)
            slope = inner(own[task], steps[task]) + rho * (latent[task] * d_z).sum()
            yield float(loss - eta * BETA * slope - before.losses[task](output, targets[task]))

    return rho, margins


def inner(first, second):
    return sum((a * b).sum() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_step_passes_the_test_and_the_next_larger_one_does_not(tasks):
    """L_t(z − ηρd_z, θ_t − ηP⁻¹g_t) ≤ L_t − ηβ(⟨g_t, P⁻¹g_t⟩ + ρ⟨∂L_t/∂z, d_z⟩), all of it computed anew."""
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    optimizer, refused = AdamFBLS(model), 0
    for count in range(1, 250):
        before, moments = copy.deepcopy(model), {}
        for old, new in zip(before.parameters(), model.parameters(), strict=True):
            moments[old] = optimizer.state[new].get("square_average", torch.zeros_like(new)).clone()
        record = optimizer.step(inputs, targets)
        rho, margins = recompute(before, moments, count, inputs, targets, record)
        torch.testing.assert_close(record.gain, rho)
        assert min(margins(record.step_size)) >= -1e-12
        if record.trials > 1:
            assert min(margins(2 * record.step_size)) < 1e-12
            refused += 1
    assert refused > 10


def test_a_step_is_at_most_growth_times_the_last():
    model, (inputs, targets) = mlp(2), batch(2)
    optimizer = AdamFBLS(model)
    sizes = [optimizer.step(inputs, targets).step_size for _ in range(200)]
    assert sizes[0] == pytest.approx(FIRST_STEP)
    assert max(b / a for a, b in zip(sizes, sizes[1:], strict=False)) <= GROWTH * (1 + 1e-9)


def test_no_step_promises_more_than_the_loss_of_any_task():
    """η s_t ≤ L_t, and the bound is met: without it steps would have been longer."""
    model, (inputs, targets) = mlp(2), batch(2)
    optimizer, last, met = AdamFBLS(model), FIRST_STEP / GROWTH, 0
    for _ in range(250):
        record = optimizer.step(inputs, targets)
        promised = float((record.step_size * record.slopes / record.losses.double()).max())
        assert promised <= 1 + 1e-9
        met += promised > 1 - 1e-9 and record.step_size < GROWTH * last
        last = record.step_size
    assert met > 10


def test_the_bound_is_that_of_the_task_that_asks_for_the_least_and_a_negative_loss_sets_none():
    slopes = Slopes(own=torch.tensor([1.0, 2.0]), shared=torch.tensor([1.0, 6.0]))
    assert polyak_step(torch.tensor([3.0, 4.0]), slopes) == 0.5
    assert polyak_step(torch.tensor([3.0, -4.0]), slopes) == 1.5
    assert polyak_step(torch.tensor([-3.0, -4.0]), slopes) == float("inf")

    def phi(eta):  # φ_t = L_t − η s_t: every step passes
        return losses - eta * slopes.total

    losses = torch.tensor([3.0, 4.0])
    assert Backtracking()(phi, losses, slopes, 1000.0).step_size == 1000.0
    assert BoundedBacktracking()(phi, losses, slopes, 1000.0).step_size == 0.5
    assert BoundedBacktracking()(phi, losses, slopes, 0.125).step_size == 0.125


def test_a_search_that_fails_moves_nothing_and_forgets_nothing():
    model, (inputs, targets) = mlp(2), batch(2)
    optimizer = AdamFBLS(model)
    for _ in range(5):
        optimizer.step(inputs, targets)
    previous, start = optimizer.param_groups[0]["previous_step"], copies(model)
    task, loss = "task1", model.losses["task1"]
    calls = iter([False])  # the loss of the step itself; trials follow
    model.losses[task] = lambda output, target: loss(output, target) * (1.0 if next(calls, None) is False else 1e6)
    record = optimizer.step(inputs, targets)
    assert (record.accepted, record.step_size) == (False, 0.0) and record.trials > 1
    assert equal(copies(model), start) and optimizer.param_groups[0]["previous_step"] == previous


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_goes_on_bit_for_bit_from_a_state_dict(dtype):
    model, (inputs, targets) = mlp(2, dtype), batch(2, dtype)
    optimizer = AdamFBLS(model)
    for _ in range(7):
        optimizer.step(inputs, targets)
    resumed = copy.deepcopy(model)
    other = AdamFBLS(resumed)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(7):
        assert optimizer.step(inputs, targets).step_size == other.step(inputs, targets).step_size
    assert equal(copies(model), copies(resumed))


def test_it_trains_where_the_encoder_scales_badly():
    """z = cθ_sh-like scales of the encoder do not matter: no step size was chosen for either."""
    ends = []
    for scale in (1e-2, 1.0, 1e2):
        model, (inputs, targets) = mlp(2), batch(2)
        model.encoder.append(Scale(scale))
        optimizer = AdamFBLS(model)
        losses = [float(optimizer.step(inputs, targets).losses.mean()) for _ in range(700)]
        ends.append(losses[-1] / losses[0])
    assert max(ends) < 0.5


class Scale(torch.nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, z):
        return self.factor * z


@pytest.mark.parametrize("kind", ["bfloat16", "large losses"])
def test_it_begins_where_rounding_hides_its_first_steps(kind):
    """The decrease that 1e-6 promises is far below the rounding of the loss; refused, each search would begin there."""
    torch.manual_seed(0)
    model, (inputs, targets) = mlp(2, dtype=torch.float32), batch(2, dtype=torch.float32)
    targets = {task: 30 * target for task, target in targets.items()} if kind == "large losses" else targets
    optimizer, records = AdamFBLS(model), []
    for _ in range(60):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "bfloat16"):
            records.append(optimizer.step(inputs, targets))
    assert records[-1].step_size > 1e-4
    assert (records[-1].losses < records[0].losses).all()


def test_a_solved_task_does_not_stop_the_others():
    """Its cross-entropy is 0 in float32, and its gradient is not: no step is short enough to lower this loss."""
    model, (inputs, targets) = mlp(2, dtype=torch.float32), batch(2, dtype=torch.float32)
    model.losses["task1"] = lambda output, target: cross_entropy(
        torch.cat([output + 20, -output], 1), torch.zeros(len(output), dtype=torch.long)
    )
    optimizer = AdamFBLS(model)
    records = [optimizer.step(inputs, targets) for _ in range(150)]
    assert records[0].losses[1] == 0 and records[0].slopes[1] > 0
    assert all(record.accepted for record in records)
    assert records[-1].losses[0] < 0.9 * records[0].losses[0] and records[-1].losses[1] < 1e-6


def test_a_loss_may_rise_by_its_rounding_only_where_that_hides_the_decrease():
    class Rising:
        rounding = 1e-2

        def __init__(self, rise: float):
            self.rise = rise

        def __call__(self, eta):
            return torch.ones(1) + self.rise

    search, slopes = BoundedBacktracking(0.5, floor=1e-3), Slopes(own=torch.ones(1), shared=torch.zeros(1))
    assert search(Rising(0.009), torch.ones(1), slopes, 0.01).accepted  # asks for 0.005, which 0.01 hides
    assert not search(Rising(0.011), torch.ones(1), slopes, 0.01).accepted
    assert search(Rising(0.009), torch.ones(1), slopes, 0.5).step_size < 0.02  # not where the decrease can be seen


def test_its_state_and_that_of_other_methods_are_kept_apart():
    """`lr` is a guard of 1000 here, and a step there."""
    model, (inputs, targets) = mlp(2), batch(2)
    ours, theirs = AdamFBLS(model), SGD(model, lr=0.1)
    ours.step(inputs, targets)
    with pytest.raises(ValueError, match="`SGD` must load a state without a metric, found one of AdamFBLS"):
        theirs.load_state_dict(ours.state_dict())
    with pytest.raises(ValueError, match="`AdamFBLS` must load a state of AdamFBLS, found one without"):
        ours.load_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match=r"`SGD` must load a state with `param_groups`, found \['inner', 'outer'\]"):
        theirs.load_state_dict({"outer": {}, "inner": {}})
