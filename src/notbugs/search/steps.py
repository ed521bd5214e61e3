"""How a search moves: where to look next, given the loss and its gradient where it stands.

Along the gradient (`PGDSteps`), along it in a ball that shrinks (`FMN`), and along a quasi-Newton direction
(`LBFGS`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from notbugs.errors import InputError, check_choice, check_count, check_number, must
from notbugs.shapes import Batch, PerSample
from notbugs.threat import Threat, l2_norm

Samples = dict[str, Tensor]
"""All that a search knows of its samples; the first dimension of every tensor is the sample. `images`, `origin` and
`age` (steps taken) are always there; a walker adds its own."""

Decay = Literal["constant", "linear", "cosine"]


@runtime_checkable
class Walker(Protocol):
    """Moves the samples of one search."""

    def begin(self, images: Batch) -> Samples:
        """What it remembers of every sample, before the first step."""
        ...

    def move(self, samples: Samples, loss: PerSample, gradient: Batch) -> Batch:
        """Where to look next; the loop makes it valid. It may change its own entries of `samples`."""
        ...


@runtime_checkable
class Steps(Protocol):
    """A way to move, and how often."""

    @property
    def steps(self) -> int:
        """Gradients for each sample."""
        ...

    def walker(self, threat: Threat, like: Batch) -> Walker:
        """For samples of the type and on the device of `like`."""
        ...


@dataclass(frozen=True)
class PGDSteps:
    """Along the gradient, with momentum: projected gradient descent.

    Attributes
    ----------
    steps : int
        Gradient steps.
    step_size : float, optional
        Length of the first step, in the threat model's norm and pixel units. By default 2.5 eps / steps where it stays
        the same, with which the search can cross the ball and come back, as in the authors' library; and 2 eps, from
        one side of the ball to the other, where it decays.
    momentum : float
        Share of the previous velocity that is kept (heavy ball); 0 moves along the gradient alone. The velocity is
        scaled so that a step along an unchanging gradient has the length that the schedule says.
    decay : {"constant", "linear", "cosine"}
        How the length falls to 0 over the steps.

    Raises
    ------
    InputError
        If steps are below 1, the step size is not above 0, or the momentum is outside [0, 1).

    Examples
    --------
    >>> steps = nb.search.PGDSteps(20, decay='linear')
    >>> steps.first_length(nb.L2(0.5))
    1.0
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
        return 2.5 * threat.eps / self.steps if self.decay == "constant" else 2 * threat.eps

    def lengths(self, threat: Threat) -> list[float]:
        """Length of every step inside `threat`."""
        shares = [_share(self.decay, step / self.steps) for step in range(self.steps)]
        return [self.first_length(threat) * share for share in shares]

    def walker(self, threat: Threat, like: Batch) -> Walker:
        """See `Steps`."""
        return _AlongGradient(threat, torch.tensor(self.lengths(threat)).to(like), self.momentum)


class _AlongGradient:
    def __init__(self, threat: Threat, lengths: Tensor, momentum: float) -> None:
        self.threat, self.lengths, self.momentum = threat, lengths, momentum

    def begin(self, images: Batch) -> Samples:
        return {"velocity": torch.zeros_like(images)} if self.momentum else {}

    def move(self, samples: Samples, loss: PerSample, gradient: Batch) -> Batch:
        velocity = self.threat.step(gradient)
        if self.momentum:
            velocity = samples["velocity"] = samples["velocity"].lerp(velocity, 1 - self.momentum)
        return samples["images"].addcmul(_along(self.lengths[samples["age"]], velocity), velocity, value=-1)


@dataclass(frozen=True)
class FMN:
    """Towards the smallest perturbation that makes the loss negative: FMN (Pintor et al. 2021).

    Before the loss is negative, the ball reaches `rate` further than where a linear loss would be 0, so that a loss of
    exactly 0 does not hold it; from then on it shrinks by `rate` where the loss is negative and grows by it where it is
    not. Step and rate fall to 0 as a cosine.

    Attributes
    ----------
    steps : int
        Gradients.
    step_size : float
        Length of the first step, l2, pixel units.
    rate : float
        Share by which the radius changes at first.

    Raises
    ------
    InputError
        If steps are below 1, the step size is not above 0, or the rate is not strictly between 0 and 1.

    Examples
    --------
    >>> found = nb.minimum_norm(classifier, inputs, labels, schedule=nb.search.FMN(10))
    """

    steps: int
    step_size: float = 1.0
    rate: float = 0.2

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_number("step_size", self.step_size, open_low=True)
        if not 0 < self.rate < 1:
            raise must("rate", "be strictly between 0 and 1", self.rate)

    def split(self, share: float) -> tuple[FMN | None, FMN]:
        """All but the last `share` of the steps, and those: short ones, with a rate as the whole has near its end."""
        last = max(1, round(share * self.steps))
        first = replace(self, steps=self.steps - last) if last < self.steps else None
        return first, replace(self, steps=last, step_size=share / 2 * self.step_size, rate=share / 2 * self.rate)

    def walker(self, threat: Threat, like: Batch) -> Walker:
        """See `Steps`."""
        shares = torch.tensor([_share("cosine", step / self.steps) for step in range(self.steps)]).to(like)
        return _InShrinkingBall(threat, self.step_size * shares, self.rate * shares)


