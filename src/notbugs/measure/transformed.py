"""Accuracy on images that were changed: common corruptions, filters, rotations and shifts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import CORRUPTIONS, Images, corrupt, high_pass, low_pass
from notbugs.errors import check_choice, check_count, check_number
from notbugs.given import checked
from notbugs.measure.accuracy import predictions
from notbugs.measure.statistics import Proportion
from notbugs.models.execution import ready
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search import PGDSteps, spatial_pgd
from notbugs.search.compatibility import check_fits
from notbugs.seeds import generator
from notbugs.shapes import Batch
from notbugs.threat import Spatial

BATCH = 500


class CorruptionAccuracy(Record):
    """Accuracy under one corruption at one severity.

    Examples
    --------
    >>> found = nb.measure.corruption_accuracy(classifier, images, names=('fog',), severities=(1,))
    """

    corruption: str = Field(description="its name")
    severity: int = Field(ge=1, le=5, description="1 (weakest) to 5")
    share: Proportion = Field(description="of images classified correctly")
    seed: int = Field(description="of the corruption's noise")


class FilterAccuracy(Record):
    """Accuracy on what passes a filter.

    Examples
    --------
    >>> found = nb.measure.filter_accuracy(classifier, images, cutoffs=(2,))
    """

    passes: Literal["low", "high"] = Field(description="which frequencies it leaves")
    cutoff: float = Field(
        description="cycles per image: `low` passes up to it, `high` above it and the channels' means"
    )
    share: Proportion = Field(description="of images classified correctly")


@checked
def corruption_accuracy(
    classifier: Classifier,
    images: Images,
    *,
    names: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0,
    progress: Progress = silent,
) -> list[CorruptionAccuracy]:
    """Accuracy under every corruption at every severity, in that order.

    Parameters
    ----------
    classifier : Classifier
        Measured in evaluation mode, in fp32.
    images : Images
        With their true labels.
    names : sequence of str
        Of `notbugs.data.CORRUPTIONS`.
    severities : sequence of int
        1 to 5.
    seed : int
        Of the noise; an image's own does not depend on the others.

    Raises
    ------
    InputError
        If there is no such corruption or severity, or the classifier does not fit the images.

    Examples
    --------
    >>> found = nb.measure.corruption_accuracy(classifier, images, names=('fog',), severities=(1,))
    >>> found[0].corruption
    'fog'
    """
    check_fits(classifier, images)
    kinds = [(check_choice("name", name, CORRUPTIONS), severity) for name in names for severity in severities]
    for name, severity in kinds:
        corrupt(images.batch(slice(1))[0], name, severity)  # what is wrong fails before any work
    accuracies = []
    for name, severity in kinds:
        hits = predictions(classifier, images, batch=BATCH, change=_corrupted(name, severity, seed)) == images.labels
        accuracies.append(CorruptionAccuracy(corruption=name, severity=severity, share=Proportion.of(hits), seed=seed))
        progress(len(accuracies), len(kinds))
    return accuracies


def _corrupted(name: str, severity: int, seed: int) -> Callable[[Batch], Batch]:
    """Corrupts one batch after the other, and counts the images."""
    first = count(0, BATCH)
    return lambda inputs: corrupt(inputs, name, severity, seed=seed, first=next(first))


@checked
def filter_accuracy(
    classifier: Classifier, images: Images, cutoffs: Sequence[float], *, progress: Progress = silent
) -> list[FilterAccuracy]:
    """Accuracy on what passes low, then on what passes high, at every cutoff; filtered images are clipped to [0, 1].

    Parameters
    ----------
    classifier : Classifier
        Measured in evaluation mode, in fp32.
    images : Images
        With their true labels.
    cutoffs : sequence of float
        Cycles per image.

    Raises
    ------
    InputError
        If a cutoff is negative or not a number, or the classifier does not fit the images.

    Examples
    --------
    >>> found = nb.measure.filter_accuracy(classifier, images, cutoffs=(2,))
    """
    check_fits(classifier, images)
    limits = [check_number("cutoff", cutoff) for cutoff in cutoffs]
    accuracies = []
    for passes, filtered in (("low", low_pass), ("high", high_pass)):
        for cutoff in limits:
            hits = predictions(classifier, images, batch=BATCH, change=partial(_clipped, filtered, cutoff))
            share = Proportion.of(hits == images.labels)
            accuracies.append(FilterAccuracy(passes=passes, cutoff=cutoff, share=share))
            progress(len(accuracies), 2 * len(limits))
    return accuracies


def _clipped(filtered: Callable[[Batch, float], Batch], cutoff: float, images: Batch) -> Batch:
    return filtered(images, cutoff).clamp(0, 1)


class SpatialAccuracy(Record):
    """Accuracy under the worst rotation and shift that each search found; the identity is among all of them.

    Examples
    --------
    >>> few = {'shifts': 3, 'angles': 3, 'tries': 2, 'steps': 2, 'restarts': 1}
    >>> found = nb.measure.spatial_accuracy(classifier, images, nb.Spatial(30, 1), **few)
    """

    degrees: float = Field(description="largest rotation, either way")
    pixels: float = Field(description="largest shift, either way along each axis; zeros come in from outside")
    shifts: int = Field(description="of the grid, along each axis")
    angles: int = Field(description="of the grid")
    tries: int = Field(description="random transformations of every image")
    steps: int = Field(description="of the gradient search, lengths falling linearly from 2 * 0.5 of a range to 0")
    restarts: int = Field(description="of the gradient search; the first starts at the identity, others at random")
    seed: int = Field(description="of the random transformations")
    clean: Proportion = Field(description="images classified correctly as they are")
    grid: Proportion = Field(description="the same under every transformation of the grid")
    random: Proportion = Field(description="the same under every random transformation")
    gradient: Proportion = Field(description="the same under the gradient search")
    worst: Proportion = Field(description="images that no search broke")

    def __str__(self) -> str:
        share = self.worst
        under = f"rotations {self.degrees:g} degrees, shifts {self.pixels:g} pixels"
        return f"{under}: {share}, n={share.n}"


@checked
def spatial_accuracy(
    classifier: Classifier,
    images: Images,
    spatial: Spatial,
    *,
    shifts: int = 5,
    angles: int = 31,
    tries: int = 10,
    steps: int = 20,
    restarts: int = 3,
    seed: int = 0,
    batch: int = 250,
    progress: Progress = silent,
) -> SpatialAccuracy:
    """Clean accuracy, accuracy under each of three searches on its own, and under the worst of them.

    An image counts as robust if it is classified correctly as it is, and no search found a transformation under which
    it is not. Every verdict is the classifier's own, in fp32.

    Parameters
    ----------
    classifier : Classifier
        Measured in evaluation mode.
    images : Images
        With their true labels.
    spatial : Spatial
        The threat model.
    shifts, angles : int
        The grid has `shifts` * `shifts` * `angles` points; the paper's (Engstrom et al. 2019) 5 * 5 * 31.
    tries : int
        Random transformations of every image: the paper's worst of 10.
    steps, restarts : int
        Of the gradient search.
    seed : int
        Of random tries and starts; an image's own do not depend on the others.

    Raises
    ------
    InputError
        If a count is below 1, or the classifier does not fit the images.

    Examples
    --------
    >>> few = {'shifts': 3, 'angles': 3, 'tries': 2, 'steps': 2, 'restarts': 1}
    >>> found = nb.measure.spatial_accuracy(classifier, images, nb.Spatial(30, 1), **few)
    """
    counts = {"shifts": shifts, "angles": angles, "tries": tries, "steps": steps, "restarts": restarts}
    for name, number in counts.items():
        check_count(name, number)
    check_fits(classifier, images)
    clean = predictions(classifier, images, batch=batch) == images.labels
    index = clean.nonzero().flatten()
    told = _Told(progress, (2 + restarts) * len(images))
    told(3 * int((~clean).sum()))

    def tried(parameters: Callable[[Tensor], Tensor]) -> Tensor:
        return _survivors(classifier, images, index, spatial, parameters, batch, told)

    points = spatial.grid(shifts, angles)
    grid = tried(lambda numbers: points.expand(len(numbers), *points.shape))
    random = tried(lambda numbers: _random(spatial, numbers, tries, (seed, "tries")))
    gradient = _gradient(classifier, images, index, spatial, steps, restarts, seed, batch, told)
    return SpatialAccuracy(
        degrees=spatial.degrees, pixels=spatial.pixels, **counts, seed=seed, clean=Proportion.of(clean),
        grid=Proportion.of(grid), random=Proportion.of(random), gradient=Proportion.of(gradient),
        worst=Proportion.of(grid & random & gradient),
    )  # fmt: skip


class _Told:
    """Counts what is done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, more: int) -> None:
        self.done = min(self.done + more, self.total)
        self.progress(self.done, self.total)


