"""VGG in CIFAR form."""

from __future__ import annotations

from torch import nn

from notbugs.errors import check_count
from notbugs.models.layers import initialised, named
from notbugs.models.sizes import Size, halving, strides

VGG16 = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # channels in units of the first stage's, and convolutions


def vgg16_bn(channels: int, classes: int, *, size: Size = 32, width: int = 64) -> nn.Module:
    """Simonyan and Zisserman's with batch norm and one linear layer: 14,728,266 parameters for 3 channels, 10 classes.

    Five halvings leave a 1x1 map of a 32x32 image.
    """
    halved = strides(size, 5, last=1, pool=False)
    layers: list[nn.Module] = []
    inputs, stride = channels, halved.stem
    for (times, depth), pool in zip(VGG16, halved.stages, strict=True):
        outputs = times * check_count("width", width)
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs, stride = outputs, 1
        layers.append(halving(nn.MaxPool2d, pool))
    return initialised(
        named(
            features=nn.Sequential(*layers),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(inputs, classes),
        )
    )
