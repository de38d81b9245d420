"""The parts of a step: all named, none counted twice."""

from fastls.algorithms.spaces import Evaluation
from fastls.experiments.step_profile import PARTS, REST, ProfileConfig, execute_profile, mark_parts
from fastls.experiments.store import RunStore
from fastls.experiments.sweeps import Protocol

PROTOCOL = Protocol("multimnist", "digits", n_train=64, n_test=10, epochs=1, seeds=1, batch_size=32)


def test_the_parts_make_up_the_step(tmp_path):
    rows = execute_profile(ProfileConfig(PROTOCOL), RunStore(tmp_path)).rows
    spent = {row["part"]: row["share"] for row in rows}
    assert set(spent) == {*PARTS, REST}
    assert all(share >= 0 for share in spent.values())  # the rest too: nothing is counted in two parts
    assert abs(sum(spent.values()) - 1) < 1e-2


def test_marks_are_taken_off_again():
    before = Evaluation.pull_back
    with mark_parts():
        assert Evaluation.pull_back is not before
    assert Evaluation.pull_back is before
