"""Candidates for a better search: each is what its formula says, and what it remembers outlives an interruption."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fastls import MultiTaskModel
from fastls.algorithms.line_search import Backtracking, Slopes
from fastls.algorithms.spaces import Evaluation, LatentSpace
from fastls.experiments.studies.beyond import comparison as beyond
from fastls.experiments.training import candidates
from fastls.experiments.training.candidates import CHANGES, KEPT, LONGEST, POLYAK, SEQUENTIAL
from fastls.experiments.training.methods import make_optimizer
from fastls.experiments.training.sweeps import Protocol
from fastls.experiments.training.training import Training, load_data_of
from fastls.models.lenet import lenet

PROTOCOL = Protocol("multimnist", "digits", n_train=96, n_test=32, epochs=2, seeds=1, batch_size=32)
RUNS = {run.candidate: run for run in beyond.candidate_runs(PROTOCOL) if run.candidate}
PLAIN = Backtracking(0.3, growth=1.1)


def parabolas(curvatures: torch.Tensor, slopes: Slopes, losses: torch.Tensor, tried: list):
    """φ_t(η) = L_t − ηs_t + η²c_t/2, noting every η that it is asked for."""

    def phi(eta: float) -> torch.Tensor:
        tried.append(eta)
        return losses - eta * slopes.total + eta**2 * curvatures / 2

    return phi


def problems(count: int = 12):
    """Steps of a training with two tasks: losses, slopes and curvatures, positive, of no pattern."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        losses, own, shared, curvatures = torch.rand(4, 2, generator=generator, dtype=torch.float64) + 0.05
        yield losses, Slopes(own, shared), 10 * curvatures


def test_every_candidate_is_run_beside_what_it_changes():
    assert set(RUNS) == {*CHANGES, SEQUENTIAL}
    plain = [run for run in beyond.candidate_runs(PROTOCOL) if run.candidate is None]
    assert {run.method for run in plain} == {"FBLS", "BlockFBLS"}
    assert all(replace(run, candidate=None) in plain for run in RUNS.values())


@pytest.mark.parametrize("name", RUNS)
def test_what_a_candidate_remembers_outlives_an_interruption(name, tmp_path):
    config, data = RUNS[name], load_data_of(RUNS[name])
    first = Training(config, data)
    first.run_epoch()
    first.save(tmp_path / "checkpoint", data.fingerprint)
    second = Training(config, data)
    second.restore(tmp_path / "checkpoint", data.fingerprint)
    if name in CHANGES:
        memories = [training.optimizer.line_search.memory for training in (first, second)]
        assert memories[0].keys() == memories[1].keys()
        assert bool(memories[0]) == (name != "Polyak start")
        assert all(
            torch.equal(torch.as_tensor(memories[1][key]), torch.as_tensor(memories[0][key])) for key in memories[0]
        )
    first.run_epoch()
    second.run_epoch()  # draws other dropout masks than `first` would, had the generator not been restored too
    assert len(second.rows) == 2 and second.rows[0] == first.rows[0]


def test_a_task_that_is_not_active_is_refused():
    model = lenet(dropout=0.0)
    model.losses["left"] = lambda output, target: 0 * output.sum()
    optimizer = make_optimizer(RUNS["smoothed test"], model)
    targets = {"left": torch.arange(4), "right": torch.arange(4)}
    with pytest.raises(ValueError, match="must find every task active, found .False, True."):
        optimizer.step(torch.rand(4, 1, 28, 28), targets)


def test_every_other_step_takes_the_last_one_unseen():
    search, tried, previous = candidates.EveryOther(PLAIN), [], float("inf")
    for number, (losses, slopes, curvatures) in enumerate(problems()):
        tried.clear()
        result = search(parabolas(curvatures, slopes, losses, tried), losses, slopes, 1000.0, previous)
        assert result.accepted and result.trials == len(tried)
        assert bool(tried) == (number % 2 == 0)
        assert tried or result.step_size == previous
        previous = result.step_size


def test_a_direction_that_is_none_of_descent_is_not_taken_unseen():
    losses, slopes = torch.ones(2), Slopes(torch.zeros(2), torch.tensor([1.0, -1.0]))
    search = candidates.EveryOther(PLAIN, {"searched": True})
    assert not search(lambda eta: losses, losses, slopes, 1000.0, 0.5).accepted


