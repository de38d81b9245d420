"""Learning rates and bounds that a scheduler moves: to zero and back, and below the floor of a search."""

from functools import partial

import pytest
from helpers import batch, copies, equal, mlp
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from fastls import BLS, FBLS, MGDAUB, SGD, AdamFBLS, Backtracking, EqualWeight, GoldenSection, Parabolic

BASE = 0.05
SEARCHES = {
    "BLS": partial(BLS, lr_ub=BASE, on_failure="raise"),
    "FBLS": partial(FBLS, lr_ub=BASE, on_failure="raise"),
    "FBLS, warm": partial(FBLS, lr_ub=BASE, line_search=Backtracking(growth=1.1), match_gain=True),
    "FBLS, golden section": partial(FBLS, lr_ub=BASE, line_search=GoldenSection()),
    "BLS, parabolic": partial(BLS, lr_ub=BASE, line_search=Parabolic()),
    "AdamFBLS": AdamFBLS,
}
CONSTANT = {
    "SGD": partial(SGD, lr=BASE),
    "MGDA-UB": partial(MGDAUB, lr=BASE),
    "EqualWeight": partial(EqualWeight, lr=BASE),
}
METHODS = CONSTANT | SEARCHES


def take_steps(optimizer, scheduler, count: int) -> list[tuple]:
    """Rate, record, and whether anything moved, of every step."""
    taken = []
    for step in range(count):
        start, rate = copies(optimizer.model), optimizer.lr
        record = optimizer.step(*batch(seed=step))
        taken.append((rate, record, not equal(copies(optimizer.model), start)))
        scheduler.step()
    return taken


def assert_stays_put(record, moved: bool) -> None:
    assert not moved and record.losses.isfinite().all()
    assert (record.step_size, record.trials, record.accepted, record.stationary) == (0, 0, True, False)


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_a_warm_up_from_zero_begins_with_a_step_that_stays_put(make):
    optimizer = make(mlp())
    memory = [group["previous_step"] for group in optimizer.param_groups]
    scheduler = LambdaLR(optimizer, lambda step: step / 3)
    ((rate, record, moved),) = take_steps(optimizer, scheduler, 1)
    assert rate == 0
    assert_stays_put(record, moved)
    assert [group["previous_step"] for group in optimizer.param_groups] == memory
    for rate, record, moved in take_steps(optimizer, scheduler, 3):
        assert moved and 0 < record.step_size <= rate and record.accepted


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_a_cosine_ends_at_zero_and_comes_back(make):
    optimizer = make(mlp())
    taken = take_steps(optimizer, CosineAnnealingLR(optimizer, T_max=4), 7)
    assert [moved for _, _, moved in taken] == [True] * 4 + [False] + [True] * 2
    assert_stays_put(*taken[4][1:])


@pytest.mark.parametrize("make", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("share", [1, 0.01])
def test_a_search_whose_bound_decays_to_its_floor_or_below_stays_put(make, share):
    optimizer = make(mlp())
    ((_, _, moved),) = take_steps(optimizer, LambdaLR(optimizer, lambda step: 1), 1)
    for group in optimizer.param_groups:
        group["lr"] = share * optimizer.line_search.floor
    start = copies(optimizer.model)
    record = optimizer.step(*batch())
    assert moved
    assert_stays_put(record, not equal(copies(optimizer.model), start))
