"""Mean and standard deviation: their units, their order, and whether a network has its own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from notbugs.errors import InputError, must

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
ChannelOrder = Literal["auto", "rgb", "bgr"]
Units = Literal["", "bytes", "mixed", "others"]
"""In [0, 1]; from 0 to 255; the mean alone from 0 to 255; any others."""

WHITE = 255
"""Of 8-bit pixels, where notbugs has 1."""
RGB_MEANS = {"ImageNet": (0.485, 0.456, 0.406), "CIFAR-10": (0.4914, 0.4822, 0.4465)}
CLOSE = 0.006
"""Difference at which a mean still counts as one of these, as others have rounded them."""
PARTNERS = {"mean": "std", "mu": "sigma"}
PAIR = re.compile(r"((?!weight|bias|running)\w*_)?_?(mean|mu)")
"""What a normaliser calls its mean: mean, new_mean, pixel_mean, mu; not the statistics of a batch norm."""
CHANNELS = 4
"""Values of a normaliser at most, one for each channel."""


@dataclass(frozen=True)
class Own:
    """The normaliser inside a network.

    Attributes
    ----------
    name : str
        Of its mean, within the network.
    values : Normalisation
        Mean and standard deviation, one value for each channel, or one for all.
    """

    name: str
    values: Normalisation

    @property
    def units(self) -> Units:
        """Of the pixels that it is for, where they are not in [0, 1]."""
        return units(*self.values)

    @property
    def in_words(self) -> str:
        """Of one for pixels that are not in [0, 1]: what it is, and what to give."""
        begin = f"The network normalises its images itself, by {self.name!r}, whose values {told(self.values[0])} are"
        if self.units == "others":
            return (
                f"{begin} not for pixels in [0, 1], as notbugs has them. If LOW is black and HIGH is white in the "
                "network's units, give -LOW / (HIGH - LOW) as the mean and 1 / (HIGH - LOW) as the std; if it brings "
                "images into these units itself, --mean 0 --std 1."
            )
        return (
            f"{begin} for pixels from 0 to 255; notbugs has them in [0, 1]. If it takes images from 0 to 255, give "
            f"--mean 0 --std {1 / WHITE:.6g} (mean=(0,), std=(1/255,)); if it multiplies by 255 itself, --mean 0 "
            "--std 1."
        )


def check_normalisation(mean: Sequence[float], std: Sequence[float], order: ChannelOrder) -> None:
    """Refuse a normalisation that cannot be one of pixels in [0, 1], or is in an order that nobody named.

    Raises
    ------
    InputError
        If lengths differ or values are not finite, if the values are for pixels from 0 to 255, or if the means are
        those of ImageNet or CIFAR-10 in the order of OpenCV, blue first, and `order` is "auto".
    """
    for name, value in (("mean", mean), ("std", std)):
        if not hasattr(value, "__len__") or getattr(value, "ndim", 1) != 1:
            one, other = (f"({each},)" if isinstance(each, int | float) else each for each in (mean, std))
            remedy = f"Give mean={one}, std={other}." if isinstance(value, int | float) else ""
            raise must(name, "be a sequence of numbers, one for each channel or one for all", value, remedy)
    if len(mean) != len(std) or not len(mean):
        raise must("mean", "have as many values as the 'std', one for each channel", (tuple(mean), tuple(std)))
    if not all(map(math.isfinite, mean)):
        raise must("mean", "be finite", tuple(mean))
    if not all(0 < value < math.inf for value in std):
        raise must("std", "be above 0 and finite", tuple(std))
    if scale := units(mean, std):
        rule = "be, as the 'std', for pixels in [0, 1]"
        raise must("mean", rule, (tuple(mean), tuple(std)), in_pixels(mean, std, scale))
    if order == "auto":
        for name, known in RGB_MEANS.items():
            if len(mean) == 3 and all(abs(a - b) < CLOSE for a, b in zip(mean, reversed(known), strict=True)):
                raise InputError(
                    f"The 'mean' {told(mean)} is that of {name} in the order blue, green, red, as OpenCV and Caffe "
                    "have it. If the network takes images so, give channel_order='bgr' (--channel-order bgr); images "
                    "are then turned for it. If it takes red first, give its mean and std in this order. "
                    "'rgb' takes the numbers as they stand."
                )


def units(mean: Sequence[float], std: Sequence[float]) -> Units:
    """Whether the values are for pixels from 0 to 255, or others: none of pixels in [0, 1] is above 1."""
    if max(mean) <= 1 and max(std) <= 1:
        return ""
    if min(mean) < 0 or max(*mean, *std) > WHITE:
        return "others"
    return "mixed" if max(mean) > 1 and max(std) < 1 else "bytes"


def in_pixels(mean: Sequence[float], std: Sequence[float], name: Units) -> str:
    """What values in these units are for pixels in [0, 1]."""
    if name == "others":
        return (
            "These are not for pixels from 0 to 255 either, as with Hounsfield units or 16 bits. If LOW is black and "
            "HIGH is white in your images, give (mean - LOW) / (HIGH - LOW) and std / (HIGH - LOW)."
        )
    mean, std = by_white(mean), by_white(std) if name == "bytes" else std
    what = "These are for pixels from 0 to 255" if name == "bytes" else "This mean is for pixels from 0 to 255"
    return f"{what}: divided by 255 they are --mean {told(mean)} --std {told(std)}."


def by_white(values: Sequence[float]) -> tuple[float, ...]:
    """Values for pixels from 0 to 255, for pixels in [0, 1]."""
    return tuple(value / WHITE for value in values)


def told(values: Sequence[float]) -> str:
    """As the command line takes them."""
    return " ".join(f"{value:.6g}" for value in values)


def are_close(some: Normalisation, others: Normalisation) -> bool:
    """Whether two normalisations, with values for each channel or one for all, are the same."""
    return all(map(_values_are_close, some, others))


def _values_are_close(some: Sequence[float], others: Sequence[float]) -> bool:
    count = max(len(some), len(others))
    pairs = zip(*(list(values) * (count if len(values) == 1 else 1) for values in (some, others)), strict=False)
    return {len(some), len(others)} <= {1, count} and all(abs(one - two) < 1e-3 for one, two in pairs)


def own_normaliser(network: nn.Module, channels: int | None = None) -> Own | None:
    """The normaliser inside a network, if it has one.

    The rule: one of its modules has two buffers, parameters or attributes called mean and std, or mu and sigma,
    perhaps with the same beginning (`new_mean`, `pixel_mean`), of one value, or one for each channel. Batch norms have
    others.
    """
    for prefix, module in network.named_modules():
        held = dict(_held(module))
        for name, mean in held.items():
            if (std := held.get(partner(name))) is not None and _is_pair(mean, std, channels) and min(std) > 0:
                return Own(f"{prefix}.{name}".lstrip("."), (mean, std))
    return None


def stored_normalisers(tensors: Mapping[str, Tensor], channels: int | None = None) -> dict[str, Normalisation]:
    """By their names, the normalisers whose buffers are in a file beside the weights, as MadryLab's are."""
    found = {}
    for name, mean in tensors.items():
        path, dot, last = name.rpartition(".")
        values, spread = _numbers(mean), _numbers(tensors.get(f"{path}{dot}{partner(last)}"))
        if values and spread and _is_pair(values, spread, channels):
            found[name] = values, spread
    return found


def _is_pair(mean: Sequence[float], std: Sequence[float], channels: int | None) -> bool:
    return len(mean) == len(std) and (channels is None or len(mean) in (1, channels))


def partner(name: str) -> str:
    """What the deviation beside a mean of this name is called; empty if it is no name of a normaliser's mean."""
    match = PAIR.fullmatch(name)
    return name.removesuffix(match[2]) + PARTNERS[match[2]] if match else ""


def _held(module: nn.Module) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The numbers, and the short sequences of them, that a module has."""
    tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    for name, value in {**vars(module), **tensors}.items():
        if (values := _numbers(value)) is not None:
            yield name, values


def _numbers(value: Any) -> tuple[float, ...] | None:
    if isinstance(value, Tensor) and value.device.type != "meta" and 0 < value.numel() <= CHANNELS:
        return tuple(value.detach().double().flatten().tolist()) if not value.is_complex() else None
    if _is_number(value) and value != 0:  # noise and initial weights have a mean of 0
        return (float(value),)
    is_short = isinstance(value, list | tuple) and 0 < len(value) <= CHANNELS
    return tuple(map(float, value)) if is_short and all(map(_is_number, value)) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
