"""A bar for every stage in a terminal, plain lines in a log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.measure import Measurement
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column, Table
from rich.text import Text

from notbugs.formats import duration, harmless, one_line
from notbugs.progress import Pace, Progress, packed, silent

LOG_SECONDS = 30.0
REFRESHES = 4
"""Of a bar, each second: more would take time from the work."""
WIDE = 100
"""Columns of a terminal that has room for everything beside a bar."""
BAR, CLOCK = 8, 12
"""Columns of both at least."""


class _Said(logging.Handler):
    """What the library logs, as lines of a console, each only once."""

    def __init__(self, console: TerminalConsole) -> None:
        super().__init__()
        self.console = console
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if (line := record.getMessage()) not in self.said:
            self.said.add(line)
            self.console.say(line)


class TerminalConsole:
    """Shows stages on standard error; `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.rich = RichConsole(stderr=True, highlight=False, emoji=False, quiet=quiet)
        self.is_live = self.rich.is_terminal and not self.rich.is_dumb_terminal
        log = logging.getLogger("notbugs")
        log.handlers[:] = [_Said(self)]  # of the console that was made last
        log.setLevel(logging.INFO)

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        """A bar with the time left, or, without a terminal, a line at the beginning and one now and then."""
        began, title = time.monotonic(), one_line(title)
        if self.quiet:
            yield silent
        elif self.is_live:
            with self._bar(title) as progress:
                yield progress
        else:
            self.say(f"{title}: started")
            yield _LogLines(self, title)
        self.say(f"{title}:", f"done in {duration(time.monotonic() - began)}")

    def say(self, text: str, *items: str) -> None:
        """One line, above the bar if there is one; a narrow terminal breaks it between its items."""
        for line in packed(text, items, self.rich.width) if self.is_live else [" ".join([text, ", ".join(items)])]:
            self.rich.print(one_line(line.rstrip()), markup=False, soft_wrap=not self.is_live)

    @contextmanager
    def _bar(self, title: str) -> Iterator[Progress]:
        columns = _columns(self.rich.width)
        with RichProgress(
            *columns,
            console=self.rich,
            transient=True,
            expand=True,
            refresh_per_second=REFRESHES,
            speed_estimate_period=60,
        ) as bars:
            task = bars.add_task(title, total=None, note="")

            def progress(done: int, total: int, note: str = "") -> None:
                known = bars.tasks[0].fields["note"]
                bars.update(task, completed=done, total=total, note=note or known)

            yield progress


class _LogLines:
    """A line every half minute, with the time left."""

    def __init__(self, console: TerminalConsole, title: str) -> None:
        self.console, self.title = console, title
        self.said = time.monotonic()
        self.pace = Pace()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        left, now = self.pace.left(done, total), time.monotonic()
        if left is None or done == total or now - self.said < LOG_SECONDS:
            return
        self.said = now
        items = [f"about {duration(left)} left", *([note] if note else [])]
        self.console.say(f"{self.title}: {done}/{total},", *items)


class _Count(ProgressColumn):
    """What is done, out of how much, once that is known."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:.0f}/{task.total:.0f}" if task.total else "", style="progress.download")


class _Time(ProgressColumn):
    """The time left; as long as that is not known, the time gone by."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        text = duration(task.elapsed or 0) if left is None else f"{duration(left)} left"
        return Text(text, style="progress.remaining", justify="right")


def _columns(width: int) -> list[ProgressColumn]:
    """Title, bar and time; counts and the number of the moment where there is room for them."""
    is_wide = width >= WIDE
    titled = Column(no_wrap=True, overflow="ellipsis", max_width=width // 2 if is_wide else width - BAR - CLOCK - 2)
    title = TextColumn("{task.description}", markup=False, table_column=titled)
    bar = BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=BAR))
    clock = _Time(table_column=Column(no_wrap=True, min_width=CLOCK))
    if not is_wide:
        return [title, bar, clock]
    note = TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True))
    return [title, bar, _Count(), clock, note]


def _harmless(cell: Any) -> Any:
    if isinstance(cell, Text) and cell.plain != (plain := harmless(cell.plain)):
        return Text(plain, style=cell.style)
    return harmless(cell) if isinstance(cell, str) else cell


class PipedConsole(RichConsole):
    """Whose reader may have enough of it: as for any other output, that is an error, and no end of the program."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program with status 1."""
        raise BrokenPipeError


def tell(*lines: object) -> None:
    """Print what a command found, each a line: a name from elsewhere in it moves no cursor and begins no other line."""
    for line in lines:
        print(one_line(str(line)))


def show(table: Table) -> None:
    """Print a table, as wide as the terminal; where that cuts words, in parts, each with the first column."""
    console = PipedConsole(highlight=False)
    for column in table.columns:
        column._cells[:] = [_harmless(cell) for cell in column._cells]
    for part in _parts(table, console) if table.show_header else [table]:
        console.print(part)


def _parts(table: Table, console: RichConsole) -> Iterator[Table]:
    gap = table.padding[1] + table.padding[3]
    name, *others = (_sized(column, console) for column in table.columns)
    if sum(gap + most for _, _, most in others) + name[2] <= console.width:
        yield table
        return
    groups, used = [[name]], name[1]
    for column in others:
        used += gap + column[1]
        if used > console.width and len(groups[-1]) > 1:
            groups.append([name])
            used = name[1] + gap + column[1]
        groups[-1].append(column)
    yield from (_part(group, table) for group in groups)


def _sized(column: Column, console: RichConsole) -> tuple[Column, int, int]:
    """A column, and how wide it is at least, without cutting words, and at most."""
    sizes = [Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells)]
    most = max(size.maximum for size in sizes)
    return column, most if column.no_wrap else max(size.minimum for size in sizes), most


def _part(columns: list[tuple[Column, int, int]], table: Table) -> Table:
    """Some columns, as narrow as they may be, without the rows that say nothing in them."""
    part = Table(box=table.box, pad_edge=table.pad_edge, padding=table.padding)
    for column, least, _ in columns:
        part.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap, width=least)
    for name, *cells in zip(*(column.cells for column, _, _ in columns), strict=True):
        if any(cells):
            part.add_row(name, *cells)
    return part
