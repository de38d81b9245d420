"""BERT under the contract: shapes, dropout in trials, checkpoints, and that it can learn."""

import json

import pytest
import torch
from transformers import BertConfig, BertModel

import fastls
from fastls.algorithms.spaces import Evaluation, LatentSpace, ParameterSpace
from fastls.datasets.sentences import TASKS, Pair, tokenise
from fastls.datasets.stsb import MINILM_SIZES, VOCABULARY, find_checkpoint, load_stsb, read_tokenizer
from fastls.models import bert as module
from fastls.models.bert import bert
from fastls.paths import DATA

SMALL = {"layers": 1, "width": 64, "decoder_width": 32}


@pytest.fixture(scope="module")
def batch():
    return load_stsb(16, 4, source="templates").train.batch(torch.arange(16))


def make(seed: int = 0, **options):
    torch.manual_seed(seed)
    return bert(**(SMALL | options)).train()


def test_sizes_and_names():
    model = make(layers=2)
    config = model.encoder.bert.config
    assert model.tasks == TASKS and module.VOCABULARY == VOCABULARY == config.vocab_size
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 64, 1)
    assert config._attn_implementation == "sdpa"
    assert [type(layer).__name__ for layer in model.decoders["score_1"]].count("Linear") == 2


def test_defaults_are_bert_base():
    with torch.device("meta"):
        model = bert()
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 109_482_240
    assert model.encoder.bert.config.initializer_range == BertConfig().initializer_range


def test_shapes_and_padding(batch):
    model, (inputs, targets) = make().eval(), batch
    z = model.encoder(inputs)
    assert z.shape == (16, 64)
    assert {output.shape for output in model(inputs).values()} == {targets["score_1"].shape} == {(16,)}
    padded = {name: torch.nn.functional.pad(tensor, (0, 5)) for name, tensor in inputs.items()}
    torch.testing.assert_close(model.encoder(padded), z)


def test_autocast_changes_the_rounding_alone(batch):
    inputs = batch[0]
    exact, rounded = (make(autocast=autocast).eval().encoder(inputs) for autocast in (False, True))
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("space", [ParameterSpace(), LatentSpace()])
def test_trials_see_the_dropout_of_the_step(batch, space):
    model, (inputs, targets) = make(), batch
    assert not torch.equal(model.encoder(inputs), model.encoder(inputs))
    evaluation = Evaluation(model, inputs, targets, replayable=True)
    direction = space.gradients(evaluation).sum(0)
    torch.testing.assert_close(space.losses_at(evaluation, direction, 0.0), evaluation.losses)
    one, other = (space.losses_at(evaluation, direction, 0.1) for _ in range(2))
    assert torch.equal(one, other) and not torch.equal(one, evaluation.losses)


@pytest.mark.parametrize("make_optimizer", [fastls.FBLS, lambda model: fastls.EqualWeight(model, 0.3)])
def test_learns_four_pairs(make_optimizer):
    """Without dropout the loss falls far below that of the best constant, the variance of the scores."""
    inputs, targets = load_stsb(4, 4, source="templates").train.batch(torch.arange(4))
    optimizer = make_optimizer(make().eval())
    losses = [float(optimizer.step(inputs, targets).losses.mean()) for _ in range(150)]
    assert min(losses) < 0.1 * targets["score_1"].var(correction=0) < losses[0]


@pytest.mark.parametrize("width", [0, 100])
def test_width_that_heads_do_not_fill(width):
    with pytest.raises(ValueError, match=f"`width` must be a multiple of 64.*found {width}"):
        bert(layers=1, width=width)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(5)
    make(seed=5).encoder.bert.save_pretrained(tmp_path)
    return tmp_path


def test_checkpoint_is_read_whole(checkpoint, batch):
    model, original = make(checkpoint=checkpoint).eval(), make(seed=5).eval()
    assert torch.equal(model.encoder(batch[0]), original.encoder(batch[0]))
    assert model.encoder.bert.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("field", "value"), [("vocab_size", 119_547), ("num_hidden_layers", 2), ("hidden_size", 128)])
def test_checkpoint_that_does_not_match(checkpoint, field, value):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(ValueError, match=f"`{field}` .*, found {value:,}"):
        make(checkpoint=checkpoint)


def test_checkpoint_without_its_pooler(checkpoint):
    BertModel(BertConfig.from_pretrained(checkpoint), add_pooling_layer=False).save_pretrained(checkpoint)
    with pytest.raises(ValueError, match="found none for pooler"):
        make(checkpoint=checkpoint)


def test_damaged_or_missing_checkpoint(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="weights of BERT, found none readable"):
        make(checkpoint=checkpoint)
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json"):
        make(checkpoint=checkpoint)
    (checkpoint / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json of a checkpoint, found none"):
        make(checkpoint=checkpoint)


def test_heads_of_another_width():
    config = bert(layers=1, width=96, heads=3).encoder.bert.config
    assert config.num_attention_heads == 3
    with pytest.raises(ValueError, match="`heads` must divide `width`, found 5 and 96"):
        bert(layers=1, width=96, heads=5)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "minilm").exists(), reason="MiniLM is not under data/")
def test_minilm_tells_sentences_apart():
    model = bert(**MINILM_SIZES, checkpoint=find_checkpoint("minilm")).eval()
    tokenizer = read_tokenizer(DATA / "bert" / "vocab.txt")
    sentences = [
        Pair("a man plays the guitar", "", 0.0),
        Pair("someone is playing guitar", "", 0.0),
        Pair("the stock market fell", "", 0.0),
    ]
    inputs, _ = tokenise(sentences, tokenizer).batch(torch.arange(3))
    with torch.no_grad():
        hidden = model.encoder.bert(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    assert means[0] @ means[1] > 0.6 > 0.3 > means[0] @ means[2]
