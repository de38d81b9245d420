"""Tokenised pairs: padding, buckets, truncation, hashing; and the pairs from templates."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from fastls.datasets.sentences import (
    MAX_TOKENS,
    SLOTS,
    TASKS,
    TEMPLATE,
    WINDOW,
    Pair,
    make_pairs,
    tokenise,
    train_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="module")
def split(tokenizer):
    return tokenise(make_pairs(200, (7,)), tokenizer)


def test_tokens_of_a_pair(tokenizer):
    split = tokenise([Pair("in the garden", "at school", 2.5), Pair("a dog", "a", 5.0)], tokenizer)
    words = [tokenizer.id_to_token(int(token)) for token in split.tokens[0]]
    assert words == ["[CLS]", "in", "the", "garden", "[SEP]", "at", "school", "[SEP]"]
    assert split.segments[0].tolist() == [0] * 5 + [1] * 3
    assert split.lengths[0] == 8 and not split.tokens[1, split.lengths[1] :].any()
    assert split.scores.tolist() == [0.5, 1.0] and split.truncated == 0


def test_batch_is_padded_to_its_longest_pair(split):
    index = split.lengths.argsort()[:5]
    inputs, targets = split.batch(index)
    longest = int(split.lengths[index].max())
    assert longest < split.tokens.shape[1]
    assert inputs["input_ids"].shape == (5, longest)
    assert inputs["attention_mask"].sum(1).tolist() == split.lengths[index].tolist()
    assert torch.equal(inputs["attention_mask"] == 0, inputs["input_ids"] == 0)
    assert all(torch.equal(targets[task], split.scores[index]) for task in TASKS)


def test_batches_hold_every_pair_of_the_order_once_and_little_padding(split):
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:150]
    batches = list(split.batches(order, 8, training=True))
    scores = torch.cat([targets["score_1"] for _, targets in batches])
    assert sorted(scores.tolist()) == sorted(split.scores[order].tolist())
    assert [len(inputs["input_ids"]) for inputs, _ in batches] == [8] * 18 + [6]
    padding = sum(int((inputs["attention_mask"] == 0).sum()) for inputs, _ in batches)
    plain = [split.batch(index)[0]["attention_mask"] for index in order.split(8)]
    assert padding < sum(int((mask == 0).sum()) for mask in plain) / 2


def test_pairs_stay_within_their_window_of_the_order(split):
    order = torch.arange(len(split)).flip(0)
    first_window = [targets["score_1"] for _, targets in split.batches(order, 4, training=False)][:WINDOW]
    assert sorted(torch.cat(first_window).tolist()) == sorted(split.scores[order[: 4 * WINDOW]].tolist())


def test_same_order_same_batches(split):
    order = torch.randperm(len(split))
    for (one, _), (two, _) in zip(split.batches(order, 16, True), split.batches(order, 16, False), strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_long_pairs_are_cut_and_counted(tokenizer):
    split = tokenise([Pair("a dog " * 400, "a cat", 1.0), Pair("a dog", "a cat", 1.0)], tokenizer)
    assert split.lengths[0] == MAX_TOKENS == split.tokens.shape[1]
    assert split.truncated == 1
    assert split.segments[0].sum() == split.segments[1].sum()  # the short sentence is whole


def test_first_and_to(split):
    few = split.first(3).to("meta")
    assert len(few) == 3
    assert {tensor.device.type for tensor in (few.tokens, few.segments, few.scores)} == {"meta"}
    assert few.lengths.tolist() == split.lengths[:3].tolist()


def change(split, name):
    tensor = getattr(split, name).clone()
    tensor[0] += 1
    return replace(split, **{name: tensor})


@pytest.mark.parametrize("name", ["tokens", "segments", "lengths", "scores"])
def test_hash_knows(split, name):
    digests = [hashlib.sha256(), hashlib.sha256(), hashlib.sha256()]
    for digest, part in zip(digests, (split, replace(split), change(split, name)), strict=True):
        part.hash_into(digest)
    same, again, other = (digest.hexdigest() for digest in digests)
    assert same == again != other


def words_of(sentence: str) -> list[str]:
    """The word of each slot, found by filling the template with it."""
    rest, words = sentence, []
    for fixed, slot in zip(TEMPLATE.split("{}"), SLOTS, strict=False):
        rest = rest.removeprefix(fixed)
        (word,) = [word for word in slot if rest.startswith(word)]
        rest = rest.removeprefix(word)
        words.append(word)
    return words


def test_score_counts_the_slots_that_agree():
    pairs = make_pairs(300, (3,))
    for pair in pairs:
        agree = sum(one == other for one, other in zip(words_of(pair.first), words_of(pair.second), strict=True))
        assert pair.score == agree
    assert {pair.score for pair in pairs} == set(range(6))


def test_pairs_and_vocabulary_are_the_same_in_every_process():
    code = (
        "from fastls.datasets.sentences import make_pairs, train_tokenizer\n"
        "print(make_pairs(3, (1,)), sorted(train_tokenizer().get_vocab().items()))"
    )
    printed = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(printed) == 1
    assert repr(make_pairs(3, (1,))) in printed.pop().decode()


def test_tokenizer_splits_words_and_knows_all_letters(tokenizer):
    tokens = [tokenizer.encode(sentence).tokens for pair in make_pairs(50, (4,)) for sentence in pair[:2]]
    pieces = {token for sentence in tokens for token in sentence}
    assert "[UNK]" not in pieces and any(piece.startswith("##") for piece in pieces)
