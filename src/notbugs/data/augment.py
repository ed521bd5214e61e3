"""Augmentation of a batch at once: shifts by a few pixels, and mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
        if self.shift:
            images = self._shifted(images, generator)
        if self.flip:
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
        return images

    def _shifted(self, images: Batch, generator: torch.Generator) -> Batch:
        count, _, height, width = images.shape
        offsets = torch.randint(2 * self.shift + 1, (2, count), generator=generator).to(images.device)
        rows = offsets[0, :, None] + torch.arange(height, device=images.device)
        columns = offsets[1, :, None] + torch.arange(width, device=images.device)
        padded = pad(images, [self.shift] * 4).permute(0, 2, 3, 1)
        each = torch.arange(count, device=images.device)[:, None, None]
        return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
