"""Several labels for an image, as a chest x-ray has several findings: a column of 0 and 1 for each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from notbugs.errors import must


def are_several(labels: np.ndarray) -> bool:
    """Whether labels are columns of 0 and 1, and some image has none of them, or more than one."""
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf" or not len(labels):
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(1) != 1).any())


def several(
    train: np.ndarray, test: np.ndarray | None, names: Sequence[str] | None, what: str
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Labels of both splits, shape (image, label), int64, and the names of the labels: by default their numbers.

    Raises
    ------
    InputError
        If the splits have other numbers of labels, or values other than 0 and 1, or names do not fit.
    """
    count = train.shape[1]
    for split in (train, test):
        if split is not None and (split.shape[1:] != (count,) or not np.isin(split, (0, 1)).all()):
            raise must(what, f"be 0 or 1 in {count} columns, in both splits", split.shape)
    if names is not None and len(names) != count:
        raise must(f"classes of {what}", f"be {count} names, one for each column", len(names))
    tensors = [None if split is None else torch.from_numpy(split.astype(np.int64)) for split in (train, test)]
    assert tensors[0] is not None
    return tensors[0], tensors[1], tuple(names) if names is not None else tuple(map(str, range(count)))
