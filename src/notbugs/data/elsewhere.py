"""The training images of one set with the test images of another: CIFAR-10 and CIFAR-10.1, two hospitals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from notbugs.data.classes import class_names, match_classes
from notbugs.data.images import Data, Images
from notbugs.data.rows import Found, Rows
from notbugs.errors import must


def tested_on(found: Found | Data, other: Found | Data) -> Found:
    """`found`, to be measured on the test images of `other`, or on all its images where it has no test split.

    Classes are matched by name; where `other` has numbers in place of names, these are the places of the classes.

    Raises
    ------
    InputError
        If `other` has a class that `found` has not.
    """
    here, there = _as_found(found), _as_found(other)
    test = there.test or there.train
    note = f"test images are those of {there.name}"
    if there.classes == class_names(len(there.classes)) != here.classes[: len(there.classes)]:
        if len(there.classes) > len(here.classes):
            rule = f"have at most the {len(here.classes)} classes of {here.name}"
            raise must("test_data", rule, len(there.classes))
        note += ", whose labels are numbers and no names"
        labels = test.labels
    else:
        labels = torch.tensor(match_classes(here.classes, there.classes))[test.labels]
    return replace(
        here,
        test=replace(test, labels=labels),
        listing=[*here.listing, *there.listing],
        test_name=f"{there.name} ({there.variant})" if there.variant else there.name,
        notes=(*here.notes, note, *there.notes),
        parts=" ".join(filter(None, (here.parts, there.parts))),
    )


def _as_found(data: Found | Data) -> Found:
    """What is in memory, as if it had yet to be read."""
    if isinstance(data, Found):
        return data
    rows = _rows(data.train, data.name), _rows(data.test, data.name)
    parts = data.fingerprint
    return Found(data.name, *rows, data.classes, [], data.test_name, data.variant, data.notes, parts)


def _rows(images: Images, name: str) -> Rows:
    def read(first: int) -> Iterator[np.ndarray]:
        yield images.pixels[first:].numpy()

    return Rows(images.labels, read, lambda row: f"image {row} of {name}", images.groups)
