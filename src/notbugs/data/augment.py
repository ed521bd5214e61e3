"""Augmentation of a batch at once: shifts by a few pixels, and mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from notbugs.errors import check_count
from notbugs.shapes import Batch


@dataclass(frozen=True)
class Augmentation:
    """Every image shifted by up to `shift` pixels each way, borders filled with 0, and mirrored half of the time.

    With `shift=4, flip=True` these are the random crop and flip usual on CIFAR-10.
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        check_count("shift", self.shift, low=0)

    def __call__(self, images: Batch, generator: torch.Generator) -> Batch:
        """Augment every image by its own draw."""
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """For each of `count` images how far down and right it is cut out, and whether it is mirrored: (count, 3)."""
        offsets = torch.full((2, count), self.shift)
        mirrored = torch.zeros(count)
        if self.shift:
            offsets = torch.randint(2 * self.shift + 1, (2, count), generator=generator)
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
        return torch.stack([*offsets, mirrored.long()], dim=1)

    def apply(self, images: Batch, drawn: Tensor) -> Batch:
        """The images, each changed as `drawn` says."""
        drawn = drawn.to(images.device, non_blocking=True)
        if self.shift:
            images = self._shifted(images, drawn)
        if self.flip:
            images = torch.where(drawn[:, 2].bool()[:, None, None, None], images.flip(3), images)
        return images

    def _shifted(self, images: Batch, drawn: Tensor) -> Batch:
        count, _, height, width = images.shape
        rows = drawn[:, :1] + torch.arange(height, device=images.device)
        columns = drawn[:, 1:2] + torch.arange(width, device=images.device)
        padded = pad(images, [self.shift] * 4).permute(0, 2, 3, 1)
        each = torch.arange(count, device=images.device)[:, None, None]
        return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
