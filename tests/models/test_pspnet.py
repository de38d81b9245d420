"""The dilated ResNet with PSPNet decoders: shapes, pooling, masked losses, weights that are missing."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

import fastls
from fastls.datasets import scene_files
from fastls.models import pspnet as module
from fastls.models.pspnet import BINS, IGNORE, PSPDecoder, find_weights, masked_cross_entropy, masked_l1, pspnet

SMALL = {"encoder": "resnet18", "stages": 2, "channels": 8}
NAN = float("nan")


@pytest.mark.parametrize(
    "encoder, stages, features",
    [("resnet18", 2, 128), ("resnet50", 2, 512), ("resnet50", 3, 1024), ("resnet50", 4, 2048)],
)
def test_z_is_the_last_feature_map_an_eighth_of_the_image(encoder, stages, features):
    model = pspnet(classes=5, encoder=encoder, stages=stages, channels=4).eval()
    z = model.encoder(torch.zeros(1, 3, 32, 48))
    assert z.shape == (1, features, 4, 6)
    shapes = {task: tuple(decoder(z).shape) for task, decoder in model.decoders.items()}
    assert shapes == {"semantic": (1, 5, 32, 48), "instance": (1, 2, 32, 48), "disparity": (1, 1, 32, 48)}


def test_the_encoder_is_torchvisions():
    """The same parameters as the whole ResNet-50 without its classifier, and the map before its global pooling."""
    encoder = module.make_encoder("resnet50", 4, "none").eval()
    reference = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    reference.avgpool, reference.fc = nn.Identity(), nn.Identity()
    state = [value for name, value in reference.state_dict().items()]
    encoder.load_state_dict(dict(zip(encoder.state_dict(), state, strict=True)))
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(encoder(images).flatten(1), reference(images))


def test_branches_pool_over_the_bins():
    decoder = PSPDecoder(6, 4, 1, dropout=0.0)
    pooled = [branch[0](torch.rand(2, 6, 12, 24)).shape[2:] for branch in decoder.branches]
    assert pooled == [(bins, bins) for bins in BINS]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in decoder.branches[0]) == 0


def test_one_image_a_batch_can_be_trained():
    """Batch normalisation of one pooled value has no variance; torch would refuse it."""
    model = pspnet(**SMALL)
    targets = {
        "semantic": torch.zeros(1, 32, 32, dtype=torch.int64),
        "instance": torch.zeros(1, 2, 32, 32),
        "disparity": torch.ones(1, 1, 32, 32),
    }
    record = fastls.FBLS(model, lr_ub=0.1).step(torch.rand(1, 3, 32, 32), targets)
    assert record.accepted


def test_classes_and_the_label_without_one_are_those_of_the_data():
    assert IGNORE == scene_files.IGNORE
    assert pspnet(**SMALL).decoders["semantic"].head[-2].out_channels == len(scene_files.CLASSES)


def test_cross_entropy_is_over_the_labelled_pixels():
    torch.manual_seed(0)
    scores, labels = torch.randn(2, 5, 3, 4), torch.randint(5, (2, 3, 4))
    labels[0, 1:] = IGNORE
    kept = labels != IGNORE
    expected = cross_entropy(scores.movedim(1, -1)[kept], labels[kept])
    torch.testing.assert_close(masked_cross_entropy(scores, labels), expected)


def test_l1_is_over_the_known_values():
    torch.manual_seed(0)
    output, target = torch.randn(2, 2, 3, 4, requires_grad=True), torch.randn(2, 2, 3, 4)
    target[:, :, 1] = NAN
    loss = masked_l1(output, target)
    torch.testing.assert_close(loss, (output - target)[:, :, [0, 2]].abs().mean())
    loss.backward()
    assert output.grad.isfinite().all() and (output.grad[:, :, 1] == 0).all() and (output.grad[:, :, 0] != 0).all()


@pytest.mark.parametrize(
    "loss, target",
    [(masked_cross_entropy, torch.full((2, 3, 4), IGNORE)), (masked_l1, torch.full((2, 5, 3, 4), NAN))],
)
def test_no_target_at_all_is_zero_with_a_zero_gradient(loss, target):
    output = torch.randn(2, 5, 3, 4, requires_grad=True)
    value = loss(output, target)
    value.backward()
    assert value == 0 and (output.grad == 0).all()


@pytest.mark.parametrize("algorithm", [fastls.SGD, fastls.BLS, fastls.MGDAUB, fastls.FBLS, fastls.EqualWeight])
def test_a_batch_without_things_and_disparity_trains_the_rest(algorithm):
    torch.manual_seed(0)
    model = pspnet(**SMALL)
    start = [parameter.detach().clone() for parameter in model.encoder.parameters()]
    labels = torch.zeros(2, 16, 32, dtype=torch.int64)
    targets = {"semantic": labels, "instance": torch.full((2, 2, 16, 32), NAN)}
    record = algorithm(model, 0.1).step(
        torch.rand(2, 3, 16, 32), targets | {"disparity": torch.full((2, 1, 16, 32), NAN)}
    )
    assert record.losses[1:].tolist() == [0, 0] and record.accepted and record.step_size > 1e-4
    assert any(not torch.equal(p, q) for p, q in zip(model.encoder.parameters(), start, strict=True))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"encoder": "vgg"}, "`encoder`.*'resnet18', 'resnet50'.*'vgg'"),
        ({"encoder": "resnet18", "stages": 4}, r"`stages` must be one of \[2\] with resnet18, found 4"),
        ({"stages": 1}, r"`stages` must be one of \[2, 3, 4\] with resnet50, found 1"),
        ({"weights": "coco"}, "`weights`.*'none', 'imagenet'.*'coco'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pspnet(**options)


def test_missing_weights_are_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def fail(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fail)
    assert find_weights("resnet18") == "none"
    with pytest.raises(FileNotFoundError, match="resnet18-f37072fd.pth.*no network.*weights='none'"):
        pspnet(**SMALL, weights="imagenet")


def test_weights_at_hand_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: state)
    state = torchvision.models.resnet18().state_dict()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert find_weights("resnet18") == "imagenet"
    assert torch.equal(pspnet(**SMALL, weights="imagenet").encoder[0].weight, state["conv1.weight"])
