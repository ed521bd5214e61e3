"""The folder for downloads and decoded images, and how much memory and disk there is."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from notbugs.errors import InputError


def cache_folder() -> Path:
    """`NOTBUGS_CACHE`, else `notbugs` in `XDG_CACHE_HOME`, else `~/.cache/notbugs`."""
    if own := os.environ.get("NOTBUGS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "notbugs"


def check_disk(folder: Path, needed: int) -> None:
    """Refuse to write `needed` bytes below `folder` if that fills the disk.

    Raises
    ------
    InputError
        Naming what is needed, what is there, and how to use another disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{in_words(needed)} are needed in {folder}, and {in_words(free)} are free. "
            "Free some space, or name a folder on another disk in the environment variable NOTBUGS_CACHE."
        )


def available_memory(root: Path = Path("/")) -> int:
    """Bytes this process may still take: the least that the machine, its control groups and its limits leave."""
    return max(0, min([_machine(root), *_groups(root), *_limits(root)]))


def in_words(count: int) -> str:
    """Bytes with a unit: `1.5 GB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _machine(root: Path) -> int:
    try:
        return _table(root / "proc/meminfo")["MemAvailable"] * 1024
    except (OSError, KeyError):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _groups(root: Path) -> Iterator[int]:
    """What every control group around this process leaves, in version 2 and version 1 files."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = base / path.lstrip("/")
        for folder in (inside, *(parent for parent in inside.parents if parent.is_relative_to(base))):
            try:
                limit, used = (int((folder / name).read_text()) for name in names[:2])
                yield limit - used + _table(folder / "memory.stat")[names[2]]  # the system drops such pages at need
            except (OSError, ValueError, KeyError):  # no limit here ("max"), or not our file system
                continue


def _limits(root: Path) -> Iterator[int]:
    """What the process's own limits leave."""
    for limit, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            try:
                yield soft - _table(root / "proc/self/status")[used] * 1024
            except (OSError, KeyError):
                yield soft // 2


def _table(file: Path) -> dict[str, int]:
    """The numbers of a file of lines `name number ...`."""
    rows = (line.replace(":", " ").split() for line in file.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
