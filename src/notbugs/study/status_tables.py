"""Where a study stands, as tables to print."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from notbugs.formats import compact, duration
from notbugs.measure import Proportion
from notbugs.progress import packed
from notbugs.study.plan import stage_names
from notbugs.study.status import PLANS, Status, UnderWay

WORKS = ("build", "measure", "train", "evaluate")
MEDIANS = {"l2": ".3g", "linf": ".2g", "matching_loss": ".2g"}


def status_tables(found: Status) -> Iterator[Table]:
    """What `status` found, as tables to print: where it stands, how long it took, and the numbers so far."""
    yield _overview(found)
    if found.seconds:
        yield _times(found)
    if others := _others(found):
        yield others
    if found.accuracies:
        yield _accuracies(found)
    if found.sets:
        yield _sets(found)


@dataclass(frozen=True)
class _Items:
    """A list, in lines that end between its items."""

    items: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        first, *others = self.items
        yield Text("\n".join(packed(f"{first}," if others else first, others, options.max_width, indent="")))


def _overview(found: Status) -> Table:
    made = Table(show_header=False, box=None, pad_edge=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    data, spent = found.data, sum(found.seconds.values())
    own = set(stage_names(judge=True))  # not an instrument's
    base, is_stopped = [name for name in found.seconds if name in own], found.state == "stopped"
    count = len(base) + sum(name in own for name in found.left) + (found.now is not None and found.now.name in own)
    lines: dict[str, str | Sequence[str]] = {
        "study": f"{found.name}: {found.state}",
        "folder": str(found.folder),
        "data": f"{data['name']}, {data['train']:,} training and {data['test']:,} test images",
        "done": f"{len(base)} of {count} stages{_more(found, base)}, in {duration(spent)}",
        **(_now(found.now, found.state) if found.now else {}),
        **({"left": [_title(name) for name in found.left]} if found.left else {}),
        **({"damaged": [_title(name) for name in found.damaged]} if found.damaged else {}),
        **({"go on": _go_on(found.folder)} if is_stopped else {}),
        "report": str(found.report) if found.report else _no_report(found),
    }
    for name, line in lines.items():
        text = Text(line) if isinstance(line, str) else _Items(line)  # names of studies and data are not markup
        made.add_row(name, text)
    return made


def _go_on(folder: Path) -> str:
    return shlex.join(["notbugs", "run", str(folder / "recipe.toml"), "--out", str(folder)])


def _more(found: Status, base: list[str]) -> str:
    more = len(found.seconds) - len(base)
    return f", and {more} of instruments" if more else ""


def _no_report(found: Status) -> str:
    return shlex.join(["notbugs", "report", str(found.folder)]) if found.state == "finished" else "none yet"


def _now(now: UnderWay, state: str) -> dict[str, str | Sequence[str]]:
    parts = [_title(now.name)]
    if now.total:
        parts.append(f"{now.done}/{now.total}")
    if now.left is not None and state == "running":
        parts.append(f"about {duration(now.left)} left")
    parts += [*now.note.split(", "), f"{duration(now.ago)} ago"] if now.note else [f"{duration(now.ago)} ago"]
    return {("now" if state == "running" else "killed at"): parts, **({"kept": now.kept} if now.kept else {})}


def _title(stage: str) -> str:
    return stage.replace("-", " ", 1)


def _times(found: Status) -> Table:
    """A row a classifier and its set, a column a kind of stage."""
    made = _table("time", *WORKS)
    for column in made.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name in PLANS:
        times = [found.seconds.get(f"{work}-{name}") for work in WORKS]
        if any(time is not None for time in times):
            made.add_row(name, *("" if time is None else duration(time) for time in times))
    return made


def _others(found: Status) -> Table | None:
    """All other stages, those of a kind together; None where there are none."""
    named = {f"{work}-{name}" for work in WORKS for name in PLANS}
    kinds: dict[str, list[float]] = {}
    for name, seconds in found.seconds.items():
        if name not in named:
            kinds.setdefault(name.partition("-")[0], []).append(seconds)
    made = _table("other stages", "number", "time")
    for kind, times in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        made.add_row(Text(kind), str(len(times)), duration(sum(times)))
    return made if kinds else None


def _accuracies(found: Status) -> Table:
    """A row a classifier, a column a radius, per cent with 95 % intervals."""
    heads = list(dict.fromkeys(item.under for items in found.accuracies.values() for item in items))
    made = _table("accuracy (%)", *heads)
    for name, items in found.accuracies.items():
        at = {item.under: compact(item.share) for item in items}
        made.add_row(name, *(at.get(head, "") for head in heads))
    return made


def _sets(found: Status) -> Table:
    """A row a set: success on its source and on another classifier, per cent; medians of distances and of the loss."""
    made = _table("success (%)", "source", "another", "l2", "l-inf", "loss")
    for name, value in found.sets.items():
        shares = [compact(Proportion(**value[f"success_{on}"])) for on in ("source", "independent")]
        medians = [f"{value[of]['median']:{how}}" if value[of] else "" for of, how in MEDIANS.items()]
        made.add_row(name, *shares, *medians)
    return made


def _table(*heads: str) -> Table:
    made = Table(*heads, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.columns[0].no_wrap = True
    return made
