"""Limited-memory BFGS for many samples at once, each with its own history, scale and trust radius."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.errors import check_count, check_number
from notbugs.search.steps import Samples, Walker
from notbugs.shapes import Batch, PerSample
from notbugs.threat import Threat


@dataclass(frozen=True)
class QuasiNewton:
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
        return _AlongQuasiNewton(self.reach, self.memory)


class _AlongQuasiNewton:
    GROWTH, LARGEST = 1.3, 8.0
    """Of the trust radius: by how much a success makes it larger, and how many times `reach` it may become."""

    def __init__(self, reach: float, memory: int) -> None:
        self.reach, self.memory = reach, memory

    def begin(self, images: Batch) -> Samples:
        count, size, pairs = len(images), images[0].numel(), self.memory
        single = dict.fromkeys(("base", "base_gradient", "tried", "tried_gradient"), images.new_zeros(count, size))
        return single | {
            "base_loss": images.new_full((count,), math.inf),
            "trust": images.new_full((count,), self.reach),
            "pairs": images.new_zeros(count, 2 * pairs, size),  # moves, then what each changed in the gradient
            "moves_changes": images.new_zeros(count, pairs, pairs),
            "changes_changes": images.new_zeros(count, pairs, pairs),
            "is_pair": images.new_zeros(count, pairs),
        }

    def move(self, samples: Samples, loss: PerSample, gradient: Batch) -> Batch:
        here, slope = samples["images"].flatten(1), gradient.flatten(1) * loss[:, None]
        is_first = samples["age"][:, None] == 0
        move = torch.where(is_first, 0, here - samples["tried"])
        change = torch.where(is_first, 0, slope - samples["tried_gradient"])
        samples["tried"], samples["tried_gradient"] = here, slope
        self._judge(samples, here, slope, loss)
        along = self._remember(samples, move, change)
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
        for name, values in (("base", here), ("base_gradient", slope)):
            samples[name] = torch.where(better[:, None], values, samples[name])

    def _remember(self, samples: Samples, move: Tensor, change: Tensor) -> Tensor:
        """Put a pair in the place of the oldest; the products of the gradient at the base with all of them."""
        row, place = torch.arange(len(move), device=move.device), samples["age"] % self.memory
        pairs, products, squares = (samples[name] for name in ("pairs", "moves_changes", "changes_changes"))
        pairs[row, place], pairs[row, self.memory + place] = move, change
        # The only pass over all pairs, this way round because it is several times faster than its transpose.
        asked = torch.stack([move, change, samples["base_gradient"]], 1)
        dots = torch.bmm(asked, pairs.mT)
        products[row, place] = dots[:, 0, self.memory :]
        products[row, :, place] = dots[:, 1, : self.memory]
        squares[row, place] = squares[row, :, place] = dots[:, 1, self.memory :]
        # Only what has positive curvature keeps the approximation positive definite.
        curved = products[row, place, place] > 1e-8 * move.norm(dim=1) * change.norm(dim=1)
        samples["is_pair"][row, place] = curved.to(move)
        return dots[:, 2]

    def _direction(self, samples: Samples, along: Tensor) -> Tensor:
        """The inverse Hessian's approximation times the gradient at the base (Byrd et al., equation 3.1)."""
        slope, is_pair = samples["base_gradient"], samples["is_pair"]
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
        newton = samples["base_loss"].square() / samples["base_gradient"].square().sum(1).clamp_min(tiny) / 2
        return torch.where(product > 0, product / square.clamp_min(tiny), newton)


def _sorted(square: Tensor, order: Tensor) -> Tensor:
    """Rows and columns of every sample's matrix in its own order."""
    size = order.shape[1]
    rows = square.gather(1, order[:, :, None].expand(-1, -1, size))
    return rows.gather(2, order[:, None, :].expand(-1, size, -1))
