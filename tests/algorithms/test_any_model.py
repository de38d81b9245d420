"""Models of other people: what works, and what is refused by name. Each case was once wrong in silence, or crashed.

The comparison with an ordinary backward and the trial at a step of size 0 are what notices.
"""

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import FIVE, SEARCHES, batch, copies, equal, mlp
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastls import BLS, FBLS, MGDAUB, AdamFBLS, EqualWeight, MultiTaskModel

LOSSES = {"a": F.mse_loss, "b": F.mse_loss}
METHODS = [*FIVE, AdamFBLS]


def make(algorithm, model):
    return algorithm(model) if algorithm is AdamFBLS else algorithm(model, 0.1)


def linear(*shape: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(*shape, dtype=torch.float64)


def heads(width: int = 4) -> dict[str, nn.Module]:
    return {"a": linear(width, 1, seed=1), "b": linear(width, 1, seed=2)}


def data(seed: int = 0) -> tuple[torch.Tensor, dict]:
    generator = torch.Generator().manual_seed(seed)
    inputs, a, b = (torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (5, 1, 1))
    return inputs, {"a": a, "b": b}


def after_steps(algorithm, model, steps: int = 3, prepare=lambda inputs: inputs) -> list[torch.Tensor]:
    optimizer = make(algorithm, model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        for seed in range(steps):
            inputs, targets = data(seed)
            optimizer.step(prepare(inputs), targets)
    return copies(model)


class Encoder(nn.Module):
    """What `make` makes of a linear layer's output."""

    def __init__(self, make=lambda z: z):
        super().__init__()
        self.inner, self.make = linear(5, 4), make

    def forward(self, inputs):
        return self.make(self.inner(inputs))


class Reads(nn.Module):
    """A linear head on what `read` takes from a tree."""

    def __init__(self, inner: nn.Module, read):
        super().__init__()
        self.inner, self.read = inner, read

    def forward(self, z):
        return self.inner(self.read(z))


# -- works ---------------------------------------------------------------------------------------------------------

TREES = {
    "tuple": (lambda z: (z[:, :1], z[:, 1:]), lambda z: torch.cat(z, 1)),
    "dict": (lambda z: {"left": z[:, :3], "right": [z[:, 3:]]}, lambda z: torch.cat([z["left"], *z["right"]], 1)),
    "with what does not move": (
        lambda z: {"z": z, "lengths": torch.ones(len(z), dtype=torch.int64), "name": "x", "none": None},
        lambda z: z["z"] * z["lengths"][:, None],
    ),
    "a tensor twice": (lambda z: (z, z), lambda z: (z[0] + z[1]) / 2),
}


@pytest.mark.parametrize("algorithm", METHODS)
@pytest.mark.parametrize("tree", ["tuple", "dict", "with what does not move"])
def test_z_may_be_a_tree_of_tensors(algorithm, tree):
    """The steps are those of one tensor that holds the same numbers."""
    split, join = TREES[tree]
    whole = after_steps(algorithm, MultiTaskModel(Encoder(), heads(), LOSSES))
    trees = {task: Reads(head, join) for task, head in heads().items()}
    found = after_steps(algorithm, MultiTaskModel(Encoder(split), trees, LOSSES))
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_tensor_may_stand_twice_in_z():
    split, join = TREES["a tensor twice"]
    trees = {task: Reads(head, join) for task, head in heads().items()}
    found = after_steps(EqualWeight, MultiTaskModel(Encoder(split), trees, LOSSES))
    whole = after_steps(EqualWeight, MultiTaskModel(Encoder(), heads(), LOSSES))
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, theirs)


class Masked(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, z, inputs):
        return self.inner(z) * inputs["mask"]


@pytest.mark.parametrize("algorithm", [MGDAUB, FBLS, BLS, EqualWeight])
def test_a_decoder_may_ask_for_the_inputs(algorithm):
    class FromDict(Encoder):
        def forward(self, inputs):
            return super().forward(inputs["x"])

    def with_mask(inputs):
        return {"x": inputs, "mask": torch.ones(8, 1, dtype=torch.float64)}

    masked = {task: Masked(head) for task, head in heads().items()}
    masked["b"] = torch.compile(masked["b"], backend="eager")
    found = after_steps(algorithm, MultiTaskModel(FromDict(), masked, LOSSES), prepare=with_mask)
    assert equal(found, after_steps(algorithm, MultiTaskModel(Encoder(), heads(), LOSSES)))


@pytest.mark.parametrize("algorithm", [MGDAUB, FBLS, BLS, AdamFBLS])
def test_a_task_without_a_label_sits_out_the_step(algorithm):
    inputs, targets = data()
    alone = MultiTaskModel(Encoder(), {"a": heads()["a"]}, {"a": F.mse_loss})
    make(algorithm, alone).step(inputs, targets)
    losses = LOSSES | {"b": lambda output, target: None}
    model = MultiTaskModel(Encoder(), heads(), losses)
    record = make(algorithm, model).step(inputs, targets)
    assert record.weights.tolist() == [1, 0] and record.losses[1] == 0
    assert equal(copies(model.decoders["b"]), copies(heads()["b"]))
    for ours, theirs in zip(copies(model.encoder), copies(alone.encoder), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_batch_without_any_label_is_named():
    model = MultiTaskModel(Encoder(), heads(), dict.fromkeys("ab", lambda output, target: None))
    with pytest.raises(ValueError, match="does no task have a label in this batch"):
        FBLS(model).step(*data())


def test_the_mean_of_nothing_is_explained():
    losses = LOSSES | {"b": lambda output, target: output[:0].mean()}
    with pytest.raises(FloatingPointError, match="'b': nan.*let its loss return None"):
        FBLS(MultiTaskModel(Encoder(), heads(), losses)).step(*data())


class Tempered(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, output, target):
        return F.mse_loss(output * self.temperature, target)


@pytest.mark.parametrize("algorithm", METHODS)
def test_the_parameters_of_a_loss_move_with_its_task(algorithm):
    model = MultiTaskModel(Encoder(), heads(), LOSSES | {"a": Tempered()})
    optimizer = make(algorithm, model)
    before = model.losses["a"].temperature.item()
    optimizer.step(*data())
    assert model.losses["a"].temperature.item() != before
    assert "loss_modules.a.temperature" in model.state_dict()
    assert any(p is model.losses["a"].temperature for p in optimizer.param_groups[1]["params"])


@pytest.mark.parametrize("algorithm", METHODS)
def test_a_head_may_begin_in_place(algorithm):
    """It wrote on the z of the other heads, and a leaf that needs a gradient cannot be written on."""
    found = []
    for in_place in (False, True):
        mine = {task: nn.Sequential(nn.ReLU(inplace=in_place), head) for task, head in heads().items()}
        model = MultiTaskModel(Encoder(), mine, LOSSES)
        found.append(after_steps(algorithm, model) + list(model(data()[0]).values()))
    assert equal(*found)


@pytest.mark.parametrize("algorithm", METHODS)
def test_a_head_may_write_on_z_in_one_mode_alone(algorithm):
    """A validation before the training must not decide that the head leaves z alone."""
    found = []
    for in_place in (False, True):
        mine = {task: nn.Sequential(nn.Dropout(0.5, inplace=in_place), head) for task, head in heads().items()}
        model = MultiTaskModel(Encoder(), mine, LOSSES)
        model.eval()(data()[0])
        model.train()
        torch.manual_seed(0)
        found.append(after_steps(algorithm, model))
    assert equal(*found)


@pytest.mark.parametrize("name", ["type", "update", "children", "a.b", "", "forward", "by_task"])
def test_any_string_is_the_name_of_a_task(name):
    def build() -> MultiTaskModel:
        named = dict(zip((name, "b"), heads().values(), strict=True))
        return MultiTaskModel(Encoder(), named, dict.fromkeys(named, F.mse_loss))

    model, copied = build(), build()
    inputs, targets = data()
    record = FBLS(model).step(inputs, {name: targets["a"], "b": targets["b"]})
    assert record.accepted and model.tasks == (name, "b") and name in model(inputs)
    copied.load_state_dict(model.state_dict())
    assert equal(copies(copied), copies(model))


def test_tied_weights_within_the_encoder_work():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = linear(5, 5), linear(5, 5)
            self.second.weight = self.first.weight

        def forward(self, inputs):
            return self.second(torch.tanh(self.first(inputs)))[:, :4]

    assert len(after_steps(FBLS, MultiTaskModel(Tied(), heads(), LOSSES))) == 3 + 4


def test_lazy_layers_work():
    torch.manual_seed(0)
    lazy = {"a": nn.LazyLinear(1, dtype=torch.float64), "b": nn.LazyLinear(1, dtype=torch.float64)}
    model = MultiTaskModel(Encoder(), lazy, LOSSES)
    model(data()[0])  # which makes the weights, as torch asks for before any optimizer
    assert make(FBLS, model).step(*data()).accepted


@pytest.mark.parametrize("algorithm", [MGDAUB, FBLS, BLS, EqualWeight])
def test_compiled_parts_work(algorithm):
    plain = after_steps(algorithm, MultiTaskModel(Encoder(), heads(), LOSSES))
    parts = {task: torch.compile(head, backend="eager") for task, head in heads().items()}
    compiled = MultiTaskModel(torch.compile(Encoder(), backend="eager"), parts, LOSSES)
    assert equal(after_steps(algorithm, compiled), plain)


class Noise(nn.Module):
    """Dropout by a generator that is not torch's."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, z):
        return z * torch.tensor([self.draw() for _ in range(4)], dtype=torch.float64)


@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["random", "numpy"])
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_trials_replay_the_generators_of_python_and_numpy(algorithm, draw):
    random.seed(0), np.random.seed(0)
    mine = {task: nn.Sequential(Noise(draw), head) for task, head in heads().items()}
    after_steps(algorithm, MultiTaskModel(Encoder(), mine, LOSSES))  # where φ(0) is not the losses, it warns


def test_a_transformer_in_evaluation_mode_takes_one_path():
    """Without gradients torch takes a fused path, which treats a padding mask otherwise."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.TransformerEncoder(layer, 1)
            self.out = nn.Linear(8, 1)

        def forward(self, z):
            padding = torch.zeros(z.shape[:2], dtype=torch.bool)
            padding[:, 2:] = True
            return self.out(self.body(z, src_key_padding_mask=padding).sum(1))

    model = MultiTaskModel(nn.Linear(5, 8), {"a": Head(), "b": Head()}, LOSSES).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 3, 5, generator=generator)
    optimizer = FBLS(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        for _ in range(3):
            assert optimizer.step(inputs, dict.fromkeys("ab", torch.ones(6, 1))).accepted


class Scale(nn.Module):
    """An elementwise product, which autocast leaves alone."""

    def __init__(self, seed: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(seed)))

    def forward(self, inputs):
        return inputs * self.weight


@pytest.mark.parametrize("algorithm", METHODS)
def test_our_sums_run_outside_of_autocast(algorithm):
    """On a model that autocast does not touch, a step under autocast is that without."""
    inputs = torch.randn(16, 5, generator=torch.Generator().manual_seed(9))
    found = []
    for enabled in (False, True):
        model = MultiTaskModel(Scale(0), {"a": Scale(1), "b": Scale(2)}, LOSSES)
        optimizer = make(algorithm, model)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for _ in range(3):
                optimizer.step(inputs, {"a": inputs.roll(1, 1), "b": inputs.roll(2, 1)})
        found.append(copies(model))
    assert equal(*found)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_trials_run_under_the_autocast_of_the_step(algorithm):
    model, (inputs, targets) = mlp(dtype=torch.float32), batch(dtype=torch.float32)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        assert algorithm(model, 0.1).step(inputs, targets).accepted


# -- refused by name -----------------------------------------------------------------------------------------------


def refuse(model: MultiTaskModel, message: str, algorithm=FBLS, inputs=None, error=ValueError) -> None:
    start, (found, targets) = copies(model), data()
    with pytest.raises(error, match=message):
        make(algorithm, model).step(found if inputs is None else inputs, targets)
    assert equal(copies(model), start)


def test_a_parameter_of_two_tasks_is_refused():
    neck = linear(4, 4)
    shared = {task: nn.Sequential(neck, head) for task, head in heads().items()}
    refuse(MultiTaskModel(Encoder(), shared, LOSSES), "in task 'a' and in task 'b'. Move what tasks share")


def test_a_parameter_of_the_encoder_and_a_task_is_refused():
    encoder = Encoder()
    tied = heads() | {"b": nn.Sequential(encoder.inner.__class__(4, 4, dtype=torch.float64), linear(4, 1))}
    tied["b"][0].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
    encoder.register_parameter("also", tied["b"][0].weight)
    refuse(MultiTaskModel(encoder, tied, LOSSES), "in the encoder and in task 'b'")


class Balanced(Encoder):
    """Keeps a term aside, as a mixture of experts does."""

    def forward(self, inputs):
        z = super().forward(inputs)
        self.penalty = z.square().mean()
        return z


@pytest.mark.parametrize("algorithm", METHODS)
@pytest.mark.parametrize("kind", ["a term kept aside", "a penalty on weights"])
def test_a_loss_that_does_not_go_through_z_is_refused(algorithm, kind):
    encoder = Balanced()

    def loss(output, target):
        term = encoder.penalty if kind == "a term kept aside" else encoder.inner.weight.square().sum()
        return F.mse_loss(output, target) + 1e-4 * term

    model = MultiTaskModel(encoder, heads(), LOSSES | {"a": loss})
    refuse(model, r"through z alone, found a path to encoder\.inner\.(weight|bias)", algorithm)


def test_a_trainable_tensor_outside_of_the_model_is_refused():
    temperature = torch.ones(3, dtype=torch.float64, requires_grad=True)
    losses = LOSSES | {"a": lambda output, target: F.mse_loss(output * temperature.mean(), target)}
    refuse(MultiTaskModel(Encoder(), heads(), losses), r"must be a parameter of the model, found one of shape \(3,\)")


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool):
        super().__init__()
        self.first, self.second, self.reentrant = linear(5, 5), linear(5, 4), reentrant

    def forward(self, inputs):
        return self.second(checkpoint(self.first, inputs, use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("algorithm", METHODS)
def test_checkpointing_works_or_is_refused(algorithm):
    after_steps(algorithm, MultiTaskModel(Checkpointed(False), heads(), LOSSES))
    # Torch itself gives the inner parameters a gradient only where an input needs one.
    inputs = data()[0].requires_grad_()
    model = MultiTaskModel(Checkpointed(True), heads(), LOSSES)
    refuse(model, "use_reentrant", algorithm, inputs, error=(ValueError, RuntimeError))


def test_sparse_gradients_are_refused():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(10, 4, sparse=True, dtype=torch.float64)

        def forward(self, inputs):
            return self.words(inputs)

    refuse(
        MultiTaskModel(Words(), heads(), LOSSES), "found a sparse one of encoder.words.weight", inputs=torch.arange(8)
    )


def test_wrapped_modules_are_refused():
    for wrap in (nn.DataParallel, torch.jit.script):
        with pytest.raises(TypeError, match="`encoder` must be a plain module or one of torch.compile, found"):
            FBLS(MultiTaskModel(wrap(linear(5, 4)), heads(), LOSSES))


# -- φ(0) ----------------------------------------------------------------------------------------------------------


class Queue:
    """A loss beside the mean of what it has seen, which it keeps in a list."""

    def __init__(self):
        self.seen = []

    def __call__(self, output, target):
        self.seen.append(output.detach().mean())
        return F.mse_loss(output, target) + torch.stack(self.seen).sum()


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_loss_with_a_state_is_warned_of_once(algorithm):
    model = MultiTaskModel(Encoder(), heads(), LOSSES | {"b": Queue()})
    optimizer = algorithm(model, 1e-3)
    with pytest.warns(UserWarning, match="A trial at a step of size 0 must find the losses.*'b': "):
        optimizer.step(*data())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        optimizer.step(*data())


def test_the_trial_is_compared_again_when_the_mode_flips():
    class Forgetful(nn.Module):
        """In evaluation mode it answers without gradients otherwise."""

        def forward(self, z):
            return z * (1 if self.training or torch.is_grad_enabled() else 2)

    mine = {task: nn.Sequential(Forgetful(), head) for task, head in heads().items()}
    model = MultiTaskModel(Encoder(), mine, LOSSES)
    optimizer = FBLS(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        optimizer.step(*data())
    model.eval()
    with pytest.warns(UserWarning, match="A trial at a step of size 0"):
        optimizer.step(*data())


def test_a_state_in_buffers_is_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

        def forward(self, output, target):
            self.calls += 1
            return F.mse_loss(output, target) * self.calls

    loss = Counting()
    model = MultiTaskModel(Encoder(), heads(), LOSSES | {"a": loss})
    optimizer = FBLS(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="A trial at a step of size 0")
        optimizer.step(*data())
    assert loss.calls == 1


@pytest.mark.parametrize("algorithm", METHODS)
def test_the_look_before_the_first_step_leaves_no_trace(algorithm):
    """The first step is the step that it would be without it, generators and the caller's `.grad` included."""
    found = []
    for look in (False, True):
        torch.manual_seed(0)
        noisy = {t: nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), head).double() for t, head in heads().items()}
        model = MultiTaskModel(Encoder(), noisy, LOSSES)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer = make(algorithm, model)
        if not look:
            optimizer.compared, optimizer.compared_mode = True, True
        optimizer.step(*data())
        grads = [parameter.grad for parameter in model.parameters()]
        found.append([*copies(model), *model.buffers(), *grads, torch.get_rng_state()])
    assert equal(*found)
