"""Whether a function was given what its signature says: what users mix up, each with its remedy.

In Python a bare network passes for a classifier and an array for images until something deep inside breaks.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import nn

from notbugs.errors import must

KINDS = {
    "Classifier": ("notbugs.classifier.Classifier", "a notbugs.Classifier"),
    "Data": ("notbugs.data.images.Data", "notbugs.Data"),
    "Images": ("notbugs.data.images.Images", "notbugs.Images"),
    "Batch": ("torch.Tensor", "a tensor"),
}
"""By annotation, the class, by name since its module checks what it is given as well, and what it is called."""


Function = TypeVar("Function", bound=Callable[..., Any])


def checked(function: Function) -> Function:
    """Let a function refuse what is not of its annotation, where that is one of `KINDS`, or one of them or None.

    Examples
    --------
    >>> @nb.given.checked
    ... def brightest(images: 'Images') -> float:
    ...     return float(images.pixels.max())
    >>> brightest(data)
    Traceback (most recent call last):
    ...
    notbugs.errors.InputError: The 'images' must be notbugs.Images. Got 'Data' instead. Give data.test or data.train.
    """
    rules = [
        (name, place, annotation.removesuffix(" | None"), annotation.endswith(" | None"))
        for place, (name, parameter) in enumerate(inspect.signature(function).parameters.items())
        if (annotation := str(parameter.annotation)).removesuffix(" | None") in KINDS
    ]

    @functools.wraps(function)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        for name, place, annotation, may_be_none in rules:
            if place < len(args):
                value = args[place]
            elif name in kwargs:
                value = kwargs[name]
            else:
                continue
            if not (may_be_none and value is None):
                check_kind(name, annotation, value)
        return function(*args, **kwargs)

    return cast(Function, refusing)


def check_kind(name: str, annotation: str, value: object) -> None:
    """Refuse what is not of the annotation, one of `KINDS`.

    Raises
    ------
    InputError
        If so, with what would be the right thing.
    """
    if not _is(value, annotation):
        raise must(name, f"be {KINDS[annotation][1]}", type(value).__name__, _remedy(name, annotation, value))


def _is(value: object, annotation: str) -> bool:
    asked = KINDS[annotation][0]
    return any(f"{one.__module__}.{one.__qualname__}" == asked for one in type(value).__mro__)


def _remedy(name: str, annotation: str, value: Any) -> str:
    if annotation == "Classifier":
        hint = "Give nb.Classifier(network, mean=..., std=...), with the normalisation it was trained with."
        return hint if isinstance(value, nn.Module) else ""
    if annotation == "Images":
        if _is(value, "Data"):
            return "Give data.train, its training images." if name == "train" else "Give data.test or data.train."
        return "Give nb.Images(pixels, labels)."
    if annotation == "Batch":
        if _is(value, "Images"):
            return "Images has both in batch: give the first of what it returns here, and the second as labels."
        return f"Give torch.as_tensor({name})." if isinstance(value, list) or hasattr(value, "__array__") else ""
    if _is(value, "Images"):
        return "Give nb.Data(name, train, test, classes), whose training and test images these may be."
    return ""
