"""Low and high spatial frequencies of images: what passes a filter, and bands that a perturbation is confined to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from notbugs.errors import check_choice, check_number
from notbugs.given import checked
from notbugs.shapes import Batch, PerSample

Side = Literal["low", "high"]
SIDES: tuple[Side, ...] = ("low", "high")


@checked
def low_pass(images: Batch, cutoff: float) -> Batch:
    """Only the Fourier modes of at most `cutoff` cycles per image, the mean among them; not clipped.

    Examples
    --------
    >>> blurred = nb.data.low_pass(inputs, cutoff=2)
    >>> torch.allclose(blurred.mean(), inputs.mean(), atol=1e-3)
    True
    """
    height, width = images.shape[2:]
    kept = (cycles(height, width, images.device) <= cutoff).to(images)
    return torch.fft.irfft2(torch.fft.rfft2(images) * kept, s=(height, width))


@checked
def high_pass(images: Batch, cutoff: float, *, keep_mean: bool = True) -> Batch:
    """Only the Fourier modes of more than `cutoff` cycles per image; not clipped.

    With each channel's mean, if it is kept: filtered images then are grey, not black. Without it, what passes low and
    what passes high add up to the image.

    Examples
    --------
    >>> edges = nb.data.high_pass(inputs, cutoff=2)
    """
    rest = images - low_pass(images, cutoff)
    return rest + images.mean((2, 3), keepdim=True) if keep_mean else rest


def cycles(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Cycles per image of every mode of a real Fourier transform, in whichever direction; shape (height, half)."""
    rows = torch.arange(height, device=device)
    rows = torch.where(rows > height // 2, rows - height, rows)
    return torch.hypot(rows[:, None].float(), torch.arange(width // 2 + 1, device=device)[None, :].float())


@dataclass(frozen=True)
class Band:
    """Frequencies up to a cut-off, or those above it.

    Attributes
    ----------
    side : {"low", "high"}
        What is kept: what `low_pass` keeps, or the rest.
    cutoff : float
        Cycles per image, above 0. Along an axis an image has half its side of them at most.

    Raises
    ------
    InputError
        If one of them breaks its rule.

    Examples
    --------
    >>> low, high = (nb.data.Band(side, cutoff=2) for side in ('low', 'high'))
    >>> torch.allclose(low(inputs) + high(inputs), inputs, atol=1e-6)
    True
    """

    side: Side
    cutoff: float

    def __post_init__(self) -> None:
        check_choice("side", self.side, SIDES)
        check_number("cutoff", self.cutoff, open_low=True)

    def __str__(self) -> str:
        return f"{'up to' if self.side == 'low' else 'above'} {self.cutoff:g} cycles per image"

    def __call__(self, images: Batch) -> Batch:
        """The part of every image, or perturbation, that is in the band."""
        return low_pass(images, self.cutoff) if self.side == "low" else high_pass(images, self.cutoff, keep_mean=False)

    def outside(self, images: Batch) -> PerSample:
        """The share of every image's energy that is not in the band, shape (batch,); 0 where there is no energy."""
        whole, rest = (part.flatten(1).double().square().sum(1) for part in (images, images - self(images)))
        return rest / whole.clamp_min(torch.finfo(whole.dtype).tiny)


def half_of(side: int) -> float:
    """Half of the highest frequency along the shorter side of an image, in cycles per image: where bands are cut."""
    return side / 4
