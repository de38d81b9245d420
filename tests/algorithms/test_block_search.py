"""Searches without a bound: the gain in the trial, and a step size of its own for every block."""

import copy
import io
from functools import partial

import pytest
import torch
from helpers import batch, copies, counted, equal, mlp
from torch import nn

from fastls import BLS, FBLS, Backtracking, BlockFBLS, MultiTaskModel
from fastls.algorithms.spaces import Evaluation, LatentSpace
from fastls.models.quadratic import scalar_chain

TASKS = [1, 2, 4]
FACTORS = [0.01, 0.3, 1.0, 2.0, 50.0]


def losses_of(model, z, targets):
    return torch.stack([model.losses[t](model.decoders[t](z), targets[t]) for t in model.tasks])


@pytest.mark.parametrize("tasks", TASKS)
def test_with_the_gain_the_weighted_slope_is_that_of_the_parameters(tasks):
    """Σ α_t s_t = −d/dη Σ α_t L_t(θ − η(d_sh, g_t)), which the search of FBLS without the gain does not see."""
    for match_gain in (True, False):
        model, (inputs, targets) = mlp(tasks), batch(tasks)
        start = copies(model)
        record = FBLS(model, 1e-6, match_gain=match_gain).step(inputs, targets)
        direction = [(before - after) / record.step_size for before, after in zip(start, copies(model), strict=True)]
        model = mlp(tasks)
        loss = record.weights @ losses_of(model, model.encoder(inputs), targets)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        change = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        agrees = torch.isclose(change, record.weights @ record.slopes, rtol=1e-6)
        assert agrees == match_gain


@pytest.mark.parametrize("c", FACTORS)
@pytest.mark.parametrize("make", [lambda model: FBLS(model, 1000.0, match_gain=True), BlockFBLS], ids=["gain", "block"])
def test_a_scaled_encoder_converges_whatever_its_scale(make, c):
    model = scalar_chain(c, 1.0)
    optimizer = make(model)
    for _ in range(2000):
        optimizer.step(None, dict.fromkeys(model.tasks))
    assert (c * model.encoder.theta.item()) ** 2 / 2 < 1e-8


@pytest.mark.parametrize("c", FACTORS)
def test_with_the_gain_the_step_on_a_scaled_encoder_is_that_of_bls(c):
    paths = []
    for make in (BLS, lambda model: FBLS(model, match_gain=True)):
        model = scalar_chain(c, 1.0)
        optimizer = make(model)
        paths.append([optimizer.step(None, dict.fromkeys(model.tasks)).step_size for _ in range(5)])
    assert paths[0] == paths[1]


def test_the_gain_costs_no_pass():
    for options in ({}, {"match_gain": True}):
        model, passes = counted(mlp(3))
        record = FBLS(model, **options).step(*batch(3))
        assert (passes.encoder_forward, passes.encoder_backward) == (1, 1)
        assert passes.decoder_forward == 3 * (1 + record.trials)


def block_tests(model, record, inputs, targets, beta: float) -> list:
    """For the encoder and for every task: whether a step passes its test, at a model that has not moved."""
    evaluation = Evaluation(model, inputs, targets, replayable=True)
    gradients, z, own = LatentSpace().gradients(evaluation), evaluation.z.detach(), evaluation.own_slopes()
    trial_direction = record.gain * (record.weights @ gradients)
    shared = gradients @ trial_direction

    def encoder_passes(eta: float) -> bool:
        trial = evaluation.trial_losses(z - eta * trial_direction.view_as(z), 0.0)
        return bool((trial <= evaluation.losses - eta * beta * shared).all())

    def decoder_passes(eta: float, t: int) -> bool:
        return bool(evaluation.trial_loss(t, z, eta) <= evaluation.losses[t] - eta * beta * own[t])

    return [encoder_passes, *(partial(decoder_passes, t=t) for t in range(len(own)))]


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("direction", ["mgda", "edm"])
def test_every_block_takes_the_first_step_that_passes_its_own_test(tasks, direction):
    """The accepted step passes, and where it was not the first tried, twice that step fails."""
    rejected, model = 0, mlp(tasks)
    optimizer = BlockFBLS(model, direction, beta=0.4)
    for group in optimizer.param_groups:
        group["previous_step"] = 50.0  # too far, so that steps are rejected
    for seed in range(20):
        before = copy.deepcopy(model)
        starts = [min(1000.0, 1.1 * group["previous_step"]) for group in optimizer.param_groups]
        record = optimizer.step(*batch(tasks, seed=seed))
        tests = block_tests(before, record, *batch(tasks, seed=seed), beta=0.4)
        for passes, start, step in zip(tests, starts, [record.step_size, *record.decoder_steps.tolist()], strict=True):
            assert passes(step)
            if step < start * (1 - 1e-9):
                rejected += 1
                assert not passes(2 * step)
    assert rejected


