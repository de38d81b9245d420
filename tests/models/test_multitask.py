"""The contract of the model: names, order, outputs, and what it refuses."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastls import MultiTaskModel


def heads(*tasks: str) -> dict[str, nn.Module]:
    return {task: nn.Linear(3, 1) for task in tasks}


def test_tasks_keep_the_order_of_the_decoders():
    model = MultiTaskModel(nn.Linear(2, 3), heads("b", "a", "c"), dict.fromkeys("abc", F.mse_loss))
    assert model.tasks == ("b", "a", "c")


def test_forward_gives_every_task_the_same_z():
    model = MultiTaskModel(nn.Linear(2, 3), heads("a", "b"), dict.fromkeys("ab", F.mse_loss))
    inputs = torch.rand(4, 2)
    outputs = model(inputs)
    assert list(outputs) == ["a", "b"]
    for task, output in outputs.items():
        assert torch.equal(output, model.decoders[task](model.encoder(inputs)))


def test_parameters_and_state_cover_encoder_and_decoders():
    model = MultiTaskModel(nn.Linear(2, 3), heads("a", "b"), dict.fromkeys("ab", F.mse_loss))
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", "decoders"}
    assert len(model.state_dict()) == 6


def test_a_model_without_tasks_is_refused():
    with pytest.raises(ValueError, match="`decoders` must name at least one task, found none"):
        MultiTaskModel(nn.Linear(2, 3), {}, {})


@pytest.mark.parametrize("losses", ["a", "abc", "ac"])
def test_decoders_and_losses_must_name_the_same_tasks(losses):
    message = f"`decoders` and `losses` must name the same tasks, found ['a', 'b'] and {list(losses)}."
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiTaskModel(nn.Linear(2, 3), heads("a", "b"), dict.fromkeys(losses, F.mse_loss))


def test_weights_of_a_loss_follow_the_model():
    loss = nn.CrossEntropyLoss(weight=torch.ones(3))
    model = MultiTaskModel(nn.Linear(4, 2), {"class": nn.Linear(2, 3)}, {"class": loss}).double()
    assert loss.weight.dtype == torch.float64 and model.losses["class"] is loss


def test_a_name_that_another_task_has_is_not_given_twice():
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    model = MultiTaskModel(nn.Linear(3, 2), {"task 1": first, "a.b": second}, {"task 1": F.mse_loss, "a.b": F.mse_loss})
    assert model.decoders["task 1"] is first and model.decoders["a.b"] is second
    assert len(list(model.parameters())) == 6


def test_the_name_of_a_task_is_a_string():
    with pytest.raises(TypeError, match="must be a string, found \\[0\\]"):
        MultiTaskModel(nn.Linear(3, 2), {0: nn.Linear(2, 1)}, {0: F.mse_loss})


def test_a_decoder_that_asks_for_something_else_than_the_inputs_is_refused():
    class Masked(nn.Linear):
        def forward(self, z, mask):
            return super().forward(z) * mask

    with pytest.raises(ValueError, match=r"`forward\(z, inputs\)`, found that it asks for mask"):
        MultiTaskModel(nn.Linear(3, 2), {"a": Masked(2, 1)}, {"a": F.mse_loss})


def test_a_decoder_that_collects_its_arguments_gets_z_alone():
    class Collects(nn.Linear):
        def forward(self, z, *inputs, **options):
            assert not inputs and not options
            return super().forward(z)

    model = MultiTaskModel(nn.Linear(3, 2), {"a": Collects(2, 1)}, {"a": F.mse_loss})
    assert model(torch.rand(4, 3))["a"].shape == (4, 1)
