"""The pattern of all measurements: made once, and found again only where nothing that decides it has changed."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import pytest

from fastls.experiments.measuring import timing
from fastls.experiments.measuring.constant_answer import ConstantAnswer
from fastls.experiments.measuring.measurement import Measurement, changed
from fastls.experiments.measuring.memory import Memory
from fastls.experiments.measuring.passes import PassTiming
from fastls.experiments.measuring.profile import Profile
from fastls.experiments.measuring.timing import IN_TURN, METHODS, WARM_START, Timing
from fastls.experiments.reporting.samples import read_samples, store_samples
from fastls.experiments.studies.bert.encoder_share import ShareTiming
from fastls.experiments.studies.beyond import gain_examples
from fastls.experiments.studies.beyond.gain_examples import Watch
from fastls.experiments.studies.cifar10.scaling import TaskScaling
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import RunStore

SETTING = Setting("multimnist", "digits", n_train=64, n_test=10, batch_size=32)
ALL = [
    ConstantAnswer(SETTING),
    Memory(SETTING),
    PassTiming(SETTING, rounds=1),
    Profile(SETTING),
    ShareTiming(SETTING, layers=(1,), decoder_width=8, decoder_widths=(8,), rounds=1, lr=0.1),
    TaskScaling(SETTING, tasks=(1,), rounds=1),
    Timing(SETTING, rounds=1),
    Watch(SETTING, steps=4, every=2),
]


@dataclass(frozen=True)
class Count(Measurement):
    name: ClassVar[str] = "count"

    @property
    def identity(self) -> dict:
        return self.setting.identity

    def measure(self, data) -> list[dict]:
        return [{"images": len(data.train)}]


def test_it_is_measured_once_and_says_where(tmp_path, monkeypatch):
    first = Count(SETTING).execute(RunStore(tmp_path))
    assert first.rows == ({"images": 64},) and first.header["data"]["source"] == "digits"
    assert [path.name.split("-")[:2] for path in tmp_path.iterdir()] == [["multimnist", "count"]]
    monkeypatch.setattr(Count, "measure", None)
    assert Count(SETTING).execute(RunStore(tmp_path)) == first


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
@pytest.mark.parametrize(
    "change",
    [{"dataset": "other"}, {"source": "mnist"}, {"device": "cuda"}, {"model_options": (("latent_scale", 2.0),)}],
)
def test_every_key_knows_the_setting(one, change):
    assert replace(one, setting=replace(SETTING, **change)).identity != one.identity


@pytest.mark.parametrize("one", [one for one in ALL if one.name != "scaling"], ids=lambda one: one.name)
@pytest.mark.parametrize("change", [{"n_train": 40}, {"n_test": 7}])
def test_what_a_key_leaves_out_does_not_reach_the_data(one, change):
    """Where two settings have one key, one is measured and the other found: both must be of the same images."""
    other = replace(one, setting=replace(SETTING, **change))
    assert (other.identity == one.identity) == (other.load().fingerprint == one.load().fingerprint)


def test_only_what_has_changed_since_is_added():
    assert changed({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 0}) == {"b": 2, "c": 3}


@pytest.mark.parametrize("variant, option", [(WARM_START, {"order": "in turn"}), (IN_TURN, {"start": "previous"})])
def test_the_key_of_a_timing_knows_the_options_of_its_variants(monkeypatch, variant, option):
    """The old timing was once reused where an option of a variant had changed."""
    config = Timing(SETTING, rounds=1, methods=(*METHODS, variant))
    plain = Timing(SETTING, rounds=1)
    before, without = config.identity, plain.identity
    monkeypatch.setitem(timing.VARIANTS, variant, timing.VARIANTS[variant] | option)
    assert config.identity != before and plain.identity == without
    assert Memory(SETTING, config.methods).identity["methods"] == before["methods"]
    assert variant in Memory(SETTING, config.methods).identity


def test_the_key_of_a_timing_knows_how_it_warmed_up(monkeypatch):
    before = Timing(SETTING, rounds=1).identity
    monkeypatch.setattr(timing, "WARM_UP_IMAGES", 32)
    assert Timing(SETTING, rounds=1).identity != before


def test_the_key_of_watched_steps_knows_the_searches(monkeypatch):
    before = Watch(SETTING, steps=4, every=2).identity
    assert before["searches"]["FBLS+gain"]["beta"] == 0.3
    monkeypatch.setattr(gain_examples, "gain_run", partial(gain_examples.gain_run, order="in turn"))
    assert Watch(SETTING, steps=4, every=2).identity["searches"]["FBLS+gain"]["order"] == "in turn"


def test_there_are_as_many_samples_as_the_key_says(tmp_path):
    """However few test images the setting has: the key does not hold their number."""
    images, _ = read_samples(store_samples(replace(SETTING, n_test=2), RunStore(tmp_path), count=3))
    assert len(images) == 3
