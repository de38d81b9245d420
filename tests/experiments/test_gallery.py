"""Results at a glance: what lies in the folder, in the order of the notebooks; and the committed page is current."""

import yaml

from fastls.experiments.gallery import SHORT, make_gallery, write_gallery
from fastls.paths import FIGURES

PAGES = {"table-1.md": "# Title\n\n| a |\n| --- |\n| 1 |\n\nA note with a | in it.\n"}
PAGES |= {"ours-long.md": "| b |\n| --- |\n" + "| 2 |\n" * (SHORT + 1), "ours-c.png": "drawn", "ours-c.pdf": "drawn"}


def make_folder(root) -> str:
    """Three artefacts, one of which was not made, in the reverse order of their notebooks; returns the page."""
    entry = {"data": "digits", "claims": [1, 3], "reproduces": "ours"}
    artefacts = [
        entry | {"title": "By a command", "command": "make bench", "files": ["ours-long.md"]},
        entry
        | {"title": "Second", "notebook": "02_two", "files": ["table-1.md", "table-1.csv"], "reproduces": "table 1"},
        entry | {"title": "Not made", "notebook": "02_two", "files": ["ours-missing.png"]},
        entry | {"title": "First", "notebook": "01_one", "files": ["ours-c.pdf", "ours-c.png"], "claims": []},
    ]
    (root / "figures" / "ours").mkdir(parents=True)
    (root / "figures" / "artifacts.yaml").write_text(yaml.safe_dump(artefacts))
    for name, text in PAGES.items():
        (root / "figures" / ("ours" if name.startswith("ours") else "") / name).write_text(text)
    return write_gallery(root / "figures", root).read_text()


def test_what_is_there_is_shown_in_the_order_of_the_notebooks(tmp_path):
    page = make_folder(tmp_path)
    headings = [line for line in page.splitlines() if line.startswith("##")]
    assert headings == [
        "## [01_one](../notebooks/01_one.ipynb)",
        "### First",
        "## [02_two](../notebooks/02_two.ipynb)",
        "### Second (table 1)",
        "## `make bench`",
        "### By a command",
    ]
    assert "![First](ours/ours-c.png)" in page
    assert "\n\nData: digits; [ours-c.pdf](ours/ours-c.pdf), [ours-c.png](ours/ours-c.png).\n" in page
    assert "\n\n| a |\n| --- |\n| 1 |\n\nData: digits; tests claim 1, 3; [table-1.md](table-1.md).\n" in page


def test_a_long_table_is_folded(tmp_path):
    folded = f"<details><summary>ours-long, {SHORT + 1} rows</summary>\n\n| b |"
    assert make_folder(tmp_path).count("<details>") == 1 and folded in make_folder(tmp_path / "again")


def test_the_committed_page_is_current():
    committed = (FIGURES / "README.md").read_text(encoding="utf-8")
    assert make_gallery(FIGURES) == committed, "stale: run `python -m fastls front-page`"
