"""The schematics say what the optimizers do."""

import matplotlib.pyplot as plt
import pytest
import torch

import fastls
from fastls.experiments.studies.theory.schematics import EVERY_TRIAL, ONCE, draw_backtracking, draw_sharing
from fastls.models.quadratic import quadratics


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.mark.parametrize("search", ["BLS", "FBLS"])
def test_modules_run_as_often_as_drawn(search):
    _, table = draw_backtracking()
    drawn = table[table["search"] == search].set_index("module")["runs"]
    eye = torch.eye(2)
    model = quadratics(eye, eye, eye.expand(2, 2, 2), torch.tensor([3.0, -1.0]))
    record = getattr(fastls, search)(model, lr_ub=16.0).step(None, dict.fromkeys(model.tasks))
    assert record.trials > 1
    forwards = {ONCE: 1, EVERY_TRIAL: 1 + record.trials}
    assert record.passes.encoder_forward == forwards[drawn["encoder"]]
    assert record.passes.decoder_forward == 2 * forwards[drawn["decoder 1"]]


def test_one_encoder_serves_all_and_each_decoder_one():
    figure, table = draw_sharing()
    served = table.set_index("module")["serves"]
    assert served["encoder"] == "all tasks" and served["decoder T"] == "task T"
    drawn = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(module.split()[0] in drawn for module in table["module"])
