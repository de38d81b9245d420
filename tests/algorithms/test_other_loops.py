"""The recipes of docs/your_model.md for the loops of other libraries: the steps are those of an ordinary loop."""

import copy
import logging
import warnings

import pytest
import torch
from helpers import batch, copies, mlp

import fastls

BATCHES = [batch(seed=seed) for seed in range(4)]


def ordinary(model: fastls.MultiTaskModel, search: bool) -> list[torch.Tensor]:
    mover = torch.optim.SGD(model.parameters(), lr=0.1) if search else torch.optim.AdamW(model.parameters(), lr=0.01)
    for inputs, targets in BATCHES:
        mover.zero_grad()
        found = fastls.latent_backward(model, model.encoder(inputs), targets)
        if search:
            mover.param_groups[0]["lr"] = fastls.latent_line_search(found, lr_ub=1.0).step_size
        mover.step()
    return copies(model)


@pytest.mark.parametrize("search", [True, False])
def test_accelerate(search):
    accelerate = pytest.importorskip("accelerate")
    expected = ordinary(copy.deepcopy(mlp()), search)
    model, accelerator = mlp(), accelerate.Accelerator(cpu=True)
    encoder, *heads = accelerator.prepare(model.encoder, *model.decoders.values())
    model = fastls.MultiTaskModel(encoder, dict(zip(model.tasks, heads, strict=True)), dict(model.losses))
    if search:
        optimizer = fastls.FBLS(model, lr_ub=1.0)
        for inputs, targets in BATCHES:
            optimizer.step(inputs, targets)
    else:
        mover = accelerator.prepare(torch.optim.AdamW(model.parameters(), lr=0.01))
        for inputs, targets in BATCHES:
            mover.zero_grad()
            fastls.latent_backward(model, model.encoder(inputs), targets)
            mover.step()
    torch.testing.assert_close(copies(model), expected)


@pytest.mark.parametrize("search", [True, False])
def test_lightning(search, tmp_path):
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.model = mlp()

        def configure_optimizers(self):
            if search:
                return torch.optim.SGD(self.parameters(), lr=0.1)
            return torch.optim.AdamW(self.parameters(), lr=0.01)

        def training_step(self, batch, index):
            inputs, targets = batch
            mover = self.optimizers()
            mover.zero_grad()
            found = fastls.latent_backward(self.model, self.model.encoder(inputs), targets)
            if search:
                mover.param_groups[0]["lr"] = fastls.latent_line_search(found, lr_ub=1.0).step_size
            mover.step()

    module = Module()
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **quiet)
        trainer.fit(module, torch.utils.data.DataLoader(BATCHES, batch_size=None))
    assert trainer.global_step == len(BATCHES)  # which Lightning's checkpoints and `max_steps` go by
    torch.testing.assert_close(copies(module.model), ordinary(mlp(), search))
