"""Signals: a command that is stopped says so in one line, also while Python is still importing its libraries.

Imported before anything else, and imports nothing that Python has not imported for itself: until this module has run,
a signal ends in Python's own words.
"""

import os
import signal
import sys

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
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == "notbugs"


def guard() -> None:
    """In the command's own process, let a signal end it in one line as long as it imports: nothing is at work yet."""
    if is_command():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                signal.signal(number, _leave)


def _leave(number: int, _: object) -> None:
    os.write(2, f"notbugs: {stopped(number)}\n".encode())
    os._exit(128 + number)


guard()
