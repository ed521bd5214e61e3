"""Whether a classifier learned the set that it was trained on: if not, its accuracy says nothing of the set."""

from __future__ import annotations

from notbugs.measure import Proportion

LEARNED = 0.5
"""Of its images whose label can be learned, the share that a classifier must give their label to have learned them."""


def is_unlearned(fits: Proportion | None, reached: float = 1.0) -> bool:
    """Whether it is so, by the share `fits` of its own images that it gives their label; False where that is unknown.

    `reached` is the share whose label can be seen: a search does not reach the label of every image.
    """
    return fits is not None and fits.high < LEARNED * reached
