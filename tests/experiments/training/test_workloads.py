"""Every workload keeps what `Workload` promises, on its smallest data."""

from functools import partial

import pytest
import torch

from fastls.datasets import cityscapes
from fastls.experiments.training.workloads import WORKLOADS, get_workload

# Arguments that make each small: of the loader and of the model.
SMALL = {
    "multimnist": ({"n_train": 40, "n_test": 10, "source": "digits"}, {}),
    "cifar10": ({"n_train": 40, "n_test": 10, "source": "shapes"}, {}),
    "cityscapes": (
        {"n_train": 4, "n_test": 2, "source": "synthetic", "size": (16, 32)},
        {"encoder": "resnet18", "stages": 2, "channels": 4},
    ),
    "stsb": ({"n_train": 40, "n_test": 10, "source": "templates"}, {"layers": 1, "width": 64}),
}


@pytest.fixture(autouse=True)
def scenes_elsewhere(tmp_path, monkeypatch):
    """The stand-in for Cityscapes is written to disk."""
    monkeypatch.setattr(cityscapes, "load_cityscapes", partial(cityscapes.load_cityscapes, root=tmp_path))


@pytest.mark.parametrize("name", WORKLOADS)
def test_fits_together(name):
    data_options, model_options = SMALL[name]
    workload = get_workload(name)
    data = workload.load(**data_options)
    torch.manual_seed(0)
    model = workload.make_model(**model_options)
    batches = list(data.train.batches(torch.arange(len(data.train)), 16, training=True))
    assert len(batches) == -(-len(data.train) // 16)
    for inputs, targets in batches:
        outputs = model(inputs)
        for task in model.tasks:
            loss = model.losses[task](outputs[task], targets[task])
            assert loss.dim() == 0 and loss.isfinite()
    metrics = workload.evaluate(model, data.test)
    assert {f"loss_{task}" for task in model.tasks} <= set(metrics)
    assert all(isinstance(value, float) for value in metrics.values())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", WORKLOADS)
def test_data_are_the_same_every_time(name):
    data_options, _ = SMALL[name]
    load = get_workload(name).load
    assert load(**data_options).fingerprint == load(**data_options).fingerprint
    fewer = load(**data_options | {"n_train": data_options["n_train"] // 2})
    assert fewer.fingerprint != load(**data_options).fingerprint


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize(
    "bad, message",
    [
        ({"source": "svhn"}, "`source` must be 'auto' or one of .*, found 'svhn'"),
        ({"n_train": 0}, "at least 1, found 0 and 10"),
        ({"n_test": -1}, "at least 1, found .* and -1"),
    ],
)
def test_bad_requests_are_refused(name, bad, message):
    with pytest.raises(ValueError, match=message):
        get_workload(name).load(**{**SMALL[name][0], "n_test": 10} | bad)


def test_unknown_name():
    with pytest.raises(ValueError, match="`dataset` must be one of .*'multimnist'.*found 'imagenet'"):
        get_workload("imagenet")
