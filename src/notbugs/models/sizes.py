"""How often a network halves its images, so that one architecture fits every size with the same weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from notbugs.errors import must

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
