"""STS-B: sources, the seeded subset, malformed files, the download."""

import hashlib
from pathlib import Path
from urllib.error import URLError

import huggingface_hub
import pytest
import torch

from fastls.datasets import stsb
from fastls.datasets.common import DataError
from fastls.datasets.stsb import (
    BERT_FILES,
    SPECIAL_TOKENS,
    STSB_FILES,
    VOCABULARY,
    download_stsb,
    find_checkpoint,
    find_source,
    find_weights,
    load_stsb,
    read_tokenizer,
)
from fastls.paths import DATA

WEIGHTS = hashlib.sha256(b"weights").hexdigest()  # of what stands for MiniLM's
ROWS = [f"Sentence {i}.,A sentence {i},{i % 6}\n" for i in range(40)]


def write_vocabulary(path: Path, entries: int = VOCABULARY) -> None:
    words = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "sentence", 104: "a", 105: "."}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{words.get(i, f'[unused{i}]')}\n" for i in range(entries)), encoding="utf-8")


def write_pairs(monkeypatch, folder: Path, text: str) -> None:
    """Both files of STS-B with this text, which counts as the true one."""
    folder.mkdir(exist_ok=True)
    for name in STSB_FILES:
        (folder / name).write_text(text, encoding="utf-8")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setattr(stsb, "STSB_FILES", dict.fromkeys(STSB_FILES, sha256))


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A fabricated STS-B and vocabulary."""
    write_pairs(monkeypatch, tmp_path / "stsb", "".join(ROWS))
    write_vocabulary(tmp_path / "bert" / "vocab.txt")
    return tmp_path


def test_stand_in_and_source(root, tmp_path_factory):
    assert find_source(root) == "stsb"
    empty = tmp_path_factory.mktemp("empty")
    assert find_source(empty) == "templates"
    data = load_stsb(30, 10, root=empty)
    assert data.source == "templates" and "stand-in" in data.description
    assert (len(data.train), len(data.test)) == (30, 10)
    assert set((5 * data.train.scores).tolist()) <= set(range(6))


def test_subset_is_seeded_and_not_the_head_of_the_file(root):
    scores = [float(row.rsplit(",", 1)[1]) / 5 for row in ROWS]
    data, again, other = (load_stsb(20, 10, root=root, seed=seed) for seed in (0, 0, 1))
    assert data.fingerprint == again.fingerprint != other.fingerprint
    assert data.train.scores.tolist() != pytest.approx(scores[:20])
    everything = load_stsb(40, 40, root=root).train.scores
    assert sorted(everything.tolist()) == pytest.approx(sorted(scores))
    assert torch.equal(everything[:20], data.train.scores)  # a larger subset holds the smaller


def test_quoted_commas_are_no_separators(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('"Yes, it is.","It ""is"".",4.25\n', encoding="utf-8")
    assert stsb._read_pairs(path) == [("Yes, it is.", 'It "is".', 4.25)]


@pytest.mark.parametrize("name", STSB_FILES)
def test_damaged_files_are_refused(root, name):
    path = root / "stsb" / name
    path.write_text("".join(ROWS[:-1]))
    with pytest.raises(DataError, match="sha256 must be.*delete data/stsb") as caught:
        load_stsb(10, 10, root=root)
    assert str(path) in str(caught.value) and stsb.DOWNLOAD in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        load_stsb(10, 10, root=root)


def test_files_of_another_name_are_not_passed_over(tmp_path):
    (tmp_path / "stsb").mkdir()
    (tmp_path / "stsb" / "sts-train.tsv").touch()
    with pytest.raises(DataError, match=stsb.DOWNLOAD):
        load_stsb(10, 10, root=tmp_path)


def test_too_many_pairs_are_refused(root):
    for sizes in ((41, 40), (40, 41)):
        with pytest.raises(DataError, match="STS-B has 40 training and 40 test examples here"):
            load_stsb(*sizes, root=root)


def test_a_cut_pair_is_told_in_the_description(root, monkeypatch):
    write_pairs(monkeypatch, root / "stsb", "a " * 600 + ",a,1\n" + "".join(ROWS))
    assert load_stsb(41, 41, root=root).description == "STS-B (2 pairs cut to 512 tokens)"
    assert load_stsb(10, 10, source="templates").description == stsb.SOURCES["templates"]


def test_vocabulary_that_does_not_fit(root):
    path = root / "bert" / "vocab.txt"
    assert read_tokenizer(path).encode("A sentence.").ids == [101, 104, 103, 105, 102]
    write_vocabulary(path, VOCABULARY - 1)
    with pytest.raises(DataError, match=r"30,522 different entries .* found 30,521"):
        load_stsb(10, 10, root=root)
    path.write_text("[PAD]\n" * VOCABULARY, encoding="utf-8")
    with pytest.raises(DataError, match="found 1 with"):
        read_tokenizer(path)
    path.unlink()
    with pytest.raises(DataError, match="vocab.txt is missing"):
        load_stsb(10, 10, root=root)


def test_weights_are_those_of_bert_base_on_stsb(root):
    assert find_weights("stsb", 12, 768, root) == "random"
    for name in BERT_FILES:
        (root / "bert" / name).touch()
    assert find_weights("stsb", 12, 768, root) == "pretrained"
    assert {find_weights(*other, root) for other in (("templates", 12, 768), ("stsb", 2, 128))} == {"random"}


def serve(monkeypatch, contents: dict[str, bytes]) -> None:
    """Hub and GitHub hand out these files; a name without content is a network that fails."""

    def fetch(name: str, path: Path):
        if name not in contents:
            raise URLError("no network")
        Path(path).write_bytes(contents[name])

    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repo, name, local_dir: fetch(name, Path(local_dir) / name)
    )
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, path, progress: fetch(Path(url).name, path))


@pytest.fixture
def contents(root) -> dict[str, bytes]:
    """What hub and GitHub have: the fabricated files."""
    pairs = {name: (root / "stsb" / name).read_bytes() for name in STSB_FILES}
    vocabulary = (root / "bert" / "vocab.txt").read_bytes()
    return pairs | {"vocab.txt": vocabulary, "config.json": b"{}", "model.safetensors": b"weights"}


def test_download(tmp_path, contents, monkeypatch):
    serve(monkeypatch, contents)
    monkeypatch.setitem(stsb.MINILM_FILES, "model.safetensors", WEIGHTS)
    target = tmp_path / "data"
    assert download_stsb(target) == target / "stsb"
    assert {path.name: path.read_bytes() for path in target.glob("*/*")} == contents
    assert sorted(path.name for path in target.iterdir()) == ["bert", "minilm", "stsb"]
    assert find_checkpoint("minilm", target) == target / "minilm"
    assert len(load_stsb(10, 10, root=target).train) == 10


def test_weights_that_are_not_minilms_are_refused(tmp_path, contents, monkeypatch):
    serve(monkeypatch, contents)
    with pytest.raises(DataError, match="model.safetensors.*sha256"):
        download_stsb(tmp_path / "data")
    assert not (tmp_path / "data" / "minilm" / "model.safetensors").exists()
    with pytest.raises(DataError, match="MiniLM.*download stsb"):
        find_checkpoint("minilm", tmp_path / "data")
    with pytest.raises(ValueError, match="'distilled'"):
        find_checkpoint("distilled")


@pytest.mark.parametrize("lacking", ["vocab.txt", "stsb-en-dev.csv"])
def test_download_without_network(tmp_path, contents, monkeypatch, lacking):
    del contents[lacking]
    serve(monkeypatch, contents)
    monkeypatch.setitem(stsb.MINILM_FILES, "model.safetensors", WEIGHTS)
    with pytest.raises(DataError) as caught:
        download_stsb(tmp_path / "data")
    for part in (lacking, "no network", stsb.DOWNLOAD, "HF_HUB_OFFLINE"):
        assert part in str(caught.value)
    assert find_source(tmp_path / "data") == "templates"


@pytest.mark.data
@pytest.mark.skipif(find_source() != "stsb", reason="STS-B is not under data/")
def test_real_stsb_is_whole():
    data = load_stsb()
    assert (len(data.train), len(data.test)) == (5_749, 1_500)
    for name, sha256 in STSB_FILES.items():
        assert hashlib.sha256((DATA / "stsb" / name).read_bytes()).hexdigest() == sha256
    unknown = (data.train.tokens == SPECIAL_TOKENS["[UNK]"]).float().mean()
    assert unknown < 1e-3 and data.train.truncated == 0
