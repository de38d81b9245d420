"""Peak memory: counted right, and within what the methods may hold."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from fastls import BLS, FBLS, MGDAUB, SGD, EqualWeight, MultiTaskModel
from fastls.datasets.cifar10 import CLASSES
from fastls.experiments.measuring.memory import Memory, measure_peak
from fastls.experiments.measuring.timing import METHODS
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore
from fastls.models.resnet import resnet18


def test_the_peak_is_the_most_that_is_held_at_once():
    def work(_):
        first = torch.ones(1000)
        second = torch.ones(500)
        del first
        return second, torch.ones(250)

    assert measure_peak(lambda: None, work, "cpu") == pytest.approx(4 * 1500, abs=100)


def test_what_was_there_before_does_not_count():
    before = torch.ones(100_000)
    assert measure_peak(lambda: None, lambda _: before[:10] + 1, "cpu") < 1000


def test_what_was_made_counts_without_what_making_it_took():
    def make():
        whole = torch.ones(100_000)
        return whole[:1000] + 1

    assert measure_peak(make, lambda made: made[:500] + 1, "cpu") == pytest.approx(4 * 1500, abs=100)


def peak_of(algorithm, make_model, inputs, target, lr=0.1) -> int:
    """Of a network and two steps."""

    def work(model):
        optimizer = algorithm(model, lr)
        optimizer.compared, optimizer.compared_mode = (
            frozenset(model.tasks),
            model.training,
        )  # the look before the first step is no step
        for _ in range(2):
            optimizer.step(inputs, dict.fromkeys(model.tasks, target))

    return measure_peak(make_model, work, "cpu")


def test_parameter_space_holds_the_gradients_of_all_tasks_once():
    """(T, P) once, two vectors of P, and a block of the Gramian; a second copy would make it twice (T, P)."""
    tasks, width = 8, 2000

    def wide() -> MultiTaskModel:
        heads = {f"task{t}": nn.Linear(width, 1) for t in range(tasks)}
        return MultiTaskModel(nn.Linear(width, width, bias=False), heads, dict.fromkeys(heads, mse_loss))

    gradients = tasks * width * width * 4
    batch = (torch.randn(4, width), torch.randn(4, 1))
    latent = peak_of(MGDAUB, wide, *batch)
    for algorithm in (SGD, BLS):
        assert gradients < peak_of(algorithm, wide, *batch, lr=1e-3) - latent < 1.4 * gradients


def test_fbls_holds_little_more_than_equal_weight():
    images, target = torch.randn(64, 3, 32, 32), (torch.arange(64) % 10 == 0).float()
    peaks = {rule: peak_of(rule, lambda: resnet18(CLASSES), images, target) for rule in (EqualWeight, FBLS)}
    assert peaks[FBLS] <= 1.15 * peaks[EqualWeight]


def test_a_row_a_method_measured_once(tmp_path):
    config = Memory(Setting("multimnist", "digits", n_train=64, n_test=10, batch_size=32))
    run = config.execute(RunStore(tmp_path))
    assert [row["method"] for row in run.rows] == list(METHODS)
    assert all(row["peak_mb"] > 0 for row in run.rows)
    assert config.execute(RunStore(tmp_path)) == run
