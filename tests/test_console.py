"""What the terminal shows: narrow and wide, without colours, in a log file, and quietly."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable

import pytest
from rich.table import Table

from notbugs.console import TerminalConsole, show
from notbugs.formats import duration
from notbugs.progress import Pace

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
TITLE = " 5/28 train on a set whose name is as long as a name can be, and longer"


def work(console: TerminalConsole) -> None:
    """Two stages, with what a study says of them."""
    with console.stage(" 4/28 measure robust") as progress:
        progress(1, 3)
        progress(2, 3, "loss 0.512")
    console.say("robust, 360 images:", *(f"l2 {eps} 93.6% [90.5%, 95.7%]" for eps in (0.25, 0.5, 1)))
    with console.stage(TITLE) as progress:
        progress(0, 20_000)
        progress(12_345, 20_000, "loss 1.234, 14 inner steps")
    with console.stage("of unknown length"):
        pass


def in_terminal(monkeypatch, width: int, act: Callable[[TerminalConsole], None] = work, **environment: str) -> str:
    """Everything that `act` writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color", "COLUMNS": str(width)} | environment).items():
        monkeypatch.setenv(name, value)
    parts: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(master, parts))
    reader.start()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            act(TerminalConsole())
            terminal.flush()
            monkeypatch.undo()
    finally:
        reader.join()
        os.close(master)
    return b"".join(parts).decode()


def read_all(master: int, parts: list[bytes]) -> None:
    try:
        while part := os.read(master, 4096):
            parts.append(part)
    except OSError:  # the other side was closed
        return


