"""Features of zero mean and unit variance, as the definitions of usefulness want them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from notbugs.data import Images
from notbugs.measure.features import FeatureMap, feature_values

Values = Float[Tensor, "image f"]

CONSTANT = 1e-6
"""Share of its mean below which a feature's standard deviation is rounding."""


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and standard deviation of every feature, shape (f,), float64; a deviation of 0 marks a constant feature."""

    mean: Float[Tensor, " f"]
    std: Float[Tensor, " f"]

    @property
    def varies(self) -> Bool[Tensor, " f"]:
        """Which features are not constant."""
        return self.std > 0

    @property
    def scale(self) -> Float[Tensor, " f"]:
        """One over the deviation; 0 for constant features."""
        return torch.where(self.varies, 1 / self.std.where(self.varies, 1.0), 0.0)

    def __call__(self, values: Values) -> Values:
        """Values standardised, float64; those of constant features are 0."""
        return (values.double() - self.mean) * self.scale

    @classmethod
    def over(cls, source: FeatureMap, images: Images, *, batch: int = 500) -> Standard:
        """Of the features of these images, a part at a time (Chan et al. 1979)."""
        size, mean, square = 0, torch.zeros(()), torch.zeros(())
        for first in range(0, len(images), 10 * batch):
            part = feature_values(source, images.subset(slice(first, first + 10 * batch)), batch=batch).double()
            joint = size + len(part)
            change = part.mean(0) - mean
            square = square + (part - part.mean(0)).square().sum(0) + change.square() * (size * len(part) / joint)
            mean = mean + change * (len(part) / joint)
            size = joint
        std = (square / size).sqrt()
        return cls(mean, std.where(std > CONSTANT * mean.abs(), 0.0))
