"""A constructed set on disk, in a few lines: what it is, and whether its shards are as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from notbugs.catalogue import set_folder
from notbugs.construct.manifest import (
    Entry,
    Request,
    ball_text,
    build_id,
    fault,
    image_count,
    kind_of,
    known_entries,
    pooled,
    read_manifest,
    shard_file,
    shard_ranges,
)
from notbugs.errors import must, nearest_path


def describe(folder: str | Path, *, check: bool = True) -> dict[str, Any]:
    """What a set is, finished or not: plain data, ready for JSON.

    Parameters
    ----------
    folder : Path
        Where the set is.
    check
        Compare every finished shard with its hash, at about a gigabyte a second. What shards hold, `verify` checks.

    Returns
    -------
    dict
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
        **{name: request[name] for name in ("objective", "targets", "threat", "schedule", "seed")},
        "start": request.get("start", "images"),
        "fake_relu": request.get("fake_relu", False),
        **{name: request.get(name) for name in ("of", "weak", "others", "features")},
        **{name: request[name] for name in ("source", "precision", "data", "classes", "dtype", "batch", "versions")},
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
    numbers = [number for number in range(len(shard_ranges(request))) if shard_file(number) in by_file]
    faults = {shard_file(number): fault(folder, request, number, by_file[shard_file(number)]) for number in numbers}
    return {file: what for file, what in faults.items() if what}


def table(values: dict[str, Any]) -> Table:
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


def _lines(values: dict[str, Any]) -> dict[str, str]:
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
        **({"others kept": str(len(values["others"]))} if values["others"] else {}),
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


def _storage_lines(storage: dict[str, Any]) -> dict[str, str]:
    def span(name: str) -> str:
        return f"mean {storage[name]['mean']:.4g}, largest {storage[name]['max']:.4g}"

    def change(name: str) -> str:
        found, stored = (storage[f"{name}_{when}"] for when in ("found", "stored"))
        return " -> ".join("infinite" if value is None else f"{value:.4g}" for value in (found, stored))

    return {
        "success on the source": f"{change('success')} (found -> stored)",
        "loss": f"{change('loss')} (found -> stored)",
        "l2 from the start": span("l2_norm"),
        "l-inf from the start": span("linf_norm"),
        "l2 lost in storing": span("l2_error"),
        "l-inf lost in storing": span("linf_error"),
        "l2 as 8-bit files": span("l2_norm_8bit"),
    }
