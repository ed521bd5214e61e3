"""Files that appear whole or not at all, that know whether they were changed since, and one writer for each folder."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from notbugs.errors import InputError, in_one_line, must

if TYPE_CHECKING:  # most of what reads files needs no torch
    from torch import Tensor

LOG = logging.getLogger("notbugs")
CHECKSUM = "checksum"
"""The field of a JSON file, and of the metadata of a safetensors file, that has the SHA-256 of all the others."""
SHA = "sha256:"
LOCK_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK
LARGEST_HEADER = 100_000_000
"""Bytes of the header of a safetensors file, as its format says."""
LONGEST_NAME = 255
"""Bytes in the name of a file, on most file systems."""
LONGEST_PATH = 3500
"""Bytes in a path, of the 4096 that Linux takes, with room for what is written below it."""


class Damaged(InputError):
    """A file that notbugs wrote is not as it was written."""


class DiskFull(OSError):
    """The disk filled up while a file was written; nothing that was finished is lost."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, flush it to disk, and rename it to `path`.

    Raises
    ------
    DiskFull
        When the disk, or the quota, has no room left. `path` is then as it was before.
    InputError
        If a folder that is not empty is in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    if len(os.fsencode(part.name)) > LONGEST_NAME:
        part = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.part")
    make_room(path)
    make_room(part)
    try:
        part.unlink(missing_ok=True)  # a link there, in a folder of somebody else, would be written through
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)  # safetensors writes for the owner alone; sets are made to be shared
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFull(
                errno.ENOSPC,
                f"No room left to write {path}. Everything finished so far is kept: "
                "free some space and give the same command again",
            ) from error
        raise


def make_room(path: Path) -> None:
    """Remove an empty folder where a file is to be written.

    Raises
    ------
    InputError
        If something is in the folder.
    """
    if not path.is_dir() or path.is_symlink():
        return
    try:
        path.rmdir()
    except OSError:
        raise InputError(f"{path} is a folder, where a file is to be written. Move it elsewhere.") from None


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, also one raised by safetensors, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(words in str(error) for words in ("No space left", "os error 28", "os error 122", "os error 27"))


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write `values` as indented JSON with their checksum, atomically; `read_json` reads them back."""
    values = {name: value for name, value in values.items() if name != CHECKSUM}
    values |= {CHECKSUM: SHA + digest(values)}
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    Damaged
        If it holds no JSON object, or another one than was written. A file that has no checksum, as those of an older
        notbugs, is read all the same, and a warning logged.
    """
    check_regular(path)
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else in_one_line(error)
        raise Damaged(f"{path} is damaged: it is not JSON ({reason}).") from error
    if not isinstance(values, dict):
        raise Damaged(f"{path} is damaged: it holds no JSON object.")
    written = values.pop(CHECKSUM, None)
    if written is None and not _has_hash(values):
        warn_unchecked(path)
    elif written != SHA + digest(values):
        raise Damaged(f"{path} is damaged: it does not say what was written, by its checksum.")
    return values


def check_regular(path: Path) -> None:
    """Refuse a folder, a link to nowhere, and a pipe, socket or device, which are never waited for, as `Damaged`."""
    if os.path.lexists(path) and not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file" if path.exists() else "a link that leads nowhere"
        raise Damaged(f"{path} is damaged: it is {kind}.")


