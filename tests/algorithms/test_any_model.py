"""Models of other people that work. Each case was once wrong in silence, or crashed."""

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from any_model import LOSSES, METHODS, Encoder, Reads, after_steps, data, heads, linear, make
from helpers import SEARCHES, batch, copies, equal, mlp
from torch import nn

from fastls import BLS, FBLS, MGDAUB, AdamFBLS, EqualWeight, MultiTaskModel

TREES = {
    "tuple": (lambda z: (z[:, :1], z[:, 1:]), lambda z: torch.cat(z, 1)),
    "dict": (lambda z: {"left": z[:, :3], "right": [z[:, 3:]]}, lambda z: torch.cat([z["left"], *z["right"]], 1)),
    "with what does not move": (
        lambda z: {"z": z, "lengths": torch.ones(len(z), dtype=torch.int64), "name": "x", "none": None},
        lambda z: z["z"] * z["lengths"][:, None],
    ),
    "a scalar in it": (lambda z: (z[0, 0], z), lambda z: z[1] + 0 * z[0]),
    "a tensor twice": (lambda z: (z, z), lambda z: (z[0] + z[1]) / 2),
}


@pytest.mark.parametrize("algorithm", METHODS)
@pytest.mark.parametrize("tree", ["tuple", "dict", "with what does not move", "a scalar in it"])
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


@pytest.mark.parametrize("algorithm", [FBLS, EqualWeight])
@pytest.mark.parametrize("first", [True, False])
def test_a_batch_without_any_label_is_named(algorithm, first):
    model = MultiTaskModel(Encoder(), heads(), LOSSES)
    optimizer = make(algorithm, model)
    if not first:
        optimizer.step(*data())
    model.losses |= dict.fromkeys("ab", lambda output, target: None)
    with pytest.raises(ValueError, match="does no task have a label in this batch"):
        optimizer.step(*data())


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
