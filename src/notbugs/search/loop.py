"""The one hot loop: first-order search over inputs.

Everything expensive in this library is this loop: PGD, targeted PGD and feature matching differ only in their
objective, threat model and schedule. It has no randomness, never waits for the device, and touches neither the
weights nor their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from notbugs.errors import InputError, check_choice, check_count, check_number, must
from notbugs.shapes import Batch, PerSample
from notbugs.threat import Threat

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From images to (loss, score), each of shape (batch,). The loop descends the loss, and ranks iterates by the score,
lower first. Each sample's loss must depend on that sample alone."""

Decay = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """How far each step goes.

    Attributes
    ----------
    steps : int
        Gradient steps.
    step_size : float, optional
        Length of the first step, in the threat model's norm and pixel units. By default 2.5 eps / steps, with which
        the search can cross the ball and come back, as in the authors' library.
    momentum : float
        Share of the previous velocity that is kept (heavy ball); 0 moves along the gradient alone. The velocity is
        scaled so that a step along an unchanging gradient has the length that the schedule says.
    decay : {"constant", "linear", "cosine"}
        How the length falls to 0 over the steps.

    Raises
    ------
    InputError
        If steps are below 1, the step size is not above 0, or the momentum is outside [0, 1).
    """

    steps: int
    step_size: float | None = None
    momentum: float = 0.0
    decay: Decay = "constant"

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        if self.step_size is not None:
            check_number("step_size", self.step_size, open_low=True)
        if not 0 <= self.momentum < 1:
            raise must("momentum", "be at or above 0 and below 1", self.momentum)
        check_choice("decay", self.decay, ("constant", "linear", "cosine"))

    def first_length(self, threat: Threat) -> float:
        """Length of the first step inside `threat`."""
        if self.step_size is not None:
            return self.step_size
        if math.isinf(threat.eps):
            raise InputError("The 'step_size' must be given where the radius is infinite: it has no scale of its own.")
        return 2.5 * threat.eps / self.steps

    def lengths(self, threat: Threat) -> list[float]:
        """Length of every step inside `threat`."""
        done = [step / self.steps for step in range(self.steps)]
        shares = {
            "constant": [1.0] * self.steps,
            "linear": [1 - share for share in done],
            "cosine": [(1 + math.cos(math.pi * share)) / 2 for share in done],
        }
        return [self.first_length(threat) * share for share in shares[self.decay]]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    images : Tensor
        Shape of the origin, in [0, 1] and inside the threat model.
    loss, score : Tensor
        Of `images`, shape (batch,).
    forwards, backwards : int
        Passes through the classifier for each sample.
    """

    images: Batch
    loss: PerSample
    score: PerSample
    forwards: int
    backwards: int


@torch.no_grad()
def search(
    objective: Objective,
    origin: Batch,
    threat: Threat,
    schedule: Schedule,
    *,
    start: Batch | None = None,
    keep: Literal["best", "last"] = "best",
) -> Found:
    """Descend `objective` from `start`, inside the threat model around `origin` and inside [0, 1].

    Parameters
    ----------
    objective : callable
        From images to per-sample (loss, score).
    origin : Tensor
        Images in [0, 1], shape (batch, channel, height, width): the centre of the threat model.
    threat : Threat
        Which perturbations of `origin` are valid.
    schedule : Schedule
        Number and length of the steps.
    start : Tensor, optional
        Where the search begins; `origin` by default. It is brought inside the threat model and [0, 1] first.
    keep : {"best", "last"}
        The iterate with the lowest score, each sample its own, or the last one.

    Raises
    ------
    InputError
        If `origin` is outside [0, 1] or `start` has another shape.
    """
    _check_origin(origin, start)

    def valid(images: Tensor) -> Tensor:
        # Clamping moves every pixel towards the origin, which is in [0, 1]: it cannot leave the ball again.
        return (origin + threat.project(images - origin)).clamp(0, 1)

    images = origin.clone() if start is None else valid(start)
    velocity = torch.zeros_like(images)
    best = Best(images) if keep == "best" else None
    for length in schedule.lengths(threat):
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            loss, score = objective(leaf)
            # The sum, never the mean: a sample's gradient must not depend on the size of its batch.
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        if best is not None:
            best.offer(images, loss.detach(), score.detach())
        velocity = velocity.mul_(schedule.momentum).add_(threat.step(gradient), alpha=1 - schedule.momentum)
        images = valid(images - length * velocity)
    loss, score = objective(images)
    if best is not None:
        best.offer(images, loss, score)
        images, loss, score = best.images, best.loss, best.score
    return Found(images, loss, score, forwards=schedule.steps + 1, backwards=schedule.steps)


class Best:
    """The best iterate of every sample so far, kept without waiting for the device."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.loss = self.score = torch.full((len(images),), math.inf, dtype=images.dtype, device=images.device)

    def offer(self, images: Tensor, loss: Tensor, score: Tensor) -> None:
        """Keep every sample whose score is lower than its best."""
        better = score < self.score
        self.loss = torch.where(better, loss, self.loss)
        self.score = torch.where(better, score, self.score)
        self.images = torch.where(better.view(-1, *[1] * (images.dim() - 1)), images, self.images)


def _check_origin(origin: Tensor, start: Tensor | None) -> None:
    if start is not None and start.shape != origin.shape:
        raise must("start", f"have the shape of the origin, {tuple(origin.shape)}", tuple(start.shape))
    low, high = torch.aminmax(origin)  # once, before the loop
    if not (origin.is_floating_point() and low >= 0 and high <= 1):
        raise InputError(
            f"The images must be floating point in [0, 1]. Got {origin.dtype} in [{float(low):g}, {float(high):g}] "
            "instead. Divide by 255, or give the classifier its normalisation and the search plain images."
        )
