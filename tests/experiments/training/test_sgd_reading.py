"""SGD with a forward a task takes the step of SGD, at the cost of T forwards."""

import torch

import fastls
from fastls.experiments.training.config import RunConfig
from fastls.experiments.training.optimizers.methods import make_optimizer
from fastls.experiments.training.optimizers.sgd_reading import SGDSeparateForwards
from fastls.models.bert import bert

TOKENS = torch.arange(2, 30).view(4, 7)
INPUTS = {"input_ids": TOKENS, "token_type_ids": 0 * TOKENS, "attention_mask": torch.ones_like(TOKENS)}
TARGETS = dict.fromkeys(("score_1", "score_2", "score_3"), torch.linspace(0, 1, 4))


def step_twice(make):
    torch.manual_seed(0)
    model = bert(layers=1, width=64, decoder_width=32).train()
    optimizer = make(model, 0.05)
    records = [optimizer.step(INPUTS, TARGETS) for _ in range(2)]
    return records, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_same_steps_as_sgd_with_dropout():
    (records, parameters), (others, expected) = step_twice(SGDSeparateForwards), step_twice(fastls.SGD)
    torch.testing.assert_close(parameters, expected)
    for record, other in zip(records, others, strict=True):
        torch.testing.assert_close(record.weights, other.weights)
        assert (record.passes.encoder_forward, record.passes.encoder_backward) == (3, 3)
        assert (other.passes.encoder_forward, other.passes.encoder_backward) == (1, 3)
        assert record.step_size == other.step_size and record.trials == 0


def test_a_configuration_makes_it():
    config = RunConfig("stsb", "templates", 4, 4, "SGD, T forwards", 0.1, epochs=1, seed=0)
    optimizer = make_optimizer(config, bert(layers=1, width=64))
    assert isinstance(optimizer, SGDSeparateForwards) and optimizer.lr == 0.1
