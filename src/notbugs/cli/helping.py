"""What `--help` and `--help-all` print: options in groups, those of experts folded away, examples."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from inspect import getdoc

import docstring_parser
from cyclopts import Group
from cyclopts.help import HelpEntry, create_parameter_help_panel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from notbugs._version import __version__
from notbugs.cli import app
from notbugs.cli.catalogue import ALWAYS, COMMANDS, FIRST
from notbugs.cli.spelling import replaced, shown
from notbugs.console import PipedConsole
from notbugs.errors import InputError

HELP, ALL = ("--help", "-h"), "--help-all"
MAIN, OUTPUT = "Main options", "Output"
USUAL = {
    "threat": ("eps", "epsilon", "radius", "norm", "budget"),
    "radii": ("radius",),
    "attack": ("adversary", "attacks"),
    "data": ("dataset", "data-dir", "data-path", "root", "folder", "dir"),
    "arch": ("model", "network", "architecture"),
    "weights": ("checkpoint", "ckpt"),
    "lr": ("learning-rate",),
    "batch": ("batch-size", "bs"),
    "out": ("output", "output-dir", "out-dir", "save", "save-dir"),
    "device": ("gpu", "cuda", "gpus"),
    "seeds": ("repeats", "runs"),
    "test-images": ("n-examples", "limit", "samples"),
}
"""Options, and what others call them."""
HIDDEN = ("options", "arch.options", "scaled-down")
"""Options that none gives: --arch.OPTION says the first two, and the last follows from the device."""

GROUPS: tuple[tuple[str, str], ...] = (
    (r"(out|quiet|page|name|keep|dtype|to|license)$", OUTPUT),
    (r"(seeds?|device|precision|compile|batch|judge|pair)$", "Running"),
    (
        r"(data|test-data|classes|groups|size|channels|splits|label|severity|heldout|skip-broken|follow-links|white-level"
        r"|jpeg|.*-column|group-pattern|label-offset|train-images|test-images|on)\b",
        "Data",
    ),
    (r"(arch|mean|std|head|outputs?|outputs-are|channel-order|weights)\b", "Model"),
    (r"(threat|attack|norm|radii|eps|autoattack.*|spatial|evaluation)\b", "Attack and evaluation"),
    (r"standard\b", "Training of the standard classifiers"),
    (r"robust\b", "Training of the robust classifier"),
    (r"constructed\b", "Training on constructed sets"),
    (r"(trained-on|architecture-on|epochs|microbatch|lr|warmup|drops|momentum|nesterov|weight-decay|shift|flip|jitter|degrees|balanced"
     r"|adversary|appearance)\b", "Training"),
    (r"(matching|relabelling|start|of|weak|storage|sets|further|others|features|cutoff)\b", "Construction"),
    (r"instruments\b", "Instruments"),
)  # fmt: skip
"""A regular expression of names of options, and the title of their group; the first that fits."""


@dataclass(frozen=True)
class Option:
    """One option of a command, as people write it.

    Attributes
    ----------
    name : str
        Without dashes; empty for an argument.
    label : str
        As the help has it: `--seed INT`.
    """

    name: str
    label: str
    about: str
    group: str
    basic: bool
    required: bool = False
    choices: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()


def wanted(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for help, or there are none."""
    before = list(arguments)[: list(arguments).index("--")] if "--" in arguments else arguments
    return not arguments or any(word in {*HELP, ALL} for word in before)


def print_help(arguments: Sequence[str]) -> None:
    """Print the help of the command that is named, or the list of commands."""
    words = [word for word in arguments if word not in {*HELP, ALL}]
    console = PipedConsole(highlight=False, soft_wrap=False)
    if not words or words[0].startswith("-"):
        _print_commands(console)
        return
    if words[0] not in COMMANDS:
        near = get_close_matches(words[0], COMMANDS, 1)
        did = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"There is no command {words[0]!r}.{did} Commands: {', '.join(COMMANDS)}.")
    _print_command(console, words[0], everything=ALL in arguments)


@cache
def options(command: str) -> list[Option]:
    """Every argument and option of a command, in the order of the help."""
    collection = app[command].assemble_argument_collection(parse_docstring=False)  # of every class: that takes seconds
    documented = _documented(command)
    entries = create_parameter_help_panel(Group("all"), collection, "plaintext").entries
    helps = {
        argument.name: str(
            argument.parameter.help or documented.get(".".join((argument.field_info.name, *argument.keys)), "")
        )
        for argument in collection
    }
    options: dict[str, Option] = {}
    for entry in entries:
        name = entry.positional_label or entry.positive_names[0]
        same = name.replace("trained-on.{NAME}", "standard").replace("architecture-on.{NAME}", "architecture")
        about = helps.get(same, "")  # of settings for one set
        option = _option(entry, about, {*COMMANDS[command].basic, *ALWAYS})
        if option.name not in HIDDEN and not replaced(command, option.name):
            options.setdefault(option.name or option.label, option)
    return [*options.values(), *_added(command, options)]


def _documented(command: str) -> dict[str, str]:
    """What the docstring of the command's function says of each parameter."""
    function = app[command].default_command
    return {item.arg_name: item.description or "" for item in docstring_parser.parse(getdoc(function) or "").params}


def unknown(command: str, word: str) -> InputError:
    """What is said of an option that a command does not have, with the nearest one."""
    if command not in COMMANDS:
        return InputError(f"Unknown option: {word}. `notbugs --help` lists the commands.")
    near = nearest(word.lstrip("-"), [option.name for option in options(command) if option.name])
    did = f" Did you mean {' or '.join(f'--{name}' for name in near)}?" if near else ""
    return InputError(f"Unknown option: {word}.{did} `notbugs {command} {ALL}` lists all options.")


