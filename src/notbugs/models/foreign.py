"""Networks that are not ours: modules and programs, made into classifiers, and which of their outputs are the classes.

A program from elsewhere is code. It runs only where the user names it as the architecture, as a network of their own.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from notbugs.classifier import Classifier, Interpretation
from notbugs.errors import InputError, in_one_line, must
from notbugs.files import check_file, sha256
from notbugs.models import registry
from notbugs.models.archives import check_records
from notbugs.models.registry import Blueprint
from notbugs.models.weight_names import named_as
from notbugs.models.weights import Kind, kind_of, load_tensors, read_weights
from notbugs.networks import mark_code, unwrapped
from notbugs.normalisation import (
    Normalisation,
    are_close,
    by_white,
    in_pixels,
    own_normaliser,
    stored_normalisers,
    told,
    units,
)

PROGRAMS: dict[str, Kind] = {"torchscript": "torchscript", "exported": "exported"}
"""Architectures by which a file brings its own network, and what the file must be."""

log = logging.getLogger("notbugs")


def check_program(path: Path, architecture: str) -> None:
    """Refuse a file that is no program of this kind, without reading it."""
    if kind_of(path) != PROGRAMS[architecture]:
        writer = "torch.jit.save" if architecture == "torchscript" else "torch.export.save"
        raise must("architecture", f"name a network: {path} is no file of {writer}", architecture)


@contextmanager
def _unsaid(name: str) -> Iterator[None]:
    """While a library works, nothing that it logs is shown."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def load_program(path: Path, architecture: str, head: str | None) -> nn.Module:
    """The network that a file of TorchScript or of `torch.export` brings.

    Torch interprets it: TorchScript can do what its operators can, write files among it, and torch warns of exported
    programs that nobody trusts. So only a user who names the architecture gets here.

    Parameters
    ----------
    path : Path
        The file.
    architecture : {"torchscript", "exported"}
        What the user said it is.
    head : str, optional
        The module whose inputs are the features: an exported program then keeps the modules that it was made of.

    Raises
    ------
    InputError
        If it is none, or torch cannot load it.
    """
    check_program(path, architecture)
    check_records(path)
    log.info("The code in %s runs: it is the architecture %r.", path, architecture)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):  # of TorchScript, and of torch's own old ways
                warnings.simplefilter("ignore", category)
            if architecture == "torchscript":
                return mark_code(torch.jit.load(path, map_location="cpu"), sha256(path))
            with _unsaid("torch.export"):  # it logs the traceback of what is said below in one line
                program = torch.export.load(path)
            return mark_code(torch.export.unflatten(program) if head else program.module(), sha256(path))
    except Exception as error:  # what torch raises of a damaged program, or one of another version
        raise InputError(f"Torch cannot load {path}: {in_one_line(error)}") from error


SYNSET = re.compile(r"(n\d{8})\s+(.+)")
SHOWN = 12
SHARED = ("resnet18", "resnet34", "resnet50", "vgg16-bn", "densenet121")
"""Architectures of ours whose names torchvision and timm have, too, for networks with other layers."""

Outputs = str | Path | Sequence[str | int]
"""A file with the name of every output; or for each class, in order, the number or the name of its output."""


def choose(classes: Sequence[str], known: Sequence[str] | None, outputs: Any, where: str) -> list[int] | None:
    """The numbers of the outputs that are the classes, in their order; None if they are all, as they stand.

    Names are compared without regard to case, `_`, `-` and spaces. An output may have several, with commas between
    them, or an ImageNet synset in front (`n02123045 tabby, tabby cat`).

    Parameters
    ----------
    classes : sequence of str
        Of the data.
    known : sequence of str, optional
        The names of the outputs, where the model says them.
    outputs : sequence of str or int, optional
        For each class the number or the name of its output.
    where : str
        The model.

    Raises
    ------
    InputError
        If a class has no output, or several; with how to say which.
    """
    if outputs is not None:
        return [_number(one, known, where) for one in _one_each(outputs, classes)]
    if known is None or list(known) == list(classes):
        return None
    matches = _by_name(classes, known)
    if all(len(numbers) == 1 for numbers in matches):
        chosen = [numbers[0] for numbers in matches]
        log.info("The outputs of %s are taken by their names: %s.", where, _listed(classes, known, chosen))
        return chosen
    if len(known) == len(classes) and not any(matches) and (_are_numbers(known) or _are_numbers(classes)):
        log.info("The outputs of %s are taken in order, for one side has numbers as names.", where)
        return None
    missing = next(place for place, numbers in enumerate(matches) if len(numbers) != 1)
    raise InputError(
        f"The class {classes[missing]!r} of the data must be one of the {len(known)} outputs of {where}, and "
        f"{f'the outputs {matches[missing]} are' if matches[missing] else 'none is'} called so. They are "
        f"{_some(known)}. Say for each class of the data, in their order ({_some(classes)}), which output is its own: "
        "outputs=[...] (--outputs), by number, from 0, or by name. Or give the data that it was made for (--data)."
    )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"


