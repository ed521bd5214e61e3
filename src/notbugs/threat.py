"""Threat models: which perturbations are valid, and how to move among them.

A threat model knows three things about a perturbation `delta = x' - x`: how to *project* it onto
the valid set, how to *start* at random inside it, and the unit *step* along a gradient. Radii are in pixel units,
pixels in [0, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import check_choice, check_number
from notbugs.shapes import Batch, PerSample

Norm = Literal["l2", "linf"]


@dataclass(frozen=True)
class Threat(ABC):
    """All perturbations of norm at most `eps`, in pixel units; `eps=math.inf` leaves them free.

    Raises
    ------
    InputError
        If `eps` is negative or not a number.
    """

    eps: float
    norm: ClassVar[Norm]

    def __post_init__(self) -> None:
        check_number("eps", self.eps, infinite=True)

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


@dataclass(frozen=True)
class L2(Threat):
    """Perturbations of l2 norm at most `eps`."""

    norm = "l2"

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
        direction = torch.randn(images.shape, generator=generator).to(images)
        share = torch.rand(len(images), generator=generator).to(images)
        radius = self.eps * share ** (1 / max(images[0].numel(), 1))
        return direction * _per_sample(radius / l2_norm(direction), direction)

    def step(self, gradient: Batch) -> Batch:
        """The gradient divided by its l2 norm, however small it is; 0 stays 0."""
        tiny = torch.finfo(gradient.dtype).tiny
        # Two divisions: squares of a confident classifier's gradients underflow, and the search would stall there.
        scaled = gradient / _per_sample(gradient.flatten(1).abs().amax(1).clamp_min(tiny), gradient)
        return scaled / _per_sample(scaled.flatten(1).norm(dim=1).clamp_min(tiny), scaled)


@dataclass(frozen=True)
class Linf(Threat):
    """Perturbations that change no pixel by more than `eps`."""

    norm = "linf"

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
        return (torch.rand(images.shape, generator=generator).to(images) * 2 - 1) * self.eps

    def step(self, gradient: Batch) -> Batch:
        """The sign of the gradient."""
        return gradient.sign()


def threat(norm: str, eps: float) -> Threat:
    """The threat model by the name of its norm: `l2` or `linf`.

    Raises
    ------
    InputError
        If the name is unknown, or `eps` is negative or not a number.
    """
    return {"l2": L2, "linf": Linf}[check_choice("norm", norm, ("l2", "linf"))](eps)
