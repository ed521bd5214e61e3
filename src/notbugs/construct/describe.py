"""What a constructed set is, in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from notbugs.construct.manifest import build_id, image_count, kind_of, read_manifest, shard_ranges
from notbugs.construct.shards import fault, known_entries, shard_file
from notbugs.construct.storage import pooled
from notbugs.errors import must, nearest_path
from notbugs.parts import set_folder


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
        **{name: request.get(name) for name in ("of", "weak")},
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


def _damaged(folder: Path, request: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, str]:
    by_file = {entry["file"]: entry for entry in entries}
    numbers = [number for number in range(len(shard_ranges(request))) if shard_file(number) in by_file]
    faults = {shard_file(number): fault(folder, request, number, by_file[shard_file(number)]) for number in numbers}
    return {file: what for file, what in faults.items() if what}


def table(found: dict[str, Any]) -> Table:
    """What `describe` found, as a table to print."""
    made = Table(show_header=False, box=None, pad_edge=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in _lines(found).items():
        made.add_row(name, Text(text))  # names of classes and data are not markup
    return made


def _lines(found: dict[str, Any]) -> dict[str, str]:
    data, ball, count = found["data"], found["threat"], f"{found['images']} of {found['images_wanted']}"
    names = ", ".join(found["classes"][:20]) + (", ..." if len(found["classes"]) > 20 else "")
    radius = "free" if ball["eps"] is None else f"{ball['norm']} {ball['eps']:g}"
    lines = {
        "set": f"{found['kind']}, {found['status']}: {found['folder']}",
        "images": f"{count}, {' x '.join(map(str, data['shape']))}, {found['dtype']}",
        "data": f"{data['name']} ({data['fingerprint'][:12]})",
        "classes": f"{len(found['classes'])}: {names}",
        "source": f"{found['source'][:12]}, searched in {found['precision']}",
        "objective": f"{found['objective']}, targets {found['targets'] or 'images'}, threat {radius}",
        "start": found["start"] if found["start"] == "images" else f"{found['start']} noise",
        "schedule": ", ".join(f"{name} {value}" for name, value in found["schedule"].items()),
        **({"fake ReLU": _relu(found["fake_relu"])} if found["fake_relu"] else {}),
        **({"control of": f"build {found['of']}"} if found["of"] else {}),
        **({"consistent for": found["weak"][:12]} if found["weak"] else {}),
        "seed": str(found["seed"]),
        "shards": f"{found['shards']} of {found['shards_wanted']}, {found['bytes'] / 1e6:.1f} MB",
        "build": found["build"],
        "time": f"{found['seconds']:.1f} s, batches of {found['batch']}",
        "versions": ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
    }
    if found["damaged"]:
        lines["damaged"] = "; ".join(f"{file} {what}" for file, what in found["damaged"].items())
    return lines | (_storage_lines(found["storage"]) if found["storage"] else {})


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