def output_names(outputs: Outputs | None) -> list[str] | None:
    """The names of all outputs, where what is given is a file of them."""
    one = outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs
    return read_names(Path(one)) if isinstance(one, str | Path) else None


def read_names(file: Path) -> list[str]:
    """The names of all outputs: one on each line, or as JSON a list, `{"0": name}` or a model's `id2label`.

    Raises
    ------
    InputError
        If there is no such file, or it holds fewer than two names.
    """
    check_file(file)
    try:
        text = file.read_text(encoding="utf-8")
        names = _of_json(json.loads(text)) if text.lstrip()[:1] in ("[", "{") else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The names of the outputs cannot be read from {file}: {in_one_line(error)}. Save one name on each line."
        ) from error
    names = [name.strip() for name in names if name.strip()]
    if len(names) < 2:
        raise must("outputs", "be a file with the name of every output, one on each line", str(file))
    return names


def _of_json(values: Any) -> list[str]:
    values = values.get("id2label", values) if isinstance(values, dict) else values
    if isinstance(values, dict):
        if sorted(values) != sorted(str(number) for number in range(len(values))):
            raise ValueError("its keys are not the numbers of the outputs, from 0")
        values = [values[str(number)] for number in range(len(values))]
    return [" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values]


def _by_name(classes: Sequence[str], known: Sequence[str]) -> list[list[int]]:
    """For each class the outputs that are called so; by the whole name first, then by one of several."""
    whole: dict[str, list[int]] = {}
    parts: dict[str, list[int]] = {}
    for number, name in enumerate(known):
        whole.setdefault(_plain(name), []).append(number)
        for part in set(_names(name)):
            parts.setdefault(part, []).append(number)
    return [whole.get(_plain(name)) or parts.get(_plain(name), []) for name in classes]


def _names(name: str) -> Iterator[str]:
    if match := SYNSET.fullmatch(name.strip()):
        yield _plain(match[1])
        name = match[2]
    yield from map(_plain, name.split(","))


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


def _one_each(outputs: Sequence[str | int], classes: Sequence[str]) -> Sequence[str | int]:
    if len(outputs) != len(classes) or len(set(map(str, outputs))) != len(outputs):
        named = ", ".join(classes[:SHOWN])
        rule = f"be a file of names, or name one output for each of the {len(classes)} classes: {named}"
        raise must("outputs", rule, list(outputs))
    return outputs


def _number(one: str | int, known: Sequence[str] | None, where: str) -> int:
    """The number of an output that is given by number or by name."""
    if known:
        matches = _by_name([str(one)], known)[0]
        if len(matches) == 1:
            return matches[0]
    text = str(one)
    if not text.isdecimal() or (known and int(text) >= len(known)):
        told = (
            f"has {len(known)}, {', '.join(known[:SHOWN])}, ..."
            if known
            else "does not say the names of its outputs; a file with all of them does"
        )
        raise must("outputs", "name outputs of the model by number, from 0, or by name", one, f"{where} {told}.")
    return int(text)


def _are_numbers(names: Sequence[str]) -> bool:
    return list(names) == [str(number) for number in range(len(names))]


def _listed(classes: Sequence[str], known: Sequence[str], chosen: Sequence[int]) -> str:
    pairs = [f"{name} is {number} ({known[number]})" for name, number in zip(classes, chosen, strict=True)]
    return ", ".join(pairs[:SHOWN]) + (", ..." if len(pairs) > SHOWN else "")


def load_foreign(
    path: Path,
    blueprint: Blueprint,
    weights: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    chosen: Sequence[int] | None,
    interpretation: Interpretation,
) -> Classifier:
    """A classifier from weights alone, or from a program that brings its network."""
    if (mean is None) != (std is None):
        raise must("mean", "be given together with the 'std', or neither of them", mean)
    program = blueprint.architecture in PROGRAMS
    tensors = {} if program else read_weights(path, weights)
    if program:
        network = load_program(path, blueprint.architecture, interpretation["head"])
    else:
        network = _loaded(blueprint, tensors, str(path), chosen)
    if mean is None or std is None:
        mean, std = _known_normalisation(network, tensors, blueprint, path)
    elif not own_normaliser(network, blueprint.shape[0]):
        _tell_overruled(stored_normalisers(tensors, blueprint.shape[0]), (tuple(mean), tuple(std)), path)
    return Classifier(network, mean=mean, std=std, chosen_outputs=chosen, **interpretation)


def _tell_overruled(stored: dict[str, Normalisation], given: Normalisation, path: Path) -> None:
    """Say it, where a file has a normaliser, and none with the values that are given."""
    scaled = {
        name: (by_white(mean), by_white(std)) if units(mean, std) else (mean, std)
        for name, (mean, std) in stored.items()
    }
    if scaled and not any(are_close(values, given) for values in scaled.values()):
        name, values = next(iter(stored.items()))
        log.warning(
            "%s has a normaliser, %r (mean %s, std %s). The classifier normalises by mean %s and std %s instead, as "
            "they are given.", path, name, *map(told, (*values, *given)),
        )  # fmt: skip


def _known_normalisation(
    network: nn.Module, tensors: Mapping[str, Tensor], blueprint: Blueprint, path: Path
) -> Normalisation:
    """The normalisation that nobody gave: the network's own, a normaliser's in the file, or a library's."""
    if own := own_normaliser(network, blueprint.shape[0]):
        if own.units:
            raise InputError(own.in_words)
        log.info("The network normalises its images itself, by %r, so the classifier does not.", own.name)
        return (0.0,), (1.0,)
    if stored := stored_normalisers(tensors, blueprint.shape[0]):
        (name, (mean, std)), *others = stored.items()
        for other, values in others:
            if not are_close(values, (mean, std)):
                raise InputError(
                    f"{path} has several normalisers, {name!r} (mean {told(mean)}, std {told(std)}) and {other!r} "
                    f"(mean {told(values[0])}, std {told(values[1])}) among them. Give the values that the network was "
                    "trained with (--mean, --std)."
                )
        if scale := units(mean, std):
            raise InputError(
                f"The normaliser in {path}, {name!r}, is not for pixels in [0, 1], as notbugs has them. "
                f"{in_pixels(mean, std, scale)}"
            )
        log.info("The normalisation is that of %r in the file: mean %s, std %s.", name, told(mean), told(std))
        return mean, std
    if known := registry.normalisation(blueprint.architecture, **blueprint.options):
        expected = (blueprint.architecture, told(known[0]), told(known[1]))
        log.info("The normalisation is what %s expects: mean %s, std %s.", *expected)
        return known
    raise InputError(
        "The normalisation that the network was trained with is not in the file. Give its 'mean' and 'std' (--mean, "
        "--std), one value for each channel, for pixels in [0, 1]; 0 and 1 if it was trained without."
    )


def _loaded(blueprint: Blueprint, tensors: dict[str, Tensor], origin: str, chosen: Sequence[int] | None) -> nn.Module:
    """The network with its weights, and with as many outputs as the file has for it."""
    network = blueprint.build()
    try:
        load_tensors(network, tensors, origin)
    except InputError as error:
        count = _outputs_in(tensors, network, blueprint.outputs or len(blueprint.classes), origin)
        if count is None:
            raise InputError(f"{error}{_other_library(blueprint.architecture)}") from None
        if blueprint.outputs:
            rule = f"be a file with the name of each of the {count} outputs of the network in {origin}"
            raise must("outputs", rule, f"{blueprint.outputs} names") from None
        if chosen is None and (count, len(blueprint.classes)) != (1, 2):
            raise _other_outputs(origin, count, blueprint.classes) from None
        network = blueprint.model_copy(update={"outputs": count}).build()
        load_tensors(network, tensors, origin)
    return network


def _other_library(name: str) -> str:
    """Where else there are networks of this name, whose layers are called otherwise."""
    other = name.replace("-", "_")
    return f" Weights of torchvision or timm: --arch torchvision:{other} or timm:{other}." if name in SHARED else ""


def _other_outputs(origin: str, count: int, classes: Sequence[str]) -> InputError:
    """What is said of a network whose outputs are not as many as the classes."""
    has = f"The network in {origin} has {count} output{'s' * (count > 1)}, and there are {len(classes)} classes: "
    if count < len(classes):
        remedy = f"Give data of {max(count, 2)} classes: those that it was trained on."
    else:
        remedy = (
            "Say which outputs are the classes: outputs=FILE (--outputs FILE), a file with the name of every output, "
            f"one on each line; or each class's own number, as --outputs {' '.join(map(str, range(len(classes))))}."
        )
    return InputError(f"{has}{_some(classes)}. {remedy}")


def _outputs_in(tensors: dict[str, Tensor], network: nn.Module, classes: int, origin: str) -> int | None:
    """How many outputs the network in a file has, where that alone is why its weights do not fit."""
    own = unwrapped(network).state_dict()
    named = named_as(own, tensors, origin)
    pairs = [(named[name].shape, value.shape) for name, value in own.items() if name in named]
    other = [(there, here) for there, here in pairs if there != here]
    counts = {there[:1] for there, _ in other}
    is_last = all(here[:1] == (classes,) and there[1:] == here[1:] for there, here in other)
    return int(counts.pop()[0]) if len(counts) == 1 and is_last else None
