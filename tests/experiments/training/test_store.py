"""The store: what is written is read, the key holds all that decides, and no file passes for what it is not."""

import errno
import json
import os

import pytest

from fastls.experiments.training import store as store_module
from fastls.experiments.training.store import Run, RunStore, StoreError, compute_digest, compute_key, read_run

CONFIG = {"method": "FBLS", "lr": 1.0, "epochs": 3, "beta": 0.1}
HEADER = {"data": {"source": "digits"}}
ROWS = [{"epoch": 1, "loss": 0.1 + 0.2, "gain": None}, {"epoch": 2, "loss": 1e-300, "note": "β\u2028\n"}]


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


def save(store: RunStore, config=CONFIG, rows=ROWS):
    return store.save("set-FBLS", config, HEADER, rows)


def test_round_trip(store):
    path = save(store)
    run = store.load("set-FBLS", CONFIG)
    assert run.rows == tuple(ROWS)
    assert run.config == CONFIG
    told = {"format": "fastls-run", "key": compute_key(CONFIG), "config": CONFIG} | HEADER
    assert run.header == told | {"digest": compute_digest(told, ROWS)}
    assert path.name == f"set-FBLS-{compute_key(CONFIG)}.jsonl" and path.parent == store.root
    assert read_run(path) == run


def test_rows_may_come_later(store):
    save(store, rows=[])
    assert store.load("set-FBLS", CONFIG).rows == ()
    save(store, rows=ROWS[:1])
    assert store.load("set-FBLS", CONFIG).rows == tuple(ROWS[:1])


def test_one_line_a_row(store):
    lines = save(store).read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[1:-1]] == ROWS and lines[-1] == b""


def test_saving_again_gives_the_same_bytes(store):
    assert save(store).read_bytes() == save(store).read_bytes()
    assert len(list(store.root.iterdir())) == 1


def test_nothing_stored(store):
    assert store.load("set-FBLS", CONFIG) is None
    assert not store.root.exists()


def test_another_configuration_is_not_found(store):
    save(store)
    assert store.load("set-FBLS", CONFIG | {"beta": 0.2}) is None


@pytest.mark.parametrize(
    "change", [{"method": "BLS"}, {"lr": 1.0 + 1e-15}, {"epochs": 4}, {"beta": None}, {"decay_every": 10}]
)
def test_key_changes_with_every_field(change):
    assert compute_key(CONFIG | change) != compute_key(CONFIG)
    assert compute_key({name: value for name, value in CONFIG.items() if name not in change}) != compute_key(
        CONFIG | change
    )


def test_key_does_not_depend_on_order():
    assert compute_key(dict(reversed(CONFIG.items()))) == compute_key(CONFIG)


def test_key_changes_with_the_version_of_results(store, monkeypatch):
    before = compute_key(CONFIG)
    save(store)
    monkeypatch.setattr(store_module, "RESULTS_VERSION", store_module.RESULTS_VERSION + 1)
    assert compute_key(CONFIG) != before
    assert store.load("set-FBLS", CONFIG) is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def rewrite(lines):
    return lambda path: path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def tamper(path):
    path.write_text(path.read_text().replace('"beta": 0.1', '"beta": 0.2'))


DAMAGES = {
    "cut in a line": cut,
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "text": lambda path: path.write_text("epoch,loss\n1,0.5\n"),
    "list": rewrite([[1, 2, 3]]),
    "foreign object": rewrite([{"cells": [], "nbformat": 4}]),
    "row is a list": rewrite([{"format": "fastls-run", "key": compute_key(CONFIG), "config": CONFIG}, [1, 2]]),
    "no configuration": rewrite([{"format": "fastls-run", "key": compute_key(CONFIG)}]),
    "header of another run": tamper,
    "another number": lambda path: path.write_text(path.read_text().replace("1e-300", "2e-300")),
    "another origin": lambda path: path.write_text(path.read_text().replace('"digits"', '"mnist"')),
    "a row lost": lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1])),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_file_is_refused_and_stays(store, damage):
    path = save(store)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        store.load("set-FBLS", CONFIG)
    for part in (str(path), "must", "Delete the file", "run again"):
        assert part in str(caught.value)
    assert path.read_bytes() == before


def test_renamed_file_is_refused(store):
    path = save(store)
    wanted = CONFIG | {"beta": 0.2}
    path.rename(store.path("set-FBLS", wanted))
    with pytest.raises(
        StoreError, match=f"{store.path('set-FBLS', wanted)} must be named after.*{compute_key(CONFIG)}"
    ):
        store.load("set-FBLS", wanted)


def test_key_of_an_older_version_is_refused(store, monkeypatch):
    """A file that was renamed to its new key by hand still carries the results of the old version."""
    path = save(store)
    monkeypatch.setattr(store_module, "RESULTS_VERSION", store_module.RESULTS_VERSION + 1)
    path.rename(store.path("set-FBLS", CONFIG))
    with pytest.raises(StoreError, match="must be named after the key"):
        store.load("set-FBLS", CONFIG)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(store, value):
    path = save(store)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save(store, rows=[*ROWS, {"epoch": 3, "loss": value}])
    assert path.read_bytes() == before and list(store.root.iterdir()) == [path]


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_run(store, monkeypatch, where, error):
    def fail(*_):
        raise error

    path = save(store, rows=ROWS[:1])
    with monkeypatch.context() as broken:
        broken.setattr(os, where, fail)
        with pytest.raises(type(error)):
            save(store)
    assert store.load("set-FBLS", CONFIG) == Run(read_run(path).header, tuple(ROWS[:1]))
    assert list(store.root.iterdir()) == [path]


def test_stored_only_forbids_to_make_a_run(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    store.check_may_make("label", {"seed": 0})
    monkeypatch.setenv("FASTLS_STORED_ONLY", "1")
    with pytest.raises(StoreError, match="is missing or not complete, and FASTLS_STORED_ONLY"):
        store.check_may_make("label", {"seed": 0})


def test_get_or_make_makes_once(store, monkeypatch):
    made = []

    def make():
        made.append(1)
        return HEADER, ROWS

    first = store.get_or_make("set-timing", CONFIG, make)
    assert first.rows == tuple(ROWS) and first.header["data"] == HEADER["data"]
    assert store.get_or_make("set-timing", CONFIG, make) == first and made == [1]
    monkeypatch.setenv("FASTLS_STORED_ONLY", "1")
    assert store.get_or_make("set-timing", CONFIG, make) == first
    with pytest.raises(StoreError, match="allows stored runs alone"):
        store.get_or_make("set-timing", CONFIG | {"lr": 2.0}, make)
    assert made == [1]
