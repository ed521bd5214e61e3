"""Every command with its options, from the command line itself."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

from notbugs.cli import helping
from notbugs.cli.catalogue import COMMANDS


def command_page() -> str:
    """The page."""
    parts = [
        "# Commands",
        "`notbugs COMMAND --help` shows the main options of a command, `--help-all` all of them, as here. "
        "The same option has the same name on every command.",
        "Where a model is asked for, `STUDY:NAME` is a classifier of a study: `runs/digits:robust`. "
        "Where a set is asked for, it is a set of the study: `runs/digits:D_R`.",
    ]
    for name in COMMANDS:
        parts += _command(name)
    return "\n\n".join(parts) + "\n"


def _command(name: str) -> list[str]:
    command = COMMANDS[name]
    module, function = command.path.split(":")
    text = inspect.getdoc(getattr(import_module(module), function)) or ""
    about = re.split(r"\n\s*\n", text.split("Parameters\n", 1)[0].strip())[1:]
    lines = "\n".join(f"{line}  # {does}" for line, does in command.examples)
    parts = [f"## notbugs {name}", command.about, *(" ".join(part.split()) for part in about), f"```sh\n{lines}\n```"]
    for title, options in helping.grouped(helping.options(name)).items():
        rows = [f"| {title} | |", "|---|---|"]
        rows += [f"| `{one.label}` | {_cell(one.about)} |" for one in options]
        parts.append("\n".join(rows))
    return parts


def _cell(text: str) -> str:
    """Words for a cell of a table: nothing in them is a table, a link or HTML."""
    return re.sub(r"([|<\[])", r"\\\1", text)
