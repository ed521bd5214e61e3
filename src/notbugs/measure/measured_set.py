"""Properties of constructed sets: success on classifiers, and how far and where images were moved."""

from __future__ import annotations

import math
from typing import Any, NotRequired, cast

import torch
from pydantic import ConfigDict, with_config
from torch import Tensor
from typing_extensions import TypedDict

from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, starts_of
from notbugs.data import Augmentation, Images, round_to_8_bits
from notbugs.frequency import Band
from notbugs.given import checked
from notbugs.measure.accuracy import logits, predictions
from notbugs.measure.likeness import SMALLEST, PerturbationSize, Resemblance, nearest_of_class, resemblance
from notbugs.measure.statistics import Proportion, Spread
from notbugs.progress import Progress, silent
from notbugs.records import to_json
from notbugs.seeds import generator
from notbugs.threat import l2_norm

CHUNK, ROWS = 2000, 500
FEWEST, MOST, PRODUCTS = 100, 1000, 10**12
"""Images that are compared with their targets: as many as cost so many products of pixel values, between these two."""


@with_config(ConfigDict(extra="forbid"))
class MeasuredSet(TypedDict):
    """The measured properties of a constructed set; `notbugs.study.results.SetProperties` says what each is."""

    success_source: Proportion
    success_independent: Proportion
    success_8bit: Proportion
    success_augmented: Proportion
    kept_label: Proportion
    success_source_changed: Proportion | None
    rises_source: NotRequired[Proportion | None]  # studies of older versions have neither
    rises_independent: NotRequired[Proportion | None]
    l2: Spread
    linf: Spread
    distance_to_target: Spread | None
    outside_band: NotRequired[Spread]
    matching_loss: Spread | None
    resemblance: NotRequired[Resemblance | None]  # studies of older versions have neither
    perturbation: NotRequired[PerturbationSize | None]


