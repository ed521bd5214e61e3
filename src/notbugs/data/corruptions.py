"""Common corruptions in the manner of CIFAR-10-C (Hendrycks and Dietterich 2019), at severities 1 to 5.

Strengths are CIFAR-10-C's, which are for images of 32 pixels; lengths are in 32nds of an image's shorter side, so that
larger images are blurred alike. An image's noise follows from its number and the seed: not from its batch or device,
and at every severity it is the same draw, scaled. Images stay floating point and are clipped to [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from notbugs.data.jpeg import compressed
from notbugs.errors import check_choice, check_count, must
from notbugs.frequency import cycles
from notbugs.given import checked
from notbugs.seeds import generator
from notbugs.shapes import Batch

Draws = list[torch.Generator]
"""One generator for each image of a batch."""


@checked
def corrupt(images: Batch, name: str, severity: int, *, seed: int = 0, first: int = 0) -> Batch:
    """The images under one corruption, in [0, 1].

    Parameters
    ----------
    images : Tensor
        In [0, 1], shape (batch, channel, height, width).
    name : str
        One of `CORRUPTIONS`.
    severity : int
        1 to 5.
    seed : int
        Of the noise.
    first : int
        Number of the first image of the batch among all images; the others follow it.

    Raises
    ------
    InputError
        If there is no such corruption or severity, or JPEG is asked for and Pillow is missing.

    Examples
    --------
    >>> foggy = nb.data.corrupt(inputs, 'fog', severity=3)
    >>> foggy.shape == inputs.shape
    True
    """
    check_choice("name", name, CORRUPTIONS)
    if check_count("severity", severity) > 5:
        raise must("severity", "be at most 5", severity)
    function, strengths = CORRUPTIONS[name]
    draws = [generator(seed, "corruption", name, first + number) for number in range(len(images))]
    return function(images, strengths[severity - 1], draws).clamp(0, 1)


def gaussian_noise(images: Batch, strength: float, draws: Draws) -> Batch:
    """Normal noise of standard deviation `strength` added to every pixel."""
    return images + strength * _drawn(images, torch.randn, draws)


def shot_noise(images: Batch, strength: float, draws: Draws) -> Batch:
    """Poisson noise, as of a sensor to which white is `strength` photons."""
    rates = images.cpu() * strength
    counts = [torch.poisson(rate, generator=draw) for rate, draw in zip(rates, draws, strict=True)]
    return torch.stack(counts).to(images) / strength


def impulse_noise(images: Batch, strength: float, draws: Draws) -> Batch:
    """A share `strength` of all values becomes 0 or 1, each half of the time."""
    draw = _drawn(images, torch.rand, draws)
    return torch.where(draw < strength, (draw < strength / 2).to(images), images)


def gaussian_blur(images: Batch, strength: float, draws: Draws) -> Batch:
    """Convolution with a Gaussian of standard deviation `strength`, edges repeated."""
    sigma = _length(strength, images)
    reach = max(1, math.ceil(4 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).to(images) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    flat = pad(images, [reach] * 4, mode="replicate").flatten(0, 1)[:, None]
    return conv2d(conv2d(flat, kernel), kernel.transpose(2, 3)).view(images.shape)


def fog(images: Batch, strength: tuple[float, float], draws: Draws) -> Batch:
    """A bright cloud over all of the image, which is then darkened to its old maximum.

    The cloud is noise whose size falls by the square of the second strength with every halving of its scale, as in
    CIFAR-10-C, which makes it by midpoint displacement; here it is made of Fourier modes.
    """
    amount, decay = strength
    height, width = images.shape[2:]
    radius = cycles(height, width)
    modes = torch.where(radius > 0, radius.clamp_min(1) ** -(1 + 2 * math.log2(decay)), 0.0)
    noise = _drawn(images[:, :1], torch.randn, draws).cpu()
    cloud = torch.fft.irfft2(torch.fft.rfft2(noise) * modes, s=(height, width)).to(images)
    low, high = cloud.amin((2, 3), keepdim=True), cloud.amax((2, 3), keepdim=True)
    cloud = (cloud - low) / (high - low).clamp_min(torch.finfo(cloud.dtype).tiny)
    brightest = images.amax((1, 2, 3), keepdim=True)
    return (images + amount * cloud) * brightest / (brightest + amount)


def brightness(images: Batch, strength: float, draws: Draws) -> Batch:
    """Every pixel's value in HSV raised by `strength`, its hue and saturation kept."""
    value = images.amax(1, keepdim=True)
    raised = (value + strength).clamp_max(1)
    return torch.where(value > 0, images * raised / value.clamp_min(torch.finfo(value.dtype).tiny), raised)


def contrast(images: Batch, strength: float, draws: Draws) -> Batch:
    """Distances from each channel's mean multiplied by `strength`."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + strength * (images - mean)


def pixelate(images: Batch, strength: float, draws: Draws) -> Batch:
    """Resized to a share `strength` of its size and back, with Pillow's box filter."""
    rows, columns = (_there_and_back(size, max(1, int(size * strength))).to(images) for size in images.shape[2:])
    return rows @ images @ columns.T


def jpeg(images: Batch, strength: int, draws: Draws) -> Batch:
    """Rounded to 8 bits, then JPEG of quality `strength`; unless there are three channels, each as a grey image."""
    lossy = [compressed(one, strength) for one in images.float().cpu().numpy()]
    return torch.from_numpy(np.stack(lossy)).to(images) / 255


CORRUPTIONS: dict[str, tuple[Callable[..., Tensor], tuple]] = {
    "gaussian_noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "fog": (fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": (jpeg, (80, 65, 58, 50, 40)),
}
"""Every corruption by name, with its strength at severities 1 to 5.

Examples
--------
>>> 'fog' in nb.data.CORRUPTIONS
True
"""


def _there_and_back(size: int, small: int) -> Tensor:
    """What each of `size` pixels has of each after a resize to `small` pixels and back, shape (size, size)."""
    return _box(small, size) @ _box(size, small)


def _box(before: int, after: int) -> Tensor:
    """What each of `after` pixels is made of: the mean of those whose middles are in its box, at least a pixel wide."""
    scale = before / after
    middles = (torch.arange(after, dtype=torch.float64)[:, None] + 0.5) * scale
    offsets = (torch.arange(before) + 0.5 - middles) / max(scale, 1)
    inside = ((offsets > -0.5) & (offsets <= 0.5)).double()
    return inside / inside.sum(1, keepdim=True)


def _length(strength: float, images: Batch) -> float:
    return strength * min(images.shape[2:]) / 32


def _drawn(images: Batch, kind: Callable[..., Tensor], draws: Draws) -> Tensor:
    return torch.stack([kind(images.shape[1:], generator=draw) for draw in draws]).to(images)
