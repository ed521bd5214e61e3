"""Signals: a command that is stopped says so in one line, also while Python is still importing its libraries.

Imported before anything else, and imports nothing that Python has not imported for itself: until this module has run,
a signal ends in Python's own words.
"""

import os
import signal
import sys

if sys.platform == "win32":
    raise ImportError("notbugs needs Unix's file locks and limits, which Windows lacks: install and run it in WSL.")

import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TRACEBACK = "With NOTBUGS_TRACEBACK=1 in the environment the command shows where."
GO_ON = "Give the same command again to continue."
ANEW = "Nothing was kept: the same command begins again."
KEEPS_NOTHING = ("evaluate", "theory", "verify")
"""Commands that keep nothing of what they have done; `evaluate --keep FOLDER` does."""
LEAST_MEMORY = {"v": (resource.RLIMIT_AS, 1200 * 2**20), "d": (resource.RLIMIT_DATA, 800 * 2**20)}
"""Bytes, by the option of `ulimit`: with less, torch and the libraries beside it abort the process, or try for ever."""


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(stopped(number))


def stopped(number: int) -> str:
    """What is said of a signal."""
    why = "Interrupted" if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}"
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    is_lost = command in KEEPS_NOTHING and not any(word.startswith("--keep") for word in sys.argv)
    return f"{why}. {ANEW if is_lost else GO_ON}"


def is_command() -> bool:
    """Whether this process is the command `notbugs` or `python -m notbugs`, and no program that imports the library."""
    if sys.argv[:1] == ["-m"]:  # as long as Python looks for the module to run
        words = sys.orig_argv
        return "-m" in words and words[words.index("-m") + 1 :][:1] == ["notbugs"]
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == "notbugs"


def guard() -> None:
    """In the command's own process, let a signal, or what fails, end it in one line as long as it imports."""
    if not is_command():
        return
    for number in SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _leave)
    sys.excepthook = _unloaded
    if why := below(LEAST_MEMORY, "libraries"):
        _end(why, 1)


def below(least: "dict[str, tuple[int, int]]", needed_by: str) -> str:
    """What is said of the first limit of memory that is below what is needed; "" if none is."""
    for option, (kind, size) in least.items():
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and limit < size:
            return (
                f"The limit of memory (ulimit -{option} {limit // 1024}) is below {size // 2**20} MiB, "
                f"which {needed_by} need. Raise it."
            )
    return ""


def _leave(number: int, _: object) -> None:
    _end(stopped(number), 128 + number)


def _unloaded(kind: "type[BaseException]", error: BaseException, trace: "TracebackType | None") -> None:
    """In place of Python's own words for what nobody caught: the library could not be imported."""
    if os.environ.get("NOTBUGS_TRACEBACK"):
        sys.__excepthook__(kind, error, trace)
    text = (str(error).strip().splitlines() or [kind.__name__])[0]
    _end(f"A library could not be loaded ({kind.__name__}: {text}). {TRACEBACK}", 1)


def _end(text: str, status: int) -> None:
    os.write(2, f"notbugs: {text}\n".encode())
    os._exit(status)


guard()
