"""README, CONTRIBUTING and the pages of the book: every command and name that they mention exists."""

import re
import sys
import tomllib

import pytest

import fastls
from fastls.__main__ import _make_parser
from fastls.experiments.notebook_runner import read_script, tags
from fastls.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", TEXTS)
class TestPage:
    def test_targets_of_make_exist(self, name):
        asked = re.findall(r"(?:^|`)make ([a-z-]+(?: [a-z-]+)*)", TEXTS[name], flags=re.MULTILINE)
        assert {word for words in asked for word in words.split()} <= set(TARGETS)

    def test_commands_of_fastls_are_understood(self, name):
        for command in re.findall(r"python -m fastls ([^`\n#]+)", TEXTS[name]):
            assert _make_parser().parse_args(command.split()).command

    def test_what_is_said_to_be_in_fastls_is_there(self, name):
        names = re.findall(r"\bfastls\.([A-Za-z]\w*)\b(?!/)", TEXTS[name])
        rooms = {path.stem for path in (ROOT / "fastls").iterdir()}
        assert [part for part in names if not hasattr(fastls, part) and part not in rooms] == []


def test_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 110


def test_the_address_of_the_repository_is_everywhere_the_same():
    """One line changes it: see CONTRIBUTING.md."""
    files = [*PAGES, *(ROOT / "notebooks").glob("*.py"), ROOT / "pyproject.toml"]
    found = {part for path in files for part in re.findall(r"github(?:\.com)?/([\w.-]+/fastls)\b", path.read_text())}
    assert len(found) <= 1, found


def test_the_lecture_has_fifteen_slides_with_notes_and_shows_what_is_there():
    page = ROOT / "docs/slides/index.md"
    slides = re.split(r"^#{1,2} ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(slides) == 15 and all(slide.count(":::{revealjs-notes}") == 1 for slide in slides)
    text = "".join(slides)
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text):
        assert (page.parent / picture).exists(), picture
    included = re.findall(r'\{include\} (\S+)\n:start-after: "(.+)"\n:end-before: "(.+)"', text)
    assert len(included) == text.count("{include}") > 0
    for name, start, end in included:
        part = (page.parent / name).read_text(encoding="utf-8").split(start, 1)[1].split(end, 1)[0]
        assert part.count("\n|") > 3, f"{name} must have a table between {start!r} and {end!r}"


@pytest.mark.parametrize("name", ["01_theory", "02_toy_quadratics"])
def test_the_cell_that_installs_fetches_the_repository_and_does_nothing_where_it_is_installed(name, monkeypatch):
    commands = []
    monkeypatch.setattr("subprocess.run", lambda command, check: commands.append(command))
    monkeypatch.setattr("sys.path", sys.path.copy())
    (cell,) = [cell for cell in read_script(ROOT / "notebooks" / f"{name}.py").cells if "install" in tags(cell)]
    exec(cell.source, {})
    assert commands == []
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    exec(cell.source, {})
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    assert commands[0][-2] == repository and commands[1][-1] == commands[0][-1] == sys.path[0]
