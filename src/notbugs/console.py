"""A bar for every stage in a terminal, plain lines in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from notbugs.progress import Progress, silent

LOG_SECONDS = 30.0


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
        self.rich = RichConsole(stderr=True, highlight=False, quiet=quiet)
        log = logging.getLogger("notbugs")
        log.handlers[:] = [_Said(self)]  # of the console that was made last
        log.setLevel(logging.INFO)

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        """A bar with elapsed and remaining time, or, without a terminal, a line now and then."""
        began = time.monotonic()
        if self.quiet:
            yield silent
        elif self.rich.is_terminal:
            with self._bar(title) as progress:
                yield progress
        else:
            yield _LogLines(title)
        self.say(f"{title}: done in {time.monotonic() - began:.1f} s")

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        self.rich.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def _bar(self, title: str) -> Iterator[Progress]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with RichProgress(*columns, console=self.rich, transient=True, expand=True, speed_estimate_period=60) as bars:
            task = bars.add_task(title, total=None, note="")

            def progress(done: int, total: int, note: str = "") -> None:
                known = bars.tasks[0].fields["note"]
                bars.update(task, completed=done, total=total, note=note or known)

            yield progress


class _LogLines:
    """A line every half minute, with the time left if the rest goes as what was done since the start."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = self.said = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.began = done, now  # a resumed stage starts in the middle
        if now - self.said < LOG_SECONDS or done == self.first:
            return
        self.said = now
        left = (now - self.began) * (total - done) / (done - self.first)
        print(f"{self.title}: {done}/{total}, about {left:.0f} s left {note}".rstrip(), file=sys.stderr, flush=True)


def show(table: Table) -> None:
    """Print a table, as wide as the terminal."""
    RichConsole(highlight=False).print(table)
