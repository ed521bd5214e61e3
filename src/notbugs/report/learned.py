"""Which classifiers did not learn what they were trained on, so that their accuracy says nothing of it."""

from __future__ import annotations

from notbugs.measure import Proportion
from notbugs.study.learned import is_unlearned
from notbugs.study.results import Results


def unlearned(results: Results) -> dict[str, Proportion]:
    """By the name of the classifier, the share of its own training images that it gives their label, where it is low.

    A search does not reach the label of every image, and what the source does not see others need not see: so less than
    half of the images that it does see is low. Empty for studies of versions that did not measure it.
    """
    reached = {properties.name: properties.success_source.value for properties in results.sets}
    for control in results.instruments.controls.rows if results.instruments.controls else ():
        if control.variant in ("leakage", "mislabelled"):  # patterns, or mistakes, that are there for all to see
            reached[control.name] = 1.0
        elif control.variant not in ("itself", "random", "labels"):  # in the last two there is nothing to learn
            reached[control.name] = control.success.value
    return {
        name: share
        for name, share in results.study.fits.items()
        if name in reached and is_unlearned(share, reached[name])
    }
