"""The command line: what it prints, and the exit code of every mistake."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

from fastls import __main__, environment
from fastls.__main__ import main
from fastls.datasets import multimnist
from fastls.datasets.common import DataError
from fastls.environment import SCHEDULER
from fastls.experiments import reproduce
from fastls.experiments.training.store import StoreError
from fastls.paths import ROOT


def test_module_runs_and_hands_over_its_exit_code():
    command = [sys.executable, "-m", "fastls", "reproduce", "--only", "99_nothing"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.startswith("fastls: There is no notebook 99_nothing; the notebooks are ")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "required: command"),
        (["reprodcue"], "invalid choice: 'reprodcue'"),
        (["reproduce", "--jobs", "two"], "invalid int value: 'two'"),
        (["reproduce", "--only"], "expected at least one argument"),
        (["data", "download"], "required: name"),
        (["data", "download", "imagenet"], "invalid choice: 'imagenet'"),
    ],
)
def test_usage(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "99_nothing"], "There is no notebook 99_nothing"),
        (["--jobs", "0"], "`jobs` must be at least 1, found 0"),
        (["--device", "tpu"], "`device` must be 'auto', 'cpu' or 'cuda', found 'tpu'"),
    ],
)
def test_bad_requests(capsys, arguments, message):
    assert main(["reproduce", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"fastls: {message}")


@pytest.mark.parametrize(
    "error, code",
    [(ValueError("what"), 2), (DataError("what"), 1), (StoreError("what"), 1), (KeyboardInterrupt(), 130)],
)
def test_errors_are_one_line(monkeypatch, capsys, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr(reproduce, "write_notebooks", fail)
    assert main(["notebooks"]) == code
    message = capsys.readouterr().err
    assert message.startswith("fastls: ") and message.count("\n") == 1


def test_options_reach_the_runner(monkeypatch):
    monkeypatch.setattr(reproduce, "reproduce", lambda *given: given)
    assert main(["reproduce"]) == ("quick", [], "auto", None)
    monkeypatch.setenv(SCHEDULER, "")
    main(["reproduce", "--scheduler", "tcp://10.0.0.1:8786"])
    assert os.environ[SCHEDULER] == "tcp://10.0.0.1:8786"  # the kernels of the notebooks inherit it
    monkeypatch.setenv(SCHEDULER, "")
    given = ["--profile", "paper", "--only", "03_multimnist", "--device", "cuda", "--jobs", "2"]
    assert main(["reproduce", *given]) == ("paper", ["03_multimnist"], "cuda", 2)


@pytest.fixture
def only_multimnist(monkeypatch):
    monkeypatch.setattr(__main__, "DATA_SETS", ("multimnist",))


def test_data_lists_every_set(monkeypatch, capsys):
    for name in __main__.DATA_SETS:
        data_set = import_module(f"fastls.datasets.{name}")
        monkeypatch.setattr(data_set, "find_source", lambda stand_in=list(data_set.SOURCES)[-1]: stand_in)
    assert main(["data"]) == 0
    sets = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " not found " in line]
    assert sets == list(__main__.DATA_SETS)


def test_data_not_found(only_multimnist, monkeypatch, capsys):
    monkeypatch.setattr(multimnist, "find_source", lambda: "digits")
    assert main(["data"]) == 0
    printed = capsys.readouterr().out
    assert "multimnist  not found  in use: scikit-learn digits (stand-in for MNIST)" in printed
    assert multimnist.HOW_TO_GET in printed and "python -m fastls data download multimnist" in printed


def test_data_found(only_multimnist, monkeypatch, capsys):
    monkeypatch.setattr(multimnist, "find_source", lambda: "mnist")
    monkeypatch.setattr(multimnist, "load_multimnist", lambda **_: None)
    assert main(["data"]) == 0
    assert capsys.readouterr().out == "multimnist  found      in use: MNIST\n"


def test_data_damaged(only_multimnist, monkeypatch, capsys):
    def fail(**_):
        raise DataError("t10k is cut short")

    monkeypatch.setattr(multimnist, "find_source", lambda: "mnist")
    monkeypatch.setattr(multimnist, "load_multimnist", fail)
    assert main(["data"]) == 1
    assert capsys.readouterr().out == "multimnist  DAMAGED    t10k is cut short\n"


def test_download(monkeypatch, capsys):
    monkeypatch.setattr(multimnist, "download_multimnist", lambda: "data/MNIST/raw")
    assert main(["data", "download", "multimnist"]) == 0
    assert capsys.readouterr().out == "multimnist is in data/MNIST/raw\n"


def test_download_without_network(monkeypatch, capsys):
    def fail():
        raise DataError("MNIST could not be fetched")

    monkeypatch.setattr(multimnist, "download_multimnist", fail)
    assert main(["data", "download", "multimnist"]) == 1
    assert capsys.readouterr().err == "fastls: MNIST could not be fetched\n"


@pytest.mark.parametrize(
    "installed, verdict, code",
    [("1.0", "OK", 0), ("1.0+cpu", "OK", 0), ("1.1", "DIFFERS: 1.1 is installed", 0), (None, "MISSING", 1)],
)
def test_env(monkeypatch, capsys, installed, verdict, code):
    monkeypatch.setattr(environment, "check_requirements", lambda: [("numpy", "1.0", installed)])
    assert main(["env"]) == code
    package, machine = capsys.readouterr().out.splitlines()
    assert package.split(maxsplit=2) == ["numpy", "1.0", verdict]
    assert machine.startswith("Python 3.") and machine.endswith("cores")