def test_the_non_monotone_test_compares_with_a_slow_mean():
    search, reference = candidates.NonMonotone(PLAIN), torch.zeros(2)
    above = 0
    for steps, (losses, slopes, curvatures) in enumerate(problems()):
        reference = torch.maximum(losses, reference + (losses - reference) / (steps + 1))
        above += (reference > losses).any()
        phi = parabolas(curvatures, slopes, losses, tried := [])
        result = search(phi, losses, slopes, 1000.0, 1.0)
        for eta in tried.copy():
            assert (phi(eta) <= reference - eta * 0.3 * slopes.total).all() == (eta == result.step_size)
    assert above


def test_the_polyak_start_is_that_of_the_task_that_asks_for_the_least():
    for make in (candidates.PolyakStart, candidates.PoNoS):
        starts = []
        for losses, slopes, curvatures in problems():
            make(PLAIN)(parabolas(curvatures, slopes, losses, tried := []), losses, slopes, 1e6, 1.0)
            assert tried[0] == pytest.approx(min(LONGEST, (losses / slopes.total).min().item() / POLYAK))
            starts.append(tried[0])
        assert min(starts) < LONGEST == pytest.approx(max(starts))


def test_the_smoothed_test_holds_for_the_running_means():
    search, fell, slope = candidates.Smoothed(PLAIN), torch.zeros(2), torch.zeros(2)
    for losses, slopes, curvatures in problems():
        phi = parabolas(curvatures, slopes, losses, tried := [])
        result = search(phi, losses, slopes, 1000.0, 1.0)
        for eta in tried.copy():
            new_fell = KEPT * fell + (1 - KEPT) * (losses - phi(eta))
            new_slope = KEPT * slope + (1 - KEPT) * slopes.total
            assert (new_fell >= eta * 0.3 * new_slope).all() == (eta == result.step_size)
        fell, slope = new_fell, new_slope


def test_with_decoders_after_the_encoder_the_joint_move_is_tested():
    """L_t(z − ηρd_z, θ_t − η_t g_t) ≤ L_t − ηβρ⟨∂L_t/∂z, d_z⟩ for every t, and the decoders go on stepping."""
    torch.manual_seed(0)
    model = lenet(dropout=0.0).double()
    images = torch.rand(32, 1, 28, 28, dtype=torch.float64)
    targets = {"left": torch.arange(32) % 10, "right": torch.arange(32).flip(0) % 10}
    optimizer = make_optimizer(RUNS[SEQUENTIAL], model)
    for _ in range(60):
        batch = Evaluation(model, images, targets, replayable=True)
        gradients, start, own = LatentSpace().gradients(batch), batch.z.detach(), batch.own_slopes()
        record = optimizer.step(images, targets)
        moved = start - record.step_size * record.gain * (record.weights @ gradients).view_as(start)
        ends = torch.stack([model.losses[t](model.decoders[t](moved), targets[t]) for t in model.tasks])
        asked = 0.4 * record.step_size * (record.slopes - own)  # ηβρ⟨∂L_t/∂z, d_z⟩
        assert (ends <= record.losses - asked + 1e-12).all() and (record.decoder_steps > 0).all()


class Times(nn.Module):
    """A number times the input, or by itself."""

    def __init__(self, number: float):
        super().__init__()
        self.number = nn.Parameter(torch.tensor([number], dtype=torch.float64))

    def forward(self, z=None):
        return self.number if z is None else self.number * z


def step_on_a_product(candidate: str | None) -> tuple[float, float]:
    """(wz − 1)²/2 from w = 0.2, z = 1, before and after a step; either alone would be led to wz = 1."""
    model = MultiTaskModel(Times(1.0), {"task": Times(0.2)}, {"task": lambda y, _: ((y - 1) ** 2 / 2).sum()})
    optimizer = make_optimizer(replace(RUNS[SEQUENTIAL], candidate=candidate), model)
    for group, step_size in zip(optimizer.param_groups, (25.0, 1.0), strict=True):
        group["previous_step"] = step_size / 1.1
    record = optimizer.step(None, {"task": None})
    return record.losses.item(), optimizer.step(None, {"task": None}).losses.item()


def test_what_either_block_may_do_alone_both_may_not():
    before, after = step_on_a_product(None)
    assert after > before
    before, after = step_on_a_product(SEQUENTIAL)
    assert after < before
