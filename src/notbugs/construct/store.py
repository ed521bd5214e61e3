"""The folder of a constructed set: safetensors shards that appear whole, and one manifest.

    manifest.json           what was asked for, a hash for each finished shard, what was measured
    shard-00000.safetensors images, labels, start, target, loss
    shard-00000.json        while the set is being built: the manifest's entry of a finished shard

`start` and `target` are indices of training images; in a relabelled set `target` is the class, the same as the label.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from notbugs import workers
from notbugs.catalogue import set_folder
from notbugs.construct.manifest import (
    SCHEMA,
    Entry,
    Manifest,
    Request,
    Storage,
    build_id,
    entry_file,
    fault,
    known_entries,
    pooled,
    read_manifest,
    read_mark,
    shard_file,
    shard_ranges,
)
from notbugs.construct.storage import read_columns, write_shard
from notbugs.data import Images, Mapped
from notbugs.errors import InputError, must, nearest_path
from notbugs.files import LOG, Damaged, check_unused, only_writer, write_json
from notbugs.progress import Progress, silent

Tell = Callable[[int, str], None]
"""Called with how many more images are done, and the number of the moment."""

Build = Callable[[int, int, Tell], tuple[dict[str, Tensor], Storage]]
"""Builds the columns of images number `first` up to, not including, `last`, and measures what storing did."""


class ConstructedSet(Dataset[tuple[Tensor, int]]):
    """A finished set on disk, and a data set for `torch.utils.data.DataLoader`.

    Pixels stay on disk until they are asked for; labels and the other columns are in memory.

    Parameters
    ----------
    folder : Path
        Where it is.

    Attributes
    ----------
    folder : Path
        Where it is.
    manifest : dict
        What it is: source, data, objective, threat, schedule, seed, versions, hashes, measured properties.
    images : Images
        Pixels as they are stored, shape (image, channel, height, width), with the labels to train with.
    start, target, loss : Tensor
        Shape (image,).

    Raises
    ------
    InputError
        If there is no finished set in `folder`, or a shard differs from its hash.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.robustify(classifier, small, 'again', schedule=nb.search.LBFGS(2, reach=0.3))
    >>> image, label = nb.ConstructedSet('again')[0]  # float32 in [0, 1], int
    >>> image.shape
    torch.Size([1, 8, 8])
    """

    def __init__(self, folder: str | Path) -> None:
        self._open(set_folder(folder))
        for number, entry in enumerate(self.manifest["shards"]):
            if wrong := fault(self.folder, self.manifest["request"], number, entry):
                raise InputError(f"{self.folder / shard_file(number)} {wrong}. Build the set again to repair it.")
        self._read()

    def __repr__(self) -> str:
        request = self.manifest["request"]
        kind = "matched features" if self.is_matched else f"relabelled, targets {request['targets']}"
        return (
            f"ConstructedSet({str(self.folder)!r}: {len(self)} images of {request['data']['name']}, {kind}, "
            f"stored as {request['dtype']})"
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: SupportsIndex) -> tuple[Tensor, int]:
        """Float32 image in [0, 1], shape (channel, height, width), and the label to train with."""
        return self.__getitems__([range(len(self))[index]])[0]  # the range refuses what a list would

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Several at once, as a `DataLoader` asks for them."""
        images, labels = self.images.batch(torch.tensor(indices))
        return list(zip(images, labels.tolist(), strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder,)

    @property
    def is_matched(self) -> bool:
        """Whether it was built by feature matching (D_R, D_NR), not relabelled."""
        return self.manifest["request"]["targets"] is None

    def record(self, properties: dict[str, Any]) -> None:
        """Add measured properties to the manifest."""
        self.manifest["properties"] = properties
        if workers.rank() == 0:
            write_json(self.folder / "manifest.json", self.manifest)

    def _open(self, folder: Path) -> None:
        self.folder, manifest = folder, read_manifest(folder)
        if manifest is None or manifest["status"] != "complete":
            raise InputError(
                f"There is no finished constructed set in {folder}. Build it again to finish it.{nearest_path(folder)}"
            )
        files = [entry["file"] for entry in manifest["shards"]]
        if files != [shard_file(number) for number in range(len(shard_ranges(manifest["request"])))]:
            raise InputError(f"{folder / 'manifest.json'} does not list every shard. Build the set again to repair it.")
        self.manifest = manifest

    def _read(self) -> None:
        files = [self.folder / entry["file"] for entry in self.manifest["shards"]]
        parts = [read_columns(file, ("labels", "start", "target", "loss")) for file in files]
        column = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        self.images = Images(Mapped(files, "images"), column["labels"])
        self.start, self.target, self.loss = column["start"], column["target"], column["loss"]


def _reopen(folder: Path) -> ConstructedSet:
    """The set that another process has opened; it has compared the hashes."""
    built = object.__new__(ConstructedSet)
    built._open(folder)
    built._read()
    return built


def build(folder: Path, request: Request, build_shard: Build, progress: Progress = silent) -> ConstructedSet:
    """Build what is missing of a set, shard by shard, and open it.

    Of several workers each builds the shards whose number, modulo the number of workers, is its own. Every worker
    must call this; the first holds the folder and speaks for all. At the end they wait for each other: give the process
    group a timeout longer than that may take.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Finished shards of the same request are kept; a damaged or missing one is built
        again.
    request : dict
        Everything that decides the bits of the set, as JSON; stored in the manifest.
    build_shard : callable
        Makes the columns of a range of images. It must not depend on the ranges built before.
    progress : Progress
        Told how many images of this worker's share are done.

    Raises
    ------
    InputError
        If `folder` holds a set made from another request, or another process is building there. Where the manifest is
        damaged, all shards are built again, unless they are marked with another request. One that other versions began
        and did not finish is built again, and a warning logged: its shards would be of both.
    DiskFull
        When the disk is full; finished shards are kept.
    """
    request = json.loads(json.dumps(request))  # as it will be read back
    first = workers.rank() == 0
    if not (folder / "manifest.json").exists():
        check_unused(folder, ("manifest.json*", "shard-*"))
    _refuse_other_request(folder, request)
    with only_writer(folder) if first else nullcontext():
        if first and ((begun := _begun(folder, request)) is None or begun["request"] != request):
            if begun:
                LOG.warning(
                    f"{folder} was started with {_said(begun['request'])}, now {_said(request)}: it is built again."
                )
            _write_manifest(folder, {"request": request, "status": "building", "shards": [], "storage": None})
        workers.barrier()
        _build_share(folder, request, build_shard, progress if first else silent)
        workers.barrier()
        if first:
            _finish(folder, request)
        workers.barrier()
    return ConstructedSet(folder)


def _build_share(folder: Path, request: Request, build_shard: Build, progress: Progress) -> None:
    """Build those of this worker's shards that are not there as they should be."""
    known = known_entries(folder, _manifest(folder))
    ranges = enumerate(shard_ranges(request))
    mine = {n: last - first for n, (first, last) in ranges if n % workers.count() == workers.rank()}
    missing = [number for number in mine if fault(folder, request, number, known.get(shard_file(number)))]
    total = sum(mine.values())
    done = total - sum(mine[number] for number in missing)

    def tell(images: int, note: str) -> None:
        nonlocal done
        done += images
        progress(done, total, note)

    for number in missing:
        _build_one(folder, request, number, build_shard, tell)


def _build_one(folder: Path, request: Request, number: int, build_shard: Build, tell: Tell) -> None:
    began = time.monotonic()
    columns, storage = build_shard(*shard_ranges(request)[number], tell)
    file = write_shard(folder, request, number, columns)
    entry: Entry = {**file, "seconds": time.monotonic() - began, "storage": storage}
    write_json(folder / entry_file(number), entry)


def _finish(folder: Path, request: Request) -> None:
    """Put all entries into the manifest, and mark it complete."""
    manifest = _manifest(folder)
    known = known_entries(folder, manifest)
    shards = [known[shard_file(number)] for number in range(len(shard_ranges(request)))]
    counts = [entry["images"] for entry in shards]
    storage = pooled([entry["storage"] for entry in shards], counts)
    whole = manifest | {"status": "complete", "shards": shards, "storage": storage}
    if whole != manifest:
        _write_manifest(folder, whole)
    for entry in folder.glob("shard-*.json"):
        entry.unlink()


def _manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder / 'manifest.json'} went away during the build. Build the set again.")
    return manifest


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    seconds = sum(entry["seconds"] for entry in manifest["shards"])
    write_json(folder / "manifest.json", {"schema": SCHEMA, **manifest, "seconds": seconds})


