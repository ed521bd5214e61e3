"""Programs that come with their weights: TorchScript, and what `torch.export` writes.

A program from elsewhere is code. It runs only where the user names it as the architecture, as a network of their own.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from notbugs.errors import InputError, must
from notbugs.models.kinds import Kind, kind_of

PROGRAMS: dict[str, Kind] = {"torchscript": "torchscript", "exported": "exported"}
"""Architectures by which a file brings its own network, and what the file must be."""

log = logging.getLogger("notbugs")


def check_program(path: Path, architecture: str) -> None:
    """Refuse a file that is no program of this kind, without reading it."""
    if kind_of(path) != PROGRAMS[architecture]:
        writer = "torch.jit.save" if architecture == "torchscript" else "torch.export.save"
        raise must("architecture", f"name a network: {path} is no file of {writer}", architecture)


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
    log.info("The code in %s runs: it is the architecture %r.", path, architecture)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):  # of TorchScript, and of torch's own old ways
                warnings.simplefilter("ignore", category)
            if architecture == "torchscript":
                return torch.jit.load(path, map_location="cpu")
            program = torch.export.load(path)
            return torch.export.unflatten(program) if head else program.module()
    except Exception as error:  # what torch raises of a damaged program, or one of another version
        raise InputError(f"Torch cannot load {path}: {str(error).splitlines()[0]}") from error
