"""Runs: what a row holds, that a configuration and a seed decide it, and that a kill costs one epoch at most."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from synthetic import without_seconds

from fastls import StepRecord
from fastls.algorithms.spaces import Passes
from fastls.datasets.common import ImageSplit
from fastls.experiments.training import training as runs
from fastls.experiments.training.config import FIELDS, RunConfig
from fastls.experiments.training.optimizers.methods import BUILDERS
from fastls.experiments.training.store import RunStore, StoreError, compute_key
from fastls.experiments.training.sweeps import SEARCH, Sweep
from fastls.experiments.training.training import Training, execute, is_complete, load_data, summarize_steps
from fastls.experiments.training.workloads import get_workload
from fastls.paths import ROOT

SWEEP = Sweep("multimnist", "digits", n_train=150, n_test=60, epochs=3, seeds=1, batch_size=64)
STEPS = 3  # of 64, 64 and 22 images
T = 2
METHODS = {
    "SGD": (0.05, {}),
    "BLS": (1.0, SEARCH),
    "MGDA-UB": (0.05, {}),
    "FBLS": (1.0, SEARCH),
    "EqualWeight": (0.05, {}),
}
COLUMNS = (
    {
        f"{split}_{metric}_{task}"
        for split in ("train", "test")
        for metric in ("loss", "error")
        for task in ("left", "right")
    }
    | {"epoch", "diverged", "seconds", "lr", "step_median", "step_p05", "step_p95", "share_at_bound", "trials"}
    | {"accepted", "gain_median", "encoder_forward", "encoder_backward", "decoder_forward", "decoder_backward"}
)


def make_config(method: str = "FBLS", seed: int = 0, **changes) -> RunConfig:
    """A run of seconds, with dropout (in the network) and decay."""
    lr, options = METHODS[method]
    config = SWEEP.run(method, lr, seed, **options, decay_every=2)
    return replace(config, **changes)


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Rows of a configuration, trained in one go; each at most once."""
    store = RunStore(tmp_path_factory.mktemp("uninterrupted"))
    return lambda config: execute(config, store)


def checkpoint_of(config: RunConfig, store: RunStore):
    return store.path(config.label, config.identity).with_suffix(".checkpoint")


class Kill(BaseException):
    """Ends a run from within, as little to be caught as a signal."""


def kill_at(epoch: int):
    """An `on_epoch` that kills at this epoch."""
    seen = []

    def on_epoch():
        seen.append(None)
        if len(seen) == epoch:
            raise Kill

    return on_epoch


def execute_until(epoch: int, config: RunConfig, store: RunStore) -> None:
    with pytest.raises(Kill):
        execute(config, store, on_epoch=kill_at(epoch))


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """The epochs that are trained, as they begin."""
    epochs = []
    real = Training.train_epoch
    monkeypatch.setattr(Training, "train_epoch", lambda self, epoch: (epochs.append(epoch), real(self, epoch))[1])
    return epochs


