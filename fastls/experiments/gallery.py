"""Results at a glance: the README.md of a folder of figures, made from ``artifacts.yaml`` and the files of the folder.

The claims and the times of all data sets come first; then pictures, tables and verdicts in the order of the notebooks.
"""

import re
from itertools import groupby
from pathlib import Path

from fastls.experiments.front_page import OVERVIEW, make_overview
from fastls.experiments.reproduce import read_artefacts
from fastls.paths import ROOT, place, write_atomically

SHORT = 12  # rows; a longer table is folded
HEAD = """# Results at a glance

Written by `make figures` or `make reproduce` from what lies in this folder: the claims and the times of all data sets,
then figures, tables and verdicts in the order of the notebooks. What was measured, on which data and how often is
printed under every figure; a table's own page has its notes, its `.csv` all digits."""


def write_gallery(figures: Path, root: Path = ROOT) -> Path:
    """Write ``README.md`` into ``figures`` of the repository or another folder of the same layout."""
    path = figures / "README.md"
    write_atomically(path, make_gallery(figures, root))
    return path


def make_gallery(figures: Path, root: Path = ROOT) -> str:
    """The page; files that are missing in the folder are left out."""
    parts = [HEAD, *make_overview(figures)]
    present = [(artefact, files) for artefact in read_artefacts(root) if (files := _find_files(artefact, figures))]
    for maker, group in groupby(sorted(present, key=_name_maker), _name_maker):
        parts += [f"## {maker}", *(_show(artefact, files, figures) for artefact, files in group)]
    return "\n\n".join(parts) + "\n"


def _find_files(artefact: dict, figures: Path) -> list[Path]:
    return [path for name in artefact["files"] if (path := place(figures, name)).exists()]


def _name_maker(entry: tuple[dict, list[Path]]) -> str:
    """Heading: the notebook or command that makes an artefact; notebooks sort before commands."""
    artefact, _ = entry
    notebook = artefact.get("notebook")
    return f"[{notebook}](../notebooks/{notebook}.ipynb)" if notebook else f"`{artefact['command']}`"


def _show(artefact: dict, files: list[Path], figures: Path) -> str:
    """Title, pictures and tables, and a line with data, claims and links."""
    ours = artefact["reproduces"] == "ours"
    links = {path: path.relative_to(figures).as_posix() for path in files}
    notes = [f"Data: {artefact['data']}"]
    if artefact["claims"]:
        notes.append(f"tests claim {', '.join(map(str, artefact['claims']))}")
    notes.append(", ".join(f"[{path.name}]({link})" for path, link in links.items()))
    return "\n\n".join(
        [
            f"### {artefact['title']}" + ("" if ours else f" ({artefact['reproduces']})"),
            *(f"![{artefact['title']}]({link})" for path, link in links.items() if path.suffix == ".png"),
            *(_show_table(path) for path in files if path.suffix == ".md" and path.stem != OVERVIEW),
            "; ".join(notes) + ".",
        ]
    )


def _show_table(path: Path) -> str:
    """The tables of a page in Markdown, folded if they are long."""
    tables = re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = "\n".join(tables).rstrip()
    rows = sum(table.count("\n") - 2 for table in tables)
    return text if rows <= SHORT else f"<details><summary>{path.stem}, {rows} rows</summary>\n\n{text}\n\n</details>"
