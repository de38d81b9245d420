"""A search that begins near the last accepted step, and forgets it when it fails."""

import io
import itertools
import math

import pytest
import torch
from helpers import SEARCHES, batch, copies, equal, mlp

from fastls import FBLS, MGDAUB, AdamFBLS, Backtracking, EqualWeight, GoldenSection
from fastls.algorithms.line_search import Slopes

SLOPES = Slopes(own=torch.zeros(1), shared=torch.tensor([8.0]))


def parabola(eta: float) -> torch.Tensor:
    """L = (1 − 4η)²: the slope is 8, and β = 1/2 accepts up to η = 1/4."""
    return torch.tensor([(1 - 4 * eta) ** 2])


def search(previous: float, **options):
    return Backtracking(0.4, 0.5, **options)(parabola, torch.ones(1), SLOPES, 1.0, previous)


def test_the_first_trial_is_growth_times_the_previous_step():
    assert search(0.2, growth=1.25)[:2] == (0.25, 1)
    assert search(0.25, growth=2.0)[:2] == (0.25, 2)


def test_the_bound_holds_and_is_where_the_first_search_begins():
    from_the_bound = search(0.2)  # growth is infinite: the previous step does not matter
    assert from_the_bound.trials == 3
    assert search(float("inf"), growth=1.1) == search(0.9, growth=5.0) == from_the_bound


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_step_begins_where_the_last_one_ended(algorithm):
    model = mlp()
    optimizer = algorithm(model, 100.0, line_search=Backtracking(growth=1.5))
    inputs, targets = batch()
    first = optimizer.step(inputs, targets)
    second = optimizer.step(inputs, targets)
    assert first.accepted and first.trials > 2
    assert second.step_size == pytest.approx(1.5 * first.step_size * 0.5 ** (second.trials - 1), rel=1e-12)


def test_a_failed_search_sends_the_next_one_to_the_bound():
    model, (inputs, targets) = mlp(), batch()
    optimizer = FBLS(model, 1.0, line_search=Backtracking(floor=0.9, growth=1.1))
    optimizer.param_groups[0]["previous_step"] = 0.95
    optimizer.line_search = Backtracking(beta=0.999, floor=0.9, growth=1.1)
    assert not optimizer.step(inputs, targets).accepted
    assert optimizer.param_groups[0]["previous_step"] == float("inf")


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_resumed_training_goes_on_bit_for_bit(algorithm):
    def make():
        model = mlp()
        return model, algorithm(model, 10.0, line_search=Backtracking(growth=1.1))

    whole, optimizer = make()
    for step in range(6):
        optimizer.step(*batch(seed=step))
    half, optimizer = make()
    for step in range(3):
        optimizer.step(*batch(seed=step))
    file = io.BytesIO()
    torch.save([half.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    resumed, optimizer = make()
    for part, state in zip((resumed, optimizer), torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    for step in range(3, 6):
        optimizer.step(*batch(seed=step))
    assert equal(copies(resumed), copies(whole))


WARM = Backtracking(growth=1.1)
METHODS = {
    "EqualWeight": lambda model: EqualWeight(model, 0.05),
    "MGDA-UB": lambda model: MGDAUB(model, 0.05),
    "FBLS": FBLS,
    "FBLS, golden section": lambda model: FBLS(model, line_search=GoldenSection()),
    "FBLS, warm": lambda model: FBLS(model, 1000.0, line_search=WARM),
    "FBLS+gain, warm": lambda model: FBLS(model, 1000.0, line_search=WARM, match_gain=True),
    "AdamFBLS": AdamFBLS,
}


PAIRS = [pair for pair in itertools.product(METHODS, METHODS) if pair.count("AdamFBLS") != 1]  # one alone is refused


@pytest.mark.parametrize(("saving", "loading"), PAIRS)
def test_the_state_of_any_method_can_be_loaded_into_any_other(saving, loading):
    """A search begins where the other one ended, if it begins at a previous step at all."""
    model = mlp()
    first = METHODS[saving](model)
    for step in range(2):
        first.step(*batch(seed=step))
    second = METHODS[loading](model)
    second.load_state_dict(first.state_dict())
    previous = [group["previous_step"] for group in second.param_groups]
    assert previous == [group["previous_step"] for group in first.param_groups]
    record = second.step(*batch())
    if "warm" in loading or "Adam" in loading:
        # AdamFBLS begins at `polyak_step` where that is less
        promise = float((record.losses.double() / record.slopes).min()) if "Adam" in loading else math.inf
        start = min(second.lr, second.line_search.growth * previous[0], promise)
        assert record.step_size == pytest.approx(start * 0.5 ** (record.trials - 1), rel=1e-12)


@pytest.mark.parametrize("loading", ["FBLS, warm", "AdamFBLS"])
def test_a_state_without_a_memory_starts_it_afresh(loading):
    """As a training of an earlier version, or of a method without a search, left it."""
    optimizer = METHODS[loading](mlp())
    fresh = [group["previous_step"] for group in optimizer.param_groups]
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["previous_step"]
    optimizer.load_state_dict(state)
    assert [group["previous_step"] for group in optimizer.param_groups] == fresh
    record = optimizer.step(*batch())
    assert record.accepted and optimizer.param_groups[0]["previous_step"] == record.step_size


@pytest.mark.parametrize("growth", [1.0, -2.0, math.nan])
def test_a_growth_that_does_not_grow_is_refused(growth):
    with pytest.raises(ValueError, match=rf"`Backtracking\(growth=...\)` must be above 1, found {growth}"):
        Backtracking(growth=growth)
