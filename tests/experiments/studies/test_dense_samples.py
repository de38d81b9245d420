"""Stored predictions: packed and unpacked, of the network that the run itself ends with, small."""

from functools import partial

import numpy as np
import pytest
import torch

from fastls.datasets import cityscapes
from fastls.experiments.studies.cityscapes import samples as dense_samples
from fastls.experiments.studies.cityscapes.samples import Predictions, pack, read_predictions, unpack
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.sweeps import Sweep, search_runs
from fastls.experiments.training.training import Training, execute, load_data

NAN = float("nan")


@pytest.fixture(scope="module")
def config():
    """Two epochs of two steps, the bound halved between them."""
    return search_runs(
        Sweep(
            dataset="cityscapes",
            source="synthetic",
            n_train=4,
            n_test=3,
            epochs=2,
            seeds=1,
            decay_every=1,
            batch_size=2,
            data_options=(("size", (16, 32)),),
            model_options=(("encoder", "resnet18"), ("stages", 2), ("channels", 4)),
        ),
        seed=0,
    )[1]


@pytest.fixture(scope="module", autouse=True)
def scenes_elsewhere(tmp_path_factory):
    """The stand-in goes to a temporary folder."""
    root = tmp_path_factory.mktemp("data")
    patch = pytest.MonkeyPatch()
    patch.setattr(cityscapes, "load_cityscapes", partial(cityscapes.load_cityscapes, root=root))
    load_data.cache_clear()
    yield
    patch.undo()
    load_data.cache_clear()


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 4, 5), (4, 5)])
def test_packing_keeps_values_to_half_a_code(shape):
    values = np.random.RandomState(0).normal(0, 30, shape)
    values[..., 0] = NAN
    found = unpack(pack(values, "instance"))
    step = (np.nanmax(values) - np.nanmin(values)) / 254
    assert np.array_equal(np.isnan(found), np.isnan(values))
    assert np.nanmax(np.abs(found - values)) <= 0.5 * step + 1e-9


@pytest.mark.parametrize("name", ["semantic", "predicted_semantic"])
def test_packing_keeps_classes(name):
    labels = np.array([[0.0, 18.0, NAN], [3.0, 3.0, 7.0]])
    np.testing.assert_array_equal(unpack(pack(labels, name)), labels)


@pytest.mark.parametrize("values", [np.full((2, 3), NAN), np.full((2, 3), 4.5)])
def test_packing_nothing_and_a_constant(values):
    np.testing.assert_array_equal(unpack(pack(values, "disparity")), values)


def test_predictions_are_of_the_run_itself(config, tmp_path):
    """Trained anew, the network ends where the run has ended: its losses on these images are those of the row."""
    store = RunStore(tmp_path)
    run = execute(config, store)
    maps = read_predictions(Predictions(config, count=3).execute(store))
    expected = run.rows[-1]
    truth, predicted = (np.stack([m[f"{p}semantic"] for m in maps]) for p in ("", "predicted_"))
    known = np.isfinite(truth)
    assert (truth != predicted)[known].mean() == pytest.approx(expected["test_error_semantic"], rel=1e-5)
    for task in ("instance", "disparity"):
        truth, predicted = (np.stack([m[f"{p}{task}"] for m in maps]) for p in ("", "predicted_"))
        error = np.nanmean(np.abs(truth - predicted))
        assert error == pytest.approx(expected[f"test_loss_{task}"], rel=0.02)  # eight bits


def test_maps_are_those_of_the_test_images(config, tmp_path):
    store = RunStore(tmp_path)
    maps = read_predictions(Predictions(config, count=2).execute(store))
    data = load_data(config.dataset, config.source, config.n_train, config.n_test, "cpu", config.data_options)
    assert len(maps) == 2
    for found, (_, targets) in zip(maps, data.test.batches(torch.arange(2), 1, training=False), strict=True):
        for task in ("instance", "disparity"):
            np.testing.assert_allclose(found[task], targets[task][0], atol=0.1)
        assert found["image"].min() >= -1e-6 and 100 < found["image"].max() <= 255.5
        assert {values.shape[-2:] for values in found.values()} == {(16, 32)}


def test_nothing_is_trained_twice(config, tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    first = Predictions(config).execute(store)
    monkeypatch.setattr(dense_samples, "Training", None)
    assert Predictions(config).execute(store) == first
    assert store.path("cityscapes-predictions", first.config).stat().st_size < 60_000


def test_a_run_that_diverges_is_shown_as_it_was(config, tmp_path, monkeypatch):
    def fail(self, epoch):
        raise FloatingPointError

    monkeypatch.setattr(Training, "train_epoch", fail)
    assert len(Predictions(config, count=1).execute(RunStore(tmp_path)).rows) == 1
