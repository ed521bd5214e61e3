"""What a constructed set is like: does it fool, whom, after what; how far did it move, how well does it match."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, starts_of
from notbugs.data import Augmentation, Images, round_to_8_bits
from notbugs.measure.accuracy import predictions
from notbugs.measure.statistics import Proportion, Spread
from notbugs.progress import Progress, silent
from notbugs.seeds import generator
from notbugs.threat import l2_norm

CHUNK = 2000


def measure_set(
    built: ConstructedSet,
    originals: Images,
    source: Classifier,
    independent: Classifier,
    augmentation: Augmentation,
    *,
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
    seed : int
        Of the augmentation's draw.
    """
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
        progress(number, len(changes) + 1)
    has_label = "start" not in built.manifest["request"]  # noise has none
    kept = (originals.labels[built.start] == labels) & has_label
    found: dict[str, Any] = {name: Proportion.of(hit).model_dump() for name, hit in hits.items()}
    found["kept_label"] = Proportion.of(kept).model_dump()
    changed = hits["success_source"][~kept]
    found["success_source_changed"] = Proportion.of(changed).model_dump() if len(changed) else None
    found |= {name: Spread.of(values).model_dump() for name, values in _distances(built, originals).items()}
    found["matching_loss"] = Spread.of(built.loss).model_dump() if built.is_matched else None
    found.setdefault("distance_to_target", None)
    progress(len(changes) + 1, len(changes) + 1)
    return found


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
    return {name: torch.cat(values) for name, values in parts.items()}
