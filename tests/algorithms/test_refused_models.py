"""Models of other people that are refused by name: the comparison with an ordinary backward notices them."""

import pytest
import torch
import torch.nn.functional as F
from any_model import LOSSES, METHODS, Encoder, after_steps, data, heads, linear, make
from helpers import copies, equal
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastls import FBLS, EqualWeight, MultiTaskModel


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


@pytest.mark.parametrize("algorithm", [method for method in METHODS if method is not EqualWeight])
def test_a_path_that_shows_with_the_first_label_of_its_task_is_refused(algorithm):
    encoder = Encoder()

    def loss(output, target):
        return None if target is None else F.mse_loss(output, target) + encoder.inner.weight.square().sum()

    model, (inputs, targets) = MultiTaskModel(encoder, heads(), LOSSES | {"a": loss}), data()
    optimizer = make(algorithm, model)
    optimizer.step(inputs, targets | {"a": None})
    start = copies(model)
    with pytest.raises(ValueError, match="through z alone, found a path to encoder.inner.weight"):
        optimizer.step(inputs, targets)
    assert equal(copies(model), start)


def test_a_loss_that_reads_the_parameters_of_another_task_is_refused():
    parts = heads()

    def loss(output, target):
        return F.mse_loss(output, target) + next(parts["a"].parameters()).square().mean()

    refuse(MultiTaskModel(Encoder(), parts, LOSSES | {"b": loss}), "task 'b' must read no parameter of another task")


def test_complex_parameters_are_refused():
    decoders = heads() | {"b": nn.Sequential(linear(4, 1), nn.Linear(1, 1, dtype=torch.complex64))}
    with pytest.raises(TypeError, match=r"must be real, found decoders\.b\.1\.weight of torch\.complex64"):
        FBLS(MultiTaskModel(Encoder(), decoders, LOSSES))


def test_an_exchanged_decoder_is_refused():
    model, (inputs, targets) = MultiTaskModel(Encoder(), heads(), LOSSES), data()
    optimizer = FBLS(model)
    model.decoders.a = linear(4, 1)
    for use in (lambda: optimizer.step(inputs, targets), lambda: model(inputs)):
        with pytest.raises(ValueError, match="The decoder of task 'a' must be the one"):
            use()


class Growing(nn.Module):
    """Keeps what it has seen, in a buffer that grows."""

    def __init__(self):
        super().__init__()
        self.layer = linear(4, 1)
        self.register_buffer("seen", torch.zeros(0, 4, dtype=torch.float64))

    def forward(self, z):
        self.seen = torch.cat([self.seen, z.detach()])
        return self.layer(z)


def test_a_buffer_that_grows_is_refused():
    model, (inputs, targets) = MultiTaskModel(Encoder(), heads() | {"a": Growing()}, LOSSES), data()
    with pytest.raises(ValueError, match=r"Buffer .*seen must exist and keep its shape"):
        FBLS(model).step(inputs, targets)


def test_a_complex_z_is_refused():
    encoder = Encoder(lambda z: torch.complex(z, z))
    refuse(MultiTaskModel(encoder, heads(), LOSSES), "must return real tensors", error=TypeError)
