"""Classifiers that others published, in the form in which they are downloaded, through the commands."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import notbugs as nb
from notbugs.__main__ import main
from notbugs.seeds import seeded
from tests.conftest import random_images

pytestmark = pytest.mark.whole


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


class Block(nn.Module):
    """Written down a second time, from the description of pytorch_resnet_cifar10."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != planes:
            channels = (0, 0, 0, 0, planes // 4, planes // 4)
            self.shortcut = Lambda(lambda x: functional.pad(x[:, :, ::2, ::2], channels, "constant", 0))

    def forward(self, images):
        inner = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(images))


class Published(nn.Module):
    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        for number, (inputs, planes, stride) in enumerate(widths, 1):
            rest = [Block(planes, planes, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(Block(inputs, planes, stride), *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        inner = functional.relu(self.bn1(self.conv1(images)))
        inner = self.layer3(self.layer2(self.layer1(inner)))
        return self.linear(functional.avg_pool2d(inner, inner.size()[3]).view(len(inner), -1))


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def published(tmp_path, monkeypatch) -> nn.Module:
    """resnet20-12fca82f.th with random weights, and small images beside it, for speed."""
    monkeypatch.chdir(tmp_path)
    with seeded(0):
        network = Published()
    network.train()(random_images(16, (3, 32, 32)))
    state = OrderedDict((f"module.{name}", value) for name, value in network.eval().state_dict().items())
    torch.save({"state_dict": state, "best_prec1": 91.73}, "resnet20-12fca82f.th")
    draw = np.random.default_rng(0)
    arrays = {f"{split}_images": draw.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8) for split in ("train", "test")}
    np.savez("cifar.npz", **arrays, **{f"{split}_labels": np.arange(40) % 10 for split in ("train", "test")})
    return network


def test_resnet20_of_pytorch_resnet_cifar10(published):
    how = {
        "architecture": "resnet20",
        "shape": (3, 32, 32),
        "classes": [str(n) for n in range(10)],
        "precision": "fp32",
    }
    loaded = nb.load_classifier("resnet20-12fca82f.th", mean=MEAN, std=STD, **how)
    images = random_images(4, (3, 32, 32))
    normalised = (images - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)
    torch.testing.assert_close(loaded(images), published(normalised))
    assert loaded.features(images).shape == (4, 64)


def test_it_goes_through_the_commands_of_the_guide(published, capsys):
    model = ["resnet20-12fca82f.th", "--data", "cifar.npz", "--arch", "resnet20", "--quiet"]
    normalisation = ["--mean", "0.485", "0.456", "0.406", "--std", "0.229", "0.224", "0.225"]
    assert main(["evaluate", *model]) == 2
    assert "Give its 'mean' and 'std' (--mean, --std)" in capsys.readouterr().err
    assert (
        main(["evaluate", *model, *normalisation, "--radii", "0.5", "--attack.steps", "2", "--attack.queries", "0"])
        == 0
    )
    assert "l2 0.5:" in capsys.readouterr().out
    few = ["--images", "2", "--measured", "10", "--fit-images", "40", "--attack.steps", "1", "--attack.queries", "0"]
    assert main(["audit", *model, *normalisation, *few, "--out", "audit"]) == 0
    assert capsys.readouterr().out.strip().endswith("audit.html")
