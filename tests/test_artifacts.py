"""The list of artefacts against the notebooks, the figures folder, the README and the book."""

import re

import pytest
import yaml

from fastls.experiments.training.store import read_run
from fastls.experiments.training.training import is_complete
from fastls.paths import DATA, FIGURES, NOTEBOOKS, ROOT, place

ARTIFACTS = yaml.safe_load((FIGURES / "artifacts.yaml").read_text(encoding="utf-8"))
PAPER = yaml.safe_load((FIGURES / "paper.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact["id"])
class TestArtifact:
    def test_has_a_producer_that_the_readme_or_the_book_shows(self, artifact):
        readme, book = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/reproduce.md"))
        if "command" in artifact:
            assert f"`{artifact['command']}`" in readme + book
        else:
            assert (NOTEBOOKS / f"{artifact['notebook']}.py").exists()
            assert artifact["notebook"] in readme

    def test_is_committed(self, artifact):
        for name in artifact["files"]:
            assert place(FIGURES, name).stat().st_size > 100, f"{name} is missing or empty: run `make notebooks`"

    def test_claims_are_those_of_the_paper(self, artifact):
        assert {str(claim) for claim in artifact["claims"]} <= {str(claim) for claim in PAPER["claims"]}


@pytest.mark.parametrize("artefact", PAPER["artefacts"])
def test_whatever_the_paper_shows_has_a_producer(artefact):
    made = [part.strip() for artifact in ARTIFACTS for part in artifact["reproduces"].split(";")]
    assert artefact in made


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


@pytest.mark.parametrize("path", sorted((DATA / "runs").glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_committed_run_is_whole(path):
    run = read_run(path)
    assert run.rows
    assert "epoch" not in run.rows[0] or is_complete(run)  # a training has a row an epoch
