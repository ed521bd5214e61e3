"""The blocks that the architectures are built from, and how their weights begin.

Layers have the names that they have in pytorch-cifar, in pytorch_resnet_cifar10, in MadryLab's robustness and, for
wide ResNets, in TRADES and RobustBench, so that weights published in these forms load.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from notbugs.models.sizes import Strides


def named(**layers: nn.Module) -> nn.Sequential:
    """The layers one after another, by name."""
    return nn.Sequential(OrderedDict(layers))


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of its images but for the stride, for batch norm to follow."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def conv_norm_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, batch norm and ReLU."""
    return nn.Sequential(convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU())


def stem_pool(strides: Strides) -> nn.Module:
    """The max-pool behind the first convolution, where there is one."""
    return nn.MaxPool2d(3, 2, padding=1) if strides.pool else nn.Identity()


class Skip(nn.Sequential):
    """Its layers, added to their input."""

    def forward(self, input: Tensor) -> Tensor:
        """The input plus what the layers make of it."""
        return input + super().forward(input)


class Padding(nn.Module):
    """A shortcut without weights: every `stride`-th pixel, zeros as new channels (option A of He et al.)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.before = stride, (outputs - inputs) // 2
        self.behind = outputs - inputs - self.before

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps, shape (batch, channel, height, width), to feature maps."""
        return pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


class Residual(nn.Module):
    """The block of ResNets: convolutions with batch norm, added to their input, which is made to fit.

    Parameters
    ----------
    inputs : int
        Channels.
    plan : sequence of (int, int)
        Channels and kernel of every convolution.
    stride : int
        Of the first 3x3 convolution.
    is_padded : bool
        Whether the input is padded to fit, and not projected.
    """

    def __init__(self, inputs: int, plan: list[tuple[int, int]], stride: int, *, is_padded: bool = False) -> None:
        super().__init__()
        self.depth = len(plan)
        channels, rest = inputs, stride
        for number, (outputs, kernel) in enumerate(plan, 1):
            self.add_module(f"conv{number}", convolution(channels, outputs, kernel, rest if kernel == 3 else 1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
            channels, rest = outputs, 1 if kernel == 3 else rest
        self.shortcut: nn.Module = nn.Sequential()
        if inputs != channels and is_padded:
            self.shortcut = Padding(inputs, channels, stride)
        elif inputs != channels:
            self.shortcut = nn.Sequential(convolution(inputs, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps, shape (batch, channel, height, width), to feature maps."""
        inner = images
        for number in range(1, self.depth + 1):
            inner = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(inner))
            inner = relu(inner) if number < self.depth else inner
        return relu(inner + self.shortcut(images))


class PreActivation(nn.Module):
    """The block of wide ResNets: batch norm and ReLU come before the convolutions, and before the projection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, outputs, 3, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.convShortcut = convolution(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps, shape (batch, channel, height, width), to feature maps."""
        active = relu(self.bn1(images))
        inner = self.conv2(relu(self.bn2(self.conv1(active))))
        return inner + (images if self.convShortcut is None else self.convShortcut(active))


class Dense(nn.Module):
    """The block of DenseNets: puts `growth` new channels before those it was given."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, 4 * growth, 1)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = convolution(4 * growth, growth)

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps, shape (batch, channel, height, width), to feature maps."""
        inner = self.conv2(relu(self.bn2(self.conv1(relu(self.bn1(images))))))
        return torch.cat([inner, images], 1)


def initialised(network: nn.Module) -> nn.Module:
    """The network with the weights of its convolutions drawn as He et al. (2015) do, and no bias."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