def _begun(folder: Path, wanted: Request) -> Manifest | None:
    """The manifest in `folder`; None if there is none, or a damaged one among shards of no other request."""
    try:
        return read_manifest(folder)
    except Damaged:
        marks = (read_mark(path) for path in folder.glob("shard-*.safetensors"))
        if all(mark is None or mark.startswith(f"build {build_id(wanted)} ") for mark in marks):
            return None
        raise


def _refuse_other_request(folder: Path, wanted: Request) -> None:
    if folder.exists() and not folder.is_dir():
        raise must("folder", "be a folder, or not exist yet", str(folder))
    manifest = _begun(folder, wanted)
    earlier = manifest["request"] if manifest else wanted
    keys = sorted(key for key in earlier | wanted if earlier.get(key) != wanted.get(key))
    if keys == ["versions"] and manifest and manifest["status"] == "building":
        return
    if keys:
        changes = "; ".join(
            f"{key}: there {_short(earlier.get(key))}, asked for {_short(wanted.get(key))}" for key in keys
        )
        remedy = "Delete it to build it again, or name another" if keys == ["versions"] else "Name another"
        raise InputError(f"{folder} holds a set built from another request ({changes}). {remedy} folder.")


def _short(value: Any) -> str:
    """As an error shows it: hashes by their first digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}", r"\1", repr(value))


def _said(request: Request) -> str:
    return ", ".join(f"{name} {version}" for name, version in request["versions"].items())
