"""Small convolutional networks for laptops."""

from __future__ import annotations

from torch import nn


def cnn(channels: int, classes: int, *, width: int = 32, features: int = 128) -> nn.Module:
    """Four 3x3 convolutions with batch norm, two halvings, a global average, and a linear head.

    Takes images of at least 4x4 pixels. `features` is the number of channels of the last convolution, that is the
    dimension of the penultimate features.
    """
    return nn.Sequential(
        *_block(channels, width),
        *_block(width, 2 * width, pool=True),
        *_block(2 * width, 4 * width, pool=True),
        *_block(4 * width, features),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, classes),
    )


def _block(inputs: int, outputs: int, *, pool: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
    return [*layers, nn.MaxPool2d(2)] if pool else layers
