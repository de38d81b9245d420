"""The package installed by itself, away from any clone: the library works, and commands say what they need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastls.paths import ROOT

# Of requirements.txt, but not of the three dependencies in pyproject.toml.
EXTRA = ("pandas", "matplotlib", "seaborn", "yaml", "tqdm", "sklearn", "torchvision", "torchmetrics", "transformers")
EXTRA += ("PIL", "jupytext", "nbformat", "papermill", "torchjd")
COMMANDS = (["env"], ["reproduce"], ["notebooks"], ["exercises"], ["bench"], ["data"], ["data", "download", "stsb"])
LIBRARY = """
import fastls, torch
from torch.nn.functional import mse_loss
model = fastls.MultiTaskModel(torch.nn.Linear(3, 2), {"a": torch.nn.Linear(2, 1)}, {"a": mse_loss})
print(fastls.FBLS(model, lr_ub=1.0).step(torch.ones(4, 3), {"a": torch.ones(4, 1)}).accepted, fastls.__file__)
"""


def run(package: Path, folder: Path, code: str, *arguments: str, missing=EXTRA) -> subprocess.CompletedProcess:
    """Code in a process that finds this copy of the package first and lacks the extra packages."""
    block = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
    variables = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, "-c", block + code, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def run_command(package: Path, folder: Path, arguments: list[str], missing=EXTRA) -> subprocess.CompletedProcess:
    code = "import runpy; runpy.run_module('fastls', run_name='__main__', alter_sys=True)"
    return run(package, folder, code, *arguments, missing=missing)


def check_installed(package: Path, folder: Path, commands=COMMANDS) -> None:
    """A step of the library, every command's one sentence, and nothing written anywhere."""
    folder.mkdir()
    before = sorted(path.name for path in package.iterdir())
    done = run(package, folder, LIBRARY)
    assert done.stdout == f"True {package / 'fastls' / '__init__.py'}\n", done.stderr
    for arguments in commands:
        done = run_command(package, folder, arguments)
        assert (done.returncode, done.stdout) == (2, ""), (arguments, done.stderr)
        assert (
            done.stderr.startswith("fastls: commands need a clone of the repository") and done.stderr.count("\n") == 1
        )
    assert run_command(package, folder, ["--help"]).returncode == 0
    assert list(folder.iterdir()) == [] and sorted(path.name for path in package.iterdir()) == before


def test_a_copy_of_the_package_alone(tmp_path):
    package = tmp_path / "site-packages"
    shutil.copytree(ROOT / "fastls", package / "fastls", ignore=shutil.ignore_patterns("__pycache__"))
    check_installed(package, tmp_path / "elsewhere", COMMANDS[::3])
    done = run(package, tmp_path / "elsewhere", "from fastls.paths import DATA; print(DATA)")
    assert done.stdout == f"{tmp_path / 'elsewhere' / 'data'}\n"  # not beside the installed packages


@pytest.mark.slow
def test_pip_install(tmp_path):
    """From a copy, since pip leaves build folders beside what it installs; pip fetches the build system."""
    source, package = tmp_path / "source", tmp_path / "site-packages"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.strip("\0").split("\0"):
        if name.startswith("fastls/") or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", package, source], check=True)
    check_installed(package, tmp_path / "elsewhere")


@pytest.mark.parametrize("arguments", [["reproduce"], ["bench"], ["data"]], ids=" ".join)
def test_a_clone_without_the_extra_packages(tmp_path, arguments):
    done = run_command(ROOT, tmp_path, arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("fastls: this command needs the package ") and done.stderr.count("\n") == 1
