"""Images held out of a training split, whole patients (or other groups) at a time where these are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from notbugs.errors import InputError
from notbugs.seeds import generator

HELD_OUT = 0.2


def held_out(labels: Tensor, share: float = HELD_OUT, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices of training and of test images: of every class with two images or more, `share` and at least one each.

    With `groups`, int64 of the labels' shape, images of one group stay together: of every class about `share`, but
    never all of its groups. Several labels, shape (image, label), are drawn without regard to them.

    Raises
    ------
    InputError
        If no class has two images, or no group can be spared.
    """
    labels = labels if labels.ndim == 1 else torch.zeros(len(labels), dtype=torch.int64)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    if groups is None:
        for label in labels.unique().tolist():
            where = (labels == label).nonzero().flatten()
            count = min(max(1, round(share * len(where))), len(where) - 1)
            chosen[where[torch.randperm(len(where), generator=generator(0, "held out", label))[:count]]] = True
        if not chosen.any():
            raise InputError("No test images: there is no test split, and no class has two images to hold one out.")
    else:
        _choose_groups(labels, groups, share, chosen)
        if not chosen.any():
            raise InputError("No test images: there is no test split, and every group is the only one of a class.")
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def numbered_groups(splits: Sequence[np.ndarray | None], where: object) -> list[Tensor | None]:
    """Names of patients, or other groups, of each split as numbers.

    Raises
    ------
    InputError
        If one is in two splits.
    """
    known = [names for names in splits if names is not None]
    if not known:
        return [None for _ in splits]
    ids, numbers = np.unique(np.concatenate(known), return_inverse=True)
    parts = np.split(numbers.astype(np.int64), np.cumsum([len(names) for names in known])[:-1])
    for part in parts[1:]:
        if len(shared := np.intersect1d(parts[0], part)):
            raise InputError(
                f"{len(shared)} groups of {where} have images both in the training and in the test split, as "
                f"{ids[shared[0]]}: accuracy would measure memory. Put all images of a group into one split."
            )
    left = iter(parts)
    return [None if names is None else torch.from_numpy(next(left)) for names in splits]


def _choose_groups(labels: Tensor, groups: Tensor, share: float, chosen: Tensor) -> None:
    """Mark images of whole groups, class by class."""
    for label in labels.unique().tolist():
        here = labels == label
        wanted = max(1, round(share * int(here.sum())))
        of_class = groups[here].unique()
        for group in of_class[torch.randperm(len(of_class), generator=generator(0, "held out", label))].tolist():
            if int((chosen & here).sum()) >= wanted:
                break
            members = groups == group
            left = ~chosen & ~members
            if all(bool((left & (labels == other)).any()) for other in labels[members].unique().tolist()):
                chosen |= members
