"""The list of artefacts against the notebooks, the figures folder, the README and the book."""

import re

import yaml

from fastls.experiments.training.store import read_run
from fastls.experiments.training.training import is_complete
from fastls.paths import DATA, FIGURES, NOTEBOOKS, ROOT, place

ARTIFACTS = yaml.safe_load((FIGURES / "artifacts.yaml").read_text(encoding="utf-8"))
PAPER = yaml.safe_load((FIGURES / "paper.yaml").read_text(encoding="utf-8"))


def test_every_artifact_has_a_producer_that_the_readme_or_the_book_shows():
    readme, book = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/reproduce.md"))
    commands = {artifact["command"] for artifact in ARTIFACTS if "command" in artifact}
    notebooks = {artifact["notebook"] for artifact in ARTIFACTS if "command" not in artifact}
    assert [command for command in commands if f"`{command}`" not in readme + book] == []
    assert [name for name in notebooks if name not in readme or not (NOTEBOOKS / f"{name}.py").exists()] == []


def test_every_artifact_is_committed():
    paths = [place(FIGURES, name) for artifact in ARTIFACTS for name in artifact["files"]]
    missing = [path.name for path in paths if not path.exists() or path.stat().st_size <= 100]
    assert missing == [], "missing or empty: run `make notebooks`"


def test_claims_are_those_of_the_paper():
    assert {str(claim) for part in ARTIFACTS for claim in part["claims"]} <= {str(claim) for claim in PAPER["claims"]}


def test_whatever_the_paper_shows_has_a_producer():
    made = [part.strip() for artifact in ARTIFACTS for part in artifact["reproduces"].split(";")]
    assert [artefact for artefact in PAPER["artefacts"] if artefact not in made] == []


def test_no_file_of_figures_is_without_an_entry():
    listed = {place(FIGURES, name) for artifact in ARTIFACTS for name in artifact["files"]}
    assert {path for path in FIGURES.rglob("*") if path.is_file()} == listed | {
        FIGURES / "README.md",
        *FIGURES.glob("*.yaml"),
    }


def test_links_of_pages_lead_to_files():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "data" / "README.md", *FIGURES.rglob("*.md")]
    targets = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text("utf-8"))]
    assert len(targets) > 30
    assert [(page.name, link) for page, link in targets if not (page.parent / link).exists()] == []


def test_every_committed_run_is_whole():
    """A file that cannot be read is named by `read_run`."""
    runs = {path.stem: read_run(path) for path in (DATA / "runs").glob("*.jsonl")}
    trainings = {name: run for name, run in runs.items() if run.rows and "epoch" in run.rows[0]}  # a row an epoch
    assert len(trainings) > 100
    assert [name for name, run in runs.items() if not run.rows] == []
    assert [name for name, run in trainings.items() if not is_complete(run)] == []
