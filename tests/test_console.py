"""What the terminal shows."""

from __future__ import annotations

import logging

from notbugs.console import TerminalConsole


def test_what_the_library_logs_is_said_once(capsys):
    TerminalConsole()
    for _ in range(2):
        logging.getLogger("notbugs").info("Searching in %s.", "bf16")
    logging.getLogger("notbugs").debug("A detail.")
    assert capsys.readouterr().err == "Searching in bf16.\n"


def test_quiet_says_nothing(capsys):
    TerminalConsole(quiet=True)
    logging.getLogger("notbugs").info("Searching in bf16.")
    assert capsys.readouterr().err == ""