def check_file(path: Path) -> None:
    """Refuse a pipe, a socket or a device that a user gave in place of a file: it would be waited for.

    Raises
    ------
    InputError
        If it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is a pipe, a socket or a device, not a file. Save what comes from it in a file.")


OURS = frozenset({"stages", "classifiers", "outcomes", "sets", "tune", "figures", "tables"})
"""The folders that notbugs makes in a folder of its own."""
WRITTEN = frozenset({".json", ".toml", ".html", ".safetensors"})
"""The suffixes of the files that it writes there."""


def check_links(folder: Path) -> None:
    """Refuse a folder, which may be somebody else's, in which a link in place of our files leads out of it.

    What else is in the folder, a home or a disk maybe, is not looked at.

    Raises
    ------
    InputError
        If there is one: what it leads to would be read as if it were here, or written.
    """
    root = Path(os.path.realpath(folder))
    left = [folder] if folder.is_dir() else []
    while left:
        inside = left.pop()
        with os.scandir(inside) as entries:
            for entry in entries:
                name = Path(entry.name)
                if inside == folder and not (name.suffix in WRITTEN or entry.name in OURS | {".lock"}):
                    continue
                if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(root):
                    raise InputError(
                        f"{entry.path} is a link out of {folder}. Nothing is read or written through one: "
                        "put what it leads to in its place."
                    )
                if entry.is_dir(follow_symlinks=False) and (inside != folder or entry.name in OURS):
                    left.append(Path(entry.path))


def warn_unchecked(path: Path) -> None:
    """Say that a file has no checksum."""
    LOG.warning(f"Files in {path.parent} have no checksum: an older notbugs wrote them. Damage to them goes unnoticed.")


def digest(values: Mapping[str, object]) -> str:
    """The SHA-256 of values as JSON without spaces, in the order of their names, ASCII alone."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None, *, checksum: bool = True
) -> None:
    """Write `tensors` as safetensors, atomically: the same tensors and metadata give the same bytes.

    `checksum` may be left out of files whose hash is kept elsewhere.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(part: Path) -> None:
        save_file(tensors, part, (metadata or {}) | ({CHECKSUM: SHA + "0" * 64} if checksum else {}))
        _seal(part, checksum)

    write_atomically(path, write)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a damaged one is an `InputError`."""
    from safetensors.torch import load_file

    try:
        check_tensors(path)
        return load_file(path)
    except (FileNotFoundError, Damaged):
        raise
    except Exception as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({in_one_line(error)}). Delete it and run again."
        ) from error


def check_tensors(path: Path) -> bool:
    """Whether a safetensors file has the checksum of `write_tensors`.

    Raises
    ------
    Damaged
        If the checksum is that of other bytes, or there is no header.
    """
    check_regular(path)
    with path.open("rb") as file:
        header, _ = _header(file, path)
        said = header.get("__metadata__")
        if not isinstance(said, dict) or (CHECKSUM not in said and not _has_hash(said)):
            return False
        if said.get(CHECKSUM) != SHA + _tensor_digest(header, file):
            raise Damaged(f"{path} is damaged: it does not hold what was written, by its checksum.")
    return True


def _has_hash(values: dict[str, Any]) -> bool:
    """Whether there is a checksum under another name: then it is the name that was damaged."""
    return any(isinstance(value, str) and value.startswith(SHA) for value in values.values())


def _seal(path: Path, checksum: bool) -> None:
    """Sort the metadata of a file, which safetensors writes in no certain order, and fill in the checksum."""
    with path.open("r+b") as file:
        header, size = _header(file, path)
        said = dict(sorted(header.get("__metadata__", {}).items()))
        header = {"__metadata__": said} | header | {"__metadata__": said} if said else header
        if checksum:
            said[CHECKSUM] = SHA + _tensor_digest(header, file)
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > size:
            raise RuntimeError(f"the header of {path} grew from {size} to {len(text)} bytes")
        file.seek(8)
        file.write(text.ljust(size))


def _header(file: IO[bytes], path: Path) -> tuple[dict[str, Any], int]:
    """The header of an open safetensors file, which is left at the end of it, and its size in bytes."""
    size = int.from_bytes(file.read(8), "little")
    if size > min(LARGEST_HEADER, path.stat().st_size):
        raise Damaged(f"{path} is damaged: it is no whole safetensors file.")
    try:
        header = json.loads(file.read(size))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: its header is not JSON.") from error
    if not isinstance(header, dict):
        raise Damaged(f"{path} is damaged: its header is no JSON object.")
    return header, size


