"""Tensor shapes used in signatures; checked in the tests by jaxtyping with beartype."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

Batch = Float[Tensor, "batch channel height width"]
Labels = Int[Tensor, "batch *label"]
"""One class for each image, or 0 or 1 for each of several labels."""
PerSample = Float[Tensor, "batch"]
Features = Float[Tensor, "batch feature"]
Logits = Float[Tensor, "batch class"]