def nearest(word: str, names: Sequence[str]) -> list[str]:
    """The options, at most three, that may be meant: what others call so, a setting of that name, the nearest word."""
    usual = [name for name in names if word in USUAL.get(name, ())]
    words = dict.fromkeys((*names, *(name.rpartition(".")[2] for name in names)))
    near = get_close_matches(word, list(words), 1)
    return (usual or [name for name in names if near and f".{name}".endswith(f".{near[0]}")])[:3]


def missing(command: str, name: str) -> InputError:
    """What is said where an argument or the value of an option is missing."""
    return InputError(
        f"`notbugs {command}` needs {name or 'another argument'}. `notbugs {command} --help` has examples."
    )


def unused(command: str, words: Sequence[str]) -> InputError:
    """What is said of words that are no option and one too many."""
    usage = " ".join(option.label for option in options(command) if not option.name)
    said = f"takes {usage} and options, and nothing else" if usage else "takes options, and nothing else"
    return InputError(f"`notbugs {command}` {said}. Got {' '.join(words)!r} besides. Is an option's name missing?")


def _option(entry: HelpEntry, about: str, basic: set[str]) -> Option:
    about = shown(" ".join(about.split()))
    if entry.choices:
        about += f" One of: {', '.join(map(str, entry.choices))}."
    if str(entry.default) not in {"None", "", "False", "{}", "()", "[]"}:
        about += f" Default: {entry.default}."
    required = bool(entry.required)
    if entry.positional_label:
        return Option("", entry.positional_label, about, "Arguments", True, required)
    long = shown(entry.positive_names[0])
    name = long.removeprefix("--")
    group = next((title for pattern, title in GROUPS if re.match(pattern, name)), MAIN)
    label = f"{long} {entry.metavar or ''}".strip()
    choices = tuple(map(str, entry.choices or ()))
    negative = tuple(map(shown, entry.negative_names)) if str(entry.default) == "True" else ()
    return Option(name, label, about, group, name in basic or required, required, choices, negative)


def _added(command: str, names: Container[str]) -> Iterator[Option]:
    """Options that have no setting of their own: they stand for several."""
    if "arch" in names:
        about = "An option of the architecture, as --arch.width 32 or --arch.growth 12."
        yield Option("arch.OPTION", "--arch.OPTION VALUE", about, "Model", True)
    if command in {"train", "build", "transfer", "evaluate"}:
        several = "; several for several radii" if command == "evaluate" else ""
        what = {
            "train": "Train adversarially",
            "build": "Relabelled sets: the ball of the search",
            "transfer": "The ball of the attack on the source's D_det",
            "evaluate": "Attack",
        }[command]
        about = f"{what}: norm and radius in pixel units, as l2:0.5 or linf:0.03{several}."
        yield Option("threat", f"--threat NORM:RADIUS{'...' if several else ''}", about, "Attack and evaluation", True)


def grouped(options: Sequence[Option]) -> dict[str, list[Option]]:
    """Options by group, in the order of the help."""
    titles = [title for _, title in GROUPS]
    order = dict.fromkeys(["Arguments", MAIN, *titles[2:], *titles[:2]])
    groups = {title: [option for option in options if option.group == title] for title in order}
    return {title: of for title, of in groups.items() if of}


def _print_commands(console: Console) -> None:
    console.print(f"notbugs {__version__}: a laboratory for robust and non-robust features.\n", style="bold")
    console.print(Text(FIRST))
    groups = dict.fromkeys(command.group for command in COMMANDS.values())
    for group in groups:
        console.print(f"\n[bold]{group}[/bold]")
        listed = [(f"  {name}", one.about) for name, one in COMMANDS.items() if one.group == group]
        console.print(_two_columns(console, listed, 14))
    console.print("\n`notbugs COMMAND --help` shows a command's main options, `--help-all` all of them.", markup=False)
    console.print("`notbugs --version` prints the version.", markup=False)


def _print_command(console: Console, command: str, *, everything: bool) -> None:
    about, entry = app[command].help or "", COMMANDS[command]
    offered = options(command)
    arguments = [option for option in offered if not option.name]
    usage = " ".join(option.label if option.required else f"[{option.label}]" for option in arguments)
    console.print(Text(f"Usage: notbugs {command} {usage} [OPTIONS]\n".replace("  ", " "), style="bold"))
    console.print(Text(" ".join(shown(entry.about).split())))
    rest = re.split(r"\n\s*\n", about.split("Parameters\n", 1)[0].strip())[1:]
    for paragraph in rest:
        console.print(Text("\n" + " ".join(shown(paragraph).split())))
    visible = [option for option in offered if everything or option.basic or option.required]
    for title, of in grouped(visible).items():
        console.print(f"\n[bold]{title}[/bold]")
        console.print(_two_columns(console, [(f"  {one.label}", one.about) for one in of], 30))
    console.print("\n[bold]Examples[/bold]")
    for line, does in entry.examples:
        console.print(Text(f"  {line}"), soft_wrap=True)
        console.print(Text(f"      {does}", style="dim"))
    hidden = len(offered) - len(visible)
    if hidden:
        console.print(f"\n{hidden} more options for experts: notbugs {command} {ALL}", markup=False)


def _two_columns(console: Console, rows: Sequence[tuple[str, str]], width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=width, max_width=console.width // 2, overflow="fold", style="cyan")
    table.add_column(overflow="fold")
    for left, right in rows:
        table.add_row(Text(left), Text(right))
    return table
