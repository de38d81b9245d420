"""The exercise forms: derived from the scripts, in step with them, and running with every check failing helpfully."""

import re
import symtable

import nbformat
import pytest
from nbclient import NotebookClient
from papermill.translators import papermill_translators

from fastls import paths
from fastls.__main__ import main
from fastls.experiments.notebook_runner import code_cells, read_script, tags
from fastls.experiments.reproduce import find_scripts, notebook_parameters
from fastls.paths import NOTEBOOKS
from fastls.teaching import exercises
from fastls.teaching.exercises import YOUR_TURN, derive_exercises, find_exercises, format_exercises, write_exercises

SCRIPT = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A notebook
# [next](03_multimnist.ipynb#data), ![one](../figures/one.png), [paper](https://arxiv.org/abs/2110.00874), [up](#top),
# [f](x) and $[L_t](\\\\eta)$

# %% tags=["parameters"]
runs_dir = "build/quick/runs"

# %%
from pathlib import Path

from fastls.paths import in_repository
from fastls.teaching import checks

in_repository("notebooks/jupytext.toml").exists(), Path.cwd().name


# %% tags=["exercise"]
def largest_gain_factor(eta) -> float:
    \"\"\"The largest |c|.\"\"\"
    ### BEGIN SOLUTION
    square = 2 / eta

    return square**0.5
    ### END SOLUTION


# %% tags=["check"]
checks.check_largest_gain(largest_gain_factor)

# %%
print("all cells ran")
"""
FORMS = [pytest.param(script, id=script.stem) for script in find_exercises(NOTEBOOKS)]


@pytest.fixture
def root(tmp_path):
    """A repository with one notebook that has an exercise and one that has none."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "01_one.py").write_text(SCRIPT, encoding="utf-8")
    (folder / "02_none.py").write_text(re.sub(r"# %% tags=\[\"exercise\"\](.|\n)*(?=# %%\n)", "", SCRIPT))
    return tmp_path


@pytest.fixture
def script(root):
    return root / "notebooks" / "01_one.py"


def run(notebook, folder):
    """The executed notebook; a cell that fails without the tag that allows it raises."""
    return NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()


def errors_of(notebook) -> list:
    return [output for cell in code_cells(notebook) for output in cell.outputs if output.output_type == "error"]


# What is derived


def test_the_solution_is_gone_and_the_rest_is_there(script):
    solved, form = read_script(script), derive_exercises(script)
    first, notice, *others = form.cells
    assert first.source.startswith("# A notebook") and len(form.cells) == len(solved.cells) + 1
    assert notice.source.startswith("> **Exercise form** of [01_one](../01_one.ipynb), which has the solutions")
    signature = 'def largest_gain_factor(eta) -> float:\n    """The largest |c|."""\n    '
    by_tag = {tag: cell for cell in others for tag in tags(cell)}
    assert by_tag["exercise"].source == signature + YOUR_TURN
    assert tags(by_tag["check"]) == ["check", "raises-exception"]
    assert by_tag["parameters"].source == 'runs_dir = "build/quick/runs"'
    unchanged = [cell.source for cell in code_cells(solved) if "exercise" not in tags(cell)]
    assert [cell.source for cell in code_cells(form) if "exercise" not in tags(cell)] == unchanged
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells(form))


def test_relative_links_lead_a_folder_up_and_nothing_else_does(script):
    text = derive_exercises(script).cells[0].source
    assert re.findall(r"\]\(([^)]*)\)", text) == [
        "../03_multimnist.ipynb#data",
        "../../figures/one.png",
        "https://arxiv.org/abs/2110.00874",
        "#top",
        "x",
        "\\\\eta",
    ]


def test_bytes_depend_on_the_script_alone(script):
    assert format_exercises(script) == format_exercises(script)
    nbformat.validate(nbformat.reads(format_exercises(script), as_version=4))


def test_jupyter_does_not_pair_it_with_a_script(script):
    """As the jupytext.toml above it would have it."""
    assert derive_exercises(script).metadata.jupytext == {"formats": "ipynb"}


def test_several_solutions_in_one_cell(script):
    end = "    ### END SOLUTION\n"
    more = f"    if eta is None:\n        ### BEGIN SOLUTION\n        pass\n    {end}"
    script.write_text(script.read_text().replace(end, end + more))
    source = next(cell.source for cell in derive_exercises(script).cells if "exercise" in tags(cell))
    assert source.endswith(f"    {YOUR_TURN}\n    if eta is None:\n        {YOUR_TURN}")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("    ### END SOLUTION\n", "", "must have every .* matched by .*; found 1 and 0, of which 0 match"),
        ("    ### BEGIN SOLUTION\n", "", "found 0 and 1, of which 0 match"),
        ("    ### END SOLUTION", "  ### END SOLUTION", "at the same indentation.*found 1 and 1, of which 0 match"),
        ("    ### BEGIN", "    ### BEGIN SOLUTION\n    ### BEGIN", "found 2 and 1, of which 1 match"),
        ("    ### BEGIN SOLUTION", "    ### begin solution", "found 0 and 1"),
        (
            re.search(r"    ### BEGIN(.|\n)*### END SOLUTION\n", SCRIPT).group(),
            "    pass\n",
            "must have a solution between",
        ),
        (' tags=["exercise"]', "", "has a marker of a solution, so it must be tagged `exercise`; found"),
        (' tags=["check"]', "", r"the next cell must be its check, tagged `check`; found a code cell tagged \[\]"),
        ('# %% tags=["check"]', "# %% [markdown]\n# Now.\n\n# %%", "found a markdown cell"),
        (SCRIPT[SCRIPT.index('# %% tags=["check"]') :], "", "found none"),
    ],
)
def test_bad_scripts(script, old, new, message):
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as told:
        derive_exercises(script)
    assert str(told.value).startswith("Cell 3 of 01_one.py ")