@pytest.mark.parametrize("tasks", TASKS)
def test_passes_are_counted_as_they_run(tasks):
    model, passes = counted(mlp(tasks))
    record = BlockFBLS(model).step(*batch(tasks))
    assert record.passes == passes
    assert (passes.encoder_forward, passes.encoder_backward, passes.decoder_backward) == (1, 1, tasks)


class Backwards(nn.Module):
    """Its derivative has the wrong sign, so that every step up to the floor raises the loss."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, z):
        return z.mean() + 2 * self.theta.detach() - self.theta


def test_a_block_whose_search_fails_rests_and_keeps_its_start():
    heads = {"wrong": Backwards(), "right": nn.Linear(4, 1).double()}
    losses = {"wrong": lambda output, _: output, "right": nn.functional.mse_loss}
    model = MultiTaskModel(nn.Linear(5, 4).double(), heads, losses)
    optimizer = BlockFBLS(model)
    starts = [group["previous_step"] for group in optimizer.param_groups]
    inputs = torch.randn(8, 5, dtype=torch.float64)
    record = optimizer.step(inputs, {"wrong": None, "right": torch.zeros(8, 1, dtype=torch.float64)})
    assert not record.accepted and not record.stationary
    assert record.decoder_steps[0] == 0 < record.decoder_steps[1]
    assert heads["wrong"].theta.item() == 1 and optimizer.param_groups[1]["previous_step"] == starts[1]


def test_a_stationary_batch_moves_nothing():
    model = mlp()
    inputs, _ = batch()
    with torch.no_grad():
        targets = model(inputs)
    start = copies(model)
    record = BlockFBLS(model).step(inputs, targets)
    assert record.stationary and equal(copies(model), start)


def test_dropout_and_statistics_see_one_pass():
    """The trials of every block replay the masks, and leave generator and buffers as an ordinary step would."""
    found = []
    for make in (lambda model: FBLS(model), BlockFBLS):
        torch.manual_seed(0)
        heads = {
            name: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1)).double()
            for name in ("task0", "task1")
        }
        losses = dict.fromkeys(heads, nn.functional.mse_loss)
        model = MultiTaskModel(nn.Linear(5, 4).double(), heads, losses)
        torch.manual_seed(1)
        record = make(model).step(*batch())
        found.append((record.losses.tolist(), [*model.buffers()], torch.get_rng_state()))
    assert found[0][0] == found[1][0]
    assert equal(found[0][1], found[1][1]) and torch.equal(found[0][2], found[1][2])


WARM = Backtracking(growth=1.1)


@pytest.mark.parametrize("make", [BlockFBLS, lambda m: FBLS(m, 1000.0, line_search=WARM, match_gain=True)])
def test_a_resumed_training_goes_on_bit_for_bit(make):
    whole = mlp()
    optimizer = make(whole)
    for step in range(6):
        optimizer.step(*batch(seed=step))
    half = mlp()
    optimizer = make(half)
    for step in range(3):
        optimizer.step(*batch(seed=step))
    file = io.BytesIO()
    torch.save([half.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    resumed = mlp()
    optimizer = make(resumed)
    for part, state in zip((resumed, optimizer), torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    for step in range(3, 6):
        optimizer.step(*batch(seed=step))
    assert equal(copies(resumed), copies(whole))


def test_beta_is_checked():
    with pytest.raises(ValueError, match=r"`Backtracking\(beta=...\)` must be in \(0, 1\), found 1.5"):
        BlockFBLS(mlp(), beta=1.5)


@pytest.mark.parametrize("bad", [float("nan"), -1.0])
def test_bad_weights_move_nothing(bad):
    model, (inputs, targets) = mlp(2), batch(2)
    before = copies(model)
    optimizer = BlockFBLS(model, direction=lambda gramian: torch.tensor([1.0, bad]).to(gramian))
    with pytest.raises(ValueError, match="must return finite weights ≥ 0"):
        optimizer.step(inputs, targets)
    assert equal(before, copies(model))


class Cusp(nn.Module):
    """z = x + |θ|, computed so that its derivative at θ = 0 is NaN."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, inputs):
        return inputs[:, :4] + self.theta.square().sqrt()


@pytest.mark.parametrize(
    "make", [FBLS, partial(FBLS, match_gain=True), BlockFBLS], ids=["FBLS", "FBLS+gain", "BlockFBLS"]
)
def test_a_gradient_that_is_not_finite_in_the_encoder_alone_moves_nothing(make):
    whole, (inputs, targets) = mlp(2), batch(2)
    model = MultiTaskModel(Cusp(), dict(whole.decoders), whole.losses)
    before = copies(model)
    with pytest.raises(FloatingPointError, match="encoder's gradient must be finite, found .*nan"):
        make(model).step(inputs, targets)
    assert equal(before, copies(model))


def test_blocks_without_a_gradient_do_not_count_as_refused():
    model = scalar_chain(1.0, 1.0)  # its decoder has no parameter
    record = BlockFBLS(model).step(None, dict.fromkeys(model.tasks))
    assert record.accepted and record.step_size > 0 and record.decoder_steps.tolist() == [0.0]