@torch.no_grad()
def _survivors(
    classifier: Classifier,
    images: Images,
    index: Tensor,
    spatial: Spatial,
    parameters: Callable[[Tensor], Tensor],
    batch: int,
    told: _Told,
) -> Tensor:
    """Which images, shape (n,), bool, no transformation breaks: of those at `index`, tried until one breaks them.

    `parameters` gives those of the images of some numbers, shape (number, tries, 3).
    """
    survived = torch.zeros(len(images), dtype=torch.bool)
    for part in index.split(batch) if len(index) else ():
        inputs, labels = (tensor.to(classifier.device) for tensor in images.batch(part))
        tries, alive, done = parameters(part), torch.arange(len(part)), 0
        while len(alive) and done < tries.shape[1]:
            some = tries[alive, done : done + max(1, batch // len(alive))]
            place = alive.to(inputs.device).repeat_interleave(some.shape[1])
            with classifier.evaluating("fp32"):
                wrong = classifier(spatial.apply(inputs[place], some.flatten(0, 1))).argmax(1) != labels[place]
            alive = alive[~wrong.view(-1, some.shape[1]).any(1).cpu()]
            done += some.shape[1]
        survived[part[alive]] = True
        told(len(part))
    return survived


def _gradient(
    classifier: Classifier,
    images: Images,
    index: Tensor,
    spatial: Spatial,
    steps: int,
    restarts: int,
    seed: int,
    batch: int,
    told: _Told,
) -> Tensor:
    """Which images survive the gradient search, shape (n,), bool; it runs in the classifier's fastest form."""
    fast = ready(classifier, images.shape, batch=batch)[0]
    survived = torch.zeros(len(images), dtype=torch.bool)
    survived[index] = True
    for restart in range(restarts):
        for part in index.split(batch) if len(index) else ():
            inputs, labels = (tensor.to(classifier.device) for tensor in images.batch(part))
            start = _random(spatial, part, 1, (seed, "restart", restart))[:, 0] if restart else None
            result = spatial_pgd(fast, inputs, labels, spatial, PGDSteps(steps, decay="linear"), start=start)
            with torch.no_grad(), classifier.evaluating("fp32"):
                survived[part] = (classifier(result.images).argmax(1) == labels).cpu()
            told(len(part))
        told(len(images) - len(index) if restart else 0)
        index = survived.nonzero().flatten()
    return survived


def _random(
    spatial: Spatial, numbers: Tensor, tries: int, purpose: tuple[int, *tuple[str | int, ...]]
) -> Float[Tensor, "number tries 3"]:
    """Random parameters of the images of these numbers, each image's its own."""
    seed, *rest = purpose
    return torch.stack([spatial.random(tries, generator(seed, "spatial", *rest, n)) for n in numbers.tolist()])
