"""K steps tried at once: the step is that of the search one by one, and the device is not asked while it works."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from helpers import batch, copies, equal, mlp, names, noisy
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from fastls import BLS, FBLS, MGDAUB, Backtracking, MultiTaskModel
from fastls.algorithms import line_search
from fastls.algorithms.directions import DIRECTIONS

DTYPES = [torch.float32, torch.float64]
TO_THE_FLOOR = 34  # 2^-33 is the last power of two above 1e-10


@pytest.fixture
def fresh_powers():
    """Nothing that a test makes in a mode of its own stays in the cache."""
    line_search._powers.cache_clear()
    yield
    line_search._powers.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("make", [mlp, noisy])
@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("start", ["bound", "previous"])
def test_the_step_is_that_of_the_search_one_by_one(make, tasks, direction, dtype, start):
    for seed in range(2):
        found = []
        for parallel in (None, 5, TO_THE_FLOOR):
            model = make(tasks, dtype, seed)
            search = Backtracking(0.3, 0.6, 1e-6, parallel=parallel, start=start)
            optimizer = FBLS(model, 30.0, direction, search)
            torch.manual_seed(seed)
            records = [optimizer.step(*batch(tasks, dtype, seed + step)) for step in range(3)]
            state = [*copies(model), *(buffer.clone() for buffer in model.buffers()), torch.get_rng_state()]
            found.append(([(record.step_size, record.accepted) for record in records], state))
        assert found[0][0] == found[1][0] == found[2][0]
        assert equal(found[0][1], found[1][1]) and equal(found[0][1], found[2][1])
        assert any(step < 30 for step, _ in found[0][0])  # some trials were rejected


@pytest.mark.parametrize("parallel", [1, 3, TO_THE_FLOOR])
def test_the_passes_of_all_steps_tried_are_counted(parallel):
    record = FBLS(mlp(3), 1.0, line_search=Backtracking(parallel=parallel)).step(*batch(3))
    assert record.trials % parallel == 0
    assert record.passes.decoder_forward == 3 * (1 + record.trials)


@pytest.mark.parametrize("on_failure", ["floor", "skip"])
def test_a_search_that_fails_ends_at_the_floor(on_failure):
    """The mean of two opposed gradients of different length raises one loss at any step."""
    for parallel in (None, 4):
        model = MultiTaskModel(
            nn.Linear(1, 1, bias=False),
            {"up": nn.Identity(), "down": nn.Identity()},
            {"up": lambda z, _: 3 * z.sum(), "down": lambda z, _: -z.sum()},
        ).double()
        search = Backtracking(floor=1e-3, parallel=parallel)
        record = FBLS(model, 1.0, "mean", search, on_failure).step(torch.ones(1, 1).double(), {"up": 0, "down": 0})
        assert not record.accepted
        assert record.step_size == (1e-3 if on_failure == "floor" else 0.0)


class Undecided(nn.Module):
    """A decoder that looks at its numbers, which `torch.vmap` cannot batch."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, z):
        return self.linear(z) if z.sum() > 0 else self.linear(-z)


