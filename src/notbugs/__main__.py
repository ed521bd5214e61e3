"""`notbugs` and `python -m notbugs`: what goes wrong becomes one line and an exit status."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from notbugs._start import SIGNALS, Stopped

LONGEST = 2000
"""Characters of a line."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status.

    0 done, 1 could not finish or `verify` found faults, 2 wrong input, 130 interrupted (129 and 143: by SIGHUP and
    SIGTERM), 141 nobody reads the output. NOTBUGS_TRACEBACK=1 in the environment shows where an error came from.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what a terminal cannot show
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _refuse_empty(words)
        from notbugs.cli import dispatch, load

        load(words)  # not yet `raising`: a library that an error leaves half imported can abort the process
        with raising(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # Pillow's own words, of files that are read or refused
            status = dispatch(words)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, as `head` does, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains as it exits
        return 141
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("NOTBUGS_TRACEBACK"):
            traceback.print_exc()
        from notbugs.failures import explained

        return _fail(*explained(error))
    return status or 0


def _refuse_empty(words: list[str]) -> None:
    """`--out "$FOLDER"`, where the shell knows no FOLDER, would otherwise write to the current folder."""
    for before, word in zip(["", *words], words, strict=False):
        if word == "" or (word.startswith("--") and word.endswith("=")):
            from notbugs.errors import InputError

            name = (before if word == "" else word.rstrip("=")) or "the command"
            raise InputError(f"What stands after {name} is empty. Is a variable of the shell not set?")


@contextmanager
def raising() -> Iterator[None]:
    """While a command works, let a signal raise `Stopped`, so that every file that is being written is left as it was.

    One that is ignored, as `nohup` does with SIGHUP, stays so. In a thread other than the first nothing changes.
    """
    owner, before = os.getpid(), {}

    def handle(number: int, _: object) -> None:
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


def _fail(text: str, status: int) -> int:
    from notbugs.cli.spelling import shown
    from notbugs.formats import harmless

    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if not _is_echo():
        print(f"notbugs: {harmless(shown(text))}", file=sys.stderr)
    return status


def _is_echo() -> bool:
    """Whether this worker of torchrun, not yet joined with the others, meets what the first one meets and tells too."""
    workers = sys.modules.get("notbugs.workers")  # not imported here: that may be what failed
    return os.environ.get("RANK", "0") != "0" and (workers is None or workers.count() == 1)


__all__ = ["Stopped", "main"]

if __name__ == "__main__":
    sys.exit(main())
