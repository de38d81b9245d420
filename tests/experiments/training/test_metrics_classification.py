"""Losses and errors of classifiers, and what evaluating them leaves alone."""

import pytest
import torch

from fastls.experiments.training.metrics import classification
from fastls.experiments.training.metrics.classification import evaluate_classifiers
from fastls.experiments.training.training import load_data
from fastls.models.lenet import lenet


def test_in_parts_as_in_one(monkeypatch):
    torch.manual_seed(0)
    model, split = lenet(), load_data("multimnist", "digits", 150, 60, "cpu").test
    whole = evaluate_classifiers(model, split)
    monkeypatch.setattr(classification, "BATCH", 7)
    assert evaluate_classifiers(model, split) == pytest.approx(whole, rel=1e-5)


def test_leaves_no_trace():
    model, split = lenet(), load_data("multimnist", "digits", 150, 60, "cpu").test
    model.train()
    before = torch.get_rng_state()
    assert evaluate_classifiers(model, split) == evaluate_classifiers(model, split)  # no dropout
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_failed_evaluation_leaves_the_model_in_training_mode():
    model, split = lenet(), load_data("multimnist", "digits", 150, 60, "cpu").test
    model.encoder.register_forward_hook(lambda *_: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        evaluate_classifiers(model, split)
    assert model.training