def lines(written: str) -> list[str]:
    """Every line that was ever drawn, bars among them."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", written)) if line.strip()]


@pytest.mark.parametrize("width", [40, 60, 160])
def test_no_line_is_wider_than_the_terminal(monkeypatch, width):
    assert max(map(len, lines(in_terminal(monkeypatch, width)))) <= width


def test_a_narrow_terminal_breaks_between_numbers(monkeypatch):
    drawn = lines(in_terminal(monkeypatch, 60))
    said = drawn.index("robust, 360 images: l2 0.25 93.6% [90.5%, 95.7%],")
    assert drawn[said + 1] == "    l2 0.5 93.6% [90.5%, 95.7%], l2 1 93.6% [90.5%, 95.7%]"
    bars = [line for line in drawn if "━" in line]
    assert any(line.startswith(" 5/28 train on a set") and "… ━" in line for line in bars)
    assert not any("12345" in line for line in bars)


def test_what_goes_on_in_the_next_line_is_indented(monkeypatch):
    """The end of a stage is in one piece, and an item that needs two lines is still seen as one."""

    def say(console: TerminalConsole) -> None:
        with console.stage(" 3/29 train independent classifier"):
            pass
        console.say("D_R, 200 images:", "on an independent classifier 15.5% [11.1%, 21.2%]", "loss 0.18")

    drawn = lines(in_terminal(monkeypatch, 40, say))
    assert drawn[-6] == " 3/29 train independent classifier:"
    assert re.fullmatch(r"    done in [\d.]+ s", drawn[-5])
    assert drawn[-4:] == [
        "D_R, 200 images:",
        "    on an independent classifier 15.5%",
        "      [11.1%, 21.2%],",
        "    loss 0.18",
    ]


@pytest.mark.parametrize(("width", "parts"), [(24, 3), (30, 2), (60, 1)])
def test_a_table_wider_than_the_terminal_is_printed_in_parts(monkeypatch, capsys, width, parts):
    table = Table("accuracy", "clean", "l2 0.25", "l2 0.5", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_row("standard", "30.0 19.9-42.5", "21.7 13.1-33.6", "15.0 8.1-26.1")
    table.add_row("robust", "", "", "11.7 5.8-22.2")
    monkeypatch.setenv("COLUMNS", str(width))
    show(table)
    written = capsys.readouterr().out
    assert "…" not in written
    assert max(map(len, written.splitlines())) <= width
    assert written.count("accuracy") == written.count("standard") == parts
    assert written.count("robust") == 1  # only where it says something
    assert all(written.count(word) == 1 for word in ("19.9-42.5", "13.1-33.6", "8.1-26.1", "5.8-22.2"))


def test_a_wide_terminal_has_room_for_everything(monkeypatch):
    drawn = lines(in_terminal(monkeypatch, 160))
    assert "robust, 360 images: " + ", ".join(f"l2 {eps} 93.6% [90.5%, 95.7%]" for eps in (0.25, 0.5, 1)) in drawn
    assert any(re.search(r"━ 12345/20000 .*loss 1\.234, 14 inner steps$", line) for line in drawn)
    assert any(line.startswith(f"{TITLE}: done in 0.") for line in drawn)
    assert not any("/?" in line or "None" in line for line in drawn)


def test_what_stays_is_lines_and_no_bars(monkeypatch):
    """After the last line of every stage its bar is erased."""
    written = in_terminal(monkeypatch, 160)
    assert written.count("\x1b[2K") >= 3
    assert "━" not in written.rsplit("\x1b[2K", 1)[1]


def test_colours_unless_they_are_not_wanted(monkeypatch):
    assert COLOUR.search(in_terminal(monkeypatch, 80))
    assert not COLOUR.search(in_terminal(monkeypatch, 80, NO_COLOR="1"))


def test_a_dumb_terminal_gets_a_log(monkeypatch):
    written = in_terminal(monkeypatch, 80, TERM="dumb")
    assert "\x1b" not in written
    assert "━" not in written
    assert " 4/28 measure robust: started" in written


def test_a_log_has_a_line_for_the_beginning_and_the_end_of_every_stage(capsys):
    work(TerminalConsole())
    written = capsys.readouterr().err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", written)
    assert [re.sub(r"[\d.]+ s$", "T", line) for line in written.splitlines()] == [
        " 4/28 measure robust: started",
        " 4/28 measure robust: done in T",
        "robust, 360 images: " + ", ".join(f"l2 {eps} 93.6% [90.5%, 95.7%]" for eps in (0.25, 0.5, 1)),
        f"{TITLE}: started",
        f"{TITLE}: done in T",
        "of unknown length: started",
        "of unknown length: done in T",
    ]


def test_a_log_says_now_and_then_how_much_is_left(capsys, monkeypatch):
    monkeypatch.setattr("notbugs.console.LOG_SECONDS", -1)
    with TerminalConsole().stage("train") as progress:
        progress(5, 20)  # where a resumed stage goes on
        progress(10, 20, "loss 0.5")
        progress(20, 20, "loss 0.1")
    written = capsys.readouterr().err.splitlines()
    assert re.sub(r"[\d.]+ s", "T", written[1]) == "train: 10/20, about T left, loss 0.5"
    assert len(written) == 3


def test_quiet_says_nothing_at_all(capsys, monkeypatch):
    work(TerminalConsole(quiet=True))
    logging.getLogger("notbugs").info("Searching in bf16.")
    assert capsys.readouterr().err == ""
    assert in_terminal(monkeypatch, 80, lambda _: work(TerminalConsole(quiet=True))) == ""


def test_names_are_no_markup(capsys, monkeypatch):
    def say(console: TerminalConsole) -> None:
        console.say("[bold]class[/bold]", "[red]x")
        with console.stage("[link=evil]title"):
            pass

    say(TerminalConsole())
    assert capsys.readouterr().err.startswith("[bold]class[/bold] [red]x\n[link=evil]title: started")
    assert "[bold]class[/bold] [red]x" in lines(in_terminal(monkeypatch, 80, say))


def test_what_the_library_logs_is_said_once(capsys):
    TerminalConsole()
    for _ in range(2):
        logging.getLogger("notbugs").info("Searching in %s.", "bf16")
    logging.getLogger("notbugs").debug("A detail.")
    assert capsys.readouterr().err == "Searching in bf16.\n"


def test_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("notbugs.progress.time.monotonic", lambda: now[0])
    pace = Pace()
    now[0] = 100.0
    assert pace.left(50, 200) is None  # a resumed stage
    now[0] = 110.0
    assert pace.left(100, 200) == 20.0
    assert pace.left(200, 200) == 0.0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.44, "0.4 s"), (12.3, "12 s"), (185, "3 min 5 s"), (3720, "1 h 2 min")]
)
def test_duration(seconds, said):
    assert duration(seconds) == said
