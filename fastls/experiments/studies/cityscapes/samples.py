"""A few images of Cityscapes with truth and prediction, kept in the store, so that they can be drawn without data."""

import base64
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from fastls.datasets.cityscapes import MEAN, STD
from fastls.datasets.common import MultiTaskData, Split
from fastls.datasets.scene_files import IGNORE
from fastls.experiments.measuring.measurement import Measurement
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.metrics import predict
from fastls.experiments.training.store import Run
from fastls.experiments.training.training import Training, load_data_of
from fastls.models.multitask import MultiTaskModel

UNKNOWN = 255  # code of an unknown value


@dataclass(frozen=True)
class Predictions(Measurement):
    """The first test images with truth and prediction, one row each; trains the network of a run once more.

    A row holds maps by name, packed by `pack`: "image" (3, H, W), "semantic", "instance" and "disparity", and the
    last three again as ``predicted_<task>``. A run that diverges has the predictions of its last finite parameters.

    Attributes:
        setting: the configuration of the run.
        count: number of images.
    """

    setting: RunConfig
    name: ClassVar[str] = "predictions"
    count: int = 3

    @property
    def identity(self) -> dict:
        return self.setting.identity | {"count": self.count}

    def load(self) -> MultiTaskData:
        return load_data_of(self.setting)

    def measure(self, data: MultiTaskData) -> list[dict]:
        training = Training(self.setting, data)
        try:
            for epoch in range(self.setting.epochs):
                training.train_epoch(epoch + 1)
                training.scheduler.step()
        except FloatingPointError:
            pass  # the network is as it was before the step that failed
        return pack_predictions(training.model, data.test.first(self.count))


@torch.no_grad()
def pack_predictions(model: MultiTaskModel, split: Split) -> list[dict]:
    """Images, truth and prediction of a split as rows."""
    rows = []
    for inputs, outputs, targets in predict(model, split, 1):
        outputs["semantic"] = outputs["semantic"].argmax(1)
        image = 255 * (inputs[0] * inputs.new_tensor(STD)[:, None, None] + inputs.new_tensor(MEAN)[:, None, None])
        maps = {"image": image} | {task: target[0] for task, target in targets.items()}
        maps["semantic"] = torch.where(maps["semantic"] == IGNORE, float("nan"), maps["semantic"].double())
        maps |= {f"predicted_{task}": output[0] for task, output in outputs.items()}
        rows.append({name: pack(values.double().cpu().numpy(), name) for name, values in maps.items()})
    return rows


def pack(values: np.ndarray, name: str) -> dict:
    """Values as 8-bit codes between their lowest and highest, and NaN as `UNKNOWN`; classes keep their number."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if name.endswith("semantic"):
        low, high = 0.0, UNKNOWN - 1.0
    share = (values - low) / max(high - low, 1e-12)
    codes = np.where(np.isfinite(values), np.rint(share * (UNKNOWN - 1)), UNKNOWN).astype(np.uint8)
    pixels = base64.b64encode(zlib.compress(codes.tobytes(), 9)).decode()
    return {"pixels": pixels, "shape": list(values.shape), "low": low, "high": high}


def unpack(packed: dict) -> np.ndarray:
    """The values given to `pack`, up to half a code, as float64."""
    codes = np.frombuffer(zlib.decompress(base64.b64decode(packed["pixels"])), np.uint8).reshape(packed["shape"])
    values = packed["low"] + codes / (UNKNOWN - 1) * (packed["high"] - packed["low"])
    return np.where(codes == UNKNOWN, np.nan, values)


def read_predictions(run: Run) -> list[dict[str, np.ndarray]]:
    """The maps of every image by name."""
    return [{name: unpack(packed) for name, packed in row.items()} for row in run.rows]
