"""The hook in conftest.py that runs notebooks by nbval with the parameters of a profile."""

import shutil
import subprocess
import sys

import jupytext
import nbformat
import pytest
from notebook_writer import write_repository

from fastls.paths import ROOT

NBVAL = "-q --nbval-lax --nbval-current-env --nbval-cell-timeout=60 --profile smoke notebooks/01_one.ipynb".split()
CHECKS = """
assert n == 2, n
assert device == "cpu"
assert "fastls-notebooks-" in runs_dir and "fastls-notebooks-" in figures_dir
"""


@pytest.fixture
def repository(tmp_path):
    root = write_repository(tmp_path, {"01_one": CHECKS})
    shutil.copy(ROOT / "conftest.py", root)
    (root / "pytest.ini").touch()
    jupytext.write(jupytext.read(root / "notebooks/01_one.py"), root / "notebooks/01_one.ipynb")
    return root


def run_nbval(root):
    return subprocess.run([sys.executable, "-m", "pytest", *NBVAL], cwd=root, capture_output=True, text=True)


def test_smoke_parameters_are_used(repository):
    finished = run_nbval(repository)
    assert finished.returncode == 0 and finished.stdout.splitlines()[-1].startswith("2 passed"), finished.stdout


def test_sizes_of_the_committed_notebook_do_not_count(repository):
    """It was executed with another profile, whose sizes a profile that does not name them would inherit."""
    path = repository / "notebooks/01_one.ipynb"
    notebook = nbformat.read(path, as_version=4)
    injected = nbformat.v4.new_code_cell("n = 7\nbig = True", metadata={"tags": ["injected-parameters"]})
    notebook.cells[2:2] = [injected, nbformat.v4.new_code_cell("assert 'big' not in globals()")]
    nbformat.write(notebook, path)
    finished = run_nbval(repository)
    assert finished.returncode == 0 and finished.stdout.splitlines()[-1].startswith("4 passed"), finished.stdout


def test_smoke_parameters_must_be_known(repository):
    profiles = repository / "notebooks" / "profiles.yaml"
    profiles.write_text(profiles.read_text().replace("n: 2", "m: 2"))
    finished = run_nbval(repository)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert "01_one has no parameter m" in finished.stderr
