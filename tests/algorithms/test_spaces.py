"""One evaluation of a batch holds the gradients that T separate autograd calls give; φ has the slopes it is said to."""

import inspect

import pytest
import torch
from helpers import batch, copies, equal, mlp, noisy
from torch import nn

from fastls import MultiTaskModel
from fastls.algorithms.spaces import Evaluation, LatentSpace, ParameterSpace, Snapshot
from fastls.models.latent import flatten_gradients
from fastls.models.parts import trainable

SPACES = [LatentSpace, ParameterSpace]
TASKS = [1, 2, 5]


def separate_losses(model: MultiTaskModel, z, targets) -> list[torch.Tensor]:
    return [model.losses[task](model.decoders[task](z), targets[task]) for task in model.tasks]


def separate_gradients(model: MultiTaskModel, inputs, targets, wanted: str) -> torch.Tensor:
    """(T, n): one autograd call per task on a graph of its own."""
    rows = []
    for task in range(len(model.tasks)):
        z = model.encoder(inputs)
        loss = separate_losses(model, z, targets)[task]
        leaves = [z] if wanted == "z" else list(model.encoder.parameters())
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)]))
    return torch.stack(rows)


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize(("space", "wanted"), [(LatentSpace(), "z"), (ParameterSpace(), "theta")])
def test_task_gradients_equal_separate_autograd_calls(space, wanted, tasks):
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    gradients = space.gradients(Evaluation(model, inputs, targets, replayable=False))
    assert torch.allclose(gradients, separate_gradients(model, inputs, targets, wanted), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("tasks", TASKS)
def test_own_gradients_are_those_of_the_unscaled_loss(tasks):
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    evaluation = Evaluation(model, inputs, targets, replayable=False)
    losses = separate_losses(model, model.encoder(inputs), targets)
    assert torch.equal(evaluation.losses, torch.stack(losses).detach())
    for loss, decoder, own in zip(losses, model.decoders.values(), evaluation.own_gradients, strict=True):
        expected = torch.autograd.grad(loss, list(decoder.parameters()), retain_graph=True)
        assert all(torch.allclose(g, h, rtol=1e-12, atol=1e-14) for g, h in zip(own, expected, strict=True))


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("Space", SPACES)
def test_shared_direction_is_the_gradient_of_the_weighted_loss(Space, tasks):
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    weights = torch.rand(tasks, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    evaluation, space = Evaluation(model, inputs, targets, replayable=False), Space()
    shared = space.shared_direction(evaluation, weights @ space.gradients(evaluation))
    weighted = weights @ torch.stack(separate_losses(model, model.encoder(inputs), targets))
    expected = torch.autograd.grad(weighted, list(model.encoder.parameters()))
    assert all(torch.allclose(d, g, rtol=1e-10, atol=1e-12) for d, g in zip(shared, expected, strict=True))


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("Space", SPACES)
def test_slopes_are_the_derivative_of_phi_at_zero(Space, tasks):
    """d is any combination, not only the best one: slope_t = ‖∂L_t/∂θ_t‖² + ⟨g_t, d⟩."""
    model, (inputs, targets) = mlp(tasks), batch(tasks)
    evaluation, space = Evaluation(model, inputs, targets, replayable=True), Space()
    gradients = space.gradients(evaluation)
    direction = torch.linspace(0.2, 1.0, tasks, dtype=torch.float64) @ gradients
    h = 1e-5
    numeric = (
        space.losses_at(evaluation, direction, -h).double() - space.losses_at(evaluation, direction, h).double()
    ) / (2 * h)
    assert torch.allclose(evaluation.own_slopes() + gradients @ direction, numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("Space", SPACES)
def test_phi_at_zero_is_the_loss(Space):
    model, (inputs, targets) = mlp(), batch()
    evaluation, space = Evaluation(model, inputs, targets, replayable=True), Space()
    direction = space.gradients(evaluation).sum(0)
    assert torch.allclose(space.losses_at(evaluation, direction, 0.0), evaluation.losses, rtol=1e-14)


@pytest.mark.parametrize("Space", SPACES)
def test_trials_move_nothing(Space):
    model, (inputs, targets) = mlp(), batch()
    start = copies(model)
    evaluation, space = Evaluation(model, inputs, targets, replayable=True), Space()
    (z,) = [leaf.detach().clone() for leaf in evaluation.z.tensors]
    direction = space.gradients(evaluation).sum(0)
    first = space.losses_at(evaluation, direction, 0.5)
    assert not torch.allclose(first, evaluation.losses)
    assert torch.equal(space.losses_at(evaluation, direction, 0.5), first)
    assert equal(copies(model), start) and torch.equal(evaluation.z.tensors[0], z)


def test_gradients_in_channels_last_become_rows():
    gradients = [torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last) for _ in range(2)]
    assert torch.equal(flatten_gradients([gradients]), torch.stack([gradient.flatten() for gradient in gradients]))


def test_the_gradient_buffer_is_reused_until_shape_or_dtype_changes():
    model, space = mlp(), ParameterSpace()
    first = space.gradients(Evaluation(model, *batch(), replayable=False))
    assert space.gradients(Evaluation(model, *batch(seed=5), replayable=False)).data_ptr() == first.data_ptr()
    model.float()
    assert space.gradients(Evaluation(model, *batch(dtype=torch.float32), replayable=False)).dtype == torch.float32
    assert space.gradients(Evaluation(mlp(3), *batch(3), replayable=False)).shape[0] == 3


def test_only_trials_that_run_the_encoder_keep_its_state():
    model = noisy(2, torch.float64, seed=0)
    model.encoder = nn.Sequential(model.encoder, nn.BatchNorm1d(4, dtype=torch.float64))
    for space in SPACES:
        evaluation = Evaluation(model, *batch(), replayable=True, runs_encoder=space.runs_encoder)
        kept = bool(evaluation.encoder_start.buffers), bool(evaluation.encoder_start.generators)
        assert kept == (space is ParameterSpace,) * 2
        assert all(start.buffers and start.generators for start in evaluation.head_starts)


def test_a_snapshot_replays_random_numbers_and_buffers():
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    start = Snapshot(module, torch.device("cpu"))
    first = module(torch.ones(4, 3).cumsum(0))
    after, buffers = torch.get_rng_state(), [buffer.clone() for buffer in module.buffers()]
    with start.replay():
        again = start.call(trainable(module), torch.ones(4, 3).cumsum(0))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), after)
    assert equal(module.buffers(), buffers)


