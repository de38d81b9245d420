"""The layer beneath `step`, in the loops that people already have: it takes the same steps, and any optimizer moves."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from helpers import batch, copies, equal, mlp, noisy
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastls import (
    FBLS,
    MGDAUB,
    Backtracking,
    MultiTaskModel,
    compare_with_backward,
    latent_backward,
    latent_line_search,
)


def make(tasks: int = 3, dtype: torch.dtype = torch.float64) -> MultiTaskModel:
    return noisy(tasks, dtype, seed=0)


def loop(model: MultiTaskModel, steps: int = 5, tasks: int = 3, search: Backtracking | None = None) -> list:
    """An ordinary loop with `torch.optim.SGD`."""
    torch.manual_seed(1)
    mover, found = torch.optim.SGD(model.parameters(), lr=0.1), []
    for seed in range(steps):
        inputs, targets = batch(tasks, dtype=next(model.parameters()).dtype, seed=seed)
        mover.zero_grad()
        found.append(latent_backward(model, model.encoder(inputs), targets))
        if search:
            mover.param_groups[0]["lr"] = latent_line_search(found[-1], 30.0, search).step_size
        mover.step()
    return found


@pytest.mark.parametrize("search", [None, Backtracking(beta=0.3)])
def test_with_sgd_as_the_mover_it_is_the_method(search):
    ours, theirs = make(), make()
    optimizer = FBLS(theirs, 30.0, line_search=search) if search else MGDAUB(theirs, 0.1)
    found = loop(ours, search=search)
    torch.manual_seed(1)
    for seed, step in enumerate(found):
        record = optimizer.step(*batch(3, seed=seed))
        for name in ("losses", "weights", "slopes", "gain"):
            torch.testing.assert_close(getattr(step, name), getattr(record, name))
        assert step.stationary == record.stationary
    assert not search or record.trials > 1
    for mine, other in zip([*copies(ours), *ours.buffers()], [*copies(theirs), *theirs.buffers()], strict=True):
        torch.testing.assert_close(mine, other)


def test_gradients_are_added_to_those_that_are_there():
    model, (inputs, targets) = mlp(), batch()
    first = latent_backward(model, model.encoder(inputs), targets)
    once = [parameter.grad.clone() for parameter in model.parameters()]
    second = latent_backward(model, model.encoder(inputs), targets)
    assert equal([parameter.grad for parameter in model.parameters()], [2 * gradient for gradient in once])
    torch.testing.assert_close(second.gain, first.gain)


def test_weights_that_are_not_trained_get_no_gradient():
    model, (inputs, targets) = mlp(), batch()
    for part in (model.encoder, model.decoders["task0"]):
        part[0].weight.requires_grad_(False)
    latent_backward(model, model.encoder(inputs), targets)
    assert [parameter.grad is None for parameter in model.parameters()] == [
        not p.requires_grad for p in model.parameters()
    ]


def test_a_task_without_a_label_gets_no_gradient():
    model, (inputs, targets) = mlp(), batch()
    model = MultiTaskModel(model.encoder, dict(model.decoders), model.losses | {"task1": lambda output, target: None})
    found = latent_backward(model, model.encoder(inputs), targets)
    assert found.weights.tolist() == [1, 0]
    assert all(parameter.grad is None for parameter in model.decoders["task1"].parameters())
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_what_the_split_would_train_wrongly_is_refused():
    model, (inputs, targets) = mlp(), batch()
    penalty = model.losses | {"task0": lambda output, target: output.mean() + model.encoder[0].weight.square().sum()}
    penalized = MultiTaskModel(model.encoder, dict(model.decoders), penalty)
    with pytest.raises(ValueError, match="through z alone, found a path to encoder.0.weight"):
        latent_backward(penalized, model.encoder(inputs), targets)
    shared = MultiTaskModel(model.encoder, dict.fromkeys(targets, model.decoders["task0"]), model.losses)
    with pytest.raises(ValueError, match="must belong to one part of the model"):
        latent_backward(shared, model.encoder(inputs), targets)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_search_whose_trials_find_other_losses_is_warned_of_once():
    seen = []

    def counting(output, target):
        seen.append(output)
        return F.mse_loss(output, target) * len(seen)

    model, (inputs, targets) = mlp(), batch()
    model = MultiTaskModel(model.encoder, dict(model.decoders), model.losses | {"task1": counting})
    with pytest.warns(UserWarning, match="A trial at a step of size 0.*'task1'"):
        latent_line_search(latent_backward(model, model.encoder(inputs), targets))
    model.zero_grad()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        latent_line_search(latent_backward(model, model.encoder(inputs), targets))


def test_an_encoder_that_is_frozen_later_is_refused():
    model, (inputs, targets) = mlp(), batch()
    latent_backward(model, model.encoder(inputs), targets)
    model.encoder.requires_grad_(False)
    with pytest.raises(ValueError, match="The encoder must have a trainable parameter, found none. Unfreeze one"):
        latent_backward(model, model.encoder(inputs).requires_grad_(), targets)
    with pytest.raises(ValueError, match="The encoder must have a trainable parameter, found none. Unfreeze one"):
        compare_with_backward(model, inputs, targets)


def test_a_search_after_the_move_is_refused():
    model, (inputs, targets) = mlp(), batch()
    step = latent_backward(model, model.encoder(inputs), targets)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    with pytest.raises(ValueError, match="before the parameters of the decoders move"):
        latent_line_search(step)


def test_nothing_is_written_where_a_loss_is_nan():
    model, (inputs, targets) = mlp(), batch()
    targets["task0"] = targets["task0"] * float("nan")
    with pytest.raises(FloatingPointError, match="task0"):
        latent_backward(model, model.encoder(inputs), targets)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_backward_that_fails_leaves_every_gradient():
    model, (inputs, targets) = mlp(), batch()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    def fail(gradient):
        raise RuntimeError("out of memory")

    model.encoder[0].weight.register_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        latent_backward(model, model.encoder(inputs), targets)
    assert all(parameter.grad is not None and bool((parameter.grad == 1).all()) for parameter in model.parameters())


def test_adamw_with_clipped_gradients_learns():
    model, (inputs, targets) = mlp(), batch()
    mover = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(100):
        mover.zero_grad()
        losses.append(latent_backward(model, model.encoder(inputs), targets).losses)
        length = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        clipped = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
        assert clipped <= 0.5 + 1e-6 and clipped <= length + 1e-12
        mover.step()
    assert (losses[-1] < 0.7 * losses[0]).all()


def scaled(model: MultiTaskModel, scaler: torch.amp.GradScaler) -> MultiTaskModel:
    losses = {task: lambda output, target: scaler.scale(F.mse_loss(output, target)) for task in model.tasks}
    return MultiTaskModel(model.encoder, dict(model.decoders), losses)


def test_a_gradient_scaler_changes_no_step():
    plain, model = mlp(), mlp()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    model = scaled(model, scaler)
    mover = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, targets = batch()
    latent_backward(model, model.encoder(inputs), targets)
    scaler.step(mover)
    scaler.update()
    MGDAUB(plain, 0.1).step(inputs, targets)
    for ours, theirs in zip(copies(model), copies(plain), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_scale_that_overflows_is_lowered_as_the_recipe_says():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    model = scaled(mlp(dtype=torch.float32), scaler)
    inputs, targets = batch(dtype=torch.float32)
    scaler.scale(torch.ones(()))  # which makes its tensor
    for _ in range(100):
        try:
            latent_backward(model, model.encoder(inputs), targets)
            break
        except FloatingPointError:
            scaler.update(scaler.get_scale() / 2)
    assert scaler.get_scale() < 2.0**127
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_bfloat16_autocast_of_the_callers_forward():
    full, model, (inputs, targets) = (mlp(dtype=torch.float32), mlp(dtype=torch.float32), batch(dtype=torch.float32))
    exact = latent_backward(full, full.encoder(inputs), targets)
    with torch.autocast("cpu", torch.bfloat16):
        z = model.encoder(inputs)
        assert z.dtype == torch.bfloat16
        found = latent_backward(model, z, targets)
        assert latent_line_search(found).trials >= 1
    torch.testing.assert_close(found.losses, exact.losses, rtol=0.05, atol=0.05)
    for rough, fine in zip(model.parameters(), full.parameters(), strict=True):
        assert rough.grad.dtype == torch.float32
        assert (rough.grad - fine.grad).norm() <= 0.1 * fine.grad.norm() + 1e-3


@pytest.mark.parametrize("sizes", [[4, 4], [3, 3, 2]])
def test_micro_batches_make_the_step_of_the_whole_batch(sizes):
    """Two passes of the encoder: z of all, then the gradients part by part, as in GradCache."""
    whole, parts, (inputs, targets) = mlp(), mlp(), batch()
    latent_backward(whole, whole.encoder(inputs), targets)

    with torch.no_grad():
        z = torch.cat([parts.encoder(part) for part in inputs.split(sizes)])
    found = latent_backward(parts, z.requires_grad_(), targets)
    for part, d_z in zip(inputs.split(sizes), z.grad.split(sizes), strict=True):
        parts.encoder(part).backward(d_z)

    assert found.gain is None  # which the backward of the parts alone could tell
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-12)


def test_a_compiled_model_gets_the_same_gradients():
    plain, (inputs, targets) = mlp(), batch()
    latent_backward(plain, plain.encoder(inputs), targets)
    model = copy.deepcopy(plain)
    model.zero_grad()
    decoders = {task: torch.compile(decoder, backend="aot_eager") for task, decoder in model.decoders.items()}
    model = MultiTaskModel(torch.compile(model.encoder, backend="aot_eager"), decoders, model.losses)
    found = latent_backward(model, model.encoder(inputs), targets)
    assert latent_line_search(found).accepted
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_hooks_of_the_encoder_fire():
    model, (inputs, targets) = mlp(), batch()
    fired = []
    for name, parameter in model.encoder.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: fired.append(name))
    latent_backward(model, model.encoder(inputs), targets)
    assert sorted(fired) == sorted(name for name, _ in model.encoder.named_parameters())


def test_reentrant_checkpoints_in_the_encoder_move():
    """`step` refuses them, since ``torch.autograd.grad`` does not reach into them; a backward does."""
    plain, model, (inputs, targets) = mlp(), mlp(), batch()
    latent_backward(plain, plain.encoder(inputs), targets)
    z = checkpoint(model.encoder, inputs.requires_grad_(), use_reentrant=True)
    latent_backward(model, z, targets)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_bert_of_hugging_face_is_an_encoder_as_it_is():
    transformers = pytest.importorskip("transformers")

    class Pooled(nn.Linear):
        def forward(self, z):
            return super().forward(z.pooler_output)

    class Tokens(nn.Linear):
        def forward(self, z):
            return super().forward(z["last_hidden_state"]).mean(1)

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    encoder = transformers.BertModel(config).eval()
    model = MultiTaskModel(encoder, {"a": Pooled(8, 1), "b": Tokens(8, 1)}, dict.fromkeys("ab", F.mse_loss))
    inputs, targets = torch.randint(50, (4, 6)), dict.fromkeys("ab", torch.ones(4, 1))
    z = encoder(inputs)
    found = latent_backward(model, z, targets)
    assert type(z).__name__.startswith("BaseModelOutput") and latent_line_search(found).accepted
    assert all(parameter.grad is not None for parameter in encoder.embeddings.parameters())
    record = FBLS(model).step(inputs, targets)
    torch.testing.assert_close(record.weights, found.weights)


def test_a_weighting_of_torchjd_is_a_direction():
    aggregation = pytest.importorskip("torchjd.aggregation")
    model, (inputs, targets) = mlp(), batch()
    found = latent_backward(model, model.encoder(inputs), targets, aggregation.MGDAWeighting())
    assert found.weights.shape == (2,) and latent_line_search(found).accepted


def test_a_search_after_two_micro_batches_is_refused():
    """θ.grad is then the sum of two gradients, and the search tests the second."""
    model, (inputs, targets) = mlp(2), batch(2)
    for _ in range(2):
        found = latent_backward(model, model.encoder(inputs), targets)
    with pytest.raises(ValueError, match=r"Call `zero_grad\(\)`"):
        latent_line_search(found)


@pytest.mark.parametrize("wrong", ["frozen", "wrapped"])
def test_a_model_that_does_not_fit_is_refused(wrong):
    model, (inputs, targets) = mlp(2), batch(2)
    z = model.encoder(inputs)
    if wrong == "frozen":
        model.encoder.requires_grad_(False)
    expected = (ValueError, "must have a trainable") if wrong == "frozen" else (TypeError, "must be a MultiTaskModel")
    with pytest.raises(expected[0], match=expected[1]):
        latent_backward(nn.DataParallel(model) if wrong == "wrapped" else model, z, targets)
