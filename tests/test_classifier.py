from __future__ import annotations

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.errors import InputError
from notbugs.models import build
from notbugs.seeds import seeded
from tests.conftest import random_images


def test_logits_are_the_head_of_the_features(small):
    images = random_images(3)
    small.eval()
    torch.testing.assert_close(small.head(small.features(images)), small(images))


def test_normalisation_belongs_to_the_classifier(small):
    images = random_images(3)
    small.eval()
    mean, std = torch.tensor([0.4, 0.6]).view(-1, 1, 1), torch.tensor([0.3, 0.2]).view(-1, 1, 1)
    torch.testing.assert_close(small(images), small.network((images - mean) / std))


def test_features_stop_at_the_head_and_leave_no_hook(small):
    small.eval()
    small.head.register_forward_hook(lambda *_: pytest.fail("the head was computed"))
    small.features(random_images(2))
    assert not small.head._forward_pre_hooks


def test_the_head_can_be_named():
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 7), nn.ReLU(), nn.Linear(7, 4))
    assert Classifier(network).features(random_images(2)).shape == (2, 7)
    assert Classifier(network, head="1").features(random_images(2)).shape == (2, 72)
    with pytest.raises(InputError, match="'head' must name an nn.Linear of the network. Got 'fc'"):
        Classifier(network, head="fc")
    with pytest.raises(InputError, match=r"has no nn\.Linear"):
        Classifier(nn.Sequential(nn.Flatten()))


def test_a_network_that_never_calls_its_head_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(4, 4)

        def forward(self, images):
            return images.flatten(1)[:, :4]

    with pytest.raises(InputError, match="never called its layer 'unused'"):
        Classifier(Odd()).features(random_images(2))


def test_evaluating_restores_every_mode_also_after_an_error(small):
    small.train()
    small.network[1].eval()
    with pytest.raises(KeyError), small.evaluating("bf16"):
        assert not any(module.training for module in small.modules())
        assert small.precision == "bf16"
        raise KeyError
    assert small.training
    assert not small.network[1].training
    assert small.network[3].training
    assert small.precision == "fp32"


def test_unknown_precision(unchecked):
    with pytest.raises(InputError, match="'precision' must be one of auto, fp32, bf16"):
        Classifier(nn.Linear(2, 2), precision="fp8")


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_cnn_takes_its_images(size, channels, stride):
    with seeded(0):
        network = build("cnn", channels=channels, classes=5, width=4, features=6, stride=stride)
    assert network(torch.rand(2, channels, size, size)).shape == (2, 5)
    halved = network[0](torch.rand(2, channels, size, size))
    assert halved.shape[2] == size // stride


def test_unknown_architecture():
    with pytest.raises(InputError, match="'architecture' must be one of cnn. Got 'cnm' instead. Did you mean 'cnn'"):
        build("cnm", channels=1, classes=2)
