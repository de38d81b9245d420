"""The web book shows what the notebooks show: tables, formulas and the parameters of the committed runs."""

import re
import subprocess
import sys

import pytest

from fastls.paths import ROOT

pytestmark = pytest.mark.slow
TEX = re.compile(r"\$[^<>$\n]*[\\_^{][^<>$\n]*\$")  # a formula that nobody has set


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name of a notebook -> its page, without scripts and code."""
    for module in ("myst_nb", "sphinx_book_theme"):
        pytest.importorskip(module, reason="`make book` installs what builds the book")
    book = tmp_path_factory.mktemp("book")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-c", "docs", ".", str(book)], cwd=ROOT, check=True)
    found = sorted((book / "notebooks").glob("0*.html"))
    assert len(found) == 8
    return {page.stem: re.sub(r"<(pre|script|code)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL) for page in found}


def test_tables_and_formulas_of_outputs_are_set(pages):
    assert [name for name, page in pages.items() if "<p>|" in page] == []
    assert {name: TEX.findall(page) for name, page in pages.items() if TEX.search(page)} == {}


def test_figures_have_a_text_in_their_place(pages):
    for name, page in pages.items():
        texts = re.findall(r'<img alt="([^"]*)" src="\.\./_images', page)
        assert texts and not [text for text in texts if re.search(r"[0-9a-f]{40}", text)], name


def test_the_parameters_of_the_committed_run_are_shown(pages):
    """They stand in a second folded cell below the defaults."""
    for name, page in pages.items():
        assert page.count("tag_injected-parameters") == page.count("tag_parameters") == 1, name
