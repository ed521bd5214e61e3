"""Shards: safetensors files that appear whole, are marked with their build, and are known by their hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from notbugs.construct.manifest import build_id, read_entry
from notbugs.errors import InputError, in_one_line
from notbugs.files import sha256, write_tensors

COLUMNS = ("images", "labels", "start", "target", "loss")


def shard_file(number: int) -> str:
    """The name of a shard."""
    return f"shard-{number:05d}.safetensors"


def entry_file(number: int) -> str:
    """The name of what a worker writes beside a shard it has finished, until the manifest has it."""
    return f"shard-{number:05d}.json"


def write_shard(folder: Path, request: dict[str, Any], number: int, columns: dict[str, Tensor]) -> dict[str, Any]:
    """Write shard `number`, and return its name, size and hash."""
    path = folder / shard_file(number)
    write_tensors(path, columns, {"notbugs": _mark(request, number)}, checksum=False)  # the manifest has the hash
    return {
        "file": path.name,
        "images": len(columns["images"]),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }


def known_entries(folder: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By file name, the entries of all shards finished so far: in the manifest, and beside the shards."""
    beside = (read_entry(path) for path in sorted(folder.glob("shard-*.json")))
    return {entry["file"]: entry for entry in (*manifest["shards"], *beside) if entry}


def fault(folder: Path, request: dict[str, Any], number: int, entry: dict[str, Any] | None) -> str:
    """What is wrong with the file of shard `number`; empty if it is as its entry says."""
    path = folder / shard_file(number)
    if entry is None or entry["file"] != path.name:
        return "is not finished"
    if not path.is_file():
        return "is missing"
    if path.resolve().parent != folder.resolve():
        return "is a link out of the folder"
    mark, expected = read_mark(path), _mark(request, number)
    if mark not in (None, expected):
        return f"belongs to another build or place (marked {mark!r}, not {expected!r})"
    if (size := path.stat().st_size) != entry["bytes"]:
        return f"is damaged ({size} bytes, not {entry['bytes']})"
    if sha256(path) != entry["sha256"]:
        return "is damaged (its bytes differ from their hash)"
    return "" if mark else "is no readable safetensors file of notbugs"


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Some columns of a shard, in memory.

    Raises
    ------
    InputError
        If the file cannot be read, or misses one.
    """
    try:
        with safe_open(path, "np") as file:  # "pt" would keep the whole file mapped as memory of our own
            return {name: torch.from_numpy(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read ({in_one_line(error)}). Build the set anew.") from error


def _mark(request: dict[str, Any], number: int) -> str:
    return f"build {build_id(request)} shard {number}"


def read_mark(path: Path) -> str | None:
    """What a file is marked with, "" where it has no mark; None if it cannot be read."""
    try:
        with safe_open(path, "np") as file:
            return (file.metadata() or {}).get("notbugs", "")
    except (SafetensorError, OSError):
        return None