class TestRow:
    @pytest.mark.parametrize("method", METHODS)
    def test_columns(self, uninterrupted, method):
        run = uninterrupted(make_config(method))
        assert is_complete(run)
        assert [row["epoch"] for row in run.rows] == [1, 2, 3]
        for row in run.rows:
            assert set(row) == COLUMNS
            assert row["diverged"] is False and row["seconds"] > 0
            assert 0 <= row["step_p05"] <= row["step_median"] <= row["step_p95"] <= row["lr"]
            assert all(0 <= row[name] <= 1 for name in COLUMNS if "error" in name)
            assert all(row[name] > 0 for name in COLUMNS if "loss" in name)

    @pytest.mark.parametrize("method", METHODS)
    def test_passes(self, uninterrupted, method):
        """Per step: encoder and decoder passes of the algorithm, and no other."""
        for row in uninterrupted(make_config(method)).rows:
            trials = row["trials"]
            found = tuple(row[name] for name in asdict(Passes()))
            expected = {
                "SGD": (1, T, T, T),
                "BLS": (1 + trials, T, T * (1 + trials), T),
                "MGDA-UB": (1, 1, T, T),
                "FBLS": (1, 1, T * (1 + trials), T),
                "EqualWeight": (1, 1, T, T),
            }
            assert found == pytest.approx(expected[method], rel=1e-6)
            assert trials >= 1 if method in ("BLS", "FBLS") else trials == 0

    @pytest.mark.parametrize("method", ["SGD", "MGDA-UB", "EqualWeight"])
    def test_constant_steps_are_at_the_bound(self, uninterrupted, method):
        for row in uninterrupted(make_config(method)).rows:
            assert row["step_p05"] == row["step_median"] == row["step_p95"] == row["lr"]
            assert row["share_at_bound"] == row["accepted"] == 1

    def test_gain_is_of_latent_methods(self, uninterrupted):
        has_gain = {method for method in METHODS if uninterrupted(make_config(method)).rows[0]["gain_median"]}
        assert has_gain == {"MGDA-UB", "FBLS"}

    @pytest.mark.parametrize("every, factors", [(1, (1, 0.5, 0.25, 0.125)), (2, (1, 1, 0.5, 0.5)), (None, (1,) * 4)])
    @pytest.mark.parametrize("method", ["SGD", "FBLS"])
    def test_decay_halves_the_bound(self, store, method, every, factors):
        config = make_config(method, decay_every=every, epochs=4, n_train=64)
        rows = execute(config, store).rows
        assert [row["lr"] for row in rows] == [config.lr * factor for factor in factors]
        assert all(row["step_p95"] <= row["lr"] for row in rows)

    def test_metrics_are_those_of_the_network(self):
        config = make_config()
        data = load_data("multimnist", "digits", 150, 60, "cpu")
        training = Training(config, data)
        training.run_epoch()
        training.model.eval()
        for split, name in ((data.train.first(60), "train"), (data.test, "test")):
            inputs, targets = split.batch(slice(None))
            with torch.no_grad():
                outputs = training.model(inputs)
            for task, output in outputs.items():
                row = training.rows[0]
                assert row[f"{name}_loss_{task}"] == pytest.approx(float(F.cross_entropy(output, targets[task])), 1e-5)
                error = float((output.argmax(1) != targets[task]).double().mean())
                assert row[f"{name}_error_{task}"] == pytest.approx(error, abs=1e-6)

    def test_seconds_leave_evaluation_out(self, store, monkeypatch):
        clock = [0]
        workload, real_batch = get_workload("multimnist"), ImageSplit.batch

        def advance(seconds, real):
            def call(*arguments):
                clock[0] += seconds
                return real(*arguments)

            return call

        monkeypatch.setattr(runs, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
        monkeypatch.setattr(ImageSplit, "batch", advance(1, real_batch))
        slow = replace(workload, evaluate=advance(1000, workload.evaluate))
        monkeypatch.setattr(runs, "get_workload", lambda name: slow)
        assert [row["seconds"] for row in execute(make_config("SGD"), store).rows] == [STEPS] * 3

    def test_every_image_once_an_epoch_in_new_order(self, store, monkeypatch):
        orders, real = [], ImageSplit.batches

        def batches(self, order, batch_size, training):
            if training:
                orders.append(order.tolist())
            return real(self, order, batch_size, training)

        monkeypatch.setattr(ImageSplit, "batches", batches)
        execute(make_config("SGD", epochs=2), store)
        first, second = orders
        assert sorted(first) == sorted(second) == list(range(150)) and first != second


def test_summary_of_steps():
    def record(step, trials, accepted, gain):
        passes = Passes(1, 2, 2 * (1 + trials), 2)
        return StepRecord(None, None, None, step, trials, accepted, False, gain, passes)

    records = [record(step / 20, trials=step % 2, accepted=step > 0, gain=torch.tensor(step)) for step in range(21)]
    summary = summarize_steps(records, bound=0.9)
    assert (summary["step_p05"], summary["step_median"], summary["step_p95"]) == (0.05, 0.5, 0.95)
    expected = {
        "share_at_bound": 3 / 21,
        "trials": 10 / 21,
        "accepted": 20 / 21,
        "gain_median": 10,
        "encoder_forward": 1,
        "encoder_backward": 2,
        "decoder_forward": 2 * (1 + 10 / 21),
        "decoder_backward": 2,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    without_gain = [replace(one, gain=None) for one in records[1:]] + [replace(records[0], gain=torch.tensor(7.0))]
    assert summarize_steps(without_gain, 0.9)["gain_median"] == 7
    assert summarize_steps(without_gain[:-1], 0.9)["gain_median"] is None


class TestConfig:
    CHANGES = {
        "dataset": "other",
        "source": "mnist",
        "n_train": 151,
        "n_test": 61,
        "method": "BLS",
        "lr": 0.5,
        "epochs": 4,
        "seed": 1,
        "direction": "edm",
        "beta": 0.2,
        "gamma": 0.8,
        "floor": 1e-9,
        "form": 7,
        "start": "previous",
        "order": "in turn",
        "match_gain": True,
        "averaged": True,
        "decay_every": 1,
        "batch_size": 32,
        "device": "cuda",
        "data_options": (("seed", 1),),
        "model_options": (("dropout", 0.1),),
    }

    def test_every_field_is_in_the_key(self):
        config = make_config()
        assert set(self.CHANGES) | {"bounded"} == set(asdict(config))  # `bounded` is read by AdamFBLS alone
        changed = [replace(config, **{name: value}) for name, value in self.CHANGES.items()]
        adam = SWEEP.run("AdamFBLS", 1.0, seed=0)
        keys = {compute_key(one.identity) for one in [config, *changed, adam, replace(adam, bounded=True)]}
        assert len(keys) == len(self.CHANGES) + 3

    def test_unset_fields_are_not_in_the_key(self):
        assert set(make_config("EqualWeight", decay_every=None).identity) == {
            *("dataset", "source", "n_train", "n_test", "method", "lr", "epochs", "seed", "batch_size", "device")
        }
        assert "direction" in make_config("SGD").identity and "beta" in make_config("BLS").identity

    @pytest.mark.parametrize("change", [{"source": "auto"}, {"epochs": 0}, {"batch_size": 0}])
    def test_refused(self, change):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f"`{name}` must be.*found {value!r}"):
            make_config(**change)

    def test_a_method_that_does_not_exist_is_refused(self):
        """A misspelt one once trained FBLS under a label of its own."""
        with pytest.raises(ValueError, match="`method` must be one of SGD, .*found 'FBSL'"):
            replace(make_config(), method="FBSL")

    @pytest.mark.parametrize(
        "method, field", [("SGD", {"beta": 0.1}), ("EqualWeight", {"direction": "mgda"}), ("BLS", {"match_gain": True})]
    )
    def test_a_field_that_the_method_does_not_read_is_refused(self, method, field):
        with pytest.raises(ValueError, match=f"{method} does not read {next(iter(field))}"):
            replace(make_config(method), **field)

    def test_every_method_has_a_builder(self):
        assert set(FIELDS) == set(BUILDERS)


class TestExecute:
    def test_header(self, uninterrupted):
        config = make_config()
        header = uninterrupted(config).header
        data = load_data("multimnist", "digits", 150, 60, "cpu")
        assert header["config"] == config.identity and header["key"] == compute_key(config.identity)
        expected = {"source": "digits", "description": data.description, "fingerprint": data.fingerprint}
        assert header["data"] == expected
        assert set(header["environment"]) == {"python", "versions", "platform", "device", "cores", "threads"}
        versions = {"fastls", "torch", "torchvision", "transformers", "numpy", "scipy"}
        assert set(header["environment"]["versions"]) == versions

    @pytest.mark.parametrize("method", METHODS)
    def test_configuration_and_seed_decide_the_rows(self, uninterrupted, store, method):
        config = make_config(method)
        torch.manual_seed(99)
        assert without_seconds(execute(config, store)) == without_seconds(uninterrupted(config))
        other = execute(replace(config, seed=1, epochs=1), store)
        assert without_seconds(other)[0] != without_seconds(uninterrupted(config))[0]

    def test_complete_run_trains_nothing(self, store, trained):
        config = make_config("SGD", epochs=1)
        first = execute(config, store)
        checkpoint = checkpoint_of(config, store)
        checkpoint.write_bytes(b"stale")
        assert execute(config, store, on_epoch=kill_at(1)) == first
        assert trained == [1]
        assert [path for path in store.root.iterdir() if path.is_file()] == [store.path(config.label, config.identity)]

    def test_row_by_row(self, store):
        config, seen = make_config("SGD"), []
        execute(config, store, on_epoch=lambda: seen.append(len(store.load(config.label, config.identity).rows)))
        assert seen == [1, 2, 3]

    def test_damaged_run_is_refused_before_training(self, store, trained):
        config = make_config("SGD")
        execute_until(1, config, store)
        path = store.path(config.label, config.identity)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(StoreError, match=str(path)):
            execute(config, store)
        assert trained == [1]


class TestResume:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("epoch", [1, 2, 3])
    def test_rows_are_those_of_an_uninterrupted_run(self, uninterrupted, store, trained, method, epoch):
        config = make_config(method)
        expected = uninterrupted(config)
        trained.clear()
        execute_until(epoch, config, store)
        assert without_seconds(store.load(config.label, config.identity)) == without_seconds(expected)[:epoch]
        torch.manual_seed(99)
        assert without_seconds(execute(config, store)) == without_seconds(expected)
        assert trained == [1, 2, 3]  # no epoch twice
        assert not checkpoint_of(config, store).exists()

    @pytest.mark.parametrize("epoch", [1, 2, 3])
    def test_kill_between_checkpoint_and_rows(self, uninterrupted, store, trained, monkeypatch, epoch):
        config = make_config()
        expected = uninterrupted(config)
        trained.clear()
        save, kill = RunStore.save, kill_at(epoch)
        with monkeypatch.context() as broken:
            broken.setattr(RunStore, "save", lambda *arguments: (kill(), save(*arguments))[1])
            with pytest.raises(Kill):
                execute(config, store)
        torch.manual_seed(99)
        with monkeypatch.context() as broken:  # and again, before the next epoch: the rows are there already
            broken.setattr(Training, "run_epoch", lambda training: kill_at(1)())
            if epoch < 3:
                with pytest.raises(Kill):
                    execute(config, store)
                assert len(store.load(config.label, config.identity).rows) == epoch
        assert without_seconds(execute(config, store)) == without_seconds(expected)
        assert trained == [1, 2, 3]

    def test_killed_process(self, uninterrupted, store):
        """SIGKILL at the end of the second epoch."""
        config = make_config()
        script = (
            "import json, os, signal, sys, torch\n"
            "from fastls.experiments.training.training import RunConfig, execute\n"
            "from fastls.experiments.training.store import RunStore\n"
            "config, root, threads = json.loads(sys.argv[1])\n"
            "torch.set_num_threads(threads)\n"
            "epochs = iter(range(1, 4))\n"
            "kill = lambda: next(epochs) == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
            "execute(RunConfig(**config), RunStore(root), on_epoch=kill)\n"
        )
        argument = json.dumps([config.identity, str(store.root), torch.get_num_threads()])
        ended = subprocess.run([sys.executable, "-c", script, argument], cwd=ROOT, timeout=120)
        assert ended.returncode == -signal.SIGKILL
        expected = without_seconds(uninterrupted(config))
        assert without_seconds(store.load(config.label, config.identity)) == expected[:2]
        assert without_seconds(execute(config, store)) == expected

    def test_without_checkpoint_starts_over(self, uninterrupted, store, trained):
        config = make_config("SGD")
        expected = uninterrupted(config)
        execute_until(2, config, store)
        checkpoint_of(config, store).unlink()
        trained.clear()
        assert without_seconds(execute(config, store)) == without_seconds(expected)
        assert trained == [1, 2, 3]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(bytes(range(256))),
            lambda path: path.write_bytes(path.read_bytes()[:1000]),
            lambda path: torch.save({"weights": torch.zeros(2)}, path),
            lambda path: torch.save(torch.load(path) | {"model": {}}, path),
            lambda path: torch.save([1, 2], path),
        ],
        ids=["empty", "binary", "cut", "foreign", "other network", "list"],
    )
    def test_damaged_checkpoint_is_refused_and_stays(self, store, trained, damage):
        config = make_config("SGD")
        execute_until(1, config, store)
        path = checkpoint_of(config, store)
        damage(path)
        before = path.read_bytes()
        with pytest.raises(StoreError) as caught:
            execute(config, store)
        for part in (str(path), "must be a checkpoint of this run", "Delete", "run again"):
            assert part in str(caught.value)
        assert path.read_bytes() == before and trained == [1]
        assert len(store.load(config.label, config.identity).rows) == 1

    def test_checkpoint_from_other_data_is_refused(self, store, monkeypatch):
        config = make_config("SGD")
        execute_until(1, config, store)
        data = load_data("multimnist", "digits", 150, 60, "cpu")
        changed = replace(data, train=replace(data.train, images=255 - data.train.images))
        monkeypatch.setattr(runs, "load_data", lambda *_: changed)
        with pytest.raises(StoreError) as caught:
            execute(config, store)
        for part in (str(checkpoint_of(config, store)), data.fingerprint, changed.fingerprint, "Delete"):
            assert part in str(caught.value)