@checked
def measure_set(
    built: ConstructedSet,
    originals: Images,
    source: Classifier,
    independent: Classifier,
    augmentation: Augmentation,
    *,
    judge: Classifier | None = None,
    judge_name: str = "robust",
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The measured properties of a constructed set, as JSON.

    "Success" is the share of images to which a classifier gives the label that the set trains with.

    Parameters
    ----------
    built : ConstructedSet
        The set.
    originals : Images
        The training images it was built from.
    source, independent : Classifier
        The one it was built with, and one trained the same way on the same images from another seed.
    augmentation : Augmentation
        Of the training that the set is meant for.
    judge : Classifier, optional
        A robust one that the set was not built with: it says, too, whom the images resemble.
    judge_name : str
        Its name.
    seed : int
        Of the augmentation's draw, of the images that are compared with their targets, and of intervals.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.relabel(classifier, small, 'set', targets='next', threat=nb.L2(0.5), schedule=nb.search.PGDSteps(2))
    >>> measured = nb.measure.measure_set(built, small.train, classifier, classifier, nb.data.Augmentation())
    """
    measured = set_measured(
        built,
        originals,
        source,
        independent,
        augmentation,
        judge=judge,
        judge_name=judge_name,
        seed=seed,
        progress=progress,
    )
    return to_json(measured, MeasuredSet)


def set_measured(
    built: ConstructedSet,
    originals: Images,
    source: Classifier,
    independent: Classifier,
    augmentation: Augmentation,
    *,
    judge: Classifier | None,
    judge_name: str,
    seed: int,
    progress: Progress,
) -> MeasuredSet:
    """As `measure_set`, in the types of what is measured."""
    images, labels = built.images, built.images.labels
    draw = generator(seed, "augmented success")
    changes = {
        "success_source": (source, lambda batch: batch),
        "success_independent": (independent, lambda batch: batch),
        "success_8bit": (source, round_to_8_bits),
        "success_augmented": (source, lambda batch: augmentation(batch, draw)),
    }
    hits = {}
    for number, (name, (classifier, change)) in enumerate(changes.items(), 1):
        hits[name] = predictions(classifier, images, change=change) == labels
        progress(number, len(changes) + 2)
    has_label = "start" not in built.manifest["request"]  # noise has none
    kept = (originals.labels[built.start] == labels) & has_label
    measured: dict[str, object] = {name: Proportion.of(hit) for name, hit in hits.items()}
    measured["kept_label"] = Proportion.of(kept)
    changed = hits["success_source"][~kept]
    measured["success_source_changed"] = Proportion.of(changed) if len(changed) else None
    for name, classifier in (("rises_source", source), ("rises_independent", independent)):
        measured[name] = _rises(built, originals, classifier, (~kept).nonzero().flatten(), seed)
    measured |= {name: Spread.of(distance) for name, distance in _distances(built, originals).items()}
    if "band" in built.manifest["request"]["threat"]:
        measured["outside_band"] = Spread.of(_outside_band(built, originals))
    measured["matching_loss"] = Spread.of(built.loss) if built.is_matched else None
    measured.setdefault("distance_to_target", None)
    progress(len(changes) + 1, len(changes) + 2)
    measured["resemblance"], measured["perturbation"] = _compared(built, originals, kept, judge, judge_name, seed)
    progress(len(changes) + 2, len(changes) + 2)
    return cast("MeasuredSet", measured)


def _rises(
    built: ConstructedSet, originals: Images, classifier: Classifier, index: Tensor, seed: int
) -> Proportion | None:
    """Of some of these images, those whose label is the logit that rises most from their start to them."""
    if not len(index):
        return None
    index = index[torch.randperm(len(index), generator=generator(seed, "rises"))[:CHUNK]].sort().values
    images, labels = built.images.batch(index)
    start = starts_of(built.manifest["request"], originals)(built.start[index])
    before, after = (torch.cat(list(logits(classifier, Images(some, labels), ROWS))) for some in (start, images))
    rise = after - before
    return Proportion.of((rise.argmax(1) == labels) & (rise != 0).any(1))  # of an image that did not move, none rises


def _compared(
    built: ConstructedSet, originals: Images, kept: Tensor, judge: Classifier | None, judge_name: str, seed: int
) -> tuple[Resemblance | None, PerturbationSize | None]:
    """Whom images resemble, and how large perturbations are, for some of those whose label is not their start's."""
    index = (~kept).nonzero().flatten()
    count = min(len(index), _affordable(originals))
    if not count or min(originals.shape[1:]) < SMALLEST:
        return None, None
    index = index[torch.randperm(len(index), generator=generator(seed, "compared"))[:count]].sort().values
    images, labels = built.images.batch(index)
    start = starts_of(built.manifest["request"], originals)(built.start[index])
    sizes = None
    if built.is_matched:
        target, kind = originals.batch(built.target[index])[0], "matched image"
    else:
        distance, nearest = nearest_of_class(start, labels, originals)
        if not bool(distance.isfinite().all()):
            return None, None  # a class without training images: nothing was to be found there
        target, kind = originals.batch(nearest)[0], "nearest image of the new class"
        sizes = PerturbationSize.of(start, images, distance) if bool((distance > 0).any()) else None
    classes = None if "start" in built.manifest["request"] else (originals.labels[built.start[index]], labels)
    alike = resemblance(
        images, start, target, kind=kind, classes=classes, judge=judge, judge_name=judge_name, seed=seed
    )
    return alike, sizes


def _affordable(originals: Images) -> int:
    """How many images may be compared with all others."""
    return max(FEWEST, min(MOST, PRODUCTS // (len(originals) * math.prod(originals.shape))))


def _outside_band(built: ConstructedSet, originals: Images) -> Tensor:
    """Per image: the share of its perturbation's energy outside of the band that the search was confined to."""
    request = built.manifest["request"]
    starts, band = starts_of(request, originals), Band(**request["threat"]["band"])
    parts = torch.arange(len(built)).split(CHUNK)
    return torch.cat([band.outside(built.images.batch(part)[0] - starts(built.start[part])) for part in parts])


def _distances(built: ConstructedSet, originals: Images) -> dict[str, Tensor]:
    """Per image: l2 and l-inf distance to the start; for matched sets, what is left of the way to the target."""
    starts = starts_of(built.manifest["request"], originals)
    parts: dict[str, list[Tensor]] = {"l2": [], "linf": []} | ({"distance_to_target": []} if built.is_matched else {})
    for first in range(0, len(built), CHUNK):
        part = slice(first, first + CHUNK)
        images, _ = built.images.batch(part)
        start = starts(built.start[part])
        parts["l2"].append(l2_norm(images - start))
        parts["linf"].append((images - start).flatten(1).abs().amax(1))
        if built.is_matched:
            target, _ = originals.batch(built.target[part])
            way = l2_norm(start - target).clamp_min(torch.finfo(images.dtype).eps)
            parts["distance_to_target"].append(l2_norm(images - target) / way)
    return {name: torch.cat(part) for name, part in parts.items()}
