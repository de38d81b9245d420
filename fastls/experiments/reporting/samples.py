"""A few images of a data set, kept in the store, so that they can be drawn without the data set."""

import base64

import numpy as np

from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.training import load_data_of, make_header


def store_samples(setting: Setting, store: RunStore, count: int = 8) -> Run:
    """The first test images, one row per image: ``pixels`` (base64 of uint8), ``shape``, ``labels``."""
    config = {"dataset": setting.dataset, "source": setting.source, "count": count}
    return store.get_or_make(f"{setting.dataset}-samples", config, lambda: _take_samples(setting, count))


def _take_samples(setting: Setting, count: int) -> tuple[dict, list[dict]]:
    # Other sizes and options of the setting are ignored, since the key does not hold them.
    data = load_data_of(Setting(setting.dataset, setting.source, n_train=1, n_test=count))
    split = data.test
    rows = [
        {
            "pixels": base64.b64encode(image.numpy().tobytes()).decode(),
            "shape": list(image.shape),
            "labels": {task: int(target[i]) for task, target in split.targets.items()},
        }
        for i, image in enumerate(split.images)
    ]
    return make_header(data, "cpu"), rows


def read_samples(run: Run) -> tuple[np.ndarray, list[dict]]:
    """Images (N, C, H, W) uint8 and their labels by task."""
    images = [np.frombuffer(base64.b64decode(row["pixels"]), np.uint8).reshape(row["shape"]) for row in run.rows]
    return np.stack(images), [row["labels"] for row in run.rows]
