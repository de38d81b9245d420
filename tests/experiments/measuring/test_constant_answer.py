"""The best answer that looks at no input: least loss among constants, and a level that training gets below."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from fastls.datasets import cityscapes
from fastls.experiments.measuring.constant_answer import ANSWERS, Constant, ConstantAnswer, best_answer, gather_targets
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.sweeps import Sweep
from fastls.experiments.training.training import execute, load_data, load_data_of
from fastls.models.pspnet import IGNORE, masked_cross_entropy, masked_l1

NAN = float("nan")
SETTING = Setting("multimnist", "digits", n_train=800, n_test=200)
TARGETS = {
    F.cross_entropy: torch.tensor([0, 1, 1, 2] * 1000),
    F.binary_cross_entropy_with_logits: torch.tensor([0.0, 0.0, 0.0, 1.0] * 1000),
    F.mse_loss: torch.tensor([0.0, 0.5, 1.0, 0.1]),
    masked_cross_entropy: torch.tensor([[0, 1, IGNORE], [1, 2, IGNORE]]).repeat(1, 1000, 1),
    masked_l1: torch.tensor([[[0.0, 1.0, 5.0, NAN]], [[-3.0, NAN, NAN, -1.0]]])
    .transpose(0, 1)[:, :, None]
    .repeat(9, 1, 1, 1),
}


@pytest.mark.parametrize("loss", ANSWERS, ids=lambda loss: loss.__name__)
def test_no_other_constant_has_a_smaller_loss(loss):
    targets = TARGETS[loss]
    answer = best_answer(loss, targets, 3)

    def loss_of(constant):
        return loss(Constant(constant)(targets), targets)

    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = answer + 0.2 * torch.randn(answer.shape, generator=generator)
        assert loss_of(answer) < loss_of(other)


def test_a_sum_has_the_answer_of_its_mean_and_a_loss_that_is_judged_as_a_network_is(tmp_path):
    """A summed loss, a `partial`, once raised KeyError."""
    summed = replace(SETTING, model_options=(("reduction", "sum"),))
    losses = {
        name: ConstantAnswer(one).execute(RunStore(tmp_path)).rows[0]["test_loss"]
        for name, one in (("mean", SETTING), ("sum", summed))
    }
    assert losses["sum"] == pytest.approx(200 * losses["mean"])  # one batch of all test images


def test_of_street_scenes_there_is_an_answer_to_every_pixel(tmp_path, monkeypatch):
    """Cityscapes once raised KeyError."""
    monkeypatch.setattr(cityscapes, "load_cityscapes", partial(cityscapes.load_cityscapes, root=tmp_path))
    load_data.cache_clear()
    options = (("encoder", "resnet18"), ("stages", 2), ("channels", 4))
    setting = Setting("cityscapes", "synthetic", 4, 3, data_options=(("size", (16, 32)),), model_options=options)
    row = ConstantAnswer(setting).execute(RunStore(tmp_path / "runs")).rows[0]
    assert 0 < row["test_loss"] < 100
    load_data.cache_clear()


def test_a_class_that_training_lacks_does_not_make_it_infinite():
    answer = ANSWERS[F.cross_entropy](torch.tensor([0, 1]), 3)
    assert F.cross_entropy(answer[None], torch.tensor([2])).isfinite()
    assert ANSWERS[F.binary_cross_entropy_with_logits](torch.zeros(10), 2).isfinite()


def test_of_ten_classes_it_is_near_log_ten(tmp_path):
    run = ConstantAnswer(SETTING).execute(RunStore(tmp_path))
    assert run.rows[0]["test_loss"] == pytest.approx(math.log(10), rel=0.02)


def test_training_gets_below_it(tmp_path):
    store = RunStore(tmp_path)
    sweep = Sweep(**vars(replace(SETTING, batch_size=32)), epochs=3, seeds=1)
    rows = execute(sweep.run("EqualWeight", 0.1, seed=0), store).rows
    ended = (rows[-1]["test_loss_left"] + rows[-1]["test_loss_right"]) / 2
    assert ended < ConstantAnswer(SETTING).execute(store).rows[0]["test_loss"]


def test_all_targets_are_gathered():
    data = load_data_of(SETTING)
    found = gather_targets(data.train)
    assert {task: len(targets) for task, targets in found.items()} == {"left": 800, "right": 800}
    assert torch.equal(found["left"], data.train.targets["left"])