def _tensor_digest(header: dict[str, Any], file: IO[bytes]) -> str:
    """The SHA-256 of a header without its checksum, and of what follows it in `file`."""
    said = {name: value for name, value in header.get("__metadata__", {}).items() if name != CHECKSUM}
    hasher = hashlib.sha256(digest(header | {"__metadata__": said}).encode())
    while part := file.read(2**20):
        hasher.update(part)
    return hasher.hexdigest()


def check_writable(path: Path, name: str = "out", remedy: str = "") -> None:
    """Refuse an output folder that cannot be made or written, before any work.

    The `remedy` is to name another folder with the option `name`, where there is one.

    Raises
    ------
    InputError
        If `path` or what is above it is no folder, leads nowhere, has too long a name, or is not writable.
    """
    remedy = remedy or f"name another with --{name}"
    if "\0" in str(path):
        raise must(name, "be a path without NUL", str(path))
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts) or len(os.fsencode(path)) > LONGEST_PATH:
        rule = f"be a path of at most {LONGEST_PATH} bytes, with at most {LONGEST_NAME} in a name"
        raise must(name, rule, str(path), f"{remedy[0].upper()}{remedy[1:]}.")
    above = path
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        what = "a link that leads nowhere" if above.is_symlink() and not above.exists() else "a file"
        raise InputError(f"The '{name}' must be a folder. {above} is {what}: {remedy}.")
    try:
        with tempfile.TemporaryFile(dir=above):  # os.access would promise root too much
            pass
    except OSError as error:
        raise InputError(f"The '{name}' must be writable. {above} is not ({error.strerror}): {remedy}.") from None


def check_unused(folder: Path, own: Sequence[str] = ()) -> None:
    """Refuse a folder that holds what a person or another command has put there, beside names that fit `own`.

    Hidden files do not count.

    Raises
    ------
    InputError
        With what it holds.
    """
    if not folder.is_dir():
        return
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if others := [each for each in names if not any(fnmatch(each, pattern) for pattern in own)]:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(
            f"The 'out' must be a new or an empty folder, or one in which this was begun. {folder} holds "
            f"{others[0]!r}{more}. Name another with --out."
        )


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def csp_hash(text: str) -> str:
    """The Content-Security-Policy source that allows this inline text and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; a second process that asks gets an `InputError`.

    The lock goes with the process, however it ends, and works on any file system with `flock`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened_lock(folder / ".lock") as lock:
        if not _locked(lock, fcntl.LOCK_EX):
            time.sleep(0.1)  # it may only have been `has_writer`, looking
            if not _locked(lock, fcntl.LOCK_EX):
                raise InputError(f"Another process is writing to {folder}. Wait for it, or name another folder.")
        yield


@contextmanager
def only_maker(path: Path) -> Iterator[None]:
    """Let no other process make the file `path` meanwhile; a second one that asks gets an `InputError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.lock")
    with _opened_lock(file) as lock:
        if not _locked(lock, fcntl.LOCK_EX) or not file.exists():
            raise InputError(f"Another process is making {path}. Wait for it, or name another file.")
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _opened_lock(path: Path) -> IO[bytes]:
    """A file to lock, made if it is not there; a link is not followed, and a pipe not waited for."""
    try:
        return open(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC | LOCK_FLAGS, 0o644))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise InputError(f"{path} is no regular file. Delete it, if no other process works there.") from None
        raise


def has_writer(folder: Path) -> bool:
    """Whether a process holds `folder` as its `only_writer` now."""
    if not (folder / ".lock").is_file():
        return False
    try:
        with (folder / ".lock").open("rb") as lock:
            return not _locked(lock, fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _locked(lock: IO[Any], operation: int) -> bool:
    """Whether this process got the lock, which goes when the file is closed."""
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
