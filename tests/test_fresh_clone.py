"""A clone of what is committed, without data and without a GPU, redraws every figure and table, and nothing differs
but, in what is computed on the spot, rounding.

``pytest -m slow`` reuses the environment that runs it; ``--fresh-environment`` has the clone install one of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from fastls.paths import FIGURES, ROOT, place

ARTIFACTS = yaml.safe_load((FIGURES / "artifacts.yaml").read_text(encoding="utf-8"))
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
    before = {path: path.stat().st_mtime_ns for path in (clone / "figures").rglob("*.*")}
    run("make", "figures", *options, cwd=clone, PYTHONPATH=str(clone), CUDA_VISIBLE_DEVICES="")
    untouched = [path.name for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert set(untouched) <= {"artifacts.yaml", "gpu-check.md", "paper.yaml", "robustness.md"}
    changed = {line[3:] for line in run("git", "status", "--porcelain", cwd=clone).splitlines()}
    on_the_spot = [part for part in ARTIFACTS if part["data"] in ("none, closed form", "none, seeded random numbers")]
    computed = {str(place(Path("figures"), name)) for part in on_the_spot for name in part["files"]}
    assert changed <= computed  # what is drawn from stored runs is the same to the byte
    for name in changed:
        check_close(clone / name, ROOT / name)


def check_close(drawn: Path, committed: Path) -> None:
    """What is computed on the spot may differ by the rounding of another processor."""
    if drawn.suffix == ".csv":
        pd.testing.assert_frame_equal(pd.read_csv(drawn), pd.read_csv(committed), rtol=1e-5)
    elif drawn.suffix == ".png":
        pixels = [np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in (drawn, committed)]
        assert pixels[0].shape == pixels[1].shape and np.abs(pixels[0] - pixels[1]).mean() < 1, drawn.name
    else:
        assert drawn.suffix == ".pdf", f"{drawn.name} has other numbers"
