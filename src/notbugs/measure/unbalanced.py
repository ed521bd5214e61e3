"""What to report where a class is rare, and a high accuracy says little: balanced accuracy, the area under ROC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import scipy
import torch
from pydantic import Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError, check_count
from notbugs.formats import quoted
from notbugs.measure.statistics import Z95, Proportion
from notbugs.models.execution import ready
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search import fast_relabelling, search
from notbugs.search.compatibility import check_fits
from notbugs.search.objectives import away_from, margin
from notbugs.threat import Threat

HALF = 0.5
"""Share of the largest class above which balanced accuracy stands beside accuracy, and decides a verdict."""
UNEVEN, FEWEST = 5, 5
"""It stands beside, too, where the largest class has so many times the images of the smallest, counted as so many where
it has fewer: by chance alone it may have one."""
EVEN = 1.2
"""Or where the share of the largest class is more than so many times an even one, by a test at the level `LEVEL`."""
LEVEL = 0.05
RARE = 0.2
"""Share of the smaller of two classes below which the area under ROC stands beside both."""


class Area(Record):
    """Area under the ROC curve: how often a positive image gets a larger logit than a negative one, ties half.

    The interval is Newcombe's (2006, method 5): the areas whose standard error, by Hanley and McNeil with exponential
    scores, puts the one found within 1.96 of them. It has a width at 0 and 1, too.
    """

    value: float = Field(ge=0, le=1, description="area under the ROC curve")
    low: float = Field(ge=0, le=1, description="lower end of its interval")
    high: float = Field(ge=0, le=1, description="upper end of its interval")
    positives: int = Field(ge=1, description="images of the rarer class")
    negatives: int = Field(ge=1, description="all other images")

    def __str__(self) -> str:
        return f"AUC {quoted(self)}"

    @property
    def share(self) -> Proportion:
        """As a share of pairs, for tables."""
        return Proportion(value=self.value, low=self.low, high=self.high, n=self.positives + self.negatives)

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor) -> Area:
        """From scores, shape (n,), and labels 0 and 1.

        Raises
        ------
        InputError
            If all labels are the same.
        """
        positive, negative = scores[labels == 1].double(), scores[labels == 0].double()
        m, n = len(positive), len(negative)
        if not m or not n:
            raise InputError("An area under ROC needs images with the label and images without. Take more images.")
        wins = float(scipy.stats.mannwhitneyu(positive.numpy(), negative.numpy(), method="asymptotic").statistic)
        value = wins / (m * n)
        return cls(value=value, low=_end(value, m, n, 0.0), high=_end(value, m, n, 1.0), positives=m, negatives=n)


def _end(value: float, m: int, n: int, limit: float) -> float:
    """The end of the interval that lies towards `limit`, 0 or 1."""

    def beyond(area: float) -> float:
        """Negative inside the interval."""
        mean = (m + n) / 2 - 1
        spread = area * (1 - area) * (1 + mean * (1 - area) / (2 - area) + mean * area / (1 + area)) / (m * n)
        return abs(area - value) - Z95 * math.sqrt(spread)

    if value == limit:
        return limit
    inside, outside = value, limit
    for _ in range(60):  # halves the gap each time
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if beyond(middle) <= 0 else (inside, middle)
    return inside


def is_unbalanced(labels: Tensor) -> bool:
    """Whether the largest class has over half of the images."""
    return float(torch.bincount(labels).max()) > HALF * len(labels)


def is_uneven(labels: Tensor) -> bool:
    """Whether accuracy cannot be held against one in the number of classes: the largest class is too large for that.

    It has over half of the images, or five times those of the smallest, or of five; or more than 1.2 times an even
    share of all images, by a binomial test at the level of 5 % for all classes together.
    """
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    smallest, largest = int(counts.min()), int(counts.max())
    if is_unbalanced(labels) or largest >= UNEVEN * max(smallest, FEWEST):
        return True
    # Of many classes the largest is larger than the others by chance alone: Bonferroni.
    return float(scipy.stats.binom.sf(largest - 1, len(labels), EVEN / len(counts))) < LEVEL / len(counts)


def is_rare(labels: Tensor) -> bool:
    """Whether labels are 0 and 1, and one of the two has less than a fifth of the images, and some."""
    share = labels.double().mean()
    return int(labels.max()) <= 1 and 0 < float(torch.minimum(share, 1 - share)) < RARE


def balanced(hits: Tensor, labels: Tensor) -> Proportion:
    """The mean over classes of the share of hits in each, every class counting the same.

    Parameters
    ----------
    hits, labels : Tensor
        Shape (n,): bool, and classes; those without an image are left out.

    Returns
    -------
    Proportion
        With the stratified Wilson interval of 95 % (Yan & Su 2010): its ends are the means of those that the classes
        have at a lower level, as errors of classes make up for each other. `n` counts all images.
    """
    found = [hits[labels == label].double() for label in labels.unique().tolist()]
    shares, counts = torch.stack([one.mean() for one in found]), torch.tensor([float(len(one)) for one in found])
    value, low, high = float(shares.mean()), _end_of_mean(shares, counts, -1), _end_of_mean(shares, counts, 1)
    return Proportion(value=value, low=max(0.0, min(low, value)), high=min(1.0, max(high, value)), n=len(hits))


def _end_of_mean(shares: Tensor, counts: Tensor, side: Literal[-1, 1]) -> float:
    """One end of the interval of a mean over classes, from the share of hits in each and its number of images.

    The variances, which say at which level the classes' own intervals end, are those at that end. Where the observed
    shares are, as Yan and Su take them, they are 0 for every class of which all images are right, or none.
    """
    deviations, ends = counts.rsqrt().double(), shares
    for _ in range(8):
        if not deviations.any():
            break
        z = Z95 * deviations.norm() / deviations.sum()
        width = (z**2 * shares * (1 - shares) / counts + (z**2 / (2 * counts)) ** 2).sqrt()
        ends = ((shares + z**2 / (2 * counts) + side * width) / (1 + z**2 / counts)).clamp(0, 1)  # Wilson's
        deviations = (ends * (1 - ends) / counts).sqrt()
    return float(ends.mean())


def areas(
    classifier: Classifier,
    images: Images,
    threats: Sequence[Threat] = (),
    *,
    steps: int = 20,
    batch: int = 250,
    progress: Progress = silent,
) -> list[Area]:
    """The area under ROC of a binary classifier: clean, then under attack at every radius.

    Under attack every image has the worst logit that the search found: the smallest of an image with label 1, the
    largest of one with label 0. So it is the area when all images are attacked, and an upper bound of the least one.

    Parameters
    ----------
    classifier : Classifier
        Of two classes; the score is the logit of class 1 less that of class 0.
    images : Images
        With labels 0 and 1, both of them.
    threats : sequence of Threat
        In rising order, of one norm. What is found at a radius is valid at larger ones.
    steps : int
        Of PGD from the image, with steps that fall from 2 eps to 0.

    Raises
    ------
    InputError
        If the classifier does not fit two classes, or there is but one label.
    """
    check_count("steps", steps)
    check_fits(classifier, images, 2)
    balls: list[Threat | None] = [None, *threats]
    fast = ready(classifier, images.shape, batch=batch)[0] if threats else classifier
    margins = torch.full((len(images),), math.inf, dtype=torch.float32)
    measured = []
    for ball in balls:
        for first in range(0, len(images), batch):
            part = slice(first, first + batch)
            inputs, labels = (tensor.to(classifier.device) for tensor in images.batch(part))
            if ball and ball.eps:
                with fast.evaluating():
                    inputs = search(away_from(fast), inputs, (labels,), ball, fast_relabelling(ball, steps)).images
            with torch.no_grad(), classifier.evaluating("fp32"):
                worst = margin(classifier(inputs), labels).cpu()
            margins[part] = torch.minimum(margins[part], worst)
            progress(len(images) * len(measured) + first + len(worst), len(images) * len(balls))
        measured.append(Area.of(margins * (2 * images.labels.cpu() - 1), images.labels.cpu()))
    return measured
