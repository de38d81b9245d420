"""A clone of what is committed, without data and without a GPU, redraws every figure and table, and nothing differs.

``pytest -m slow`` reuses the environment that runs it; ``--fresh-environment`` has the clone install one of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastls.paths import ROOT

pytestmark = pytest.mark.slow


def run(*command, cwd: Path, **variables) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_what_is_redrawn_is_what_is_committed(tmp_path, request):
    clone = tmp_path / "fastls"
    run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone), cwd=tmp_path)
    assert not (clone / "data" / "MNIST").exists()
    options = []
    if not request.config.getoption("--fresh-environment"):
        (clone / ".venv").mkdir()
        (clone / ".venv" / ".installed").touch()
        options = [f"BIN={sys.prefix}/bin"]
        where = ("-c", "import fastls; print(fastls.__file__)")
        imported = run(f"{sys.prefix}/bin/python", *where, cwd=clone, PYTHONPATH=str(clone))
        assert imported.strip() == str(clone / "fastls" / "__init__.py")  # the clone's, not the one that is installed
    before = {path: path.stat().st_mtime_ns for path in (clone / "figures").iterdir()}
    run("make", "figures", *options, cwd=clone, PYTHONPATH=str(clone), CUDA_VISIBLE_DEVICES="")
    untouched = [path.name for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert sorted(untouched) == ["artifacts.yaml", "gpu-check.md", "paper.yaml", "robustness.md"]
    assert run("git", "status", "--porcelain", cwd=clone) == ""
