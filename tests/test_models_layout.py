"""Nothing that a user hands over is changed; a network that cannot run with channels last is searched all the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.measure import evaluate
from notbugs.measure.features import layer
from notbugs.models import build, frozen, load_classifier, save_classifier
from notbugs.models.checkpoint import Blueprint
from notbugs.search import Attack, PGDSteps, match_features, pgd
from notbugs.search.backward import replaced_backward
from notbugs.seeds import seeded
from notbugs.threat import L2
from notbugs.training import Training, new_classifier, train
from tests.conftest import random_images

SHAPE = (3, 12, 12)


class Tutorial(nn.Module):
    """The network of PyTorch's tutorial, in small: `.view` behind a convolution needs plain memory."""

    def __init__(self, channels: int = 3, classes: int = 4, size: tuple[int, int] = SHAPE[1:]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6 * (size[0] - 2) * (size[1] - 2), classes)

    def forward(self, images):
        return self.fc(relu(self.norm(self.conv(images))).view(images.size(0), -1))


def everything(network: nn.Module) -> dict[str, object]:
    """All that a caller could find changed."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    found: dict[str, object] = {name: (id(t), t.stride(), t.dtype, t.requires_grad) for name, t in tensors.items()}
    found |= {f"{name} gradient": t.grad is None for name, t in tensors.items()}
    for name, module in network.named_modules():
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        found[f"{name} module"] = (type(module), module.training, *(len(getattr(module, kind)) for kind in kinds))
    return found


@pytest.mark.parametrize("last", [False, True])
def test_the_callers_network_is_as_it_was(last):
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(600, 4))
    network = network.train().to(memory_format=torch.channels_last if last else torch.contiguous_format)
    network[4].weight.requires_grad_(False)
    before, weights = everything(network), {name: value.clone() for name, value in network.state_dict().items()}
    classifier, images = Classifier(network, mean=(0.5,), std=(0.25,)), random_images(6, SHAPE)
    pixels = images.clone()
    labels = torch.arange(6) % 4
    evaluate(classifier, Images(images, labels), radii=(0.5,), attack=Attack(steps=2))
    with classifier.evaluating():
        pgd(classifier, images, labels, L2(0.5), PGDSteps(2))
        match_features(classifier, images, images.flip(0), PGDSteps(2, 0.1))
        layer(classifier, "0").ready(SHAPE, 6)(images)
    assert everything(network) == before
    assert torch.equal(images, pixels)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_a_network_that_needs_plain_memory_goes_everywhere():
    with seeded(0):
        network = Tutorial().eval()
    classifier, images = Classifier(network), random_images(8, SHAPE)
    labels = network(images).argmax(1)
    shuffled = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(classifier(shuffled), network(images))
    fast = frozen(classifier, SHAPE)
    assert not fast.is_channels_last
    torch.testing.assert_close(fast(shuffled), network(images))
    clean, robust = evaluate(classifier, Images(images, labels), radii=(1.0,), attack=Attack(steps=5))
    assert (clean.share.value, robust.share.value < 1) == (1.0, True)


def test_one_that_does_not_is_searched_with_channels_last():
    with seeded(0):
        network = build("cnn", channels=3, classes=4, size=12, width=4)
    fast = frozen(Classifier(network), SHAPE)
    assert fast.is_channels_last
    assert fast.network.get_submodule("3").weight.is_contiguous(memory_format=torch.channels_last)


def test_one_that_needs_plain_memory_is_trained_and_comes_back(bars_data, tmp_path, monkeypatch):
    (tmp_path / "own_view.py").write_text("from tests.test_models_layout import Tutorial\n")
    monkeypatch.chdir(tmp_path)
    classifier = new_classifier(bars_data, "own_view:Tutorial", precision="fp32", device=torch.device("cpu"))
    train(classifier, bars_data.train, Training(epochs=1))
    plan = Blueprint(architecture="own_view:Tutorial", shape=bars_data.train.shape, classes=bars_data.classes)
    save_classifier("own.safetensors", classifier, plan)
    loaded = load_classifier("own.safetensors", architecture="own_view:Tutorial")
    images, _ = bars_data.test.batch(slice(None))
    assert torch.equal(loaded(images), classifier(images))


# What a hook records is what was there at that moment


class InPlace(nn.Module):
    """Features and logits are changed in place after they were made, in a way that keeps its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.fc = nn.ReLU(inplace=True), nn.Linear(432, 4)

    def forward(self, images):
        hidden = images.flatten(1) - 0.5
        hidden = self.act(hidden) * 1.0
        logits = self.fc(hidden)
        hidden.mul_(0)
        logits += 1
        return relu(logits, inplace=True)


def test_features_are_those_that_the_head_was_given():
    with seeded(0):
        network = InPlace().requires_grad_(False)
    images = random_images(3, SHAPE)
    wanted = relu(images.flatten(1) - 0.5)
    for head in (None, "fc"):
        classifier = Classifier(network, head=head)
        for _ in range(2):
            assert torch.equal(classifier.features(images), wanted)
    leaf = images.clone().requires_grad_()
    layer(Classifier(network), "fc")(leaf).sum().backward()
    assert torch.equal(layer(Classifier(network), "fc")(images), network.fc(wanted))
    with replaced_backward(Classifier(network, head="fc"), "act") as straight:
        leaf = images.clone().requires_grad_()
        straight.features(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(images))
