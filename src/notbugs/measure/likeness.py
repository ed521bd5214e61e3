"""Whom the images of a set resemble, and how large their perturbations are."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import must
from notbugs.given import checked
from notbugs.measure.statistics import Mean, Proportion, Spread
from notbugs.records import Record
from notbugs.shapes import Batch, Features, Labels, PerSample
from notbugs.threat import l2_norm

WINDOW = 7
"""Pixels of a side of the window of structural similarity; the largest odd number that fits into smaller images."""
SMALLEST = 3
"""Pixels of a side of the smallest images that have a structure."""
STABLE = (0.01**2, 0.03**2)
"""(K1 L)^2 and (K2 L)^2 of Wang et al. for pixels in [0, 1]."""
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey level (ITU-R BT.601)."""
AROUND = ((1, 1, 1, 1, 1), (1, 2, 2, 2, 1), (1, 2, 0, 2, 1), (1, 2, 2, 2, 1), (1, 1, 1, 1, 1))
"""Weights of the pixels whose mean is a pixel's background (Chou and Li 1995)."""


@checked
def ssim(first: Batch, second: Batch) -> PerSample:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004) of pairs of images: 1 if they are equal.

    In the form that scikit-image has by default: a window of 7x7 pixels of equal weight, variances with n - 1,
    K1 = 0.01, K2 = 0.03, averaged over all windows that lie inside the image, and over channels.

    Parameters
    ----------
    first, second : Tensor
        In [0, 1], shape (batch, channel, height, width), at least 3 pixels a side. Images below 7 pixels a side have
        a window of the largest odd size that fits.

    Raises
    ------
    InputError
        If they have different shapes, or are too small.

    Examples
    --------
    >>> bool((nb.measure.ssim(inputs, inputs) > 0.999).all())
    True
    """
    if first.shape != second.shape:
        raise must("second", f"have the shape of the first, {tuple(first.shape)}", tuple(second.shape))
    side = min(WINDOW, *first.shape[2:])
    side -= (side + 1) % 2
    if side < SMALLEST:
        raise must("images", f"be at least {SMALLEST} pixels high and wide", tuple(first.shape[2:]))
    x, y = first.double(), second.double()

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, side, stride=1)

    unbiased = side**2 / (side**2 - 1)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = (unbiased * (mean(v * v) - m * m) for v, m in ((x, mean_x), (y, mean_y)))
    both = unbiased * (mean(x * y) - mean_x * mean_y)
    low, high = STABLE
    top = (2 * mean_x * mean_y + low) * (2 * both + high)
    bottom = (mean_x.square() + mean_y.square() + low) * (var_x + var_y + high)
    return (top / bottom).flatten(1).mean(1).to(first.dtype)


def grey(images: Batch) -> Float[Tensor, "batch height width"]:
    """The grey level of every pixel, 0 to 255: the luma of three channels, else the mean of all."""
    if images.shape[1] == len(LUMA):
        return torch.einsum("bchw,c->bhw", images, torch.tensor(LUMA).to(images)) * 255
    return images.mean(1) * 255


@checked
def just_noticeable(images: Batch) -> Float[Tensor, "batch height width"]:
    """For every pixel, the change of its grey level, of 255, from which on it is noticed on its background.

    The luminance part of the model of Chou and Li (1995, equation 5): 3 levels on middle grey, 6 on white, 20 on
    black. A pixel's background is the weighted mean of the 24 around it, where the image ends of those that it has.
    Their other part, that texture hides more, is left out; so a change counts as noticed rather too early.

    Parameters
    ----------
    images : Tensor
        In [0, 1], shape (batch, channel, height, width).

    Examples
    --------
    >>> nb.measure.just_noticeable(inputs).shape
    torch.Size([20, 8, 8])
    """
    kernel = torch.tensor(AROUND).to(images)[None, None]
    level = grey(images)[:, None]
    weights = functional.conv2d(torch.ones_like(level), kernel, padding=2)
    background = functional.conv2d(level, kernel, padding=2)[:, 0] / weights[:, 0]
    dark = 17 * (1 - (background / 127).clamp(0, 1).sqrt()) + 3
    return torch.where(background <= 127, dark, 3 / 128 * (background - 127) + 3)


def noticed(start: Batch, images: Batch) -> PerSample:
    """The share of the pixels of each image whose grey level changed by more than `just_noticeable` of the start."""
    changed = (grey(images) - grey(start)).abs() > just_noticeable(start)
    return changed.flatten(1).float().mean(1)


CHUNK_BYTES = 2**26
"""Of images that are compared at once."""


@checked
@torch.no_grad()
def nearest_of_class(starts: Batch, labels: Labels, images: Images) -> tuple[PerSample, Labels]:
    """The l2 distance from every start to the nearest image of its class in `labels`, and that image's number.

    Exact, over all images of the class, as many at a time as fit in 64 MiB.

    Parameters
    ----------
    starts : Tensor
        Images in [0, 1], shape (batch, channel, height, width).
    labels : Tensor
        The class looked for, for every start, shape (batch,).
    images : Images
        Where it is looked for.

    Returns
    -------
    tuple of Tensor and Tensor
        Distances in pixel units, infinite where `images` have none of that class; numbers of images.

    Examples
    --------
    >>> distances, numbers = nb.measure.nearest_of_class(inputs, labels, data.train)
    """
    centre = starts.mean(0, keepdim=True)  # squares of smaller numbers lose less to rounding
    ours = (starts - centre).flatten(1)
    square, wanted = torch.full((len(starts),), math.inf), torch.zeros(len(starts), dtype=torch.int64)
    step = max(1, CHUNK_BYTES // (4 * math.prod(images.shape)))
    for first in range(0, len(images), step):
        pixels, classes = images.batch(slice(first, first + step))
        theirs = (pixels - centre).flatten(1)
        squares = theirs.square().sum(1) - 2 * ours @ theirs.T  # the start's own square is the same for all
        squares = squares.masked_fill(classes[None] != labels[:, None], math.inf)
        least, place = squares.min(1)
        closer = least < square
        square, wanted = torch.where(closer, least, square), torch.where(closer, place + first, wanted)
    distance = torch.cat(
        [
            l2_norm(start - images.batch(number)[0])
            for start, number in zip(starts.split(250), wanted.split(250), strict=True)
        ]
    )
    return torch.where(square.isfinite(), distance, math.inf), wanted


LARGE = 0.5
"""Share of the distance to the nearest image of the new class: a shorter perturbation leaves an image nearer to its
start than to every training image of the class, in whatever direction it goes (the triangle inequality)."""
VISIBLE = 0.1
"""Share of an image's pixels that change by more than is just noticed. It is a convention of ours."""


