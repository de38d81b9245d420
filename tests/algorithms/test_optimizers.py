"""The contract of the optimizers: what a step reports, what it costs, what it leaves alone and what it refuses."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import FIVE, FOUR, LATENT, SEARCHES, bare, batch, copies, counted, equal, mlp, names, trusted
from torch import nn

from fastls import BLS, FBLS, MGDAUB, SGD, Backtracking, EqualWeight, MultiTaskModel

HOPELESS = Backtracking(beta=0.999, gamma=0.5, floor=0.9e-1)  # with lr_ub = 0.1: one trial, which curved losses fail


def norm_squared(tensors) -> torch.Tensor:
    return sum((tensor**2).sum() for tensor in tensors)


# -- the record ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", FOUR)
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_record_holds_losses_weights_and_slopes(algorithm, tasks):
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    z = model.encoder(inputs)
    losses = [model.losses[t](model.decoders[t](z), targets[t]) for t in model.tasks]
    wanted = [z] if algorithm in LATENT else list(model.encoder.parameters())
    rows = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses]
    matrix = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    own = torch.stack(
        [
            norm_squared(torch.autograd.grad(loss, list(model.decoders[t].parameters()), retain_graph=True))
            for t, loss in zip(model.tasks, losses, strict=True)
        ]
    )
    record = algorithm(model, 0.05).step(inputs, targets)
    assert torch.allclose(record.losses, torch.stack(losses).detach())
    assert record.weights.sum().item() == pytest.approx(1) and (record.weights >= 0).all()
    assert torch.allclose(record.slopes, own + matrix @ (record.weights @ matrix))
    assert record.accepted and not record.stationary
    assert not any(value.requires_grad for value in (record.losses, record.weights, record.slopes))


@pytest.mark.parametrize("algorithm", LATENT)
@pytest.mark.parametrize("tasks", [1, 3])
def test_gain_equals_the_explicit_jacobian(algorithm, tasks):
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    parameters = dict(model.encoder.named_parameters())
    jacobian = torch.autograd.functional.jacobian(
        lambda *values: torch.func.functional_call(
            model.encoder, dict(zip(parameters, values, strict=True)), inputs
        ).flatten(),
        tuple(parameters.values()),
    )
    J = torch.cat([block.flatten(1) for block in jacobian], dim=1)  # (B·d, P)
    z = model.encoder(inputs)
    losses = [model.losses[t](model.decoders[t](z), targets[t]) for t in model.tasks]
    rows = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0].flatten() for loss in losses])
    record = algorithm(model, 0.05).step(inputs, targets)
    d_z = record.weights @ rows
    assert record.gain.item() == pytest.approx(((J.T @ d_z).square().sum() / d_z.square().sum()).item())


@pytest.mark.parametrize("algorithm", [SGD, BLS, EqualWeight])
def test_gain_belongs_to_the_latent_methods(algorithm):
    assert algorithm(mlp(), 0.05).step(*batch()).gain is None


# -- passes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("rate", [0.01, 30.0])
@pytest.mark.parametrize("algorithm", FIVE)
def test_passes_equal_those_counted_from_outside(algorithm, rate, tasks):
    model, counter = counted(mlp(tasks))
    record = trusted(algorithm(model, rate)).step(*batch(tasks))
    assert record.passes == counter
    searches, latent = algorithm in SEARCHES, algorithm in [*LATENT, EqualWeight]
    assert counter.encoder_forward == 1 + (record.trials if algorithm is BLS else 0)
    assert counter.encoder_backward == (1 if latent else tasks)
    assert counter.decoder_forward == tasks * (1 + record.trials)
    assert counter.decoder_backward == tasks
    assert (record.trials > 1) == (searches and rate > 1)


@pytest.mark.parametrize(("algorithm", "backwards"), [(BLS, 3), (FBLS, 0)])
def test_passes_of_a_skipped_step(algorithm, backwards):
    model, counter = counted(mlp(3))
    record = trusted(algorithm(model, 0.1, line_search=HOPELESS, on_failure="skip")).step(*batch(3))
    assert record.passes == counter and counter.encoder_backward == backwards


# -- failure of the search -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "constant"), [(BLS, SGD), (FBLS, MGDAUB)])
def test_on_failure_floor_takes_the_floor(algorithm, constant):
    ours, reference = mlp(), mlp()
    record = algorithm(ours, 0.1, line_search=HOPELESS, on_failure="floor").step(*batch())
    constant(reference, HOPELESS.floor).step(*batch())
    assert (record.accepted, record.step_size, record.trials) == (False, HOPELESS.floor, 1)
    assert equal(copies(ours), copies(reference))


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_on_failure_skip_moves_nothing(algorithm):
    model = mlp()
    start = copies(model)
    record = algorithm(model, 0.1, line_search=HOPELESS, on_failure="skip").step(*batch())
    assert (record.accepted, record.step_size, record.trials, record.stationary) == (False, 0, 1, False)
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_on_failure_raise_says_why_and_moves_nothing(algorithm):
    model = mlp()
    start = copies(model)
    with pytest.raises(RuntimeError, match="no step down to the floor 0.09 passed the test in 1 trials; nothing has"):
        algorithm(model, 0.1, line_search=HOPELESS, on_failure="raise").step(*batch())
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_direction_of_ascent_is_refused_without_a_trial(algorithm):
    """Opposed gradients of lengths 1 and 3 weighted equally: ascent for the first task."""
    encoder = nn.Linear(5, 4)
    model = bare(encoder, lambda z: z.mean(), lambda z: -3 * z.mean())
    start = copies(model)
    optimizer = algorithm(model, direction="mean", on_failure="raise")
    with pytest.raises(RuntimeError, match="not one of descent for every task: slopes"):
        optimizer.step(torch.ones(2, 5), dict.fromkeys(model.tasks))
    optimizer.on_failure = "skip"
    record = optimizer.step(torch.ones(2, 5), dict.fromkeys(model.tasks))
    assert record.trials == 0 and not record.accepted and not record.stationary
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_trials_that_diverge_are_rejected(algorithm):
    """exp overflows at the first trials; the step that is taken is finite and satisfies the test."""
    torch.manual_seed(0)
    model = bare(nn.Linear(5, 4, bias=False), lambda z: z.exp().mean(), lambda z: (z - 1).square().mean())
    inputs = torch.ones(2, 5)
    record = algorithm(model, 1e6).step(inputs, dict.fromkeys(model.tasks))
    assert record.accepted and record.trials > 5
    assert all(parameter.isfinite().all() for parameter in model.parameters())


# -- stationary batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("algorithm", FOUR)
def test_a_stationary_batch_is_reported_and_nothing_moves(algorithm, tasks, dtype):
    """Opposed losses of unequal weight; for T = 3 two that together oppose the first; for T = 1 a constant one."""
    torch.manual_seed(0)
    a, b = torch.rand(2, 4, dtype=dtype)
    losses = {
        1: [lambda z: 0 * z.sum()],
        2: [lambda z: (z @ a).mean(), lambda z: -3 * (z @ a).mean()],
        3: [lambda z: (z @ a).mean(), lambda z: (z @ b).mean(), lambda z: -(z @ (2 * a + b)).mean()],
    }[tasks]
    model = bare(nn.Linear(5, 4, dtype=dtype), *losses)
    start = copies(model)
    record = algorithm(model, 0.5).step(torch.rand(8, 5, dtype=dtype), dict.fromkeys(model.tasks))
    assert record.stationary and not record.accepted
    assert (record.step_size, record.trials) == (0, 0)
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", FOUR)
def test_float32_rounding_does_not_hide_a_stationary_batch(algorithm):
    """The same product in two orders: the opposed gradients cancel to a few float32 ulp only."""
    torch.manual_seed(0)
    W, v = torch.randn(4, 3000), torch.randn(3000)
    model = bare(nn.Linear(5, 4), lambda z: (z @ W @ v).mean(), lambda z: -3 * (z @ (W @ v)).mean())
    record = algorithm(model, 1e-3).step(torch.rand(64, 5), dict.fromkeys(model.tasks))
    assert record.stationary


@pytest.mark.parametrize("algorithm", FOUR)
def test_a_short_gradient_is_not_taken_for_none(algorithm):
    """Losses of very different scale, both of which can still fall: the long gradient is no yardstick for the short."""
    torch.manual_seed(0)
    model = bare(nn.Linear(5, 4), lambda z: 1e-5 * z.square().mean(), lambda z: (z - 1).square().mean())
    record = algorithm(model, 1.0).step(torch.rand(3, 5), dict.fromkeys(model.tasks))
    assert (record.slopes > 0).all() and not record.stationary


@pytest.mark.parametrize("algorithm", FOUR)
def test_a_decoder_that_still_learns_is_not_stationary(algorithm):
    model, (inputs, targets) = mlp(), batch()
    with torch.no_grad():
        model.decoders["task0"][0].weight.zero_()  # the loss does not depend on z, so d = 0 ...
    encoder, heads = copies(model.encoder), copies(model.decoders)
    record = algorithm(model, 0.05).step(inputs, targets)
    assert not record.stationary and record.accepted
    assert equal(copies(model.encoder), encoder)  # ... the encoder rests
    assert not equal(copies(model.decoders), heads)  # ... and the decoders move


# -- shapes and kinds of models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", FIVE)
def test_decoders_without_parameters_work(algorithm):
    torch.manual_seed(0)
    model = bare(nn.Linear(5, 4), lambda z: z.square().mean(), lambda z: (z - 1).square().mean())
    start = copies(model)
    record = algorithm(model, 0.05).step(torch.rand(3, 5), dict.fromkeys(model.tasks))
    assert record.accepted and not equal(copies(model), start)


@pytest.mark.parametrize("algorithm", FIVE)
def test_images_as_latent_representation_work(algorithm):
    torch.manual_seed(0)
    heads = {name: nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(50, 1)) for name in names(3)}
    model = MultiTaskModel(nn.Conv2d(1, 3, 3), heads, dict.fromkeys(heads, F.mse_loss))
    inputs, targets = torch.rand(4, 1, 7, 7), {name: torch.rand(4, 1) for name in heads}
    optimizer = algorithm(model, 0.01)
    losses = torch.stack([optimizer.step(inputs, targets).losses for _ in range(5)])
    assert (losses[-1] < losses[0]).all()


@pytest.mark.parametrize("algorithm", FIVE)
def test_a_decoder_that_ignores_z_works(algorithm):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, z):
            return self.value.expand(len(z), 1)

    normal = mlp(1)
    heads = {"normal": normal.decoders["task0"], "constant": Constant()}
    model = MultiTaskModel(normal.encoder, heads, dict.fromkeys(heads, F.mse_loss))
    inputs, targets = batch()
    record = algorithm(model, 0.05).step(inputs, {"normal": targets["task0"], "constant": targets["task1"]})
    assert record.accepted and model.decoders["constant"].value.item() != 0
    if algorithm in LATENT:
        assert record.gain.isnan()  # d_z = 0


@pytest.mark.parametrize("algorithm", FOUR)
def test_one_task_is_gradient_descent(algorithm):
    model, plain, (inputs, targets) = mlp(1), mlp(1), batch(1)
    record = algorithm(model, 0.05).step(inputs, targets)
    loss = plain.losses["task0"](plain(inputs)["task0"], targets["task0"])
    for ours, theirs, gradient in zip(
        model.parameters(), plain.parameters(), torch.autograd.grad(loss, list(plain.parameters())), strict=True
    ):
        assert torch.allclose(ours, theirs - record.step_size * gradient, rtol=1e-12, atol=1e-14)


# -- torch.optim -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", FIVE)
def test_parameter_groups_are_named_after_encoder_and_tasks(algorithm):
    model = mlp(3)
    optimizer = algorithm(model, 0.3)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [group["name"] for group in optimizer.param_groups] == ["encoder", "task0", "task1", "task2"]
    parts = [model.encoder, *model.decoders.values()]
    for group, part in zip(optimizer.param_groups, parts, strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in part.parameters()]
        assert group["lr"] == 0.3


@pytest.mark.parametrize("algorithm", FIVE)
def test_a_scheduler_decays_the_step_or_its_bound(algorithm):
    """At so small a bound the first trial passes: every step is taken at the bound of its epoch."""
    optimizer = algorithm(mlp(), 0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for epoch in range(4):
        record = optimizer.step(*batch(seed=epoch))
        assert record.step_size == optimizer.lr == 0.01 * 0.5**epoch
        scheduler.step()


@pytest.mark.parametrize("algorithm", FIVE)
def test_state_dict_round_trip_continues_the_run(algorithm):
    model = mlp()
    optimizer = algorithm(model, 0.08)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.step(*batch())
    scheduler.step()
    other = mlp(seed=9)
    other.load_state_dict(model.state_dict())
    resumed = algorithm(other, 0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.lr == 0.04
    assert resumed.step(*batch()).step_size == optimizer.step(*batch()).step_size
    assert equal(copies(model), copies(other))


@pytest.mark.parametrize("algorithm", FIVE)
def test_learning_rates_that_differ_between_groups_are_refused(algorithm):
    model = mlp()
    optimizer = algorithm(model, 0.1)
    optimizer.param_groups[1]["lr"] = 0.2
    start = copies(model)
    with pytest.raises(ValueError, match=r"`lr` must be the same in all parameter groups.*'task0': 0.2"):
        optimizer.step(*batch())
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", FIVE)
@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_a_rate_set_to_nonsense_is_refused_and_moves_nothing(algorithm, rate):
    model = mlp()
    optimizer = algorithm(model, 0.05)
    for group in optimizer.param_groups:
        group["lr"] = rate
    start = copies(model)
    with pytest.raises(ValueError, match="found"):
        optimizer.step(*batch())
    assert equal(copies(model), start)


@pytest.mark.parametrize("algorithm", FIVE)
def test_a_deep_copy_goes_on_by_itself(algorithm):
    optimizer = algorithm(mlp(), 0.05)
    twin = copy.deepcopy(optimizer)
    optimizer.step(*batch())
    assert not equal(copies(optimizer.model), copies(twin.model))
    twin.step(*batch())
    assert equal(copies(optimizer.model), copies(twin.model))


def test_a_direction_that_learns_does_not_leak_its_graph():
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    record = FBLS(mlp(), 0.05, direction=lambda gramian: scale * torch.full((2,), 0.5)).step(*batch())
    assert not record.weights.requires_grad and not record.slopes.requires_grad and not record.gain.requires_grad