class _InShrinkingBall:
    def __init__(self, threat: Threat, lengths: Tensor, rates: Tensor) -> None:
        self.threat, self.lengths, self.rates = threat, lengths, rates

    def begin(self, images: Batch) -> Samples:
        infinite = images.new_full((len(images),), math.inf)
        return {"radius": infinite, "smallest": infinite}

    def move(self, samples: Samples, loss: PerSample, gradient: Batch) -> Batch:
        delta = samples["images"] - samples["origin"]
        size, rate = self.threat.size(delta), self.rates[samples["age"]]
        reached = loss < 0
        samples["smallest"] = torch.where(reached, torch.minimum(size, samples["smallest"]), samples["smallest"])
        ever = samples["smallest"] < math.inf
        slope = self.threat.dual(gradient).clamp_min(torch.finfo(loss.dtype).tiny)
        outward = torch.where(ever, samples["radius"], size + loss / slope) * (1 + rate)
        inward = torch.minimum(samples["radius"], samples["smallest"]) * (1 - rate)
        samples["radius"] = torch.where(reached, inward, outward)
        length = self.lengths[samples["age"]] / l2_norm(gradient).clamp_min(torch.finfo(loss.dtype).tiny)
        moved = delta.addcmul(_along(length, gradient), gradient, value=-1)
        return samples["origin"] + self.threat.shorten(moved, samples["radius"])


def _share(decay: Decay, done: float) -> float:
    """Of the first length, when this share of the steps is done."""
    return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[decay]