class PerturbationSize(Record):
    """Of `n` images, drawn at random from those of a set whose label changed."""

    n: int = Field(ge=1, description="images")
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
        """Measured on images, given their starts and how far from these the nearest image of the new class is.

        Where it is the start itself, with two labels, no way is to be gone: such images are left out.

        Raises
        ------
        InputError
            If all of them are.
        """
        apart = distance > 0
        if not bool(apart.any()):
            raise must("distance", "be above 0 for an image at least", f"{len(distance)} of 0")
        start, images = start[apart], images[apart]
        share = l2_norm(images - start) / distance[apart]
        return cls(
            n=len(images),
            to_nearest=Spread.of(share),
            below_half=Proportion.of(share < LARGE),
            noticed=Spread.of(noticed(start, images)),
        )


By = Literal["pixels", "ssim", "robust features"]
BATCH = 250


class Likeness(Record):
    """By one measure.

    The difference is above 0 where an image is more like its target than like its start. Of distances d, in pixels or
    features, it is (d(image, start) - d(image, target)) / d(start, target): -1 is the start itself, 1 the target. Of
    structural similarity it is that to the target less that to the start.

    Examples
    --------
    >>> found = nb.measure.resemblance(inputs, inputs, inputs.flip(0))
    """

    by: By = Field(description="the measure")
    nearer_target: Proportion = Field(description="images that are more like their target than like their start")
    difference: Mean = Field(description="mean likeness to the target minus likeness to the start")


