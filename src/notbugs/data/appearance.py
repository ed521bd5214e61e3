"""Changes of an image that people hardly notice: brightness, contrast, hue, blur and JPEG, within small ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from notbugs.data.augment import LUMA
from notbugs.data.corruptions import jpeg
from notbugs.errors import check_count, check_number, must
from notbugs.shapes import Batch
from notbugs.threat import Box

LEVELS = 4
"""Of JPEG: none, and so many qualities down to the lowest."""
CHROMA = ((0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""The two axes of colour in YIQ, from red, green and blue: hue is the angle between them."""


@dataclass(frozen=True)
class Appearance:
    """Brightness, then contrast, hue, blur and JPEG, each by up to its range; the identity is among them.

    Gradients go through all but JPEG, which passes them unchanged, as the identity would. The defaults are small; that
    nobody notices them is not measured here.

    Attributes
    ----------
    brightness : float
        Added to every pixel, either way; pixels in [0, 1].
    contrast : float
        The distance from the mean grey is multiplied by a number between 1 - contrast and 1 + contrast.
    hue : float
        Degrees, either way; images that are not of three channels have none.
    blur : float
        Largest standard deviation of a Gaussian, in pixels of an image whose shorter side has 32.
    jpeg : int
        Lowest quality, up to 95; 0 leaves JPEG out.

    Raises
    ------
    InputError
        If a range breaks its rule.

    Examples
    --------
    >>> ranges = nb.data.Appearance(brightness=0.1, jpeg=0)
    >>> changed = ranges.apply(inputs, ranges.random(20, torch.Generator().manual_seed(0)))
    >>> bool(((changed >= 0) & (changed <= 1)).all())
    True
    """

    brightness: float = 0.05
    contrast: float = 0.1
    hue: float = 5.0
    blur: float = 0.5
    jpeg: int = 80

    def __post_init__(self) -> None:
        for name, most in (("brightness", 1.0), ("contrast", 1.0), ("hue", 180.0), ("blur", 4.0)):
            if check_number(name, getattr(self, name)) > most:
                raise must(name, f"be at most {most:g}", getattr(self, name))
        if check_count("jpeg", self.jpeg, low=0) > 95:
            raise must("jpeg", "be at most 95, or 0 for none", self.jpeg)

    parameters = 5
    """Of one change: shares of the five ranges, from -1 to 1; of blur and JPEG only the size counts."""

    def random(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch 5"]:
        """Changes drawn uniformly, shape (count, 5)."""
        return 2 * torch.rand(count, self.parameters, generator=generator, dtype=torch.float32) - 1

    def inside(self, box: Box) -> Float[Tensor, "batch 5"]:
        """The change at a place in the unit box, whose middle is the identity."""
        return 2 * box.flatten(1) - 1

    def apply(self, images: Batch, changes: Float[Tensor, "batch 5"]) -> Batch:
        """The images, each changed by its row; in [0, 1].

        Parameters
        ----------
        images : Tensor
            In [0, 1], shape (batch, channel, height, width).
        changes : Tensor
            Shape (batch, 5), from -1 to 1: of brightness, contrast, hue, blur and JPEG.
        """
        light, contrast, hue, blur, quality = changes.to(images)[:, :, None, None, None].unbind(1)
        if self.brightness:
            images = (images + self.brightness * light).clamp(0, 1)
        if self.contrast:
            middle = images.mean((1, 2, 3), keepdim=True)
            images = torch.lerp(middle, images, 1 + self.contrast * contrast).clamp(0, 1)
        if self.hue and images.shape[1] == 3:
            images = _turned(images, hue * (self.hue * math.pi / 180)).clamp(0, 1)
        if self.blur:
            most = self.blur * min(images.shape[2:]) / 32
            images = _blurred(images, most * blur.abs(), most).clamp(0, 1)
        return self._compressed(images, quality.flatten().abs()) if self.jpeg else images

    def _compressed(self, images: Batch, share: Float[Tensor, " batch"]) -> Batch:
        """Through JPEG of the quality that each share says: below a share of 1 / (LEVELS + 1) none."""
        compressed, level = images.detach().clone(), (share.detach() * (LEVELS + 1)).long().clamp_max(LEVELS)
        for number in range(1, LEVELS + 1):
            index = (level == number).nonzero().flatten()
            if len(index):
                compressed[index] = jpeg(compressed[index], round(95 - (95 - self.jpeg) * number / LEVELS), [])
        return images + (compressed - images).detach()


def _turned(images: Batch, angle: Tensor) -> Batch:
    """Hue turned by angles of shape (batch, 1, 1, 1): the plane of colour of YIQ, with the luminance left as it is."""
    luma, (first, second) = images.new_tensor(LUMA), images.new_tensor(CHROMA)
    to = torch.stack([luma, first, second])
    back = torch.linalg.inv(to)
    y, i, q = torch.einsum("kc,bchw->kbhw", to, images)[:, :, None]
    cosine, sine = angle.cos(), angle.sin()
    parts = torch.cat([y, cosine * i - sine * q, sine * i + cosine * q], 1)
    return torch.einsum("ck,bkhw->bchw", back, parts)


def _blurred(images: Batch, sigma: Tensor, most: float) -> Batch:
    """Gaussian blur by a standard deviation of each image's own, shape (batch, 1, 1, 1), by axis after axis.

    All kernels reach as far as that of the largest deviation, `most`: an image's must not depend on its batch.
    """
    count, channels, height, width = images.shape
    reach = min(max(1, math.ceil(3 * most)), height - 1, width - 1)
    if reach < 1:
        return images
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (places / sigma.view(-1, 1).clamp_min(1e-3)).square()).exp()
    kernel = kernel / kernel.sum(1, keepdim=True)
    for shape, border in (((1, 1, -1, 1), [0, 0, reach, reach]), ((1, 1, 1, -1), [reach, reach, 0, 0])):
        weight = kernel.repeat_interleave(channels, 0).view(count * channels, *shape[1:])
        padded = pad(images.reshape(1, count * channels, height, width), border, mode="reflect")
        images = conv2d(padded, weight, groups=count * channels).view(count, channels, height, width)
    return images
