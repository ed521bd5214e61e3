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

READ_AS = {1: "as grey images", 3: "in three channels"}
"""What images become when they are read in so many channels."""


def other_channels(images: int, network: int) -> str:
    """How images get the channels that a network takes, as the last sentence of an error; empty where they cannot."""
    if {images, network} != {1, 3}:
        return ""
    return f" To read the images {READ_AS[network]}, give --channels {network} (channels={network} in load)."