class TestHeader:
    def test_a_run_resumed_elsewhere_keeps_its_first_machine(self, store, monkeypatch):
        config = make_config(epochs=2)
        execute_until(1, config, store)
        first = store.load(config.label, config.identity).header
        monkeypatch.setattr(runs, "describe_environment", lambda device: {"device": "another machine"})
        header = execute(config, store).header
        assert header["environment"] == first["environment"] and "resumed_on" not in first
        assert header["resumed_on"] == [{"device": "another machine"}]

    def test_header_of_a_run_that_starts_again_names_this_machine_alone(self, store, monkeypatch):
        """Without its checkpoint a run starts at epoch 1; its header once named the machine of the lost rows first."""
        config = make_config(epochs=2)
        execute_until(1, config, store)
        store.path(config.label, config.identity).with_suffix(".checkpoint").unlink()
        monkeypatch.setattr(runs, "describe_environment", lambda device: {"device": "another machine"})
        header = execute(config, store).header
        assert header["environment"] == {"device": "another machine"} and "resumed_on" not in header

    @pytest.mark.parametrize("epochs", [0, 1], ids=["missing", "not complete"])
    def test_stored_only_trains_nothing(self, epochs, store, monkeypatch):
        config = make_config(epochs=2)
        if epochs:
            execute_until(epochs, config, store)
        monkeypatch.setenv("FASTLS_STORED_ONLY", "1")
        with pytest.raises(StoreError, match="missing or not complete"):
            execute(config, store)


class TestDivergence:
    @pytest.mark.parametrize(
        "config",
        [
            make_config("SGD", lr=1e6),
            make_config("EqualWeight", lr=1e30, batch_size=150),  # one step an epoch: seen by the evaluation alone
            make_config("EqualWeight", lr=1e30, batch_size=150, epochs=1),
        ],
        ids=["in the epoch", "in its last step", "in the last step of all"],
    )
    def test_is_stored_and_complete(self, store, trained, config):
        run = execute(config, store)
        assert run.rows == ({"epoch": 1, "diverged": True},)
        assert is_complete(run)
        assert not checkpoint_of(config, store).exists()
        assert execute(config, store) == run and trained == [1]

    def test_kill_after_divergence(self, store, trained):
        config = make_config("SGD", lr=1e6)
        execute_until(1, config, store)
        assert execute(config, store).rows == ({"epoch": 1, "diverged": True},)
        assert trained == [1] and not checkpoint_of(config, store).exists()
