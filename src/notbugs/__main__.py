"""`notbugs` and `python -m notbugs`: errors of the user's become one line and exit status 2."""

from __future__ import annotations

import os
import sys

from cyclopts import CycloptsError
from pydantic import ValidationError

from notbugs import workers
from notbugs.errors import InputError
from notbugs.files import DiskFull


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status.

    0 done, 1 could not finish or `verify` found faults, 2 wrong input, 130 interrupted, 141 nobody reads the output.
    """
    from notbugs.cli import app

    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(_describe(error), 2)
    except InputError as error:
        return _fail(str(error), 2)
    except DiskFull as error:
        return _fail(str(error.strerror), 1)
    except KeyboardInterrupt:
        return _fail("Interrupted. Give the same command again to go on.", 130)
    except BrokenPipeError:  # whoever read the output, as `head` does, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains as it exits
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}.", 1)
    return status or 0


def _describe(error: CycloptsError) -> str:
    from notbugs.study.recipe import describe

    cause = error.__cause__
    return describe(cause) if isinstance(cause, ValidationError) else str(error)


def _fail(text: str, status: int) -> int:
    if not workers.is_echo():
        print(f"notbugs: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
