"""Threat models: which perturbations are valid, and how to move among them; balls of pixels, and rotations and shifts.

A threat model knows three things about a perturbation `delta = x' - x`: how to *project* it onto
the valid set, how to *start* at random inside it, and the unit *step* along a gradient. Radii are in pixel units,
pixels in [0, 1].

A spatial perturbation (`Spatial`) is three numbers an image: how far it is turned, and how far it is moved. An image
moved out of its frame leaves zeros (black) behind; between pixels it is interpolated bilinearly.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from notbugs.errors import InputError, check_choice, check_count, check_number, must
from notbugs.frequency import Band, cycles
from notbugs.shapes import Batch, PerSample

Norm = Literal["l2", "linf"]
DEFAULT_EPS: dict[Norm, float] = {"l2": 0.5, "linf": 8 / 255}
"""Radii of studies that name none, pixel units: the paper's, and the usual one of the other norm."""


ROUNDS = 3
"""Of projections onto a band, the ball and [0, 1] in turn, after every step of a search."""


@dataclass(frozen=True, repr=False)
class Threat(ABC):
    """All perturbations of norm at most `eps`, in pixel units; `eps=math.inf` leaves them free.

    With a `band`, of those with these frequencies alone. The clamp to [0, 1] lets a little of the others in again, as
    little as projections in turn leave: `Band.outside` says how much.

    Raises
    ------
    InputError
        If `eps` is negative or not a number.
    """

    eps: float
    band: Band | None = None
    norm: ClassVar[Norm]

    def __post_init__(self) -> None:
        check_number("eps", self.eps, infinite=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(eps={self.eps!r}{f', band={self.band!r}' if self.band else ''})"

    def confined(self, gradient: Batch) -> Batch:
        """The part of a gradient along which a search may move."""
        return self.band(gradient) if self.band else gradient

    def valid(self, images: Batch, origin: Batch) -> Batch:
        """For every image a valid one: inside the ball around `origin`, and in [0, 1]."""
        # Clamping moves every pixel towards the origin, which is in [0, 1]: it cannot leave the ball again.
        if self.band is None:
            return (origin + self.project(images - origin)).clamp_(0, 1)
        for _ in range(ROUNDS):
            images = (origin + self.project(self.band(images - origin))).clamp_(0, 1)
        return images

    @abstractmethod
    def whole(self, shape: Sequence[int]) -> float:
        """The least radius at which every image of a shape is in the ball: that of black from white."""

    @abstractmethod
    def size(self, delta: Batch) -> PerSample:
        """The norm of every perturbation, shape (batch,), in pixel units."""

    @abstractmethod
    def dual(self, gradient: Batch) -> PerSample:
        """The dual norm: how much a linear function rises along a step of length 1, shape (batch,)."""

    @abstractmethod
    def shorten(self, delta: Batch, radius: PerSample) -> Batch:
        """The nearest perturbation of norm at most `radius`, each sample its own."""

    @abstractmethod
    def project(self, delta: Batch) -> Batch:
        """A valid perturbation for every one that is not; valid ones stay."""

    @abstractmethod
    def start(self, images: Batch, generator: torch.Generator) -> Batch:
        """A perturbation for every image, uniform over the valid ones."""

    @abstractmethod
    def step(self, gradient: Batch) -> Batch:
        """The direction of unit length, in this norm, that ascends fastest."""


def _per_sample(values: PerSample, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def l2_norm(values: Float[Tensor, "batch ..."]) -> PerSample:
    """The l2 norm of every sample, safe from underflow and overflow."""
    flat = values.flatten(1)
    largest = flat.detach().abs().amax(1).clamp_min(torch.finfo(flat.dtype).tiny)
    return (flat / largest[:, None]).norm(dim=1) * largest


@dataclass(frozen=True, repr=False)
class L2(Threat):
    """Perturbations of l2 norm at most `eps`.

    Examples
    --------
    >>> nb.L2(0.5)
    L2(eps=0.5)
    """

    norm = "l2"

    def whole(self, shape: Sequence[int]) -> float:
        """The root of the number of pixel values."""
        return math.sqrt(math.prod(shape))

    def size(self, delta: Batch) -> PerSample:
        """The l2 norm of every perturbation, shape (batch,), in pixel units."""
        return l2_norm(delta)

    def dual(self, gradient: Batch) -> PerSample:
        """The l2 norm."""
        return l2_norm(gradient)

    def shorten(self, delta: Batch, radius: PerSample | float) -> Batch:
        """Scale down what is longer than `radius`."""
        norm = delta.flatten(1).norm(dim=1).clamp_min(torch.finfo(delta.dtype).tiny)
        return delta * _per_sample((radius / norm).clamp_max(1.0), delta)

    def project(self, delta: Batch) -> Batch:
        """Scale down what is longer than `eps`."""
        return delta if math.isinf(self.eps) else self.shorten(delta, self.eps)

    def start(self, images: Batch, generator: torch.Generator) -> Batch:
        """Uniform in the ball: a Gaussian direction, and a radius by the inverse of its distribution."""
        check_number("eps", self.eps)
        direction = torch.randn(images.shape, generator=generator, dtype=torch.float32).to(images)
        share = torch.rand(len(images), generator=generator, dtype=torch.float32).to(images)
        radius = self.eps * share ** (1 / max(images[0].numel(), 1))
        return direction * _per_sample(radius / l2_norm(direction), direction)

    def step(self, gradient: Batch) -> Batch:
        """The gradient divided by its l2 norm, however small it is; 0 stays 0."""
        tiny = torch.finfo(gradient.dtype).tiny
        # Two divisions: squares of a confident classifier's gradients underflow, and the search would stall there.
        scaled = gradient / _per_sample(gradient.flatten(1).abs().amax(1).clamp_min(tiny), gradient)
        return scaled / _per_sample(scaled.flatten(1).norm(dim=1).clamp_min(tiny), scaled)


@dataclass(frozen=True, repr=False)
class Linf(Threat):
    """Perturbations that change no pixel by more than `eps`.

    Examples
    --------
    >>> nb.Linf(8 / 255).norm
    'linf'
    """

    norm = "linf"

    def whole(self, shape: Sequence[int]) -> float:
        """1, whatever the shape."""
        return 1.0

    def size(self, delta: Batch) -> PerSample:
        """The largest absolute change of every perturbation, shape (batch,), in pixel units."""
        return delta.flatten(1).abs().amax(1)

    def dual(self, gradient: Batch) -> PerSample:
        """The l1 norm."""
        return gradient.flatten(1).abs().sum(1)

    def shorten(self, delta: Batch, radius: PerSample) -> Batch:
        """Clip every pixel's change to `radius`."""
        limit = _per_sample(radius, delta)
        return delta.clamp(-limit, limit)

    def project(self, delta: Batch) -> Batch:
        """Clip every pixel's change to [-eps, eps]."""
        return delta.clamp(-self.eps, self.eps)

    def start(self, images: Batch, generator: torch.Generator) -> Batch:
        """Uniform in the cube."""
        check_number("eps", self.eps)
        return (torch.rand(images.shape, generator=generator, dtype=torch.float32).to(images) * 2 - 1) * self.eps

    def step(self, gradient: Batch) -> Batch:
        """The sign of the gradient."""
        return gradient.sign()


def check_threat(ball: Any) -> None:
    """Refuse what is no threat model, a text above all.

    Raises
    ------
    InputError
        If so, with the threat model that the text says.
    """
    if isinstance(ball, Threat):
        return
    norm, _, radius = str(ball).partition(":")
    name = "Linf" if norm == "linf" else "L2"
    number = radius if re.fullmatch(r"\d*\.?\d+(/\d+)?", radius) else "0.5"
    raise must("threat", "be a threat model, L2(...) or Linf(...)", ball, f"Give nb.{name}({number}).")


def check_radii(threats: Iterable[Threat], shape: Sequence[int], *, band: bool = False) -> None:
    """Refuse a finite radius at which every image is in the ball: it was likely meant in grey levels, of 255.

    Parameters
    ----------
    threats : iterable of Threat
    shape : sequence of int
        Of an image: channel, height, width.
    band : bool
        Whether a threat may have a band of frequencies: what is measured of one would be written down without it.

    Raises
    ------
    InputError
        If a radius is larger than the way from black to white, a threat has a band where it may not, or one that no
        image reaches.
    """
    for ball in threats:
        check_threat(ball)
        if ball.band and not band:
            raise InputError(
                f"The 'threat' must have no band here. Got {ball!r} instead. A set can be built with one, and a search "
                "be made: `relabel`, `pgd`, `targeted_pgd`."
            )
        if (
            ball.band
            and ball.band.side == "high"
            and ball.band.cutoff >= (top := float(cycles(shape[1], shape[2]).max()))
        ):
            raise must("cutoff", f"be below {top:.4g} cycles per image, the highest of these images", ball.band.cutoff)
        if (whole := ball.whole(shape)) < ball.eps < math.inf:
            rule = f"be at most {whole:.4g} in {ball.norm}, the way from black to white: pixels are in [0, 1]"
            raise must(
                "eps", rule, ball.eps, f"If it is in grey levels, of 255, give {ball.norm}:{ball.eps / 255:.4g}."
            )


def threat(norm: str, eps: float, band: Band | None = None) -> Threat:
    """The threat model by the name of its norm: `l2` or `linf`; with a band, of its frequencies alone.

    Raises
    ------
    InputError
        If the name is unknown, or `eps` is negative or not a number.
    """
    return {"l2": L2, "linf": Linf}[check_choice("norm", norm, ("l2", "linf"))](eps, band)


Parameters = Float[Tensor, "batch 3"]
"""Degrees counter-clockwise, pixels down, pixels right."""

Box = Float[Tensor, "batch 3 1 1"]
"""The same as shares of their ranges: the unit box, whose middle is the identity."""

BOX = Linf(0.5)
"""Around the middle of the unit box, this ball is all of it: so the one search loop knows what is valid."""


@dataclass(frozen=True)
class Spatial:
    """Rotations about the middle of the image, then shifts; zeros come in from outside.

    Attributes
    ----------
    degrees : float
        The largest rotation, either way, at most 180.
    pixels : float
        The largest shift, down or up and right or left.

    Raises
    ------
    InputError
        If one of them is negative or not a finite number, or `degrees` is above 180.

    Examples
    --------
    >>> ball = nb.Spatial(degrees=30, pixels=3)
    """

    degrees: float
    pixels: float

    def __post_init__(self) -> None:
        check_number("pixels", self.pixels)
        if check_number("degrees", self.degrees) > 180:
            raise must("degrees", "be at most 180, which is every rotation", self.degrees)

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """The images, each turned and then moved, in [0, 1]; differentiable in both.

        Parameters
        ----------
        images : Tensor
            In [0, 1], shape (batch, channel, height, width).
        parameters : Tensor
            Shape (batch, 3): degrees counter-clockwise, pixels down, pixels right. Zeros, and shifts by whole pixels
            without a rotation, are exact.
        """
        height, width = images.shape[2:]
        rows, columns = _sources(parameters.to(images), height, width)
        # grid_sample takes places as shares of the size; only where that is a power of two are whole pixels exact.
        tall, wide = _power_of_two(height), _power_of_two(width)
        padded = pad(images, [0, wide - width, 0, tall - height])
        places = torch.stack([(2 * columns + 1) / wide - 1, (2 * rows + 1) / tall - 1], dim=3)
        moved = grid_sample(padded, places, mode="bilinear", padding_mode="zeros", align_corners=False)
        return moved.clamp(0, 1)  # the weights of four neighbours, added one after another, may be 1 and a rounding

    def inside(self, box: Box) -> Parameters:
        """The parameters at a place in the unit box, whose middle is the identity."""
        shares = (2 * box.flatten(1) - 1).unbind(1)
        return torch.stack([share * reach for share, reach in zip(shares, self._reach, strict=True)], 1)

    def place(self, parameters: Parameters) -> Box:
        """The place in the unit box of parameters; what has no range is in the middle."""
        parts = zip(parameters.unbind(1), self._reach, strict=True)
        shares = [value / reach if reach else torch.zeros_like(value) for value, reach in parts]
        return (0.5 + torch.stack(shares, 1) / 2)[:, :, None, None]

    def random(self, count: int, generator: torch.Generator) -> Parameters:
        """Parameters uniform over the valid ones, shape (count, 3)."""
        drawn = torch.rand(count, 3, generator=generator, dtype=torch.float32)
        return (2 * drawn - 1) * torch.tensor(self._reach, dtype=torch.float32)

    def grid(self, shifts: int = 5, angles: int = 31) -> Parameters:
        """All combinations of evenly spaced parameters, the largest changes first; 5 x 5 x 31 as in the paper.

        Parameters
        ----------
        shifts, angles : int
            How many shifts along each axis, and how many rotations; an odd number has 0 among them.
        """
        counts = (check_count("angles", angles), check_count("shifts", shifts), shifts)
        axes = [(2 * torch.arange(count, dtype=torch.float32) - (count - 1)) / max(count - 1, 1) for count in counts]
        shares = torch.cartesian_prod(*axes)
        order = shares.square().sum(1).argsort(descending=True, stable=True)
        return shares[order] * torch.tensor(self._reach, dtype=torch.float32)

    @property
    def _reach(self) -> tuple[float, float, float]:
        return self.degrees, self.pixels, self.pixels


def _sources(parameters: Parameters, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where every pixel of the result comes from: its row and its column, shape (batch, height, width)."""
    # Numbers of the host, never a tensor made of them: that would wait for the device in every step of a search.
    turn, down, right = parameters.T[:, :, None, None]
    turn = turn * (math.pi / 180)
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    rows = (torch.arange(height, dtype=turn.dtype, device=turn.device) - middle_row)[:, None] - down
    columns = (torch.arange(width, dtype=turn.dtype, device=turn.device) - middle_column)[None, :] - right
    sine, cosine = turn.sin(), turn.cos()
    return columns * sine + rows * cosine + middle_row, columns * cosine - rows * sine + middle_column


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
