"""A constructed set on disk, in a few lines: what it is, and whether its shards are as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

from rich.table import Table
from rich.text import Text

from notbugs.catalogue import set_folder
from notbugs.construct.manifest import (
    Ball,
    Entry,
    Request,
    Source,
    Storage,
    ball_text,
    build_id,
    fault,
    image_count,
    kind_of,
    known_entries,
    number,
    pooled,
    read_manifest,
    shard_file,
    shard_ranges,
    span,
)
from notbugs.errors import must, nearest_path


class Description(TypedDict):
    """What a set is, finished or not: its request, what is there of it, and what is wrong with it."""

    folder: str
    kind: Literal["matched", "relabelled", "control"]
    status: Literal["building", "complete"]
    objective: str
    targets: str | None
    threat: Ball
    schedule: dict[str, Any]
    seed: int
    start: str
    fake_relu: bool | str
    of: str | None
    weak: str | None
    others: list[str] | None
    hold: str | None
    features: list[int] | None
    source: str
    precision: str
    data: Source
    classes: list[str]
    dtype: str
    batch: int
    versions: dict[str, str]
    images: int
    images_wanted: int
    shards: int
    shards_wanted: int
    bytes: int
    seconds: float
    storage: Storage | None
    properties: dict[str, Any] | None
    build: str
    damaged: dict[str, str]
    hashes: dict[str, str]


def describe(folder: str | Path, *, check: bool = True) -> Description:
    """What a set is, finished or not: plain data, ready for JSON.

    Parameters
    ----------
    folder : Path
        Where the set is.
    check
        Compare every finished shard with its hash, at about a gigabyte a second. What shards hold, `verify` checks.

    Returns
    -------
    Description
        Kind, status, source, data, threat, schedule, sizes, storage (success, norms), properties if they were
        measured, hashes, and `damaged`: what is wrong with a shard, by its file.

    Raises
    ------
    InputError
        If there is no readable manifest.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.robustify(classifier, small, 'described', schedule=nb.search.LBFGS(2, reach=0.3))
    >>> nb.construct.describe('described')['status']
    'complete'
    """
    folder = set_folder(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise must("folder", "hold a constructed set: a manifest.json", str(folder), nearest_path(folder).strip())
    request, entries = manifest["request"], list(known_entries(folder, manifest).values())
    counts = [entry["images"] for entry in entries]
    return {
        "folder": str(folder),
        "kind": kind_of(request),
        "status": manifest["status"],
        "objective": request["objective"],
        "targets": request["targets"],
        "threat": request["threat"],
        "schedule": request["schedule"],
        "seed": request["seed"],
        "start": request.get("start", "images"),
        "fake_relu": request.get("fake_relu", False),
        "of": request.get("of"),
        "weak": request.get("weak"),
        "others": request.get("others"),
        "hold": request.get("hold", "label") if "others" in request else None,
        "features": request.get("features"),
        "source": request["source"],
        "precision": request["precision"],
        "data": request["data"],
        "classes": request["classes"],
        "dtype": request["dtype"],
        "batch": request["batch"],
        "versions": request["versions"],
        "images": sum(counts),
        "images_wanted": image_count(request),
        "shards": len(entries),
        "shards_wanted": len(shard_ranges(request)),
        "bytes": sum(entry["bytes"] for entry in entries),
        "seconds": sum(entry["seconds"] for entry in entries),
        "storage": pooled([entry["storage"] for entry in entries], counts) if entries else None,
        "properties": manifest.get("properties"),
        "build": build_id(request),
        "damaged": _damaged(folder, request, entries) if check else {},
        "hashes": {entry["file"]: entry["sha256"] for entry in entries},
    }


def _damaged(folder: Path, request: Request, entries: list[Entry]) -> dict[str, str]:
    by_file = {entry["file"]: entry for entry in entries}
    numbers = [each for each in range(len(shard_ranges(request))) if shard_file(each) in by_file]
    faults = {shard_file(each): fault(folder, request, each, by_file[shard_file(each)]) for each in numbers}
    return {file: what for file, what in faults.items() if what}


def table(values: Description) -> Table:
    """What `describe` found, as a table to print.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.relabel(classifier, small, 'set', targets='next', threat=nb.L2(0.5), schedule=nb.search.PGDSteps(2))
    >>> table = nb.construct.table(nb.construct.describe('set'))
    """
    listing = Table(show_header=False, box=None, pad_edge=False)
    listing.add_column(style="bold", no_wrap=True)
    listing.add_column(overflow="fold")
    for name, text in _lines(values).items():
        listing.add_row(name, Text(text))  # names of classes and data are not markup
    return listing


def _lines(values: Description) -> dict[str, str]:
    data, count = values["data"], f"{values['images']} of {values['images_wanted']}"
    threat = ball_text(values["threat"])
    names = ", ".join(values["classes"][:20]) + (", ..." if len(values["classes"]) > 20 else "")
    lines = {
        "set": f"{values['kind']}, {values['status']}: {values['folder']}",
        "images": f"{count}, {' x '.join(map(str, data['shape']))}, {values['dtype']}",
        "data": f"{data['name']} ({data['fingerprint'][:12]})",
        "classes": f"{len(values['classes'])}: {names}",
        "source": f"{values['source'][:12]}, searched in {values['precision']}",
        "objective": f"{values['objective']}, targets {values['targets'] or 'images'}, threat {threat}",
        "start": values["start"] if values["start"] == "images" else f"{values['start']} noise",
        "schedule": ", ".join(f"{name} {value}" for name, value in values["schedule"].items()),
        **({"fake ReLU": _relu(values["fake_relu"])} if values["fake_relu"] else {}),
        **({"others kept": f"{len(values['others'])}, at their {values['hold']}"} if values["others"] else {}),
        **({"matched": f"{len(values['features'])} of the features"} if values["features"] else {}),
        **({"control of": f"build {values['of']}"} if values["of"] else {}),
        **({"consistent for": values["weak"][:12]} if values["weak"] else {}),
        "seed": str(values["seed"]),
        "shards": f"{values['shards']} of {values['shards_wanted']}, {values['bytes'] / 1e6:.1f} MB",
        "build": values["build"],
        "time": f"{values['seconds']:.1f} s, batches of {values['batch']}",
        "versions": ", ".join(f"{name} {version}" for name, version in values["versions"].items()),
    }
    if values["damaged"]:
        lines["damaged"] = "; ".join(f"{file} {what}" for file, what in values["damaged"].items())
    return lines | (_storage_lines(values["storage"]) if values["storage"] else {})


def _relu(which: bool | str) -> str:
    return f"gradients pass {which if isinstance(which, str) else 'the last one'} unchanged"


def _storage_lines(storage: Storage) -> dict[str, str]:
    success, loss = storage["success_found"], storage["loss_found"]
    return {
        "success on the source": f"{number(success)} -> {number(storage['success_stored'])} (found -> stored)",
        "loss": f"{number(loss)} -> {number(storage['loss_stored'])} (found -> stored)",
        "l2 from the start": span(storage["l2_norm"]),
        "l-inf from the start": span(storage["linf_norm"]),
        "l2 lost in storing": span(storage["l2_error"]),
        "l-inf lost in storing": span(storage["linf_error"]),
        "l2 as 8-bit files": span(storage["l2_norm_8bit"]),
    }
