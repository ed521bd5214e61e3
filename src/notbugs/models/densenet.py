"""DenseNet in CIFAR form."""

from __future__ import annotations

from torch import nn

from notbugs.errors import check_count
from notbugs.models.layers import Dense, convolution, initialised, named, stem_pool
from notbugs.models.sizes import Size, halving, strides

DENSENET121 = (6, 12, 24, 16)


def densenet121(channels: int, classes: int, *, size: Size = 32, growth: int = 32) -> nn.Module:
    """Huang et al.'s with 121 layers: 6,956,298 parameters for 3 channels and 10 classes.

    `growth` is the number of channels that every block adds.
    """
    halved = strides(size, 3)
    width = 2 * check_count("growth", growth)
    stages: dict[str, nn.Module] = {"conv1": convolution(channels, width, 3, halved.stem), "pool": stem_pool(halved)}
    for number, depth in enumerate(DENSENET121, 1):
        stages[f"dense{number}"] = nn.Sequential(*(Dense(width + block * growth, growth) for block in range(depth)))
        width += depth * growth
        if number < len(DENSENET121):
            stages[f"trans{number}"] = _transition(width, halved.stages[number - 1])
            width //= 2
    return initialised(
        named(
            **stages,
            bn=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            mean=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(width, classes),
        )
    )


def _transition(inputs: int, stride: int) -> nn.Module:
    """Half the channels, and half the size."""
    return named(
        bn=nn.BatchNorm2d(inputs),
        relu=nn.ReLU(),
        conv=convolution(inputs, inputs // 2, 1),
        pool=halving(nn.AvgPool2d, stride),
    )
