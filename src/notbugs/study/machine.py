"""Where and on what a study runs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NotRequired, TypedDict

import torch

from notbugs._version import __version__
from notbugs.classifier import default_device
from notbugs.data import Data
from notbugs.errors import InputError


class DataInfo(TypedDict):
    """Of `study.json`: the images that a study is of. They must not change between its runs."""

    name: str
    variant: str
    source: NotRequired[str]
    classes: list[str]
    shape: list[int]
    train: int
    test: int
    fingerprint: str
    notes: NotRequired[list[str]]
    left_out: NotRequired[list[str]]


class Machine(TypedDict):
    """What may change from run to run of a study, and is then said: its versions and its machine."""

    versions: dict[str, str]
    device: str
    threads: int


class ContinuedOn(Machine):
    """With what a study went on, where that is not what it began with."""

    at: str


class Info(Machine):
    """`study.json`: the data of a study, and the machine and the versions that it was started with.

    `code` has the hash of each architecture of a user's own, by its name: it must not change between runs, either.
    """

    data: DataInfo
    code: NotRequired[dict[str, str]]
    created: NotRequired[str]
    continued: NotRequired[list[ContinuedOn]]


def find_device(name: str) -> torch.device:
    """The device by its name in torch; `auto` is the accelerator that torch reports, else the CPU.

    Raises
    ------
    InputError
        If torch has no such device here.
    """
    try:
        device = default_device() if name == "auto" else torch.device(name)
        torch.ones(1, device=device).item()  # also refuses `meta`, whose tensors have no numbers
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise InputError(
            f"The 'device' must be one that torch has here, or auto. Got {name!r} instead. Give --device cpu."
        ) from error
    return device


def surroundings(source: str, data: Data, device: torch.device, code: Mapping[str, str] | None = None) -> Info:
    """The data, own code, versions and machine of a run, as `study.json` keeps them."""
    info: Info = {
        "data": {
            "name": data.name,
            "variant": data.variant,
            "source": source,
            "classes": list(data.classes),
            "shape": list(data.train.shape),
            "train": len(data.train),
            "test": len(data.test),
            "fingerprint": data.fingerprint,
            "notes": list(data.notes),
            "left_out": list(data.left_out),
        },
        "versions": _versions(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {_processor()}",
        "threads": torch.get_num_threads(),
    }
    if code:
        info["code"] = dict(code)
    return info


def _versions() -> dict[str, str]:
    versions = {"notbugs": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in ("numpy", "safetensors", "pydantic", "altair"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    return platform.processor() or platform.machine()
