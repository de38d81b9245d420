"""The pattern of all measurements: measured once, and kept in the store under a key made of all that decides them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from fastls.datasets.common import MultiTaskData
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.training import load_data_of, make_header


@dataclass(frozen=True)
class Measurement(ABC):
    """What is measured on a setting; a kind of measurement adds fields of its own, and says how.

    Attributes:
        setting: what is measured on.
        name: of the kind; ends the label of the stored run.
    """

    setting: Setting
    name: ClassVar[str]

    @property
    @abstractmethod
    def identity(self) -> dict:
        """What the key is made of."""

    @abstractmethod
    def measure(self, data: MultiTaskData) -> list[dict]:
        """The rows."""

    def load(self) -> MultiTaskData:
        """The data. Most measurements look at no test image, so that `n_test` decides nothing."""
        return load_data_of(replace(self.setting, n_test=1))

    @property
    def label(self) -> str:
        return f"{self.setting.dataset}-{self.name}"

    def execute(self, store: RunStore) -> Run:
        """The stored run; measured, and saved whole, where there is none.

        Raises:
            StoreError: the stored file is corrupt, or the store may make no run.
            DataError: the data set is missing or damaged.
        """

        def make() -> tuple[dict, list[dict]]:
            data = self.load()
            return make_header(data, self.setting.device), self.measure(data)

        return store.get_or_make(self.label, self.identity, make)


def changed(now: dict, committed: dict) -> dict:
    """The settings that are not what they were when the committed runs were measured, whose keys do not hold them."""
    return {name: value for name, value in now.items() if name not in committed or value != committed[name]}
