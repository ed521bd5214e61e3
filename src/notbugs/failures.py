"""What ends a command, as one line and an exit status: the one place where errors of libraries become ours."""

from __future__ import annotations

import errno

from cyclopts import CycloptsError
from pydantic import ValidationError

from notbugs._start import TRACEBACK, Stopped, stopped
from notbugs.errors import InputError, described, in_one_line
from notbugs.files import DiskFull, is_disk_full

INTERRUPTED = 2
KEPT = "What was finished is kept: give the same command again to continue."
MEMORY = (
    *("can't allocate memory", "out of memory", "Cannot allocate memory", "Unable to allocate", "bad_alloc"),
    *(
        "could not create a primitive",
        "failed to map segment",
        "can't start new thread",
        "mmap failed",
        "bad allocation",
    ),
)
"""What Python, torch, oneDNN, numpy, Arrow and the loader of libraries say where there is no memory left."""
FILES = ("Too many open files", "os error 24")


def explained(error: BaseException) -> tuple[str, int]:
    """The line for `error`, and the exit status: 2 for wrong input, 1 for what could not be finished."""
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Stopped) else INTERRUPTED
        return stopped(number), 128 + number
    if isinstance(error, CycloptsError):
        return described(error.__cause__) if isinstance(error.__cause__, ValidationError) else str(error), 2
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, ValidationError):
        return described(error), 2
    if isinstance(error, DiskFull):
        return str(error.strerror), 1
    return _of_the_machine(error) or (_of_a_library(error), 1)


def _of_the_machine(error: BaseException) -> tuple[str, int] | None:
    """Memory, files, or a stack that have come to their end; None for anything else."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in MEMORY):
        return (
            f"There is not enough memory ({in_one_line(error)}). Fewer or smaller images, or a smaller network. {KEPT}",
            1,
        )
    if isinstance(error, RecursionError):
        return "Something that was given is nested too deep to be read: a hundred levels are enough for any file.", 2
    if (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)) or any(w in text for w in FILES):
        return f"Too many files are open. Raise the limit, as with `ulimit -n 1024`. {KEPT}", 1
    if is_disk_full(error):
        return f"There is no room left, or a file may not be so large ({in_one_line(error)}). {KEPT}", 1
    if isinstance(error, OSError) and error.strerror:
        name = error.filename2 or error.filename
        return f"{name}: {error.strerror}." if name else f"{error.strerror}.", 1
    return None


def _of_a_library(error: BaseException) -> str:
    return f"This went wrong where it should not: {type(error).__name__}: {in_one_line(error)}. {TRACEBACK}"
