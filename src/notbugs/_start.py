"""Signals: a command that is stopped says so in one line, also while Python is still importing its libraries."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GO_ON = "Give the same command again to go on."


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(stopped(number))


def stopped(number: int) -> str:
    """What is said of a signal."""
    why = "Interrupted" if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}"
    return f"{why}. {GO_ON}"


def is_command() -> bool:
    """Whether this process is the command `notbugs` or `python -m notbugs`, and no program that imports the library."""
    if sys.argv[:1] == ["-m"]:  # as long as Python looks for the module to run
        words = sys.orig_argv
        return "-m" in words and words[words.index("-m") + 1 :][:1] == ["notbugs"]
    return bool(sys.argv) and Path(sys.argv[0]).name == "notbugs"


def guard() -> None:
    """In the command's own process, let a signal end it in one line as long as it imports: nothing is at work yet."""
    if is_command():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                signal.signal(number, _leave)


@contextmanager
def raising() -> Iterator[None]:
    """While a command works, let a signal raise `Stopped`, so that every file that is being written is left as it was.

    One that is ignored, as `nohup` does with SIGHUP, stays so. In a thread other than the first nothing changes.
    """
    owner, before = os.getpid(), {}

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)  # a process that was forked off ends as any other
        os.kill(os.getpid(), number)

    try:
        for number in SIGNALS:
            if (known := signal.getsignal(number)) not in (signal.SIG_IGN, None):
                before[number] = known
                signal.signal(number, handle)
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)


def _leave(number: int, _: FrameType | None) -> None:
    os.write(2, f"notbugs: {stopped(number)}\n".encode())
    os._exit(128 + number)


guard()
