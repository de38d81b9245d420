"""The committed notebooks: in step with their scripts, free of noise, and running at the smoke profile."""

import re
import subprocess
import sys

import nbformat
import pytest
import yaml

from fastls.experiments.notebook_runner import (
    check_notebook_pair,
    check_parameters,
    code_cells,
    read_parameters,
    read_script,
    tags,
)
from fastls.experiments.reproduce import find_scripts
from fastls.paths import FIGURES, NOTEBOOKS, ROOT

SCRIPTS = [pytest.param(script, id=script.stem) for script in find_scripts(NOTEBOOKS)]
SMOKE = [
    pytest.param(script, id=script.stem, marks=() if script.stem == "03_multimnist" else pytest.mark.slow)
    for script in find_scripts(NOTEBOOKS)
]
PROFILES = yaml.safe_load((NOTEBOOKS / "profiles.yaml").read_text(encoding="utf-8"))
NBVAL = "-q -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=900 --profile smoke".split()


@pytest.mark.parametrize("script", SCRIPTS)
class TestNotebook:
    def test_executed_form_is_that_of_the_script(self, script):
        assert check_notebook_pair(script, script.with_suffix(".ipynb")) == []

    def test_parameters(self, script):
        assert {"device", "jobs", "runs_dir", "figures_dir"} <= set(read_parameters(read_script(script), script.stem))

    def test_script_is_a_clean_source(self, script):
        notebook = read_script(script)
        assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
        assert not [cell for cell in notebook.cells if "injected-parameters" in tags(cell)]

    def test_ends_with_five_questions_each_with_its_answer(self, script):
        """In the executed form, since an answer may take its numbers from the rows."""
        cells = nbformat.read(script.with_suffix(".ipynb"), as_version=4).cells
        first = [cell.source.split("\n")[0] for cell in cells].index("## Five questions")
        texts = [cell.source for cell in cells[first:] if cell.cell_type == "markdown"]
        outputs = [output for cell in cells[first:] for output in cell.get("outputs", [])]
        texts += [output.data["text/markdown"] for output in outputs]
        quiz = "\n\n".join(texts)
        asked = r"^\*\*(\d)\.\*\* .+?\n\n<details><summary>Answer</summary>\n\n(.+?)\n\n</details>$"
        found = re.findall(asked, quiz, flags=re.MULTILINE | re.DOTALL)
        assert [number for number, _ in found] == list("12345")
        assert quiz.count("<details>") == 5
        assert min(len(answer.split()) for _, answer in found) >= 15


@pytest.mark.parametrize("script", SMOKE)
def test_runs_at_the_smoke_profile(script):
    """Where it compares outputs, with those of the committed run. 03 stands for all in `make test`, a minute each."""
    before = {path: path.stat().st_mtime_ns for path in FIGURES.rglob("*.*")}
    notebook = script.with_suffix(".ipynb").relative_to(ROOT)
    command = [sys.executable, "-m", "pytest", *NBVAL, str(notebook)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    cells = int(re.search(r"^(\d+) passed", finished.stdout, flags=re.MULTILINE).group(1))
    assert cells == len(code_cells(read_script(script))) + 1  # the cell of injected parameters
    assert before == {path: path.stat().st_mtime_ns for path in FIGURES.rglob("*.*")}


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_name_every_notebook_and_known_parameters(profile):
    scripts = {script.stem: script for script in find_scripts(NOTEBOOKS)}
    assert set(PROFILES[profile]) == set(scripts)
    for name, script in scripts.items():
        check_parameters(PROFILES[profile][name], read_script(script), name)
