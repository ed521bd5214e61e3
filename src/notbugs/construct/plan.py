"""What a constructed set is to be: a start, a target and a label for every image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from notbugs.errors import check_choice
from notbugs.seeds import generator
from notbugs.shapes import Labels

Targets = Literal["any", "other", "next"]
TARGETS = ("any", "other", "next")


def choose_targets(labels: Labels, classes: int, targets: Targets, seed: int) -> Labels:
    """The class that every image is pushed towards and relabelled with.

    Parameters
    ----------
    labels : Tensor
        True labels, shape (n,).
    classes : int
        How many classes there are.
    targets : {"any", "other", "next"}
        `any`: uniform over all classes, so one in `classes` keeps its label (the paper's D_rand). `other`: uniform
        over the wrong classes. `next`: label + 1 modulo `classes` (D_det).
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        If `targets` is none of these.

    Examples
    --------
    >>> nb.construct.choose_targets(labels, 10, 'next', seed=0).equal((labels + 1) % 10)
    True
    """
    check_choice("targets", targets, TARGETS)
    draw = generator(seed, "targets", targets)
    if targets == "any":
        return torch.randint(classes, labels.shape, generator=draw)
    if targets == "other":
        return (labels + torch.randint(1, classes, labels.shape, generator=draw)) % classes
    return (labels + 1) % classes


def choose_starts(count: int, seed: int) -> Tensor:
    """For every image another one, drawn uniformly and independently of the labels: where its matching starts.

    Examples
    --------
    >>> nb.construct.choose_starts(5, seed=0).shape
    torch.Size([5])
    """
    draw = torch.randint(1, count, (count,), generator=generator(seed, "starts")) if count > 1 else torch.zeros(1)
    return (torch.arange(count) + draw.long()) % count
