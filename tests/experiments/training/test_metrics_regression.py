"""Losses and correlations of regressors against direct computation."""

import numpy as np
import pytest
from torch import nn
from torch.nn.functional import mse_loss

from fastls.datasets.sentences import TASKS, make_pairs, tokenise, train_tokenizer
from fastls.experiments.training.metrics.regression import correlations, evaluate_regressors
from fastls.models.multitask import MultiTaskModel


class Lengths(nn.Module):
    """z = the number of tokens, with dropout, so that evaluation mode shows."""

    def forward(self, inputs):
        return nn.functional.dropout(inputs["attention_mask"].sum(1).float(), training=self.training)


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, z):
        return self.factor * z


@pytest.fixture(scope="module")
def split():
    return tokenise(make_pairs(150, (11,)), train_tokenizer())


def test_metrics_are_those_of_the_whole_split(split):
    factors = dict(zip(TASKS, (0.1, -0.1, 0.0), strict=True))
    model = MultiTaskModel(
        Lengths(), {task: Scaled(factor) for task, factor in factors.items()}, dict.fromkeys(TASKS, mse_loss)
    ).train()
    metrics = evaluate_regressors(model, split)
    assert model.training
    lengths, scores = split.lengths.double(), split.scores.double()
    expected = np.corrcoef(lengths, scores)[0, 1]
    for task, factor in factors.items():
        assert metrics[f"loss_{task}"] == pytest.approx(float((factor * lengths - scores).square().mean()), rel=1e-5)
        assert metrics[f"pearson_{task}"] == pytest.approx(np.sign(factor) * expected)
    assert metrics["spearman_score_1"] == pytest.approx(-metrics["spearman_score_2"])


def test_spearman_knows_ranks_alone():
    x = np.array([0.1, 0.5, 0.2, 3.0])
    pearson, spearman = correlations(np.exp(x), x)
    assert pearson < 1 and spearman == pytest.approx(1)
    assert correlations(np.exp(-x), x)[1] == pytest.approx(-1)


def test_a_constant_tells_nothing():
    assert correlations(np.ones(4), np.arange(4.0)) == (0.0, 0.0)
