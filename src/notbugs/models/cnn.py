"""Small convolutional networks for laptops."""

from __future__ import annotations

from torch import nn

from notbugs.errors import check_count, must
from notbugs.models.sizes import Size, height_and_width


def cnn(
    channels: int, classes: int, *, size: Size = 32, width: int = 32, features: int = 128, stride: int = 1
) -> nn.Module:
    """Four convolutions with batch norm, two halvings, a global average, and a linear head.

    Takes images of at least 4 `stride` pixels a side. `features` is the number of channels of the last convolution,
    that is the dimension of the penultimate features. With `stride=2` the first convolution sees 4x4 pixels and
    halves the image, which makes a pass several times cheaper.

    Raises
    ------
    InputError
        If the images are too small.
    """
    for name, value in (("width", width), ("features", features), ("stride", stride)):
        check_count(name, value)
    if min(height_and_width(size)) < 4 * stride:
        raise must("size", f"be at least {4 * stride} pixels a side for cnn with stride {stride}", size)
    return nn.Sequential(
        *_block(channels, width, kernel=2 * stride if stride > 1 else 3, stride=stride),
        *_block(width, 2 * width, pool=True),
        *_block(2 * width, 4 * width, pool=True),
        *_block(4 * width, features),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, classes),
    )


def _block(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, pool: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - stride + 1) // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
    return [*layers, nn.MaxPool2d(2)] if pool else layers
