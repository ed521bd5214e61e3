"""The command line: commands, made from the functions of the library; no logic of their own.

`catalogue` lists them, `spelling` has the names of options, `helping` what `--help` prints, `quick` the commands that
need no torch, and `commands` all others.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module

from cyclopts import App, MissingArgumentError, Parameter, UnknownOptionError, UnusedCliTokensError

from notbugs._version import __version__
from notbugs.cli.catalogue import COMMANDS
from notbugs.memory import keep_freed_memory

app = App(
    name="notbugs",
    version=__version__,
    help="A laboratory for robust and non-robust features.",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(consume_multiple=True, negative_iterable=()),
)
for _name, _command in COMMANDS.items():
    app.command(_command.path, name=_name)


def load(arguments: list[str]) -> None:
    """Import what the command needs, if the arguments name one and do not ask for help; ready the process for it."""
    from notbugs.cli import helping

    command = None if helping.wanted(arguments) else COMMANDS.get(arguments[0])
    module = command.path.partition(":")[0] if command else ""
    if not module or module in sys.modules:
        return
    collects = gc.isenabled()
    gc.disable()  # what libraries make as they are imported stays: to search it for garbage takes a tenth of the time
    try:
        import_module(module)
    finally:
        gc.freeze()
        if collects:
            gc.enable()
    keep_freed_memory()


def dispatch(arguments: list[str]) -> int | None:
    """Do what the arguments say; return the exit status, 0 if None."""
    from notbugs.cli import helping, spelling

    if helping.wanted(arguments):
        helping.print_help(arguments)
        return None
    try:
        return app(spelling.canonical(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except UnknownOptionError as error:
        option = spelling.shown((error.token.keyword or error.token.value).partition("=")[0])
        raise helping.unknown(arguments[0], option) from error
    except MissingArgumentError as error:
        raise helping.missing(arguments[0], spelling.shown(error.argument.name if error.argument else "")) from error
    except UnusedCliTokensError as error:
        raise helping.unused(arguments[0], error.unused_tokens or []) from error
