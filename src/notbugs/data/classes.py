"""Labels as readers find them, whole numbers or names, to labels from 0 and class names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from notbugs.data.images import class_names
from notbugs.data.several import are_several, several
from notbugs.errors import InputError, must


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once: by number where all are whole numbers, else by name."""
    distinct = set(names)
    numbers = all(name.isdecimal() for name in distinct)
    return sorted(distinct, key=lambda name: (int(name), name) if numbers else (0, name))


def coded(
    train: np.ndarray, test: np.ndarray | None, names: Sequence[str] | None, what: str
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Labels of both splits from 0, and class names; of several labels for an image 0 or 1 for each, and their names.

    Parameters
    ----------
    train, test : ndarray
        Shape (image,) or (image, 1); whole numbers, which stay as they are, or names. Or 0 and 1 of shape
        (image, label), for several labels.
    names : sequence of str, optional
        Where the source has them.
    what : str
        What an error calls the labels.

    Raises
    ------
    InputError
        If labels are neither, there are several for an image, or a test image has a class without training images.
    """
    if any(split is not None and are_several(split) for split in (train, test)):
        return several(train, test, names, what)
    train, test = _column(train, what), None if test is None else _column(test, what)
    if test is not None and (train.dtype.kind == "U") != (test.dtype.kind == "U"):
        raise must(what, "be names in both splits, or numbers in both", "names and numbers")
    if train.dtype.kind != "U":
        count = int(train.max()) + 1 if len(train) else 0
        return torch.from_numpy(train), None if test is None else torch.from_numpy(test), class_names(count, names)
    classes = in_order(train.tolist())
    return _numbered(train, classes), None if test is None else _numbered(test, classes), tuple(classes)


def check_known(found: Iterable[str], classes: Sequence[str]) -> None:
    """Refuse classes of a test split that have no training image."""
    if unknown := in_order(set(found) - set(classes)):
        raise InputError(
            f"Every class of the test images must be among those of the training images; {', '.join(unknown[:5])} is "
            "not. Rename it, add training images, or remove it from the test images."
        )


def _column(labels: np.ndarray, what: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        remedy = "One label for each image is read; of several, choose one."
        raise must(what, "have shape (image,) or (image, 1)", labels.shape, remedy)
    if labels.dtype.kind not in "biuU":
        raise must(what, "be whole numbers or names", str(labels.dtype))
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


def _numbered(labels: np.ndarray, classes: list[str]) -> Tensor:
    found, index = np.unique(labels, return_inverse=True)
    check_known(found.tolist(), classes)
    return torch.tensor([classes.index(name) for name in found.tolist()], dtype=torch.int64)[torch.from_numpy(index)]
