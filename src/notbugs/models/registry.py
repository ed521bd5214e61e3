"""Networks by name."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import nn

from notbugs.errors import InputError, check_choice, check_count, in_one_line, must
from notbugs.models import resnets, zoo
from notbugs.models.cnn import cnn
from notbugs.models.densenet import densenet121
from notbugs.models.sizes import Size, height_and_width
from notbugs.models.vgg import vgg16_bn

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "resnet9": resnets.resnet9,
    "resnet18": resnets.resnet18,
    "resnet34": resnets.resnet34,
    "resnet50": resnets.resnet50,
    "resnet20": resnets.resnet20,
    "resnet32": resnets.resnet32,
    "resnet44": resnets.resnet44,
    "resnet56": resnets.resnet56,
    "resnet110": resnets.resnet110,
    "wrn28-10": resnets.wrn28_10,
    "vgg16-bn": vgg16_bn,
    "densenet121": densenet121,
}
MOST_WEIGHTS = 2_000_000_000
"""Of one of our own networks, unless NOTBUGS_MOST_WEIGHTS in the environment says otherwise."""
LIBRARIES = {"timm": zoo.timm_network, "torchvision": zoo.torchvision_network}


def build(name: str, *, channels: int, classes: int, size: Size = 32, **options: Any) -> nn.Module:
    """A freshly initialised network by name.

    Parameters
    ----------
    name : str
        One of `ARCHITECTURES`; `timm:NAME` or `torchvision:NAME`; or `module:attribute`, a function of your own that
        makes a network.
    channels, classes : int
        Of the images and of the labels.
    size : int or (int, int)
        Height and width of the images in pixels. The number of weights of our own architectures does not depend on
        it, only where they halve.
    options
        Passed on to the architecture, for instance `width`.

    Raises
    ------
    InputError
        If there is no such architecture or option, or the library that has it is not installed.
    """
    check_count("channels", channels)
    check_count("classes", classes)
    size = height_and_width(size)
    source, separator, rest = name.partition(":")
    if separator and source in LIBRARIES:
        return LIBRARIES[source](rest, channels, classes, size, **options)
    if separator:
        return _own(name, source, rest, {"channels": channels, "classes": classes, "size": size}, options)
    if name not in ARCHITECTURES:
        near = get_close_matches(name, ARCHITECTURES, n=1)
        rule = f"be one of {', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME or MODULE:FUNCTION"
        raise must("architecture", rule, name, f"Did you mean {near[0]!r}?" if near else "")
    make = ARCHITECTURES[name]
    allowed = [option for option in inspect.signature(make).parameters if option not in ("channels", "classes", "size")]
    for option in options:
        check_choice(f"option of {name}", option, allowed)
    _check_size(name, partial(make, channels, classes, size=size, **options))
    return make(channels, classes, size=size, **options)


def _check_size(name: str, make: Callable[[], nn.Module]) -> None:
    """Count the weights of a network before any memory is taken for them."""
    most = int(os.environ.get("NOTBUGS_MOST_WEIGHTS", MOST_WEIGHTS))
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            count = sum(weights.numel() for weights in make().parameters())
    except InputError:
        raise
    except (RuntimeError, OverflowError, TypeError) as error:
        raise InputError(
            f"The architecture {name!r} cannot be made with these options: {in_one_line(error)}."
        ) from error
    if count > most:
        remedy = "Give a smaller width, or set NOTBUGS_MOST_WEIGHTS in the environment."
        raise must(f"architecture {name}", f"have at most {most:,} weights", f"{count:,}", remedy)


def _own(name: str, module: str, attribute: str, images: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    """The network that the user's own function makes; of `images` it is told what it takes."""
    with _working_folder_first():
        make = _imported(name, module, attribute)
        try:
            taken = inspect.signature(make).parameters
            everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
            network = make(**{key: value for key, value in images.items() if everything or key in taken}, **options)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"The architecture {name!r} could not be made: {type(error).__name__}: {in_one_line(error)}"
            ) from error
    if not isinstance(network, nn.Module):
        raise must("architecture", "make a torch.nn.Module", f"{name} -> {type(network).__name__}")
    return network


def _imported(name: str, module: str, attribute: str) -> Callable[..., Any]:
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        raise InputError(
            f"The architecture {name!r} could not be imported ({reason}). It is MODULE:FUNCTION, with the module in "
            "the folder in which you give the command, or installed; or timm:NAME or torchvision:NAME."
        ) from error
    of = found.__self__ if inspect.ismethod(found) else found
    if not (inspect.isfunction(found) or (inspect.isclass(of) and issubclass(of, nn.Module))):
        rule = "name a function in Python, or a class of torch.nn.Module, that makes a network"
        raise must("architecture", rule, f"{name} -> {found!r:.80}")
    return found


def is_own_code(architecture: str) -> bool:
    """Whether an architecture, by name or as name and options, is a user's own, so that to build it runs their code."""
    source, separator, _ = architecture.split(" ")[0].partition(":")
    return bool(separator) and source not in LIBRARIES


@contextmanager
def _working_folder_first() -> Iterator[None]:
    """Modules are found in the working folder too, also where Python was not started with `-m`."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before
