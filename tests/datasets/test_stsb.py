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
    find_source,
    find_weights,
    load_stsb,
    read_pairs,
    read_tokenizer,
)
from fastls.paths import DATA

ROWS = [f"Sentence {i}.,A sentence {i},{i % 6}\n" for i in range(40)]


def write_vocabulary(path: Path, entries: int = VOCABULARY) -> None:
    words = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "sentence", 104: "a", 105: "."}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{words.get(i, f'[unused{i}]')}\n" for i in range(entries)), encoding="utf-8")


@pytest.fixture
def root(tmp_path) -> Path:
    """A fabricated STS-B and vocabulary."""
    (tmp_path / "stsb").mkdir()
    for name in STSB_FILES:
        (tmp_path / "stsb" / name).write_text("".join(ROWS), encoding="utf-8")
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


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("Two sentences,only\n", "found 2 fields"),
        ("One, two, three,4.0\n", "found 4 fields"),
        ("\n", "found 0 fields"),
        ("A sentence,another,5.1\n", "found '5.1'"),
        ("A sentence,another,-1\n", "found '-1'"),
        ("A sentence,another,nan\n", "found 'nan'"),
        ("A sentence,another,high\n", "found 'high'"),
        ("A sentence,  ,3\n", "found an empty one"),
        ('"A sentence"s,another,3\n', "comma-separated"),
    ],
)
def test_malformed_row_is_named(root, row, found):
    path = root / "stsb" / "stsb-en-train.csv"
    path.write_text("".join([*ROWS[:6], row, *ROWS[6:]]), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_stsb(10, 10, source="stsb", root=root)
    for part in (f"{path}, line 7", found, stsb.DOWNLOAD):
        assert part in str(caught.value)


def test_quoted_commas_are_no_separators(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('"Yes, it is.","It ""is"".",4.25\n', encoding="utf-8")
    assert read_pairs(path) == [("Yes, it is.", 'It "is".', 4.25)]


def test_missing_and_empty_files(root):
    path = root / "stsb" / "stsb-en-dev.csv"
    path.write_text("")
    with pytest.raises(DataError, match="found an empty file"):
        load_stsb(10, 10, root=root)
    path.unlink()
    with pytest.raises(DataError, match="stsb-en-dev.csv is missing"):
        load_stsb(10, 10, root=root)


def test_file_that_is_not_utf8(root):
    path = root / "stsb" / "stsb-en-train.csv"
    path.write_bytes(path.read_bytes() + b"caf\xe9,tea,1\n")
    with pytest.raises(DataError, match="stsb-en-train.csv, line"):
        load_stsb(10, 10, root=root)


def test_too_many_pairs(root):
    with pytest.raises(DataError, match=r"40 training pairs here, found 41 asked for"):
        load_stsb(41, 10, root=root)


@pytest.mark.parametrize(("options", "message"), [({"source": "sts"}, "`source`"), ({"n_train": 0}, "at least 1")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        load_stsb(**({"n_train": 1, "n_test": 1, "source": "templates"} | options))


def test_a_cut_pair_is_told_in_the_description(root):
    path = root / "stsb" / "stsb-en-train.csv"
    path.write_text("a " * 600 + ",a,1\n" + "".join(ROWS), encoding="utf-8")
    assert load_stsb(41, 10, root=root).description == "STS-B (1 pairs cut to 512 tokens)"
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


def test_download(tmp_path, root, monkeypatch):
    contents = {name: (root / "stsb" / name).read_bytes() for name in STSB_FILES}
    contents |= {
        "vocab.txt": (root / "bert" / "vocab.txt").read_bytes(),
        "config.json": b"{}",
        "model.safetensors": b"",
    }
    hashes = {name: hashlib.sha256(contents[name]).hexdigest() for name in STSB_FILES}
    serve(monkeypatch, contents)
    target = tmp_path / "data"
    with pytest.raises(DataError, match="sha256 must be"):
        download_stsb(target)
    assert not list(target.iterdir())
    monkeypatch.setattr(stsb, "STSB_FILES", hashes)
    assert download_stsb(target) == target / "stsb"
    assert {path.name: path.read_bytes() for path in target.glob("*/*")} == contents
    assert sorted(path.name for path in target.iterdir()) == ["bert", "stsb"]
    assert len(load_stsb(10, 10, root=target).train) == 10


@pytest.mark.parametrize("lacking", ["vocab.txt", "stsb-en-dev.csv"])
def test_download_without_network(tmp_path, root, monkeypatch, lacking):
    contents = {name: (root / "bert" / "vocab.txt").read_bytes() for name in BERT_FILES}
    contents |= {name: (root / "stsb" / name).read_bytes() for name in STSB_FILES}
    del contents[lacking]
    sha256 = hashlib.sha256("".join(ROWS).encode()).hexdigest()
    monkeypatch.setattr(stsb, "STSB_FILES", dict.fromkeys(STSB_FILES, sha256))
    serve(monkeypatch, contents)
    target = tmp_path / "data"
    with pytest.raises(DataError) as caught:
        download_stsb(target)
    for part in (lacking, "no network", stsb.DOWNLOAD, "HF_HUB_OFFLINE"):
        assert part in str(caught.value)
    assert not list(target.iterdir())


@pytest.mark.data
@pytest.mark.skipif(find_source() != "stsb", reason="STS-B is not under data/")
def test_real_stsb_is_whole():
    data = load_stsb()
    assert (len(data.train), len(data.test)) == (5_749, 1_500)
    for name, sha256 in STSB_FILES.items():
        assert hashlib.sha256((DATA / "stsb" / name).read_bytes()).hexdigest() == sha256
    unknown = (data.train.tokens == SPECIAL_TOKENS["[UNK]"]).float().mean()
    assert unknown < 1e-3 and data.train.truncated == 0
