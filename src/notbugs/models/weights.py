"""Weights from files of others: safetensors, or what `torch.save` wrote, opened without running anything in it."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from notbugs.errors import InputError, must
from notbugs.files import read_tensors
from notbugs.networks import unwrapped

PICKLES = (".pt", ".pth", ".ckpt", ".tar", ".bin")
NORMALISER = re.compile(r"(^|\.)(normali[sz]\w*\.|(new_)?(mean|std)$|(mu|sigma)$)")
SHOWN = 4


def load_weights(network: nn.Module, file: str | Path) -> nn.Module:
    """Load a file of weights into `network`, in place, and return it.

    The tensors may be nested (under `state_dict`, `model`, ...) and their names may carry a prefix (`module.`,
    `_orig_mod.`, MadryLab's `module.model.`, ...): the one under which most names and shapes fit is found. The
    buffers of a normaliser beside them are left out, as the classifier owns the normalisation.

    Parameters
    ----------
    network : nn.Module
        Of the same architecture.
    file : str or Path
        A `.safetensors` file; or `.pt`, `.pth`, `.ckpt`, `.tar` or `.bin` as `torch.save` writes them, opened with
        `weights_only`: only tensors and plain values come out of it, and no code in it runs.

    Raises
    ------
    InputError
        If the file cannot be opened so, or anything is missing, unexpected or of another shape. Nothing is loaded
        then.
    """
    load_tensors(network, read_weights(Path(file)), str(file))
    return network


def read_weights(file: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name, nested names joined with dots.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be opened without running code.
    """
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    if file.suffix == ".safetensors":
        return read_tensors(file)
    if file.suffix not in PICKLES:
        raise must("file", f"end in .safetensors, or in one of {', '.join(PICKLES)}", file.name)
    tensors = dict(_flat(_unpickled(file), ()))
    if not tensors:
        raise InputError(f"{file} holds no tensors. Save the network's state_dict(), best as safetensors.")
    return tensors


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load named tensors into `network` under the prefix that fits best, all of them or none.

    Raises
    ------
    InputError
        If anything is missing, unexpected or of another shape; `where` says where the tensors are from.
    """
    network = unwrapped(network)
    own = network.state_dict()
    prefix = _prefix(own, tensors, where)
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # older files have none; nothing uses it
    missing = sorted(own.keys() - found.keys() - counters)
    unexpected = sorted(name for name in found.keys() - own.keys() if not NORMALISER.search(name))
    shapes = [
        f"{name} {tuple(found[name].shape)} in place of {tuple(value.shape)}"
        for name, value in own.items()
        if name in found and found[name].shape != value.shape
    ]
    if missing or unexpected or shapes:
        raise InputError(
            f"The weights in {where} do not fit the network. "
            + _listed("Missing", missing)
            + _listed("Unexpected", unexpected)
            + _listed("Of another shape", shapes)
            + "Check the architecture, its options, the channels and the number of classes."
        )
    network.load_state_dict(own | {name: value for name, value in found.items() if name in own})


def _prefix(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> str:
    """What stands before most names of the network in the file, the first such prefix where copies are equal."""
    scores: Counter[str] = Counter()
    for name, value in tensors.items():
        parts = name.split(".")
        for start in range(len(parts)):
            if (inner := ".".join(parts[start:])) in own:
                scores[name.removesuffix(inner)] += 1 + (own[inner].shape == value.shape)
    if not scores:
        named = ", ".join(list(tensors)[:SHOWN])
        raise InputError(f"The weights in {where} fit no layer of the network. They are called {named}, ...")
    first, *others = [prefix for prefix, score in scores.items() if score == max(scores.values())]
    for other in others:
        if any(
            not torch.equal(tensors[first + name], tensors[other + name]) for name in own if first + name in tensors
        ):
            raise InputError(
                f"{where} holds two networks that both fit, under {first!r} and {other!r}. Save the one you want alone."
            )
    return first


def _listed(title: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{title}: {', '.join(names[:SHOWN])}{more}. "


def _unpickled(file: Path) -> Any:
    """What `torch.save` wrote; anything but tensors and plain values is refused before it comes into being."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the pickle holds; the error below says it
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it wants to run {refused[1]}" if refused else "torch.save did not write it, or it is damaged"
        raise InputError(
            f"{file} cannot be opened safely: {reason}. notbugs runs no code from files of weights. If you trust where "
            "it is from, open it there and save its state_dict() as safetensors."
        ) from error


def _flat(value: Any, path: tuple[str, ...]) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(".".join(path), value)]
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flat(inner, (*path, str(key)))]
    return []
