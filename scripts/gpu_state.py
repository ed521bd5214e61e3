"""What a job takes from one machine to the next, in files of at most 15 MB.

    gpu_state.py pack WORK OUT MB      write OUT/state.0, state.1, ..., MB of them at most
    gpu_state.py keep WORK OUT MB      the same, whenever something was finished, until the process that began it ends
    gpu_state.py unpack STATE WORK     read them back
    gpu_state.py machine DEVICE        versions and device; fails where a library that jobs need is missing

Of a study: its recipe and data, and of its classifiers those that fit, the sources of sets first, each with what was
measured of it. Of other jobs: finished weights, AutoAttack's outcomes so far, finished benchmarks.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import time
from pathlib import Path

PART, SECONDS = 15 * 10**6, 2
FIRST = ("robust", "standard", "independent")
LIBRARIES = ("pyarrow", "PIL", "scipy", "pyautoattack", "notbugs.cli")


def groups(work: Path) -> list[list[Path]]:
    """Files that belong together, the most valuable group first."""
    small = (
        "recipe.toml",
        "study.json",
        "search-*.json",
        "autoattack/*.safetensors",
        "outcomes/autoattack/*.safetensors",
    )
    found = [[file for pattern in small for file in sorted(work.glob(pattern))]]
    found += [[file] for file in work.glob("[!.]*.safetensors") if file.name != "gallery.safetensors"]
    done = [file for file in (work / "classifiers").glob("[!.]*.safetensors") if ".unfinished" not in file.name]
    order = {name: number for number, name in enumerate(FIRST)}
    for weights in sorted(done, key=lambda file: (order.get(file.stem, len(order)), file.name)):
        stages = [work / "stages" / f"{stage}-{weights.stem}.json" for stage in ("train", "evaluate")]
        kept = [*stages, work / "outcomes" / weights.name]
        if stages[0].exists():
            found.append([weights, *(file for file in kept if file.exists())])
    return found


def chosen(work: Path, limit: int) -> list[Path]:
    """The files of the groups that fit into so many bytes."""
    found: list[Path] = []
    for group in groups(work):
        size = sum(file.stat().st_size for file in group)
        if size <= limit:
            found, limit = found + group, limit - size
    return found


def archive(work: Path, files: list[Path]) -> bytes:
    """The files, after the SHA-256 of all that follows it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            content = file.read_bytes()
            entry = tarfile.TarInfo(str(file.relative_to(work)))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return hashlib.sha256(packed.getvalue()).digest() + packed.getvalue()


def pack(work: Path, out: Path, megabytes: int) -> None:
    """Write the parts, each whole or not at all."""
    files = chosen(work, megabytes * 10**6)
    packed = archive(work, files)
    starts = range(0, len(packed), PART)
    for number, start in enumerate(starts):
        part = out / f".state.{number}"
        part.write_bytes(packed[start : start + PART])
        part.replace(out / f"state.{number}")
    for part in out.glob("state.*"):
        if int(part.suffix[1:]) >= len(starts):
            part.unlink()
    print(f"{len(packed) / 1e6:.1f} MB of state: {' '.join(str(file.relative_to(work)) for file in files)}")


def keep(work: Path, out: Path, megabytes: int) -> None:
    """Pack again whenever the files changed, for as long as the process that began this one is there."""
    parent, before = os.getppid(), None
    while os.getppid() == parent:
        now = [(file, file.stat().st_mtime_ns) for file in chosen(work, megabytes * 10**6)]
        if now != before:
            pack(work, out, megabytes)
        before = now
        time.sleep(SECONDS)


def unpack(state: Path, work: Path) -> None:
    """Read the parts back into `work`; parts that were not written together are left alone."""
    parts = sorted(state.glob("state.*"), key=lambda part: int(part.suffix[1:]))
    packed = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(packed[32:]).digest() != packed[:32]:
        print(f"The state in {state} is missing or not whole: the job starts from the beginning.")
        return
    with tarfile.open(fileobj=io.BytesIO(packed[32:])) as tar:
        for name in tar.getnames():
            file = work / name
            file.resolve().relative_to(work.resolve())  # refuses what would lie outside
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tar.extractfile(name).read())
        print(f"Goes on with {' '.join(tar.getnames()) or 'nothing'}")


def machine(device: str) -> None:
    """Print what this machine is."""
    import importlib
    import platform

    import torch

    for name in LIBRARIES:
        importlib.import_module(name)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    print(f"{name}, torch {torch.__version__}, python {platform.python_version()}")


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "machine":
        machine(*rest)
    elif what == "unpack":
        unpack(Path(rest[0]), Path(rest[1]))
    else:
        {"pack": pack, "keep": keep}[what](Path(rest[0]), Path(rest[1]), int(rest[2]))
