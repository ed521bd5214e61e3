"""How large the perturbations of a relabelled set are, beside what separates the classes and what is noticed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from notbugs.measure.similarity import noticed
from notbugs.measure.statistics import Proportion, Spread
from notbugs.shapes import Batch, PerSample
from notbugs.threat import l2_norm

LARGE = 0.5
"""Share of the distance to the nearest image of the new class: a shorter perturbation leaves an image nearer to its
start than to every training image of the class, in whatever direction it goes (the triangle inequality)."""
VISIBLE = 0.1
"""Share of an image's pixels that change by more than is just noticed. It is a convention of ours."""


class PerturbationSize(BaseModel):
    """Of `n` images, drawn at random from those of a set whose label changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=1)
    to_nearest: Spread = Field(
        description="l2 norm over the l2 distance from the start to the nearest training image of the new class"
    )
    below_half: Proportion = Field(description="images of which that is below 0.5")
    noticed: Spread = Field(
        description="share of pixels whose grey level changed by more than is just noticed (Chou and Li 1995)"
    )

    @property
    def is_large(self) -> bool:
        """Whether the median perturbation is at least half as long as the way to the nearest image of its class."""
        return self.to_nearest.median >= LARGE

    @property
    def is_visible(self) -> bool:
        """Whether at least a tenth of the pixels of the median image change noticeably."""
        return self.noticed.median >= VISIBLE

    @classmethod
    def of(cls, start: Batch, images: Batch, distance: PerSample) -> PerturbationSize:
        """Measured on images, given their starts and how far from these the nearest image of the new class is."""
        share = l2_norm(images - start) / distance
        return cls(
            n=len(images),
            to_nearest=Spread.of(share),
            below_half=Proportion.of(share < LARGE),
            noticed=Spread.of(noticed(start, images)),
        )
