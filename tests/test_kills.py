"""`scripts/kills.py`: every command that writes, killed at random moments, ends in the bits of an undisturbed one."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_supply import SCRIPTS, script

kills = script("kills")


def words_written(words: list[str]) -> int:
    """A command that leaves what it was given, slowly."""
    Path("part").write_text("x")
    time.sleep(0.3)
    Path("whole").write_text(words[0])
    Path("part").unlink()
    return 0


def other_bits(words: list[str]) -> int:
    Path("whole").write_bytes(os.urandom(8))
    return 0


def refusing(words: list[str]) -> int:
    """One that does not go on where it was killed."""
    if Path("part").exists():
        os.write(1, b"notbugs: part is there")
        return 2
    return words_written(words)


def endless(words: list[str]) -> int:
    time.sleep(60)
    return 0


class Written(random.Random):
    """In place of random moments: those at which the first new file appears."""

    def random(self) -> float:
        return 1.0

    def randint(self, low: int, high: int) -> int:
        return low


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (words_written, ""),
        (other_bits, "differs: whole"),
        (refusing, "status 2: notbugs: part is there"),
        (endless, "not ended after 0.3 s"),
    ],
)
def test_the_script_notices_what_does_not_go_on(tmp_path, monkeypatch, command, fault):
    monkeypatch.setattr(kills, "notbugs", command)
    monkeypatch.setattr(kills, "PROCESSES", multiprocessing.get_context("fork"))
    monkeypatch.setattr(kills, "LONGEST", 0.3 if command is endless else 60)
    alone, often = tmp_path / "alone", tmp_path / "often"
    alone.mkdir(), often.mkdir()
    found = kills.disturbed("build", 3 * (command in (words_written, refusing)), Written(), alone, often)
    assert (found.faults == []) == (not fault)
    assert fault in " ".join(found.faults)
    if not fault:
        assert found.kills == 3
        assert sorted(path.name for path in often.iterdir()) == ["whole"]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_kills_of_every_command_that_writes():
    subprocess.run([sys.executable, SCRIPTS / "kills.py", "--kills", "100"], check=True)
