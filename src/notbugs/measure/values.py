"""The features of many images, whoever computes them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.shapes import Batch, Features

Read = Classifier | Callable[[Batch], Features]
"""A classifier, whose features are the inputs of its head, or a function from images to features."""


def feature_values(
    features: Read, images: Images, device: torch.device | None = None, *, batch: int = 500
) -> Float[Tensor, "image feature"]:
    """The features of every image, in fp32 and evaluation mode, on the CPU.

    A function gets its images on `device`, by default the CPU; a classifier has its own device.
    """
    if isinstance(features, Classifier):
        with features.evaluating("fp32"):
            return feature_values(features.features, images, features.device, batch=batch)
    found = []
    with torch.no_grad():
        for first in range(0, len(images), batch):
            inputs, _ = images.batch(slice(first, first + batch))
            found.append(features(inputs.to(device or "cpu")).float().cpu())
    return torch.cat(found)
