"""Architectures by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from notbugs.errors import check_choice
from notbugs.models.cnn import cnn

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"cnn": cnn}


def build(name: str, *, channels: int, classes: int, **options: int) -> nn.Module:
    """A freshly initialised network by name.

    Parameters
    ----------
    name : str
        One of `ARCHITECTURES`.
    channels, classes : int
        Of the images and of the labels.
    options : int
        Passed on to the architecture, for instance `width` and `features` of `cnn`.

    Raises
    ------
    InputError
        If there is no such architecture.
    """
    return ARCHITECTURES[check_choice("architecture", name, ARCHITECTURES)](channels, classes, **options)