# What is written


def test_scripts_with_exercises_are_written(root, script):
    path = root / "notebooks" / "exercises" / "01_one.ipynb"
    assert write_exercises(root) == [path]
    assert path.read_text(encoding="utf-8") == format_exercises(script)
    assert find_scripts(root / "notebooks") == [script, root / "notebooks" / "02_none.py"]


def test_nothing_is_written_where_one_script_is_bad(root, script):
    (root / "notebooks" / "03_bad.py").write_text(script.read_text().replace("### END SOLUTION", ""))
    with pytest.raises(ValueError, match="03_bad.py"):
        write_exercises(root)
    assert not (root / "notebooks" / "exercises").exists()


def test_command(monkeypatch, capsys, root):
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(exercises, "write_exercises", lambda: write_exercises(root))
    assert main(["exercises"]) == 0
    assert capsys.readouterr().out == "notebooks/exercises/01_one.ipynb\n"


def test_command_names_what_is_wrong(monkeypatch, capsys, root, script):
    script.write_text(script.read_text().replace("### END SOLUTION", ""))
    monkeypatch.setattr(exercises, "write_exercises", lambda: write_exercises(root))
    assert main(["exercises"]) == 2
    assert capsys.readouterr().err.startswith(
        "fastls: Cell 3 of 01_one.py must have every `### BEGIN SOLUTION` matched"
    )


def test_committed_forms_are_those_of_the_scripts():
    committed = {path.name: path.read_text(encoding="utf-8") for path in (NOTEBOOKS / "exercises").glob("*.ipynb")}
    derived = {f"{script.stem}.ipynb": format_exercises(script) for script in find_exercises(NOTEBOOKS)}
    stale = [name for name in committed.keys() | derived.keys() if committed.get(name) != derived.get(name)]
    assert not stale, f"{', '.join(sorted(stale))} differ from the scripts: run `python -m fastls exercises`"


# What a reader sees


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The form of the small script, run in the folder of exercises."""
    folder = tmp_path_factory.mktemp("notebooks") / "exercises"
    folder.mkdir()
    script = folder.parent / "01_one.py"
    script.write_text(SCRIPT, encoding="utf-8")
    return run(derive_exercises(script), folder)


def test_jupyter_shows_the_message_alone_and_goes_on(executed):
    (error,) = errors_of(executed)
    assert error.ename == "ExerciseError"
    assert error.traceback == [
        "Exercise 5, largest_gain_factor, is not solved yet.",
        "  hint      a step multiplies θ by 1 − ηc²; for which c does its absolute value not exceed 1?",
    ]
    assert code_cells(executed)[-1].outputs[0].text == "all cells ran\n"


def test_paths_hold_one_folder_deeper(executed):
    assert code_cells(executed)[1].outputs[0].data["text/plain"] == "(True, 'exercises')"


@pytest.mark.parametrize("script", FORMS)
def test_checks_of_a_form_fail_with_a_hint(script, tmp_path):
    """Run with the cells that they need. The others run in the smoke test of the notebook, and call no exercise."""
    form = derive_exercises(script)
    folders = {"runs_dir": str(tmp_path / "runs"), "figures_dir": str(tmp_path / "figures")}
    values = notebook_parameters(script, "smoke", {"device": "cpu", "jobs": 1} | folders)
    (parameters,) = [cell for cell in form.cells if "parameters" in tags(cell)]
    parameters.source += "\n" + papermill_translators.find_translator("python3", "python").codify(values, "smoke")
    asked = [cell for cell in code_cells(form) if {"exercise", "check"} & set(tags(cell))]
    theirs = {name for cell in asked if "exercise" in tags(cell) for name in defined(cell)}
    for cell in code_cells(form):
        assert cell in asked or not loaded(cell) & theirs, cell.source
    wanted, kept = set(), []
    for cell in reversed(code_cells(form)):
        if cell in asked or defined(cell) & wanted:
            kept.insert(0, cell)
            wanted = wanted - defined(cell) | loaded(cell)
    assert len(kept) < len(code_cells(form)) / 2
    form.cells = kept
    folder = NOTEBOOKS / "exercises"
    run(form, folder if folder.exists() else NOTEBOOKS)
    told = [errors_of(nbformat.v4.new_notebook(cells=[cell])) for cell in form.cells if "check" in tags(cell)]
    assert told
    for (error,) in told:
        first, hint = error.traceback
        assert re.fullmatch(r"Exercise \d, \w+, is not solved yet\.", first) and hint.startswith("  hint      ")


def defined(cell) -> set[str]:
    """Global names that a cell assigns, imports or defines."""
    symbols = symtable.symtable(cell.source, "cell", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


def loaded(cell) -> set[str]:
    """Global names that a cell reads, in its functions too."""
    tables = [symtable.symtable(cell.source, "cell", "exec")]
    for table in tables:
        tables.extend(table.get_children())
    symbols = [symbol for table in tables for symbol in table.get_symbols() if symbol.is_referenced()]
    return {symbol.get_name() for symbol in symbols if symbol.is_global()}
