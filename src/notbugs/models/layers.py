"""What our architectures are made of: layers, whitening of the first, and how many weights they may have.

The whitened first layer is that of the fastest CIFAR-10 trainings (Page 2018; Jordan 2024, "94% on CIFAR-10 in 3.29
seconds").

Layers have the names that they have in pytorch-cifar, in pytorch_resnet_cifar10, in MadryLab's robustness and, for
wide ResNets, in TRADES and RobustBench, so that weights published in these forms load.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu, unfold
from torch.nn.utils import skip_init

from notbugs.errors import must
from notbugs.shapes import Batch

Size = int | tuple[int, int]


@dataclass(frozen=True)
class Strides:
    """Where a network halves its images.

    Attributes
    ----------
    stem : int
        Of the first convolution, 1 or 2.
    pool : bool
        Whether a max-pool halves once more behind it.
    stages : tuple of int
        Of every later place where the network can halve, 1 or 2.
    """

    stem: int
    pool: bool
    stages: tuple[int, ...]


def strides(size: Size, stages: int, *, last: int = 2, pool: bool = True) -> Strides:
    """The strides for images of `size`.

    Up to 47 pixels a side nothing is halved before the stages, as is usual on CIFAR; from 48 the first convolution
    has stride 2; from 96 a max-pool follows it, as is usual on ImageNet. Small images skip the first of the `stages`
    halvings, so that the last feature map is at least `last` pixels a side.

    Parameters
    ----------
    size : int or (int, int)
        Height and width; the smaller one decides.
    stages : int
        Places where the network can halve.
    last : int
        Smallest side of the last feature map.
    pool : bool
        Whether there may be a max-pool behind the first convolution.
    """
    side = min(height_and_width(size))
    early = min(1 + pool, max(side // 24, 1).bit_length() - 1)
    late = min(stages, max((side >> early) // last, 1).bit_length() - 1)
    return Strides(1 + (early > 0), early > 1, (1,) * (stages - late) + (2,) * late)


def height_and_width(size: Size) -> tuple[int, int]:
    """The size as a pair.

    Raises
    ------
    InputError
        If it is not one or two whole numbers above 0.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise must("size", "be the side of square images, or their (height, width), in pixels", size)
    return pair


def halving(kind: type[nn.Module], stride: int) -> nn.Module:
    """A pooling layer of `kind` that halves, or nothing where the stride is 1."""
    return kind(2) if stride == 2 else nn.Identity()


class WhitenedConv2d(nn.Conv2d):
    """A convolution whose weights are those on whitened patches of its images.

    A frozen layer that whitens patches, and a trained 1x1 convolution behind it, are one convolution: it costs what
    one costs. The components are the principal ones of every patch, each scaled to variance 1; the patches' mean is
    kept: images come in normalised. Patches stay as they are until `fit`.
    """

    components: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_buffer("components", torch.eye(self.weight[0].numel()))

    @torch.no_grad()
    def fit(self, images: Batch, eps: float = 5e-4) -> None:
        """Take the components from the patches of `images`; `eps` is added to their variances, Jordan's by default."""
        patches = unfold(images.double(), cast("tuple[int, int]", self.kernel_size)).transpose(1, 2).flatten(0, 1)
        variances, vectors = torch.linalg.eigh(torch.cov(patches.T))
        self.components.copy_((vectors / (variances.clamp_min(0) + eps).sqrt()).T)

    def on_pixels(self) -> Tensor:
        """The weights on pixels, shape (outputs, channels, height, width)."""
        products = self.weight.flatten(1)[:, :, None] * self.components  # no matrix product: autocast would round it
        return products.sum(1).view_as(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """As any convolution."""
        return self._conv_forward(input, self.on_pixels(), self.bias)

    def plain(self) -> nn.Module:
        """The same as a plain convolution, without gradients of its weights."""
        shape = (self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation)
        where = {"device": self.weight.device, "dtype": self.weight.dtype}
        layer = skip_init(nn.Conv2d, *shape, bias=self.bias is not None, **where)
        layer.load_state_dict({"weight": self.on_pixels(), **({} if self.bias is None else {"bias": self.bias})})
        return layer.train(self.training).requires_grad_(False)


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
