"""Notebooks as tests: ``pytest --nbval-lax --nbval-current-env --profile smoke notebooks/03_multimnist.ipynb``.

``--profile`` adds a line of parameters to the cell tagged `parameters` and puts it in place of the cell tagged
`injected-parameters`, where the committed notebook has its own sizes. This happens as the notebook is collected; the
files stay as they are, and what it computes goes to a temporary folder.

Where tests run in several processes, each takes one thread: pools of threads on the same cores wait for each other.
"""

import os
import tempfile
from pathlib import Path

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("nbval")
    group.addoption("--profile", help="run notebooks with the parameters of this profile of notebooks/profiles.yaml")
    group.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="device of notebooks run with --profile")
    fresh = parser.getgroup("fresh clone")
    fresh.addoption(
        "--fresh-environment", action="store_true", help="install into a new .venv in tests of a fresh clone (-m slow)"
    )


def pytest_configure():
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded, so before any test is


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--profile"):
        return
    from nbval.plugin import IPyNbCell  # imported here: ordinary tests need neither

    from fastls.experiments.notebook_runner import tags

    outputs = tempfile.TemporaryDirectory(prefix="fastls-notebooks-")
    config.add_cleanup(outputs.cleanup)
    for item in items:
        kinds = tags(item.cell) if isinstance(item, IPyNbCell) else ()
        if "injected-parameters" in kinds:
            item.cell.source = _codify(item.path.with_suffix(".py"), config, Path(outputs.name))
        elif "parameters" in kinds:
            item.cell.source += "\n" + _codify(item.path.with_suffix(".py"), config, Path(outputs.name))


def _codify(script: Path, config, outputs: Path) -> str:
    from papermill.translators import papermill_translators

    from fastls.experiments.reproduce import notebook_parameters

    folders = {"runs_dir": str(outputs / "runs"), "figures_dir": str(outputs / "figures")}
    common = {"device": config.getoption("--device"), "jobs": 1, **folders}
    try:
        parameters = notebook_parameters(script, config.getoption("--profile"), common)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    return papermill_translators.find_translator("python3", "python").codify(parameters, config.getoption("--profile"))
