"""Structural similarity, and the change of a grey level that is just noticed: two models of seeing, from others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from notbugs.errors import must
from notbugs.shapes import Batch, PerSample

WINDOW = 7
"""Pixels of a side of the window of structural similarity; the largest odd number that fits into smaller images."""
SMALLEST = 3
"""Pixels of a side of the smallest images that have a structure."""
STABLE = (0.01**2, 0.03**2)
"""(K1 L)^2 and (K2 L)^2 of Wang et al. for pixels in [0, 1]."""
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey level (ITU-R BT.601)."""
AROUND = ((1, 1, 1, 1, 1), (1, 2, 2, 2, 1), (1, 2, 0, 2, 1), (1, 2, 2, 2, 1), (1, 1, 1, 1, 1))
"""Weights of the pixels whose mean is a pixel's background (Chou and Li 1995)."""


def ssim(first: Batch, second: Batch) -> PerSample:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004) of pairs of images: 1 if they are equal.

    In the form that scikit-image has by default: a window of 7x7 pixels of equal weight, variances with n - 1,
    K1 = 0.01, K2 = 0.03, averaged over all windows that lie inside the image, and over channels.

    Parameters
    ----------
    first, second : Tensor
        In [0, 1], shape (batch, channel, height, width), at least 3 pixels a side. Images below 7 pixels a side have
        a window of the largest odd size that fits.

    Raises
    ------
    InputError
        If they have different shapes, or are too small.

    Examples
    --------
    >>> bool((nb.measure.ssim(inputs, inputs) > 0.999).all())
    True
    """
    if first.shape != second.shape:
        raise must("second", f"have the shape of the first, {tuple(first.shape)}", tuple(second.shape))
    side = min(WINDOW, *first.shape[2:])
    side -= (side + 1) % 2
    if side < SMALLEST:
        raise must("images", f"be at least {SMALLEST} pixels high and wide", tuple(first.shape[2:]))
    x, y = first.double(), second.double()

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, side, stride=1)

    unbiased = side**2 / (side**2 - 1)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = (unbiased * (mean(v * v) - m * m) for v, m in ((x, mean_x), (y, mean_y)))
    both = unbiased * (mean(x * y) - mean_x * mean_y)
    low, high = STABLE
    top = (2 * mean_x * mean_y + low) * (2 * both + high)
    bottom = (mean_x.square() + mean_y.square() + low) * (var_x + var_y + high)
    return (top / bottom).flatten(1).mean(1).to(first.dtype)


def grey(images: Batch) -> Float[Tensor, "batch height width"]:
    """The grey level of every pixel, 0 to 255: the luma of three channels, else the mean of all."""
    if images.shape[1] == len(LUMA):
        return torch.einsum("bchw,c->bhw", images, torch.tensor(LUMA).to(images)) * 255
    return images.mean(1) * 255


def just_noticeable(images: Batch) -> Float[Tensor, "batch height width"]:
    """For every pixel, the change of its grey level, of 255, from which on it is noticed on its background.

    The luminance part of the model of Chou and Li (1995, equation 5): 3 levels on middle grey, 6 on white, 20 on
    black. A pixel's background is the weighted mean of the 24 around it, where the image ends of those that it has.
    Their other part, that texture hides more, is left out; so a change counts as noticed rather too early.

    Parameters
    ----------
    images : Tensor
        In [0, 1], shape (batch, channel, height, width).

    Examples
    --------
    >>> nb.measure.just_noticeable(inputs).shape
    torch.Size([20, 8, 8])
    """
    kernel = torch.tensor(AROUND).to(images)[None, None]
    level = grey(images)[:, None]
    weights = functional.conv2d(torch.ones_like(level), kernel, padding=2)
    background = functional.conv2d(level, kernel, padding=2)[:, 0] / weights[:, 0]
    dark = 17 * (1 - (background / 127).clamp(0, 1).sqrt()) + 3
    return torch.where(background <= 127, dark, 3 / 128 * (background - 127) + 3)


def noticed(start: Batch, images: Batch) -> PerSample:
    """The share of the pixels of each image whose grey level changed by more than `just_noticeable` of the start."""
    changed = (grey(images) - grey(start)).abs() > just_noticeable(start)
    return changed.flatten(1).float().mean(1)
