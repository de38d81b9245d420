"""One notebook: read from its percent script, executed with parameters, stamped with the code that made its outputs.

The script is the source; the .ipynb beside it is generated, so that readers see outputs without running anything.
"""

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from fastls.experiments.parameters import check_values, parse_parameters

MAX_BYTES = 2_000_000  # of a committed notebook: a larger one loads slowly on the web
# Folders that exist on one machine only. Base64 of images is never searched: it may spell anything.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/-])(?:/(?:home|root|Users|tmp|work|workspace|mnt|opt|srv|usr|var)/|[A-Z]:\\)[^\s'\",)\]]+"
)


def read_script(script: Path) -> NotebookNode:
    """The notebook of a percent script, without outputs."""
    return jupytext.read(script, fmt="py:percent")


def read_parameters(notebook: NotebookNode, name: str) -> dict:
    """Names and default values from the cell tagged ``parameters``.

    Raises:
        ValueError: no such cell or several, or a line that is not ``name = literal``.
    """
    cells = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"Notebook {name} must have one cell tagged `parameters`, found {len(cells)}.")
    return parse_parameters(cells[0].source, name)


def check_parameters(given: dict, notebook: NotebookNode, name: str) -> None:
    """Raise ValueError if the notebook lacks a given parameter, or a value is of the wrong kind or out of range.

    papermill would only warn about an unknown name.
    """
    known = read_parameters(notebook, name)
    unknown = [parameter for parameter in given if parameter not in known]
    if unknown:
        raise ValueError(
            f"Notebook {name} has no parameter {', '.join(unknown)}; its parameters are {', '.join(known)}."
        )
    check_values(given, known, name)


def execute(script: Path, output: Path, parameters: dict, before_cell: Callable[[NotebookNode], None]) -> NotebookNode:
    """Run a script as a notebook in its own kernel. `output` is written during the run, so it remains after a failure.

    Args:
        script: the percent script.
        output: the executed notebook.
        parameters: what papermill injects.
        before_cell: called with each code cell before it runs.

    Raises:
        papermill.PapermillExecutionError: a cell raised.
        nbclient.exceptions.DeadKernelError: the kernel died.
    """
    import papermill  # a second of imports, needed nowhere else

    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(read_script(script), output)
    return papermill.execute_notebook(
        output,
        output,
        parameters,
        kernel_name="python3",
        language="python",
        cwd=script.parent,
        progress_bar=False,
        stderr_file=sys.stderr,
        coalesce_streams=True,
        store_widget_state=False,
        on_cell_execute=lambda cell, cell_index: before_cell(cell),
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else every kernel warns of TCP without encryption
    )


def stamp(notebook: NotebookNode, parameters: dict) -> NotebookNode:
    """An executed notebook, ready to commit: without times and random ids, with the hash of its code."""
    notebook = nbformat.from_dict(notebook)
    metadata = notebook.metadata
    for noise in ("papermill", "widgets", "jupytext"):
        metadata.pop(noise, None)
    metadata.get("language_info", {}).pop("version", None)
    metadata["run"] = {"code_sha": compute_code_sha(notebook), "parameters": parameters}
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"
        cell.metadata = nbformat.from_dict({"tags": tags(cell)} if tags(cell) else {})
    return notebook


def compute_code_sha(notebook: NotebookNode) -> str:
    """Sixteen hexadecimal digits of the sha256 of the code cells, without the one that papermill adds."""
    return hashlib.sha256("\0".join(read_code(notebook)).encode()).hexdigest()[:16]


def read_code(notebook: NotebookNode) -> list[str]:
    """Sources of the code cells, without the one that papermill adds."""
    return [cell.source.strip() for cell in code_cells(notebook) if "injected-parameters" not in tags(cell)]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def check_notebook_pair(script: Path, executed: Path) -> list[str]:
    """Problems of a committed notebook compared with its script; empty if there are none. Nothing is executed."""
    advice = "run `make notebooks`"
    if not executed.exists():
        return [f"{executed.name} is missing: {advice}"]
    source, notebook = read_script(script), nbformat.read(executed, as_version=4)
    problems = []
    if executed.stat().st_size > MAX_BYTES:
        problems.append(f"{executed.name} has {executed.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
    if read_code(source) != read_code(notebook):
        problems.append(f"code cells of {executed.name} differ from {script.name}: {advice}")
    if notebook.metadata.get("run", {}).get("code_sha") != compute_code_sha(source):
        problems.append(f"{executed.name} was not made by the code of {script.name}: {advice}")
    for i, cell in enumerate(code_cells(notebook)):
        problems += [f"code cell {i} of {executed.name} {problem}" for problem in _check_cell(cell)]
    return problems


def _check_cell(cell: NotebookNode) -> list[str]:
    problems = []
    if cell.source.strip() and cell.execution_count is None:
        problems.append("was not executed")
    if any(output.output_type == "error" for output in cell.outputs):
        problems.append("ended with an error")
    for text in (cell.source, *map(_text_of, cell.outputs)):
        problems += [f"holds the absolute path {path}" for path in ABSOLUTE_PATH.findall(text)]
    return problems


def _text_of(output: NotebookNode) -> str:
    texts = [output.get("text", "")]
    texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(texts)
