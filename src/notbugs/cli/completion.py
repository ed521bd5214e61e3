"""Scripts by which a shell completes commands and options, from what the help lists."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Literal

from notbugs.cli.catalogue import COMMANDS
from notbugs.cli.helping import Option, options

Shell = Literal["bash", "zsh", "fish"]

BASH = """_notbugs() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words={commands}
  else
    case "${{COMP_WORDS[1]}}" in
{options}
    esac
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
{choices}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _notbugs notbugs
"""
"""Where no word fits, the shell completes names of files."""


def script(shell: Shell) -> str:
    """What the shell reads: for bash and zsh a function, for fish a line for each word."""
    if shell == "fish":
        return "\n".join(_fish()) + "\n"
    listed, chosen = [], []
    for command in COMMANDS:
        named = _named(command)
        listed.append(
            f"      {command}) words={shlex.quote(' '.join(word for one in named for word in _flags(one)))} ;;"
        )
        chosen += [
            f"      '{command} --{one.name}') words={shlex.quote(' '.join(one.choices))} ;;"
            for one in named
            if one.choices
        ]
    begin = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return begin + BASH.format(
        commands=shlex.quote(" ".join(COMMANDS)), options="\n".join(listed), choices="\n".join(chosen)
    )


def _named(command: str) -> list[Option]:
    """Those that have a name of their own, and no part of it to fill in."""
    return [one for one in options(command) if one.name and not any(letter.isupper() for letter in one.name)]


def _flags(one: Option) -> tuple[str, ...]:
    return (f"--{one.name}", *one.negative)


def _fish() -> Iterator[str]:
    yield "complete -c notbugs -e"
    for command, about in COMMANDS.items():
        yield f"complete -c notbugs -n __fish_use_subcommand -f -a {command} -d {shlex.quote(about.about)}"
        for one in _named(command):
            where = f"-n '__fish_seen_subcommand_from {command}'"
            given = f" -x -a {shlex.quote(' '.join(one.choices))}" if one.choices else ""
            for flag in _flags(one):
                yield f"complete -c notbugs {where} -l {flag.removeprefix('--')}{given}"
