"""The networks of the benchmark in plain torch, so that every library's process can build them without ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


def cnn(channels: int, classes: int, *, width: int = 32, features: int = 128) -> nn.Module:
    """The `cnn` of notbugs: four convolutions with batch norm, two halvings, a global average, a linear head."""
    widths = [channels, width, 2 * width, 4 * width, features]
    layers: list[nn.Module] = []
    for block, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers += [*_convolution(inputs, outputs), *([nn.MaxPool2d(2)] if block in (1, 2) else [])]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))


class Residual(nn.Module):
    """`body(x) + shortcut(x)`, with a ReLU after the sum where asked for."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, *, activate: bool = False) -> None:
        super().__init__()
        self.body, self.shortcut, self.activate = body, shortcut or nn.Identity(), activate

    def forward(self, images: Tensor) -> Tensor:
        total = self.body(images) + self.shortcut(images)
        return relu(total) if self.activate else total


def resnet9(channels: int, classes: int, *, width: int = 64) -> nn.Module:
    """Eight convolutions, two of the four stages with a residual block, and a linear head."""
    stages = [
        *_convolution(channels, width),
        *_convolution(width, 2 * width),
        nn.MaxPool2d(2),
        Residual(nn.Sequential(*_convolution(2 * width, 2 * width), *_convolution(2 * width, 2 * width))),
        *_convolution(2 * width, 4 * width),
        nn.MaxPool2d(2),
        *_convolution(4 * width, 8 * width),
        nn.MaxPool2d(2),
        Residual(nn.Sequential(*_convolution(8 * width, 8 * width), *_convolution(8 * width, 8 * width))),
    ]
    return nn.Sequential(*stages, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes))


def resnet18(channels: int, classes: int, *, width: int = 64) -> nn.Module:
    """ResNet-18 as usual on 32x32 images: a 3x3 first convolution, no pooling before the four stages."""
    blocks: list[nn.Module] = []
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        for stride in (2 if stage else 1, 1):
            blocks.append(_basic_block(inputs, outputs, stride))
            inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*_convolution(channels, width), *blocks, *head)


NETWORKS: dict[str, Callable[..., nn.Module]] = {"cnn": cnn, "resnet9": resnet9, "resnet18": resnet18}


def build(name: str, channels: int, classes: int, *, seed: int = 0, **options: int) -> nn.Module:
    """A network by name, its weights following from `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](channels, classes, **options)


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _basic_block(inputs: int, outputs: int, stride: int) -> Residual:
    *second, _ = _convolution(outputs, outputs)
    body = nn.Sequential(*_convolution(inputs, outputs, stride=stride), *second)
    if inputs == outputs and stride == 1:
        return Residual(body, activate=True)
    *shortcut, _ = _convolution(inputs, outputs, kernel=1, stride=stride)
    return Residual(body, nn.Sequential(*shortcut), activate=True)
