"""Optimizers of other libraries: the gradient that they get, resuming, and the mean of the weights."""

import pytest
import torch

from fastls.datasets.multimnist import load_multimnist
from fastls.experiments.training import training
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.optimizers.methods import make_optimizer
from fastls.experiments.training.optimizers.rivals import RIVALS, Rival, evaluation_weights
from fastls.experiments.training.training import Training
from fastls.models.lenet import lenet


@pytest.fixture(scope="module")
def data():
    return load_multimnist(96, 32, "digits")


def make(name: str, data, epochs: int = 3) -> Training:
    own = {"lr": RIVALS[name][1], "direction": None} if name in RIVALS else {"lr": 9.0, "bounded": True}
    config = RunConfig(
        "multimnist", "digits", 96, 32, epochs=epochs, seed=0, batch_size=32, averaged=True, method=name, **own
    )
    return Training(config, data)


def test_a_rival_steps_along_the_gradient_of_the_mean_loss(data):
    torch.manual_seed(0)
    ours, theirs = lenet().eval(), lenet().eval()
    theirs.load_state_dict(ours.state_dict())
    optimizer, adam = Rival(ours, 1e-3, RIVALS["AdamW"][0]), torch.optim.AdamW(theirs.parameters())
    for inputs, targets in data.train.batches(torch.arange(96), 32, training=False):
        optimizer.step(inputs, targets)
        adam.zero_grad()
        torch.stack(
            [theirs.losses[task](output, targets[task]) for task, output in theirs(inputs).items()]
        ).mean().backward()
        adam.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_first_version_of_adamfbls_is_not_made_any_more():
    config = RunConfig("multimnist", "digits", 96, 32, epochs=1, seed=0, method="AdamFBLS", lr=9.0)
    with pytest.raises(ValueError, match="made with `bounded=True` alone"):
        make_optimizer(config, lenet())


@pytest.mark.parametrize("name", [*RIVALS, "AdamFBLS"])
def test_a_killed_run_goes_on_bit_for_bit(name, data, tmp_path):
    whole = make(name, data)
    while not whole.finished:
        whole.run_epoch()
    part = make(name, data)
    part.run_epoch()
    part.save(tmp_path / "checkpoint", "same")
    rest = make(name, data)
    rest.restore(tmp_path / "checkpoint", "same")
    while not rest.finished:
        rest.run_epoch()
    for row in (*whole.rows, *rest.rows):
        del row["seconds"]
    assert rest.rows == whole.rows
    assert "averaged_test_loss_left" in whole.rows[-1]


def test_the_mean_of_the_weights(data):
    """x̄₁ = x₁ and x̄ₙ = x̄ₙ₋₁ + 9/(n + 9) (xₙ − x̄ₙ₋₁)."""
    run = make("AdamW", data, epochs=1)
    seen, step = [], run.optimizer.step

    def watched(*batch):
        record = step(*batch)
        seen.append([p.detach().clone() for p in run.model.parameters()])
        return record

    run.optimizer.step = watched
    run.run_epoch()
    mean = seen[0]
    for n, weights in enumerate(seen[1:], start=2):
        mean = [old + 9 / (n + 9) * (new - old) for old, new in zip(mean, weights, strict=True)]
    assert len(seen) == 3
    torch.testing.assert_close(list(run.average.module.parameters()), mean)


def test_training_goes_on_with_the_weights_of_training_after_a_failed_evaluation(data):
    optimizer = make("ScheduleFree", data).optimizer
    with pytest.raises(KeyboardInterrupt), evaluation_weights(optimizer):
        raise KeyboardInterrupt
    assert optimizer.inner.param_groups[0]["train_mode"]


def test_schedule_free_is_judged_by_its_own_weights(data):
    run = make("ScheduleFree", data, epochs=1)
    run.run_epoch()
    at_training = run.workload.evaluate(run.model, data.test)
    assert training.rounded(at_training["loss_left"]) != run.rows[-1]["test_loss_left"]
    run.optimizer.inner.eval()
    assert training.rounded(run.workload.evaluate(run.model, data.test)["loss_left"]) == run.rows[-1]["test_loss_left"]
