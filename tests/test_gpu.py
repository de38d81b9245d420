"""What only a CUDA device can show. Run with ``pytest -m gpu`` on a machine that has one."""

import copy

import pytest
import torch

import fastls
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.sweeps import Sweep, search_runs
from fastls.experiments.training.training import execute
from fastls.models.lenet import lenet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; runs where there is one"),
]
METHODS = {
    "SGD": lambda model: fastls.SGD(model, 0.1),
    "BLS": lambda model: fastls.BLS(model),
    "MGDA-UB": lambda model: fastls.MGDAUB(model, 0.1),
    "FBLS": lambda model: fastls.FBLS(model),
    "FBLS, in turn": lambda model: fastls.FBLS(model, 30.0, line_search=fastls.Backtracking(order="in turn")),
    "FBLS+gain": lambda model: fastls.FBLS(model, match_gain=True),
    "FBLS, parabolic": lambda model: fastls.FBLS(model, line_search=fastls.Parabolic()),
    "AdamFBLS": lambda model: fastls.AdamFBLS(model),
    "EqualWeight": lambda model: fastls.EqualWeight(model, 0.1),
}


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_the_device_does_not_change_the_trajectory(make):
    torch.manual_seed(0)
    models = {"cpu": lenet(dropout=0.0).double()}
    models["cuda"] = copy.deepcopy(models["cpu"]).cuda()
    images, digits = torch.rand(32, 1, 28, 28, dtype=torch.float64), torch.arange(32) % 10
    for device, model in models.items():
        optimizer = make(model)
        targets = {"left": digits.to(device), "right": digits.flip(0).to(device)}
        for _ in range(5):
            optimizer.step(images.to(device), targets)
    for on_cpu, on_gpu in zip(models["cpu"].parameters(), models["cuda"].parameters(), strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-6, atol=1e-9)


def test_trials_replay_the_dropout_masks_of_the_device():
    """φ(0) is the loss at the start of the step, masks included, and the generator goes on as if nothing was tried."""
    from fastls.algorithms.spaces import Evaluation, LatentSpace

    torch.manual_seed(0)
    model = lenet(dropout=0.5).cuda()
    digits = torch.arange(32, device="cuda") % 10
    batch = Evaluation(
        model, torch.rand(32, 1, 28, 28, device="cuda"), {"left": digits, "right": digits}, replayable=True
    )
    before = torch.cuda.get_rng_state()
    direction = torch.zeros_like(batch.z).flatten()
    torch.testing.assert_close(LatentSpace().losses_at(batch, direction, 0.0), batch.losses)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_a_run_on_the_device_is_stored(tmp_path):
    sweep = Sweep("multimnist", "digits", n_train=512, n_test=128, epochs=2, seeds=1, device="cuda")
    run = execute(search_runs(sweep, seed=0)[0], RunStore(tmp_path))
    assert len(run.rows) == 2 and run.config["device"] == "cuda"
