"""The folder of a constructed set: safetensors shards that appear whole, and one manifest.

    manifest.json           what was asked for, a hash for each finished shard, what was measured
    shard-00000.safetensors images (float32), labels, start, target, loss

`start` and `target` are indices of training images; in a relabelled set `target` is the class, the same as the label.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.files import only_writer, read_tensors, sha256, write_json, write_tensors

SHARD_IMAGES = 2000
COLUMNS = ("images", "labels", "start", "target", "loss")
Build = Callable[[int, int], dict[str, Tensor]]
"""Builds the columns of images number `first` up to, not including, `last`."""


class ConstructedSet:
    """A finished set on disk.

    Attributes
    ----------
    folder : Path
        Where it is.
    manifest : dict
        What it is: source, data, objective, threat, schedule, seed, versions, hashes, measured properties.
    images : Images
        Pixels in [0, 1], float32, shape (image, channel, height, width), with the labels to train with.
    start, target, loss : Tensor
        Shape (image,).

    Raises
    ------
    InputError
        If there is no finished set in `folder`, or a shard differs from its hash.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = _finished_manifest(self.folder)
        for entry in self.manifest["shards"]:
            if not _is_intact(self.folder, entry):
                raise InputError(
                    f"{self.folder / entry['file']} is missing or damaged. Build the set again to mend it."
                )
        shards = [read_tensors(self.folder / entry["file"]) for entry in self.manifest["shards"]]
        column = {name: torch.cat([shard[name] for shard in shards]) for name in COLUMNS}
        self.images = Images(column["images"], column["labels"])
        self.start, self.target, self.loss = column["start"], column["target"], column["loss"]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_matched(self) -> bool:
        """Whether it was built by feature matching (D_R, D_NR), not relabelled."""
        return self.manifest["request"]["targets"] is None

    def record(self, properties: dict[str, Any]) -> None:
        """Add measured properties to the manifest."""
        self.manifest["properties"] = properties
        write_json(self.folder / "manifest.json", self.manifest)


def build(folder: Path, request: dict[str, Any], count: int, build_shard: Build) -> ConstructedSet:
    """Build what is missing of a set, shard by shard, and open it.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Finished shards of the same request are kept; a damaged or missing one is built
        again.
    request : dict
        Everything that decides the bits of the set, as JSON; stored in the manifest.
    count : int
        Number of images.
    build_shard : callable
        Makes the columns of a range of images. It must not depend on the ranges built before.

    Raises
    ------
    InputError
        If `folder` holds a set made from another request, or another process is building there.
    DiskFull
        When the disk is full; finished shards are kept.
    """
    request = json.loads(json.dumps(request))  # as it will be read back
    with only_writer(folder):
        manifest: dict[str, Any] = read_manifest(folder) or {
            "schema": 1,
            "request": request,
            "shards": [],
            "seconds": 0.0,
        }
        _refuse_other_request(folder, manifest["request"], request)
        kept = {entry["file"]: entry for entry in manifest["shards"] if _is_intact(folder, entry)}
        for number, first in enumerate(range(0, count, SHARD_IMAGES)):
            name, last = f"shard-{number:05d}.safetensors", min(first + SHARD_IMAGES, count)
            if name in kept:
                continue
            began = time.monotonic()
            write_tensors(folder / name, build_shard(first, last))
            kept[name] = {"file": name, "images": last - first, "sha256": sha256(folder / name)}
            manifest["shards"] = [kept[file] for file in sorted(kept)]
            manifest["seconds"] += time.monotonic() - began
            manifest["status"] = "complete" if len(kept) == -(-count // SHARD_IMAGES) else "building"
            write_json(folder / "manifest.json", manifest)
    return ConstructedSet(folder)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in `folder`, or None if there is none."""
    path = Path(folder) / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}). Delete the folder to build the set anew.") from error


def _finished_manifest(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if manifest is None or manifest["status"] != "complete":
        raise InputError(f"There is no finished constructed set in {folder}. Build it again to finish it.")
    return manifest


def _is_intact(folder: Path, entry: dict[str, Any]) -> bool:
    path = folder / entry["file"]
    return path.is_file() and sha256(path) == entry["sha256"]


def _refuse_other_request(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    keys = sorted(key for key in found | wanted if found.get(key) != wanted.get(key))
    if keys:
        changes = "; ".join(f"{key}: there {found.get(key)!r}, asked for {wanted.get(key)!r}" for key in keys)
        raise InputError(f"{folder} holds a set built from another request ({changes}). Name another folder.")