class Resemblance(Record):
    """Of `n` images, drawn at random from those whose start has another class than their label says.

    Examples
    --------
    >>> found = nb.measure.resemblance(inputs, inputs, inputs.flip(0))
    """

    n: int = Field(ge=1, description="images")
    target: Literal["matched image", "nearest image of the new class"] = Field(
        description="what a matched image was matched with; or the training image of the new class nearest to the start"
    )
    judge: str | None = Field(description="a robust classifier that the set was not built with; null: there was none")
    measures: list[Likeness] = Field(description="one for each way to compare")
    judged_target: Proportion | None = Field(description="images that the judge gives the class of their target")
    judged_start: Proportion | None = Field(description="images that the judge gives the class of their start")

    def by(self, measure: By) -> Likeness | None:
        """One of the measures, where it was taken."""
        return next((one for one in self.measures if one.by == measure), None)

    @property
    def verdict(self) -> Literal["target", "start", "unclear"]:
        """What the images are like by every measure, their intervals clear of one half; `unclear` where they differ."""
        shares = [one.nearer_target for one in self.measures]
        if all(share.low > 0.5 for share in shares):
            return "target"
        return "start" if all(share.high < 0.5 for share in shares) else "unclear"


def likeness(by: By, to_start: PerSample, to_target: PerSample, apart: PerSample, seed: int = 0) -> Likeness:
    """From distances to start and target, and of these two from each other, one of each for an image."""
    tiny = torch.finfo(apart.dtype).tiny
    difference = (to_start - to_target) / apart.clamp_min(tiny)
    return Likeness(by=by, nearer_target=Proportion.of(difference > 0), difference=Mean.of(difference, seed))


@checked
def resemblance(
    images: Batch,
    start: Batch,
    target: Batch,
    *,
    kind: Literal["matched image", "nearest image of the new class"] = "matched image",
    classes: tuple[Labels, Labels] | None = None,
    judge: Classifier | None = None,
    judge_name: str = "robust",
    seed: int = 0,
) -> Resemblance:
    """Compare images with their starts and targets: in pixels, by structural similarity, and by a robust classifier.

    Parameters
    ----------
    images, start, target : Tensor
        In [0, 1], shape (batch, channel, height, width).
    kind : str
        What the targets are.
    classes : tuple of Tensor, optional
        Of the starts and of the targets, shape (batch,); with them, the judge's labels are counted.
    judge : Classifier, optional
        A robust one that the images were not built with: its features are the third measure.
    judge_name : str
        Its name.
    seed : int
        Of the bootstrap.

    Examples
    --------
    >>> found = nb.measure.resemblance(inputs, inputs, inputs.flip(0))
    """
    apart = l2_norm(start - target)
    measures = [likeness("pixels", l2_norm(images - start), l2_norm(images - target), apart, seed)]
    alike = [
        torch.cat([ssim(*pair) for pair in zip(images.split(BATCH), other.split(BATCH), strict=True)])
        for other in (start, target)
    ]
    measures.append(likeness("ssim", -alike[0], -alike[1], torch.ones_like(apart), seed))
    says = None
    if judge is not None:
        (ours, says), (at_start, _), (at_target, _) = (_seen(judge, part) for part in (images, start, target))
        gaps = [
            (one - other).norm(dim=1) for one, other in ((ours, at_start), (ours, at_target), (at_start, at_target))
        ]
        measures.append(likeness("robust features", gaps[0], gaps[1], gaps[2], seed))
    counted = says is not None and classes is not None
    return Resemblance(
        n=len(images),
        target=kind,
        judge=judge_name if judge is not None else None,
        measures=measures,
        judged_start=Proportion.of(says == classes[0]) if counted else None,
        judged_target=Proportion.of(says == classes[1]) if counted else None,
    )


@torch.no_grad()
def _seen(judge: Classifier, images: Batch) -> tuple[Features, Tensor]:
    """Features and predicted classes, on the CPU, in fp32."""
    features, says = [], []
    with judge.evaluating("fp32"):
        for part in images.split(BATCH):
            batch = part.to(judge.device)
            seen, logits = judge.features_and_logits(batch)
            features.append(seen.cpu())
            says.append(logits.argmax(1).cpu())
    return torch.cat(features), torch.cat(says)
