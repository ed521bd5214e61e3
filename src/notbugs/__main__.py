"""`notbugs` and `python -m notbugs`: what goes wrong becomes one line and an exit status."""

from __future__ import annotations

import io
import os
import sys
import traceback

from notbugs._start import Stopped, raising

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
    try:
        with raising():
            from notbugs.cli import dispatch

            status = dispatch(sys.argv[1:] if arguments is None else list(arguments))
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


def _fail(text: str, status: int) -> int:
    from notbugs import workers
    from notbugs.cli.spelling import shown
    from notbugs.formats import harmless

    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if not workers.is_echo():
        print(f"notbugs: {harmless(shown(text))}", file=sys.stderr)
    return status


__all__ = ["Stopped", "main"]

if __name__ == "__main__":
    sys.exit(main())
