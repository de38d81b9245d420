"""The parts of a step: all named, none counted twice."""

from contextlib import contextmanager

import pytest

from fastls.algorithms.spaces import Evaluation
from fastls.experiments.measuring import profile as step_profile
from fastls.experiments.measuring.profile import PARTS, REST, STEP, Profile, mark_parts
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore

PROFILE = Profile(Setting("multimnist", "digits", n_train=64, n_test=10, batch_size=32))


def test_the_parts_make_up_the_step(tmp_path):
    rows = PROFILE.execute(RunStore(tmp_path)).rows
    spent = {row["part"]: row["share"] for row in rows}
    assert set(spent) == {*PARTS, REST}
    assert all(share >= 0 for share in spent.values())  # the rest too: nothing is counted in two parts
    assert abs(sum(spent.values()) - 1) < 1e-2


def test_no_part_is_within_another(tmp_path, monkeypatch):
    depths, depth = [], 0

    @contextmanager
    def follow(name):
        nonlocal depth
        depths.append((name, depth))
        depth += name != STEP
        yield
        depth -= name != STEP

    monkeypatch.setattr(step_profile, "record_function", follow)
    with pytest.raises(KeyError):  # nothing is left for the profiler
        PROFILE.execute(RunStore(tmp_path))
    assert {name for name, _ in depths} == {*PARTS, STEP} and max(depth for _, depth in depths) == 0


def test_marks_are_taken_off_again():
    before = Evaluation.pull_back
    with mark_parts():
        assert Evaluation.pull_back is not before
    assert Evaluation.pull_back is before