def test_what_cannot_be_batched_is_tried_one_by_one_and_said_once():
    def train(parallel):
        torch.manual_seed(0)
        heads = {name: Undecided() for name in names(2)}
        model = MultiTaskModel(nn.Linear(5, 4), heads, dict.fromkeys(heads, F.mse_loss)).double()
        optimizer = FBLS(model, 10.0, line_search=Backtracking(parallel=parallel))
        records = [optimizer.step(*batch(seed=step)) for step in range(3)]
        return [record.step_size for record in records], copies(model)

    expected = train(None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = train(4)
    assert [str(warning.message)[:23] for warning in caught] == ["Trials run one by one, "]
    assert found[0] == expected[0] and equal(found[1], expected[1])


def test_parallel_trials_are_of_the_latent_space():
    with pytest.raises(ValueError, match=r"`Backtracking\(parallel=...\)` tries steps in latent space"):
        BLS(mlp(), line_search=Backtracking(parallel=4))
    for wrong in (0, 1.5):
        with pytest.raises(ValueError, match=r"`Backtracking\(parallel=...\)` must be None or an integer ≥ 1"):
            Backtracking(parallel=wrong)


ALONE = {
    "MGDA-UB": lambda model, wait: MGDAUB(model, 0.1, wait=wait),
    "MGDA-UB, edm": lambda model, wait: MGDAUB(model, 0.1, "edm", wait=wait),
    "FBLS": lambda model, wait: FBLS(model, line_search=Backtracking(parallel=TO_THE_FLOOR), wait=wait),
    "FBLS, warm": lambda model, wait: FBLS(
        model, line_search=Backtracking(parallel=TO_THE_FLOOR, start="previous"), on_failure="skip", wait=wait
    ),
}


@pytest.mark.parametrize("make", ALONE.values(), ids=ALONE)
def test_a_step_that_does_not_wait_reads_nothing_from_the_device(make, fresh_powers):
    """Fake tensors have no values: whatever reads one raises."""
    with FakeTensorMode():
        inputs, targets = torch.randn(8, 5), {name: torch.randn(8, 1) for name in names(2)}
        optimizer = make(noisy(2, torch.float32, seed=0), wait=False)
        for _ in range(2):
            record = optimizer.step(inputs, targets)
        assert record.step_size.shape == record.stationary.shape == ()
        with pytest.raises(DataDependentOutputException):
            make(noisy(2, torch.float32, seed=0), wait=True).step(inputs, targets)


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("make", ALONE.values(), ids=ALONE)
def test_waiting_does_not_change_the_trajectory(make, tasks):
    found = []
    for wait in (True, False):
        model = noisy(tasks, torch.float64, seed=0)
        optimizer = make(model, wait)
        torch.manual_seed(0)
        records = [optimizer.step(*batch(tasks, seed=step)).read() for step in range(4)]
        found.append(([(r.step_size, r.accepted, r.stationary, r.trials) for r in records], copies(model)))
    assert found[0][0] == found[1][0]
    assert isinstance(found[1][0][0][0], float) and found[1][0][0][1] is True
    for waited, alone in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(alone, waited, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("silent", ["task0", "task1"])
def test_a_task_without_a_target_is_left_out_without_waiting(silent):
    found = []
    for wait in (True, False):
        model = mlp()
        model.losses[silent] = lambda output, target: F.mse_loss(output, target) * 0
        record = ALONE["FBLS"](model, wait).step(*batch()).read()
        found.append((record.step_size, record.weights.tolist(), copies(model)))
    assert found[0][:2] == found[1][:2] and found[0][0] > 1e-6
    for waited, alone in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(alone, waited, rtol=1e-12, atol=1e-14)


def test_a_stationary_batch_moves_nothing_without_waiting():
    model = mlp()
    inputs, _ = batch()
    with torch.no_grad():
        targets = model(inputs)
    start = copies(model)
    record = MGDAUB(model, 0.1, wait=False).step(inputs, targets).read()
    assert record.stationary and record.step_size == 0 and equal(copies(model), start)


def test_a_record_that_did_not_wait_reports_what_is_not_finite_when_read():
    model, (inputs, targets) = mlp(), batch()
    inputs[0, 0] = float("nan")
    record = MGDAUB(model, 0.1, wait=False).step(inputs, targets)
    with pytest.raises(FloatingPointError, match=r"must be finite, found \[nan, nan"):
        record.read()


@pytest.mark.parametrize(
    "options",
    [{}, {"line_search": Backtracking(parallel=4), "on_failure": "raise"}],
    ids=["one by one", "raise"],
)
def test_what_has_to_wait_is_refused(options):
    with pytest.raises(ValueError, match="`wait=False` needs a step that the device can take alone"):
        FBLS(mlp(), wait=False, **options)
