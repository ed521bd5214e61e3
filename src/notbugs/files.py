"""Files that appear whole or not at all, hashes, and one writer for each folder."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from notbugs.errors import InputError


class DiskFull(OSError):
    """The disk filled up while a file was written; nothing that was finished is lost."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, flush it to disk, and rename it to `path`.

    Raises
    ------
    DiskFull
        When the disk, or the quota, has no room left. `path` is then as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)  # safetensors writes for the owner alone; sets are made to be shared
        part.replace(path)
    except Exception as error:
        part.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFull(
                errno.ENOSPC,
                f"No room left to write {path}. Everything finished so far is kept: "
                "free some space and give the same command again",
            ) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, also one raised by safetensors, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(words in str(error) for words in ("No space left", "os error 28", "os error 122", "os error 27"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write `tensors` as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda part: save_file(tensors, part, metadata))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a damaged one is an `InputError`."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}). Delete it and run again.") from error


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
    with (folder / ".lock").open("w") as lock:
        if not _locked(lock, fcntl.LOCK_EX):
            time.sleep(0.1)  # it may only have been `has_writer`, looking
            if not _locked(lock, fcntl.LOCK_EX):
                raise InputError(f"Another process is writing to {folder}. Wait for it, or name another folder.")
        yield


def has_writer(folder: Path) -> bool:
    """Whether a process holds `folder` as its `only_writer` now."""
    try:
        with (folder / ".lock").open("rb") as lock:
            return not _locked(lock, fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _locked(lock: IO[Any], how: int) -> bool:
    """Whether this process got the lock, which goes when the file is closed."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
