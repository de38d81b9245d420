"""Sentence pairs with a score: the split that BERT reads, and pairs from templates, the stand-in for STS-B."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from fastls.datasets.common import hash_tensors

TASKS = ("score_1", "score_2", "score_3")  # three equal tasks, after the paper
MAX_TOKENS = 512  # of a pair, in BERT
MAX_SCORE = 5.0
WINDOW = 8  # batches that are sorted by length together


class Pair(NamedTuple):
    """Two sentences, and a score from 0 to 5 for how alike they are."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class SentenceSplit:
    """All tokenised pairs of a split, on one device.

    Attributes:
        tokens: (N, L) int64, [CLS] first [SEP] second [SEP], padded with zeros.
        segments: (N, L) int64, 0 for the first sentence, 1 for the second.
        lengths: (N,) int64 on the CPU, tokens of each pair.
        scores: (N,) float32 in [0, 1], the target of every task.
        truncated: pairs that were cut to `MAX_TOKENS`.
    """

    tokens: Tensor
    segments: Tensor
    lengths: Tensor
    scores: Tensor
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Arguments of BERT by name, padded to the longest pair of the batch, and the same score for every task."""
        lengths = self.lengths[index]
        longest, index = int(lengths.max()), index.to(self.tokens.device)
        mask = torch.arange(longest) < lengths[:, None]
        inputs = {
            "input_ids": self.tokens[index, :longest],
            "token_type_ids": self.segments[index, :longest],
            "attention_mask": mask.to(self.tokens.device, torch.int64),
        }
        return inputs, dict.fromkeys(TASKS, self.scores[index])

    def batches(
        self, order: Tensor, batch_size: int, training: bool
    ) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Every `WINDOW` batches of the order are sorted by length, so that a batch holds little padding."""
        for window in order.cpu().split(WINDOW * batch_size):
            by_length = window[self.lengths[window].argsort(stable=True)]
            yield from map(self.batch, by_length.split(batch_size))

    def first(self, n: int) -> "SentenceSplit":
        tensors = {name: getattr(self, name)[:n] for name in ("tokens", "segments", "lengths", "scores")}
        return replace(self, **tensors)

    def to(self, device: str | torch.device) -> "SentenceSplit":
        tensors = {name: getattr(self, name).to(device) for name in ("tokens", "segments", "scores")}
        return replace(self, **tensors)

    def hash_into(self, digest) -> None:
        hash_tensors(digest, (self.tokens, self.segments, self.lengths, self.scores))


def tokenise(pairs: Sequence[Pair], tokenizer: BertWordPieceTokenizer) -> SentenceSplit:
    """The pairs as BERT reads them; pairs of more than `MAX_TOKENS` tokens lose words of the longer sentence.

    Example:
        >>> split = tokenise([Pair("a red ball", "a blue ball", 4.0)], train_tokenizer())
        >>> split.scores, int(split.lengths[0]) == split.tokens.shape[1]
        (tensor([0.8000]), True)
    """
    tokenizer.enable_truncation(MAX_TOKENS, strategy="longest_first")
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch([(pair.first, pair.second) for pair in pairs])
    return SentenceSplit(
        tokens=torch.tensor([encoding.ids for encoding in encodings]),
        segments=torch.tensor([encoding.type_ids for encoding in encodings]),
        lengths=torch.tensor([sum(encoding.attention_mask) for encoding in encodings]),
        scores=torch.tensor([pair.score / MAX_SCORE for pair in pairs]),
        truncated=sum(bool(encoding.overflowing) for encoding in encodings),
    )


# A sentence fills each slot with one word or phrase.
TEMPLATE = "A {} {} {} a {} {}."
SLOTS = (
    "small large young old hungry tired happy quiet noisy clever lonely friendly".split(),
    "dog cat horse woman man child teacher farmer painter sailor doctor musician".split(),
    "carries paints throws finds hides repairs watches drops washes follows measures borrows".split(),
    "ball book guitar bicycle basket blanket lantern ladder hammer kettle camera umbrella".split(),
    "in the garden,on the beach,near the station,under a bridge,behind the house,at the market,"
    "in the kitchen,on a mountain,by the river,inside the museum,at school,in the forest".split(","),
)


def make_pairs(n: int, seed: tuple[int, ...]) -> list[Pair]:
    """n pairs of sentences from one template; the score, 0 to 5, is the number of slots that agree.

    The pairs come from raw 64-bit draws, which NumPy never changes.

    Example:
        >>> make_pairs(1, (0,))[0].score in range(6)
        True
    """
    slots = len(SLOTS)
    raw = np.random.PCG64(list(seed)).random_raw((n, 1 + 3 * slots))
    scores = (raw[:, 0] % (slots + 1)).astype(int)
    first, shifts, ranks = (raw[:, 1 + i * slots : 1 + (i + 1) * slots] for i in range(3))
    pairs = []
    for score, words, shift, rank in zip(scores, first, shifts, ranks, strict=True):
        agrees = np.argsort(np.argsort(rank)) < score
        chosen = [int(word) % len(slot) for word, slot in zip(words, SLOTS, strict=True)]
        others = [
            word if same else (word + 1 + int(by) % (len(slot) - 1)) % len(slot)
            for word, same, by, slot in zip(chosen, agrees, shift, SLOTS, strict=True)
        ]
        pairs.append(Pair(_fill(chosen), _fill(others), float(score)))
    return pairs


def _fill(words: list[int]) -> str:
    return TEMPLATE.format(*(slot[word] for slot, word in zip(SLOTS, words, strict=True)))


def train_tokenizer(vocabulary: int = 240) -> BertWordPieceTokenizer:
    """A WordPiece tokenizer for `make_pairs`, trained on other pairs of the same kind; some words stay in pieces."""
    trained = BertWordPieceTokenizer()
    corpus = [sentence for pair in make_pairs(1_000, (0,)) for sentence in pair[:2]]
    # The trainer numbers the letters in an order that changes from process to process, and breaks ties by number.
    # So the letters are given beforehand, as special tokens: these keep their numbers.
    given = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"##{letter}" for letter in ascii_lowercase)]
    trained.train_from_iterator(corpus, vocabulary, special_tokens=given, show_progress=False)
    learned = sorted(set(trained.get_vocab()) - set(given))
    return BertWordPieceTokenizer({entry: i for i, entry in enumerate([*given, *learned])})
