"""Sample images survive the store, so that they can be drawn where the data set is not."""

import numpy as np

from fastls.datasets.multimnist import load_multimnist
from fastls.experiments.reporting import samples
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore

SETTING = Setting("multimnist", "digits", n_train=100, n_test=20)


def test_samples_are_the_first_test_images(tmp_path):
    run = samples.store_samples(SETTING, RunStore(tmp_path), count=3)
    images, labels = samples.read_samples(run)
    data = load_multimnist(n_train=100, n_test=20, source="digits").test
    assert (images == data.images[:3].numpy()).all() and images.dtype == np.uint8
    assert labels == [{task: int(y[i]) for task, y in data.targets.items()} for i in range(3)]


def test_a_second_call_needs_no_data(tmp_path, monkeypatch):
    first = samples.store_samples(SETTING, RunStore(tmp_path), count=3)
    monkeypatch.setattr(samples, "load_data_of", None)
    assert samples.store_samples(SETTING, RunStore(tmp_path), count=3) == first