def test_a_replay_that_fails_restores_the_generator():
    start = Snapshot(nn.Identity(), torch.device("cpu"))
    torch.rand(3)
    after = torch.get_rng_state()
    with pytest.raises(KeyError), start.replay():
        raise KeyError
    assert torch.equal(torch.get_rng_state(), after)


class DeviceModule:
    """Stands in for ``torch.cuda``, ``torch.mps`` and others: a generator for every device."""

    def __init__(self):
        self.states = {}

    def get_rng_state(self, device) -> torch.Tensor:
        return self.states.setdefault(device, torch.zeros(1)).clone()

    def set_rng_state(self, state: torch.Tensor, device) -> None:
        self.states[device] = state.clone()


@pytest.mark.parametrize("device", [torch.device("cuda", 1), torch.device("mps")], ids=str)
def test_a_replay_rewinds_the_generator_of_the_device_too(device, monkeypatch):
    module = DeviceModule()
    monkeypatch.setattr(torch, "get_device_module", lambda asked: module if asked == device else pytest.fail(asked))
    start = Snapshot(nn.Identity(), device)
    module.set_rng_state(torch.ones(1), device)  # drawn from, by the pass
    torch.rand(3)
    after = torch.get_rng_state()
    with start.replay():
        assert module.get_rng_state(device) == 0 and torch.equal(torch.get_rng_state(), start.generators[0])
        module.set_rng_state(torch.full((1,), 5.0), device)  # by a trial
    assert module.get_rng_state(device) == 1 and torch.equal(torch.get_rng_state(), after)
    assert module.states.keys() == {device}


def test_the_modules_of_accelerators_have_a_generator_by_device():
    for name in ("cuda", "mps", "xpu"):
        for function in ("get_rng_state", "set_rng_state"):
            assert "device" in inspect.signature(getattr(torch.get_device_module(name), function)).parameters


class Counter(nn.Module):
    """Its output depends on a buffer that every pass changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, inputs):
        self.passes += 1
        return inputs * self.passes


def test_every_replay_begins_with_the_buffers_of_the_snapshot():
    module = Counter()
    start = Snapshot(module, torch.device("cpu"))
    module(torch.ones(1))
    assert [start.call({}, torch.ones(1)).item() for _ in range(3)] == [1, 1, 1]
    assert module.passes == 1