def _along(values: PerSample, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class LBFGS:
    """Along limited-memory BFGS directions, for losses that are distances and can fall to 0.

    The directions are those of half the squared loss, in the compact form of Byrd, Nocedal and Schnabel (1994). There
    is no line search: a step goes no further than a trust radius, which grows while the loss falls and is halved where
    it does not; the next step then starts again from the best image. Every sample has its own memory, trust radius
    and scale.

    Attributes
    ----------
    steps : int
        Gradients.
    reach : float
        First trust radius, l2, pixel units.
    memory : int
        Pairs of moves and changes of the gradient that are remembered.

    Raises
    ------
    InputError
        If a count is below 1 or `reach` is not above 0.

    Examples
    --------
    >>> found = nb.match_features(classifier, inputs, inputs.flip(0), nb.search.LBFGS(5, reach=0.3))
    """

    steps: int
    reach: float
    memory: int = 10

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("memory", self.memory)
        check_number("reach", self.reach, open_low=True)

    def walker(self, threat: Threat, like: Batch) -> Walker:
        """See `Steps`."""
        return _AlongLBFGS(self.reach, self.memory)


class _AlongLBFGS:
    GROWTH, LARGEST = 1.3, 8.0
    """Of the trust radius: by how much a success makes it larger, and how many times `reach` it may become."""

    def __init__(self, reach: float, memory: int) -> None:
        self.reach, self.memory = reach, memory

    def begin(self, images: Batch) -> Samples:
        count, size, pairs = len(images), images[0].numel(), self.memory
        empty = images.new_zeros(count, size)
        return {
            "base": empty,
            "tried": empty,
            "tried_gradient": empty,
            "vectors": images.new_zeros(count, 3, size),  # the newest move, its change, and the gradient at the base
            "base_loss": images.new_full((count,), math.inf),
            "trust": images.new_full((count,), self.reach),
            "pairs": images.new_zeros(count, 2 * pairs, size),  # moves, then what each changed in the gradient
            "moves_changes": images.new_zeros(count, pairs, pairs),
            "changes_changes": images.new_zeros(count, pairs, pairs),
            "is_pair": images.new_zeros(count, pairs),
        }

    def move(self, samples: Samples, loss: PerSample, gradient: Batch) -> Batch:
        here, slope = samples["images"].flatten(1), gradient.flatten(1) * loss[:, None]
        newest, change, _ = samples["vectors"].unbind(1)
        torch.sub(here, samples["tried"], out=newest)
        torch.sub(slope, samples["tried_gradient"], out=change)
        samples["tried"], samples["tried_gradient"] = here, slope
        self._judge(samples, here, slope, loss)
        along = self._remember(samples)
        direction = self._direction(samples, along)
        length = direction.norm(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
        way = direction * (samples["trust"] / length).clamp_max(1.0)[:, None]
        return (samples["base"] - way).view_as(gradient)

    def _judge(self, samples: Samples, here: Tensor, slope: Tensor, loss: PerSample) -> None:
        """Whether the last move was worth it: the base of the next, and how far that may go."""
        better = loss < samples["base_loss"]
        wider = (samples["trust"] * self.GROWTH).clamp_max(self.LARGEST * self.reach)
        trust = torch.where(better, wider, samples["trust"] / 2)
        samples["trust"] = torch.where(samples["age"] == 0, samples["trust"], trust)
        samples["base_loss"] = torch.where(better, loss, samples["base_loss"])
        samples["base"] = torch.where(better[:, None], here, samples["base"])
        base_gradient = samples["vectors"][:, 2]
        torch.where(better[:, None], slope, base_gradient, out=base_gradient)

    def _remember(self, samples: Samples) -> Tensor:
        """Put the newest pair in the place of the oldest; the products of the gradient at the base with all of them."""
        vectors = samples["vectors"]
        row, place = torch.arange(len(vectors), device=vectors.device), samples["age"] % self.memory
        pairs, products, squares = (samples[name] for name in ("pairs", "moves_changes", "changes_changes"))
        move, change, _ = vectors.unbind(1)
        pairs[row, place], pairs[row, self.memory + place] = move, change
        # The only pass over all pairs, this way round because it is several times faster than its transpose.
        dots = torch.bmm(vectors, pairs.mT)
        products[row, place] = dots[:, 0, self.memory :]
        products[row, :, place] = dots[:, 1, : self.memory]
        squares[row, place] = squares[row, :, place] = dots[:, 1, self.memory :]
        # Only what has positive curvature keeps the approximation positive definite; the first step ends no move.
        curved = products[row, place, place] > 1e-8 * move.norm(dim=1) * change.norm(dim=1)
        samples["is_pair"][row, place] = (curved & (samples["age"] > 0)).to(move)
        return dots[:, 2]

    def _direction(self, samples: Samples, along: Tensor) -> Tensor:
        """The inverse Hessian's approximation times the gradient at the base (Byrd et al., equation 3.1)."""
        slope, is_pair = samples["vectors"][:, 2], samples["is_pair"]
        # From the oldest pair to the newest, which is the one just written.
        order = (samples["age"][:, None] + 1 + torch.arange(self.memory, device=slope.device)) % self.memory
        both = is_pair[:, :, None] * is_pair[:, None, :]
        products = _sorted(samples["moves_changes"] * both, order)
        squares = _sorted(samples["changes_changes"] * both, order)
        along_moves, along_changes = (
            (part * is_pair).gather(1, order)[:, :, None] for part in along.split(self.memory, dim=1)
        )
        diagonal = products.diagonal(dim1=1, dim2=2)
        scale = self._scale(samples, diagonal[:, -1], squares[:, -1, -1])[:, None]
        upper = products.triu() + torch.diag_embed((diagonal == 0).to(slope))
        first = torch.linalg.solve_triangular(upper, along_moves, upper=True)
        right = diagonal[:, :, None] * first + scale[:, :, None] * (torch.bmm(squares, first) - along_changes)
        second = torch.linalg.solve_triangular(upper.mT, right, upper=False)
        back = order.argsort(1)
        weights = [part[:, :, 0].gather(1, back) * is_pair for part in (second, -scale[:, :, None] * first)]
        return scale * slope + torch.bmm(torch.cat(weights, 1)[:, None], samples["pairs"])[:, 0]

    def _scale(self, samples: Samples, product: PerSample, square: PerSample) -> PerSample:
        """Of the gradient: from the newest pair; without one, half the step to where a linear loss would be 0."""
        tiny = torch.finfo(product.dtype).tiny
        slope = samples["vectors"][:, 2]
        newton = samples["base_loss"].square() / slope.square().sum(1).clamp_min(tiny) / 2
        return torch.where(product > 0, product / square.clamp_min(tiny), newton)


def _sorted(square: Tensor, order: Tensor) -> Tensor:
    """Rows and columns of every sample's matrix in its own order."""
    size = order.shape[1]
    rows = square.gather(1, order[:, :, None].expand(-1, -1, size))
    return rows.gather(2, order[:, None, :].expand(-1, size, -1))
