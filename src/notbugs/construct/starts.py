"""What the searches of a set started from: training images, or noise that is drawn again whenever it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from notbugs.data import Images
from notbugs.seeds import generator
from notbugs.shapes import Batch

Start = Literal["images", "gaussian", "uniform"]
STARTS = ("images", "gaussian", "uniform")

SPREAD = 0.05  # of Gaussian noise: 1 / 20, as in the authors' library


def starts_of(request: Mapping[str, Any], originals: Images) -> Callable[[Tensor], Batch]:
    """A function from numbers, as in a set's `start`, to the images that its searches started from.

    Parameters
    ----------
    request : dict
        Of the set's manifest.
    originals : Images
        The training images it was built from.
    """
    kind = request.get("start", "images")
    if kind == "images":
        return lambda numbers: originals.batch(numbers)[0]
    return lambda numbers: noise(kind, numbers, originals.shape, request["seed"])


def noise(kind: str, numbers: Tensor, shape: Sequence[int], seed: int) -> Batch:
    """Images of noise; each depends on its number and the seed alone.

    `gaussian`: mean 0.5 and standard deviation 0.05, cut off at 0 and 1. `uniform`: every value between 0 and 1.
    """
    draws = (generator(seed, "noise", kind, number) for number in numbers.tolist())
    if kind == "uniform":
        return torch.stack([torch.rand(*shape, generator=draw) for draw in draws])
    return torch.stack([torch.randn(*shape, generator=draw) for draw in draws]).mul_(SPREAD).add_(0.5).clamp_(0, 1)
