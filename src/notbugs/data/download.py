"""Files from the web, checked before anyone opens them, and the folder that keeps them; memory and disk there is."""

from __future__ import annotations

import hashlib
import http.client
import os
import resource
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from notbugs._version import __version__
from notbugs.errors import InputError
from notbugs.files import only_writer, sha256
from notbugs.progress import Progress


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


ATTEMPTS = 5
TIMEOUT = 30  # seconds without a byte
PIECE = 2**18


@dataclass(frozen=True)
class Published:
    """A file that its authors will not change: its name, its SHA-256, its size in bytes.

    `md5` is of one whose authors publish nothing else, and no size: it tells a damaged file, not one that was made to
    have the same sum.
    """

    file: str
    sha256: str
    size: int | None
    md5: str = ""

    def fits(self, file: Path) -> bool:
        """Whether a file is the published one."""
        if not file.is_file() or self.size not in (None, file.stat().st_size):
            return False
        return sha256(file) == self.sha256 if self.sha256 else _md5(file) == self.md5

    @property
    def sums(self) -> str:
        """For an error."""
        size = "" if self.size is None else f"{in_words(self.size)} with "
        return f"{size}SHA-256 {self.sha256}" if self.sha256 else f"{size}MD5 {self.md5}"


class _Broken(Exception):
    """An attempt ended early; what came is kept for the next one."""


def fetch(published: Published, base: str, folder: Path, progress: Progress) -> Path:
    """The path of the file in `folder`, downloaded from `base` if it is not there yet.

    What comes is written beside it, and gets its name only when size and hash are right; a wrong file of that name is
    fetched again. A download that was interrupted continues where it stopped, where the server allows that.

    Parameters
    ----------
    published : Published
        What the file must be.
    base : str
        URL of the folder it is in.
    folder : Path
        Made if it is not there.
    progress : Progress
        Told of every piece, in bytes.

    Raises
    ------
    InputError
        If the server cannot be reached, does not have the file, or sends another one.
    """
    target = folder / published.file
    if published.fits(target):
        return target
    url, part = f"{base.rstrip('/')}/{published.file}", folder / f"{published.file}.part"
    check_disk(folder, published.size or 0)
    with only_writer(folder):
        target.unlink(missing_ok=True)
        _download(url, part, published, target, progress)
        if not published.fits(part):
            digest = f"SHA-256 {sha256(part)}" if published.sha256 else f"MD5 {_md5(part)}"
            size = in_words(part.stat().st_size)
            part.unlink()
            raise InputError(
                f"{url} is not the published file: got {size} with {digest}, expected {published.sums}. Nothing "
                f"was kept. Try again, or put the file from another source at {target}."
            )
        part.replace(target)
    return target


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, part: Path, published: Published, target: Path, progress: Progress) -> None:
    """Attempts until `part` has the published size, or more; until a server ends it, where no size is published."""
    reason = ""
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if published.size is not None and have >= published.size:
            return
        try:
            if _attempt(url, part, have, published.size, progress):
                return
        except (_Broken, OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    have = part.stat().st_size if part.exists() else 0
    if published.size is not None and have >= published.size:
        return
    whole = "" if published.size is None else f" of {in_words(published.size)}"
    raise InputError(
        f"{url} could not be downloaded: {reason}; {in_words(have)}{whole} are here. "
        f"Try again to go on, or, if this machine is offline, copy the file to {target}."
    )


def _attempt(url: str, part: Path, have: int, size: int | None, progress: Progress) -> bool:
    """Append to `part` what the server sends from byte `have` on; from the start where it sends everything.

    Returns
    -------
    bool
        Whether all of it is here.
    """
    headers = {"User-Agent": f"notbugs/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # it has no such byte: all is here, or something else
            if size is None and error.headers.get("Content-Range", "").endswith(f"*/{have}"):
                return True
            part.unlink()
        raise _Broken(f"the server answered {error.code} {error.reason}") from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise InputError(
                f"{url} answered with a web page ({response.url}), not with the file. Is there a login or a proxy in "
                "between? Open the address in a browser."
            )
        goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status == 206 and not goes_on:
            raise _Broken("the server answered with another range than asked for")
        begun = have if goes_on else 0
        if size is None and response.headers.get("Content-Length"):
            size = begun + int(response.headers["Content-Length"])
            check_disk(part.parent, size - begun)
        with part.open("ab" if goes_on else "wb") as file:
            _copy(response, file, begun, size, progress)
    return True


def _copy(response: http.client.HTTPResponse, file: BinaryIO, done: int, size: int | None, progress: Progress) -> None:
    while (size is None or done <= size) and (data := response.read(PIECE)):
        file.write(data)
        done += len(data)
        if size is not None:
            progress(min(done, size), size, "downloading")
    if size is not None and done < size:
        raise _Broken(f"the connection ended after {in_words(done)}")
