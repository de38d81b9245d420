"""STS-B: sentence pairs scored by how alike they are, as three equal tasks.

After Filatov and Merkulov (2021), who measure BERT on the STS benchmark (Cer et al. 2017) "with T = 3 same tasks".
The pairs come from the English files of stsb-multi-mt if they are on this machine, else from templates. The benchmark's
dev set serves as test set; its test set is not used.
"""

import csv
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer

from fastls.datasets.common import (
    DataError,
    MultiTaskData,
    check_files,
    check_request,
    check_sizes,
    download,
    holds_files,
    permutation,
    warn_of_unused,
)
from fastls.datasets.sentences import MAX_TOKENS, Pair, make_pairs, tokenise, train_tokenizer
from fastls.paths import DATA

SOURCES = {  # the stand-in last
    "stsb": "STS-B",
    "templates": "synthetic sentence pairs (stand-in for STS-B)",
}
VOCABULARY = 30_522  # entries, as in bert-base-uncased
SPECIAL_TOKENS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}
STSB_URL = "https://raw.githubusercontent.com/PhilipMay/stsb-multi-mt/99a65f1b68667f69a57bea13f602c7c9c27a9fcd/data/"
STSB_FILES = {
    "stsb-en-train.csv": "e1e84fec60bbb598735552f54a35f4949904a484750fd2cb11e2720e49f63da6",
    "stsb-en-dev.csv": "d29586e96558c4eb52cf5ea5d14e9c24d3bf0e44f111b017caba43a5adc33226",
}
BERT = "google-bert/bert-base-uncased"  # on the hub
BERT_BASE = (12, 768)  # its layers and width
BERT_FILES = dict.fromkeys(("vocab.txt", "config.json", "model.safetensors"))  # any content: the hub checks them
DOWNLOAD = "python -m fastls data download stsb"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # on the hub: a small BERT, pretrained on pairs of sentences
MINILM_SIZES = {"layers": 6, "width": 384, "heads": 12}
MINILM_FILES = {
    "config.json": None,
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
LOOKS_LIKE_IT = r"sts.*\.(csv|tsv|zip|gz|parquet)$|(train|dev)\.tsv$"  # names of files that are not read
HOW_TO_GET = f"STS-B belongs in data/stsb as {' and '.join(STSB_FILES)}, BERT's vocab.txt in data/bert: {DOWNLOAD}"
ADVICE = f"Run `{DOWNLOAD}` to fetch it anew, or delete data/stsb to use the pairs from templates."


def load_stsb(
    n_train: int = 5_749, n_test: int = 1_500, source: str = "auto", seed: int = 0, root: Path = DATA
) -> MultiTaskData:
    """Tokenised pairs with one score, the target of three equal tasks.

    Args:
        n_train, n_test: number of pairs, from the start of a seeded order: the benchmark's files are sorted by genre.
        source: "stsb", "templates", or "auto": STS-B if it lies under `root`, else the templates.
        seed: of the order, and of the pairs from templates.
        root: folder with ``stsb/stsb-en-{train,dev}.csv`` and ``bert/vocab.txt``.

    Returns:
        MultiTaskData whose inputs are BERT's arguments by name, with tasks "score_1", "score_2", "score_3" and targets
        score/5. Pairs that were cut to 512 tokens are counted in its description.

    Raises:
        DataError: a file is missing or not what it should be, or more pairs are asked for than there are.
        ValueError: an unknown source, or no pairs asked for.

    Example:
        >>> data = load_stsb(n_train=100, n_test=10, source="templates")
        >>> inputs, targets = next(data.train.batches(torch.arange(100), batch_size=32, training=True))
        >>> sorted(inputs), targets["score_1"].shape
        (['attention_mask', 'input_ids', 'token_type_ids'], torch.Size([32]))
    """
    source = find_source(root) if source == "auto" else source
    check_request(source, SOURCES, n_train, n_test)
    if source == "stsb":
        tokenizer = read_tokenizer(root / "bert" / "vocab.txt")
        check_files(root / "stsb", STSB_FILES, ADVICE)
        all_train, all_test = (_read_pairs(root / "stsb" / name) for name in STSB_FILES)
        check_sizes("STS-B", n_train, n_test, len(all_train), len(all_test))
        train = [all_train[i] for i in permutation(len(all_train), (seed, 0))[:n_train]]
        test = [all_test[i] for i in permutation(len(all_test), (seed, 1))[:n_test]]
    else:
        tokenizer = train_tokenizer()
        train, test = make_pairs(n_train, (seed, 1)), make_pairs(n_test, (seed, 2))
    splits = tokenise(train, tokenizer), tokenise(test, tokenizer)
    truncated = sum(split.truncated for split in splits)
    note = f" ({truncated} pairs cut to {MAX_TOKENS} tokens)" if truncated else ""
    return MultiTaskData(source, SOURCES[source] + note, *splits)


def find_source(root: Path = DATA) -> str:
    """ "stsb" if its folder under `root` holds files, else "templates", with a warning if other files look like it."""
    if holds_files(root / "stsb"):
        return "stsb"
    warn_of_unused(root, LOOKS_LIKE_IT, SOURCES["templates"], HOW_TO_GET)
    return "templates"


def find_weights(source: str, layers: int, width: int, root: Path = DATA) -> str:
    """ "pretrained" for a BERT-base on STS-B whose weights lie under `root`, else "random"."""
    fits = source == "stsb" and (layers, width) == BERT_BASE
    return "pretrained" if fits and all((root / "bert" / name).exists() for name in BERT_FILES) else "random"


def find_checkpoint(weights: str, root: Path = DATA) -> Path | None:
    """Folder of the weights: "random" (None), "pretrained" (BERT-base's own) or "minilm" (all-MiniLM-L6-v2).

    Raises:
        DataError: MiniLM's files are missing or not the published ones.
        ValueError: an unknown name.
    """
    if weights == "minilm":
        check_files(root / "minilm", MINILM_FILES, f"They are {MINILM}'s. Run `{DOWNLOAD}` to fetch them.")
        return root / "minilm"
    folders = {"random": None, "pretrained": root / "bert"}
    if weights not in folders:
        raise ValueError(f"`weights` must be one of {', '.join([*folders, 'minilm'])}, found {weights!r}.")
    return folders[weights]


def _read_pairs(path: Path) -> list[Pair]:
    """Rows ``first sentence, second sentence, score`` of a file without header."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Pair(first, second, float(score)) for first, second, score in csv.reader(file, strict=True)]


def read_tokenizer(path: Path) -> BertWordPieceTokenizer:
    """The tokenizer of bert-base-uncased from its vocabulary, without a network.

    Raises:
        DataError: the file is missing or is not a vocabulary of that size with BERT's special tokens in their places.
    """
    if not path.exists():
        raise DataError(f"{path} is missing: STS-B is tokenised with BERT's vocabulary. Run `{DOWNLOAD}`.")
    entries = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    found = {token: vocabulary.get(token) for token in SPECIAL_TOKENS}
    if len(vocabulary) != VOCABULARY or found != SPECIAL_TOKENS:
        raise DataError(
            f"{path} must be the vocabulary of {BERT}, {VOCABULARY:,} different entries with {SPECIAL_TOKENS}, "
            f"found {len(vocabulary):,} with {found}. Run `{DOWNLOAD}` to fetch it anew."
        )
    return BertWordPieceTokenizer(vocabulary, lowercase=True)


def download_stsb(root: Path = DATA) -> Path:
    """Fetch BERT (440 MB) and MiniLM (91 MB) from the Hugging Face hub, then the pairs (1 MB) from GitHub.

    Returns:
        The folder of the pairs; vocabulary and weights are in ``bert`` and ``minilm`` beside it.

    Raises:
        DataError: no network, or ``HF_HUB_OFFLINE`` is set, or a file is not what it should be; no pairs were written.
    """
    from huggingface_hub import hf_hub_download  # imported here: takes half a second, and reading data does not need it

    def fetch_from(repository: str, names: Iterable[str], folder: Path) -> Path:
        for name in names:
            hf_hub_download(repository, name, local_dir=folder)
        return folder

    def fetch_pairs(folder: Path) -> Path:
        for name in STSB_FILES:
            torch.hub.download_url_to_file(STSB_URL + name, str(folder / name), progress=False)
        return folder

    advice = (
        f"They are {', '.join(BERT_FILES)} of {BERT}, {', '.join(MINILM_FILES)} of {MINILM} and "
        f"{', '.join(STSB_FILES)} of {STSB_URL}. On a machine with a "
        f"network, and without HF_HUB_OFFLINE, run `{DOWNLOAD}`. Without it pairs from templates, and random weights, "
        "stand in."
    )
    download(root / "bert", BERT_FILES, partial(fetch_from, BERT, BERT_FILES), advice)
    download(root / "minilm", MINILM_FILES, partial(fetch_from, MINILM, MINILM_FILES), advice)
    return download(root / "stsb", STSB_FILES, fetch_pairs, advice)
