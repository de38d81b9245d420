"""Dense metrics against their definitions, pixel by pixel, and against the official evaluation."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastls.datasets.cityscapes import load_cityscapes
from fastls.datasets.scene_files import CLASSES, IGNORE
from fastls.experiments.training.metrics import dense
from fastls.experiments.training.metrics.dense import evaluate_dense
from fastls.models.multitask import MultiTaskModel
from fastls.models.pspnet import masked_cross_entropy, masked_l1, pspnet

TASKS = ("semantic", "instance", "disparity")
NAN = float("nan")


class Recorded:
    """A split whose inputs are numbers of examples, in batches of any size."""

    def __init__(self, targets: dict[str, Tensor]):
        self.targets = targets

    def __len__(self):
        return len(self.targets["semantic"])

    def batches(self, order, batch_size, training):
        assert not training
        for index in order.split(batch_size):
            yield index, {task: target[index] for task, target in self.targets.items()}


class Lookup(nn.Module):
    """Hands on what was predicted for an example."""

    def __init__(self, outputs: Tensor):
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, index):
        return self.outputs[index]


def fabricate(n=7, classes=4, size=(3, 5)):
    """Random outputs and targets, many pixels without a target, one example without any."""
    torch.manual_seed(0)
    shapes = {"semantic": classes, "instance": 2, "disparity": 1}
    outputs = {task: torch.randn(n, channels, *size) for task, channels in shapes.items()}
    labels = torch.randint(classes, (n, *size))
    labels[torch.rand(n, *size) < 0.3] = IGNORE
    targets = {"semantic": labels}
    for task in ("instance", "disparity"):
        targets[task] = torch.randn_like(outputs[task])
        targets[task][(torch.rand(n, 1, *size) < 0.4).expand_as(targets[task])] = NAN
    for target in targets.values():
        target[2] = NAN if target.is_floating_point() else IGNORE
    losses = {"semantic": masked_cross_entropy, "instance": masked_l1, "disparity": masked_l1}
    model = MultiTaskModel(nn.Identity(), {task: Lookup(outputs[task]) for task in TASKS}, losses)
    return model, outputs, targets


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_metrics_are_those_of_all_pixels_at_once(monkeypatch, batch):
    """However they are batched: a mean of the batches' means would depend on it."""
    monkeypatch.setattr(dense, "BATCH", batch)
    model, outputs, targets = fabricate()
    metrics = evaluate_dense(model, Recorded(targets))
    for task in TASKS:
        assert metrics[f"loss_{task}"] == pytest.approx(
            float(model.losses[task](outputs[task], targets[task])), rel=1e-5
        )
    predicted, labels = outputs["semantic"].argmax(1), targets["semantic"]
    asked = labels != IGNORE
    assert metrics["error_semantic"] == pytest.approx(float((predicted != labels)[asked].double().mean()), rel=1e-5)
    overlaps = [
        float(((predicted == c) & (labels == c))[asked].sum() / ((predicted == c) | (labels == c))[asked].sum())
        for c in range(4)
    ]
    assert metrics["miou"] == pytest.approx(np.mean(overlaps), rel=1e-5)


def test_classes_that_do_not_occur_do_not_count():
    model, _, targets = fabricate()
    with torch.no_grad():
        model.decoders["semantic"].outputs[:, 3] = -100
    targets["semantic"][targets["semantic"] == 3] = IGNORE
    three = evaluate_dense(model, Recorded(targets))["miou"]
    with torch.no_grad():
        model.decoders["semantic"].outputs.data = model.decoders["semantic"].outputs.data[:, :3]
    assert evaluate_dense(model, Recorded(targets))["miou"] == pytest.approx(three)


def test_a_task_without_any_target_is_zero():
    model, _, targets = fabricate()
    targets["instance"][:] = NAN
    assert evaluate_dense(model, Recorded(targets))["loss_instance"] == 0


def test_evaluation_leaves_the_model_in_training(tmp_path):
    """And its batch statistics, its parameters and the random numbers alone."""
    data = load_cityscapes(1, 3, "synthetic", size=(16, 32), root=tmp_path)
    model = pspnet(encoder="resnet18", stages=2, channels=4)
    state, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    first, second = evaluate_dense(model, data.test), evaluate_dense(model, data.test)
    assert first == second and all(np.isfinite(list(first.values())))
    assert model.training and torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_miou_is_the_official_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_EXPORT_DIR", str(tmp_path))
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
    from PIL import Image

    data = load_cityscapes(1, 3, "synthetic", size=(32, 64), root=tmp_path)
    torch.manual_seed(0)
    model = pspnet(encoder="resnet18", stages=2, channels=4).eval()
    ids = np.array(list(CLASSES), dtype=np.uint8)
    predictions, truths = [], []
    with torch.no_grad():
        for i, (images, targets) in enumerate(data.test.batches(torch.arange(3), 1, training=False)):
            labels = targets["semantic"][0].numpy()
            truth = np.where(labels == IGNORE, 0, ids[labels % len(ids)]).astype(np.uint8)  # 0: unlabelled
            classes = model(images)["semantic"][0].argmax(0).numpy()
            for name, pixels, paths in (("truth", truth, truths), ("prediction", ids[classes], predictions)):
                paths.append(str(tmp_path / f"a_{i:06d}_000000_{name}.png"))
                Image.fromarray(pixels).save(paths[-1])
    for name, value in (("quiet", True), ("JSONOutput", False), ("evalInstLevelScore", False)):
        monkeypatch.setattr(official.args, name, value)
    expected = official.evaluateImgLists(predictions, truths, official.args)["averageScoreClasses"]
    assert evaluate_dense(model, data.test)["miou"] == pytest.approx(expected, rel=1e-5)
