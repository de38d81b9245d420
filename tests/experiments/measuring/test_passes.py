"""Seconds of single passes: all four are there. Never their size."""

import pandas as pd

from fastls.experiments.measuring.passes import PassTiming
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.training import PASSES


def test_every_pass_is_measured_in_every_round(tmp_path):
    setting = Setting("multimnist", "digits", n_train=40, n_test=10, batch_size=16)
    frame = pd.DataFrame(PassTiming(setting, rounds=2).execute(RunStore(tmp_path)).rows)
    assert frame["round"].tolist() == [0, 1]
    assert (frame[[f"seconds_{name}" for name in PASSES]] > 0).all(axis=None)
