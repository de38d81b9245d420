"""The exercise form of a notebook: the same script without its solutions, so that the two cannot drift apart.

In the percent script a cell tagged ``exercise`` defines a function whose body stands between nbgrader's markers. The
next cell, tagged ``check``, checks it. ``python -m fastls exercises`` writes this form; nothing is executed.
"""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from fastls.experiments.notebook_runner import read_script, tags
from fastls.paths import ROOT, write_atomically

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SOLUTION = re.compile(rf"^( *){BEGIN}\n(?:.*\n)*?\1{END}$", flags=re.MULTILINE)
YOUR_TURN = 'raise NotImplementedError("your turn")'
NOTICE = """\
> **Exercise form** of [{name}](../{name}.ipynb), which has the solutions and all outputs. Every function that raises
> `NotImplementedError` is yours to write; the cell below it checks your answer and hints. All other cells run as they
> are. Made from `{name}.py`: save your answers under another name before you update.\
"""
# The place before a relative path in a link: the exercise form lies one folder deeper. Not in formulas, [x](y).
RELATIVE_LINK = re.compile(r"(?<=\]\()(?=[\w-]*[.][\w./-]+(?:#[\w-]*)?\))")


def write_exercises(root: Path = ROOT) -> list[Path]:
    """Write ``notebooks/exercises/NN_name.ipynb`` for every script that has exercises.

    Returns:
        The files, in the order of their names.

    Raises:
        ValueError: as `derive_exercises`, before anything is written.
    """
    folder = root / "notebooks" / "exercises"
    texts = {folder / f"{script.stem}.ipynb": format_exercises(script) for script in find_exercises(root / "notebooks")}
    for path, text in texts.items():
        write_atomically(path, text)
    return list(texts)


def find_exercises(folder: Path) -> list[Path]:
    """The scripts ``NN_name.py`` that have a cell tagged ``exercise`` or a marker of a solution."""
    scripts = sorted(folder.glob("[0-9][0-9]_*.py"))
    return [script for script in scripts if any(_concerns_exercises(cell) for cell in read_script(script).cells)]


def format_exercises(script: Path) -> str:
    """The text of the exercise form; it depends on the script alone."""
    return nbformat.writes(derive_exercises(script)) + "\n"


def derive_exercises(script: Path) -> NotebookNode:
    """The notebook of a percent script with every solution replaced by `YOUR_TURN`.

    Check cells are tagged ``raises-exception``, so that *Run All* goes on after an exercise that is not solved yet.

    Raises:
        ValueError: an exercise without a solution or without a check after it, or a marker without its partner.
    """
    notebook = read_script(script)
    cells = notebook.cells
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            cell.source = RELATIVE_LINK.sub("../", cell.source)
        elif _concerns_exercises(cell):
            cell.source = _strip_solution(cell, f"Cell {i} of {script.name}")
            check = cells[i + 1] if i + 1 < len(cells) else None
            if check is None or "check" not in tags(check):
                raise ValueError(
                    f"Cell {i} of {script.name} is an exercise, so the next cell must be its check, tagged `check`; "
                    f"found {'none' if check is None else f'a {check.cell_type} cell tagged {tags(check)}'}."
                )
    for cell in cells:
        if "check" in tags(cell):
            cell.metadata["tags"] = [*tags(cell), "raises-exception"]
    cells.insert(1, nbformat.v4.new_markdown_cell(NOTICE.format(name=script.stem)))
    for i, cell in enumerate(cells):
        cell.id = f"cell-{i:03d}"
    # Without this entry, Jupyter would pair the form with a script beside it, as jupytext.toml says.
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": notebook.metadata.kernelspec, "jupytext": {"formats": "ipynb"}}
    )
    return notebook


def _concerns_exercises(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and ("exercise" in tags(cell) or BEGIN in cell.source or END in cell.source)


def _strip_solution(cell: NotebookNode, name: str) -> str:
    if "exercise" not in tags(cell):
        raise ValueError(f"{name} has a marker of a solution, so it must be tagged `exercise`; found {tags(cell)}.")
    stripped, solutions = SOLUTION.subn(rf"\1{YOUR_TURN}", cell.source)
    begins, ends = cell.source.count(BEGIN), cell.source.count(END)
    if not begins == ends == solutions:
        raise ValueError(
            f"{name} must have every `{BEGIN}` matched by an `{END}` at the same indentation, each on a line of its "
            f"own; found {begins} and {ends}, of which {solutions} match."
        )
    if not solutions:
        raise ValueError(f"{name} is tagged `exercise` and must have a solution between `{BEGIN}` and `{END}`.")
    return stripped
