"""Architectures of our own: a small CNN, VGG, DenseNet and ResNets."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from notbugs.errors import check_count, check_flag, must
from notbugs.models.layers import (
    Dense,
    PreActivation,
    Residual,
    Size,
    Skip,
    WhitenedConv2d,
    conv_norm_relu,
    convolution,
    halving,
    height_and_width,
    initialised,
    named,
    stem_pool,
    strides,
)


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


def resnet9(channels: int, classes: int, *, size: Size = 32, width: int = 64, whiten: bool = False) -> nn.Module:
    """David Page's network for DAWNBench: eight convolutions, two skips, a global maximum and a linear head.

    6,573,130 parameters for 3 channels and 10 classes. Its logits are not scaled by 1/8 as his are, and its head has
    a bias. With `whiten`, its first convolution sees whitened patches of the images (`WhitenedConv2d`), which
    `new_classifier` fits to the training images.
    """
    a, b, c, d = (check_count("width", width) * 2**stage for stage in range(4))
    halved = strides(size, 3)
    first, second, third = (halving(nn.MaxPool2d, stride) for stride in halved.stages)
    kind = WhitenedConv2d if check_flag("whiten", whiten) else nn.Conv2d
    convolved = kind(channels, a, 3, halved.stem, padding=1, bias=False)
    return initialised(
        named(
            prep=nn.Sequential(nn.Sequential(convolved, nn.BatchNorm2d(a), nn.ReLU()), stem_pool(halved)),
            layer1=nn.Sequential(conv_norm_relu(a, b), first, Skip(conv_norm_relu(b, b), conv_norm_relu(b, b))),
            layer2=nn.Sequential(conv_norm_relu(b, c), second),
            layer3=nn.Sequential(conv_norm_relu(c, d), third, Skip(conv_norm_relu(d, d), conv_norm_relu(d, d))),
            pool=nn.AdaptiveMaxPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(d, classes),
        )
    )


def resnet18(channels: int, classes: int, *, size: Size = 32, width: int = 64) -> nn.Module:
    """He et al.'s with 18 layers: 11,173,962 parameters for 3 channels and 10 classes."""
    return _resnet(_basic, (2, 2, 2, 2), channels, classes, size, width)


def resnet34(channels: int, classes: int, *, size: Size = 32, width: int = 64) -> nn.Module:
    """He et al.'s with 34 layers: 21,282,122 parameters for 3 channels and 10 classes."""
    return _resnet(_basic, (3, 4, 6, 3), channels, classes, size, width)


def resnet50(channels: int, classes: int, *, size: Size = 32, width: int = 64) -> nn.Module:
    """He et al.'s with 50 layers, the paper's: 23,520,842 parameters for 3 channels and 10 classes."""
    return _resnet(_bottleneck, (3, 4, 6, 3), channels, classes, size, width)


def resnet20(channels: int, classes: int, *, size: Size = 32, width: int = 16) -> nn.Module:
    """He et al.'s for CIFAR-10 with 20 layers: 269,722 parameters for 3 channels and 10 classes."""
    return _resnet(_basic, (3, 3, 3), channels, classes, size, width, is_padded=True)


def resnet32(channels: int, classes: int, *, size: Size = 32, width: int = 16) -> nn.Module:
    """He et al.'s for CIFAR-10 with 32 layers: 464,154 parameters for 3 channels and 10 classes."""
    return _resnet(_basic, (5, 5, 5), channels, classes, size, width, is_padded=True)


def resnet44(channels: int, classes: int, *, size: Size = 32, width: int = 16) -> nn.Module:
    """He et al.'s for CIFAR-10 with 44 layers: 658,586 parameters for 3 channels and 10 classes."""
    return _resnet(_basic, (7, 7, 7), channels, classes, size, width, is_padded=True)


def resnet56(channels: int, classes: int, *, size: Size = 32, width: int = 16) -> nn.Module:
    """He et al.'s for CIFAR-10 with 56 layers: 853,018 parameters for 3 channels and 10 classes."""
    return _resnet(_basic, (9, 9, 9), channels, classes, size, width, is_padded=True)


def resnet110(channels: int, classes: int, *, size: Size = 32, width: int = 16) -> nn.Module:
    """He et al.'s for CIFAR-10 with 110 layers: 1,727,962 parameters for 3 channels and 10 classes."""
    return _resnet(_basic, (18, 18, 18), channels, classes, size, width, is_padded=True)


def wrn28_10(channels: int, classes: int, *, size: Size = 32, width: int = 160) -> nn.Module:
    """Zagoruyko and Komodakis' with 28 layers: 36,479,194 parameters for 3 channels and 10 classes.

    `width` is the number of channels of the first group, 16 times the widening factor.
    """
    halved = strides(size, 2)
    groups, inputs = {}, 16
    for stage, stride in enumerate((1, *halved.stages)):
        outputs = check_count("width", width) * 2**stage
        blocks = [PreActivation(inputs if not n else outputs, outputs, 1 if n else stride) for n in range(4)]
        groups[f"block{stage + 1}"] = named(layer=nn.Sequential(*blocks))
        inputs = outputs
    return initialised(
        named(
            conv1=convolution(channels, 16, 3, halved.stem),
            stem_pool=stem_pool(halved),
            **groups,
            bn1=nn.BatchNorm2d(inputs),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(inputs, classes),
        )
    )


def _basic(width: int) -> list[tuple[int, int]]:
    return [(width, 3), (width, 3)]


def _bottleneck(width: int) -> list[tuple[int, int]]:
    return [(width, 1), (width, 3), (4 * width, 1)]


def _resnet(
    plan: Callable[[int], list[tuple[int, int]]],
    depths: tuple[int, ...],
    channels: int,
    classes: int,
    size: Size,
    width: int,
    *,
    is_padded: bool = False,
) -> nn.Module:
    """`plan` has the channels and kernels of a block's convolutions; `depths` the number of blocks of every stage."""
    halved = strides(size, len(depths) - 1)
    stages, inputs = {}, check_count("width", width)
    for stage, (depth, stride) in enumerate(zip(depths, (1, *halved.stages), strict=True)):
        convolutions, blocks = plan(width * 2**stage), []
        for number in range(depth):
            blocks.append(Residual(inputs, convolutions, 1 if number else stride, is_padded=is_padded))
            inputs = convolutions[-1][0]
        stages[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    return initialised(
        named(
            conv1=convolution(channels, width, 3, halved.stem),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            stem_pool=stem_pool(halved),
            **stages,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(inputs, classes),
        )
    )
