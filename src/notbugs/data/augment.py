"""Augmentation of a batch at once: shifts by a few pixels, mirror images, other colours, small rotations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from notbugs.errors import check_count, check_number, must
from notbugs.shapes import Batch
from notbugs.threat import Spatial

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey (ITU-R 601-2, as Pillow has them)."""


@dataclass(frozen=True)
class Augmentation:
    """Every image shifted by up to `shift` pixels each way, borders filled with 0, and mirrored half of the time.

    With `shift=4, flip=True` these are the random crop and flip usual on CIFAR-10. After them, brightness, contrast and
    saturation are each multiplied by a number between 1 - `jitter` and 1 + `jitter`, in this order; then the image is
    turned by up to `degrees` either way. With `jitter=0.25, degrees=2` these are the default of MadryLab's robustness,
    but for the order, which there is random, and for pixels, which there are rounded.

    Examples
    --------
    >>> augmentation = nb.data.Augmentation(shift=1, flip=True)
    >>> nb.Training(epochs=1, shift=1, flip=True).augmentation == augmentation
    True
    """

    shift: int = 0
    flip: bool = False
    jitter: float = 0.0
    degrees: float = 0.0

    def __post_init__(self) -> None:
        check_count("shift", self.shift, low=0)
        if check_number("jitter", self.jitter) > 1:
            raise must("jitter", "be at most 1", self.jitter)
        Spatial(self.degrees, 0.0)  # checks it

    def __call__(self, images: Batch, generator: torch.Generator) -> Batch:
        """Augment every image by its own draw."""
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """For each of `count` images: how far down and right it is cut out, whether it is mirrored, three factors of
        its colours, and its rotation in degrees; shape (count, 7).
        """
        offsets = torch.full((2, count), self.shift)
        mirrored = torch.zeros(count)
        if self.shift:
            offsets = torch.randint(2 * self.shift + 1, (2, count), generator=generator)
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
        factors, angles = torch.ones(3, count), torch.zeros(count)
        if self.jitter:
            factors += self.jitter * (2 * torch.rand(3, count, generator=generator) - 1)
        if self.degrees:
            angles = self.degrees * (2 * torch.rand(count, generator=generator) - 1)
        return torch.stack([*offsets, mirrored, *factors, angles], dim=1)

    def apply(self, images: Batch, drawn: Tensor) -> Batch:
        """The images, each changed as `drawn` says."""
        drawn = drawn.to(images.device, non_blocking=True)
        if self.shift:
            images = self._shifted(images, drawn)
        if self.flip:
            images = torch.where(drawn[:, 2].bool()[:, None, None, None], images.flip(3), images)
        if self.jitter:
            images = coloured(images, *drawn[:, 3:6, None, None, None].unbind(1))
        if self.degrees:
            turns = torch.stack([drawn[:, 6], *torch.zeros_like(drawn[:, :2]).T], dim=1)
            images = Spatial(self.degrees, 0.0).apply(images, turns)
        return images

    def _shifted(self, images: Batch, drawn: Tensor) -> Batch:
        count, _, height, width = images.shape
        offsets = drawn[:, :2].long()
        rows = offsets[:, :1] + torch.arange(height, device=images.device)
        columns = offsets[:, 1:] + torch.arange(width, device=images.device)
        padded = pad(images, [self.shift] * 4).permute(0, 2, 3, 1)
        each = torch.arange(count, device=images.device)[:, None, None]
        return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def coloured(images: Batch, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Batch:
    """The images with these multiplied by factors of shape (batch, 1, 1, 1), each time clamped to [0, 1].

    Contrast is the distance from the mean grey of the image, saturation that from each pixel's own grey. Images that
    are not of three channels are grey: their saturation is none.
    """
    images = (brightness * images).clamp(0, 1)
    middle = _grey(images).mean((1, 2, 3), keepdim=True)
    images = torch.lerp(middle, images, contrast).clamp(0, 1)
    return torch.lerp(_grey(images), images, saturation).clamp(0, 1) if images.shape[1] == 3 else images


def _grey(images: Batch) -> Tensor:
    if images.shape[1] != 3:
        return images
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
