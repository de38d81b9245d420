"""The web book: it shows the committed notebooks and pages, and runs nothing.

The source directory is the root of the repository (`make book`), so that links between pages stay as they are.
"""

import json
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

project, author, copyright = "fastls", "the authors of fastls", "MIT for code, CC BY 4.0 for text"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx-mathjax-offline"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "notebooks/**.ipynb", "figures/**.md", "data/README.md", "*.md"]
exclude_patterns = [".*", "build", "tests", "fastls", "data/runs", "data/[!R]*", "docs/slides", "**/.ipynb_checkpoints"]
suppress_warnings = ["toc.not_included", "myst.header", "mystnb.unknown_mime_type", "config.cache"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # what cells display has tables and formulas, as the text has
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = True
default_role = "literal"  # the docstrings write `code`
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature has them
napoleon_google_docstring, napoleon_use_ivar = True, True

html_theme = "sphinx_book_theme"
html_title = "Fast line search for multi-task learning"
html_context = {"default_mode": "auto"}  # without it the theme logs an error on every page
html_static_path = ["static"]
html_css_files = ["book.css"]
html_show_sphinx = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_theme_options = {"show_toc_level": 2}
if "/OWNER/" not in REPOSITORY:  # a placeholder leads nowhere
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "repository_branch": "main",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"},
    }


# Tag of a cell that is folded -> what a click shows.
FOLDED = {
    "exercise": "a solution",
    "parameters": "the parameters at the default size",
    "injected-parameters": "the parameters of this page",
    "install": "how to install",
    "live": "the code of the live figure",
    "quiz": "the code of the questions",
}


def prepare_notebook(app, docname, source):
    """Fold what a reader does not need at first sight.

    A figure's alternative text is the first line of its caption.
    """
    path = ROOT / f"{docname}.ipynb"
    if not path.exists() or docname.startswith("notebooks/exercises"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if folded := FOLDED.keys() & set(_tags(cell)):
            cell["metadata"]["tags"] = [*_tags(cell), "hide-input"]
            cell["metadata"]["mystnb"] = {"code_prompt_show": f"Show {FOLDED[folded.pop()]}"}
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        captions = ["".join(some["text/markdown"]).strip() for some in data if "text/markdown" in some]
        if captions and any("image/png" in some for some in data):
            text = captions[0].splitlines()[0].replace("$", "").rstrip()
            cell["metadata"].setdefault("mystnb", {})["image"] = {"alt": text}
    source[0] = json.dumps(notebook)


def _tags(cell) -> list[str]:
    return cell["metadata"].get("tags", [])


def setup(app):
    app.connect("source-read", prepare_notebook)
