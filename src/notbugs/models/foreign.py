"""Classifiers from files that do not say what they are: weights of others, with what the user says of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from notbugs.classifier import Classifier
from notbugs.errors import InputError, must
from notbugs.models import zoo
from notbugs.models.blueprint import Blueprint
from notbugs.models.naming import named_as
from notbugs.models.programs import PROGRAMS, load_program
from notbugs.models.weights import load_tensors, read_weights
from notbugs.networks import unwrapped
from notbugs.normalisation import WHITE, Normalisation, by_white, own_normaliser, stored_normaliser, told, units

log = logging.getLogger("notbugs")


def load_foreign(
    path: Path,
    blueprint: Blueprint,
    weights: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    chosen: Sequence[int] | None,
    **how: Any,
) -> Classifier:
    """A classifier from weights alone, or from a program that brings its network."""
    if (mean is None) != (std is None):
        raise must("mean", "be given together with the 'std', or neither of them", mean)
    program = blueprint.architecture in PROGRAMS
    tensors = {} if program else read_weights(path, weights)
    if program:
        network = load_program(path, blueprint.architecture, how["head"])
    else:
        network = _loaded(blueprint, tensors, str(path), chosen)
    if mean is None or std is None:
        mean, std = _known_normalisation(network, tensors, blueprint, path)
    return Classifier(network, mean=mean, std=std, chosen_outputs=chosen, **how)


def _known_normalisation(
    network: nn.Module, tensors: Mapping[str, Tensor], blueprint: Blueprint, path: Path
) -> Normalisation:
    """The normalisation that nobody gave: the network's own, a normaliser's in the file, or a library's."""
    if own := own_normaliser(network):
        if own.is_of_bytes:
            raise InputError(
                f"The network normalises its images itself, by {own.name!r}, whose values {told(own.values[0])} are "
                "for pixels from 0 to 255; notbugs has them in [0, 1]. If it takes images from 0 to 255, give --mean 0 "
                f"--std {1 / WHITE:.6g} (mean=(0,), std=(1/255,)); if it multiplies by 255 itself, --mean 0 --std 1."
            )
        log.info("The network normalises its images itself, by %r, so the classifier does not.", own.name)
        return (0.0,), (1.0,)
    if found := stored_normaliser(tensors):
        name, (mean, std) = found
        if units(mean, std) == "bytes":
            raise InputError(
                f"The normaliser in {path}, {name!r}, is for pixels from 0 to 255, and notbugs has pixels in [0, 1]. "
                f"Divided by 255 its values are --mean {told(by_white(mean))} --std {told(by_white(std))}: give them."
            )
        log.info("The normalisation is that of %r in the file: mean %s, std %s.", name, told(mean), told(std))
        return mean, std
    if known := zoo.normalisation(blueprint.architecture):
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
    except InputError:
        count = None if blueprint.outputs else _outputs_in(tensors, network, len(blueprint.classes), origin)
        if count is None:
            raise
        if chosen is None and (count, len(blueprint.classes)) != (1, 2):
            raise InputError(
                f"The network in {origin} has {count} outputs, and there are {len(blueprint.classes)} classes: "
                f"{', '.join(blueprint.classes[:12])}. Say which outputs are the classes: outputs=FILE (--outputs "
                "FILE), a file with the name of every output, one on each line; or each class's own number, from 0."
            ) from None
        network = blueprint.model_copy(update={"outputs": count}).build()
        load_tensors(network, tensors, origin)
    return network


def _outputs_in(tensors: dict[str, Tensor], network: nn.Module, classes: int, origin: str) -> int | None:
    """How many outputs the network in a file has, where that alone is why its weights do not fit."""
    own = unwrapped(network).state_dict()
    found = named_as(own, tensors, origin)
    pairs = [(found[name].shape, value.shape) for name, value in own.items() if name in found]
    other = [(there, here) for there, here in pairs if there != here]
    counts = {there[:1] for there, _ in other}
    is_last = all(here[:1] == (classes,) and there[1:] == here[1:] for there, here in other)
    return int(counts.pop()[0]) if len(counts) == 1 and is_last else None
