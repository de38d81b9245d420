"""The base of all measurements: measured once, and kept in the store under a key made from their configuration."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from fastls.datasets.common import MultiTaskData
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.training import load_data_of, make_header


@dataclass(frozen=True)
class Measurement(ABC):
    """A measurement on a setting; each kind of measurement adds its own fields and its `measure`.

    Attributes:
        setting: data, device and batch size of the measurement.
        name: of the kind of measurement; the label of the stored run ends with it.
    """

    setting: Setting
    name: ClassVar[str]

    @property
    @abstractmethod
    def identity(self) -> dict:
        """The values from which the key is made."""

    @abstractmethod
    def measure(self, data: MultiTaskData) -> list[dict]:
        """The rows."""

    def load(self) -> MultiTaskData:
        """The data. Most measurements use no test image, so `n_test` does not matter."""
        return load_data_of(replace(self.setting, n_test=1))

    @property
    def label(self) -> str:
        return f"{self.setting.dataset}-{self.name}"

    def execute(self, store: RunStore) -> Run:
        """The stored run; if there is none, it is measured and saved as a whole.

        Raises:
            StoreError: the stored file is corrupt, or the store may make no run.
            DataError: the data set is missing or damaged.
        """

        def make() -> tuple[dict, list[dict]]:
            data = self.load()
            return make_header(data, self.setting.device), self.measure(data)

        return store.get_or_make(self.label, self.identity, make)


def changed(now: dict, committed: dict) -> dict:
    """The settings in `now` that differ from those of the committed runs, whose keys do not hold these settings."""
    return {name: value for name, value in now.items() if name not in committed or value != committed[name]}
