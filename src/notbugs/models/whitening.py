"""A first layer that makes patches of the images white: it is computed from them, and not trained.

The first layer of the fastest CIFAR-10 trainings (Page 2018; Jordan 2024, "94% on CIFAR-10 in 3.29 seconds").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, unfold

from notbugs.shapes import Batch


class Whitening(nn.Module):
    """The principal components of every patch, each scaled to variance 1, and their negatives behind them.

    The patches' mean is kept: images come in normalised. Zero until `fit`.

    Parameters
    ----------
    channels : int
        Of the images.
    kernel : int
        Height and width of a patch in pixels, odd; the size of the images is kept.
    """

    weight: Tensor

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        self.components = channels * kernel**2
        self.register_buffer("weight", torch.zeros(2 * self.components, channels, kernel, kernel))

    @torch.no_grad()
    def fit(self, images: Batch, eps: float = 5e-4) -> None:
        """Take the weights from the patches of `images`; `eps` is added to their variances, Jordan's by default."""
        patches = unfold(images.double(), self.kernel).transpose(1, 2).flatten(0, 1)
        variances, vectors = torch.linalg.eigh(torch.cov(patches.T))
        scaled = (vectors / (variances.clamp_min(0) + eps).sqrt()).T.reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([scaled, -scaled]))

    def forward(self, images: Tensor) -> Tensor:
        """Images, shape (batch, channel, height, width), to (batch, 2 * components, height, width)."""
        return conv2d(images, self.weight, padding=self.kernel // 2)
