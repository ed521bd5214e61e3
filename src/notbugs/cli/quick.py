"""The commands that only read: they import no torch, so that they answer at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from notbugs import catalogue


def recipes(name: str | None = None, /) -> None:
    """List the recipes: what each does, how long it takes, what it gave.

    Parameters
    ----------
    name
        Of a recipe, or a TOML file: print all its settings.
    """
    from notbugs.console import show

    if name is None:
        show(catalogue.table())
        print("Run one with `notbugs run NAME`. `notbugs recipes NAME` prints its settings.")
    else:
        print(catalogue.text(name), end="")


def status(folder: Path, /) -> None:
    """Show where a study stands: what is finished, running and left, and the numbers so far.

    Only reads; the study may be running.

    Parameters
    ----------
    folder
        The study's folder; of a run with several seeds, the one they are in.
    """
    from notbugs.console import show
    from notbugs.study import status as read
    from notbugs.study import status_tables, studies_in

    for one in studies_in(folder):
        for table in status_tables(read(one)):
            show(table)
            print()


def info(folder: str, /) -> int:
    """Describe a constructed set: source, data, search, success, norms, hashes.

    Every shard is compared with its hash; exit with status 1 if one is damaged. `notbugs verify` checks more.

    Parameters
    ----------
    folder
        The set: a folder, or STUDY:NAME, as runs/digits:D_R.
    """
    from notbugs.catalogue import set_folder
    from notbugs.console import show
    from notbugs.construct import describe, table

    described = describe(set_folder(folder))
    show(table(described))
    return int(bool(described["damaged"]))


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the completion script of a shell: bash, zsh or fish.

    Parameters
    ----------
    shell
        Which shell.
    """
    from notbugs.cli.completion import script

    print(script(shell), end="")
