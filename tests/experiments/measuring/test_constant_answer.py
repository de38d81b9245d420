"""The best answer that looks at no input: least loss among constants, and a level that training gets below."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fastls.experiments.measuring import constant_answer
from fastls.experiments.measuring.constant_answer import ANSWERS, execute_constant_answer, gather_targets
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.sweeps import Protocol
from fastls.experiments.training.training import execute, load_data_of

PROTOCOL = Protocol("multimnist", "digits", n_train=800, n_test=200, epochs=1, seeds=1)
TARGETS = {
    F.cross_entropy: torch.tensor([0, 1, 1, 2] * 1000),
    F.binary_cross_entropy_with_logits: torch.tensor([0.0, 0.0, 0.0, 1.0] * 1000),
    F.mse_loss: torch.tensor([0.0, 0.5, 1.0, 0.1]),
}


@pytest.mark.parametrize("loss", ANSWERS, ids=lambda loss: loss.__name__)
def test_no_other_constant_has_a_smaller_loss(loss):
    targets, answer = TARGETS[loss], ANSWERS[loss](TARGETS[loss], 3)

    def loss_of(constant):
        return loss(constant.expand(len(targets), *constant.shape), targets)

    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = answer + 0.2 * torch.randn(answer.shape, generator=generator)
        assert loss_of(answer) < loss_of(other)


def test_a_class_that_training_lacks_does_not_make_it_infinite():
    answer = ANSWERS[F.cross_entropy](torch.tensor([0, 1]), 3)
    assert F.cross_entropy(answer[None], torch.tensor([2])).isfinite()
    assert ANSWERS[F.binary_cross_entropy_with_logits](torch.zeros(10), 2).isfinite()


def test_of_ten_classes_it_is_near_log_ten_and_measured_once(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    run = execute_constant_answer(PROTOCOL, store)
    assert run.rows[0]["test_loss"] == pytest.approx(math.log(10), rel=0.02)
    monkeypatch.setattr(constant_answer, "_measure", None)
    assert execute_constant_answer(PROTOCOL, store).rows == run.rows


def test_training_gets_below_it(tmp_path):
    store = RunStore(tmp_path)
    longer = replace(PROTOCOL, epochs=3, batch_size=32)
    rows = execute(longer.run("EqualWeight", 0.1, seed=0), store).rows
    ended = (rows[-1]["test_loss_left"] + rows[-1]["test_loss_right"]) / 2
    assert ended < execute_constant_answer(PROTOCOL, store).rows[0]["test_loss"]


def test_all_targets_are_gathered():
    data = load_data_of(PROTOCOL)
    found = gather_targets(data.train)
    assert {task: len(targets) for task, targets in found.items()} == {"left": 800, "right": 800}
    assert torch.equal(found["left"], data.train.targets["left"])
