"""Kill every command that writes at random moments, give it again, and compare the bits with those of undisturbed ones.

    python scripts/kills.py [--kills 100] [--seed 0] [COMMAND ...]

Each command works on a small study of digits in two folders: in one it is left alone, in the other SIGKILL ends it at
random moments, each time followed by the same command again. At the end both folders must hold the same files with the
same bytes, but for times. Exit status 1 if they do not, or if a command that is given again fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL = "--train-images 150 --test-images 40 --arch.width 4 --arch.features 6"
EPOCHS = "--standard.epochs 2 --robust.epochs 2 --constructed.epochs 2"
STEPS = "--matching.steps 5 --relabelling.steps 5 --evaluation.attack.steps 3 --evaluation.pgd.steps 3"
MODEL = "s/classifiers/standard.safetensors"
WEAK = "--data digits --train-images 150 --test-images 40 --attack.steps 3"
COMMANDS = {
    "run": f"run digits --out s {SMALL} {EPOCHS} {STEPS}",
    "train": "train --data digits --train-images 300 --epochs 8 --adversary.eps 0.5 --out m.safetensors",
    "build": f"build robust {MODEL} --data digits --train-images 150 --matching.steps 50 --out set",
    "export": "export s/sets/D_R --to parquet --out exported",
    "audit": f"audit {MODEL} {WEAK} --out audited",
    "tune": "tune s --sets D_det --rates 0.01 0.1",
    "transfer": f"transfer {MODEL} s/classifiers/robust.safetensors {WEAK} --out transferred",
    "compare": "compare s t --out compared",
    "figures": "figures s",
    "report": "report s",
}
"""In the order in which they need each other; `t` is a copy of `s`."""
TIMES = {"checksum", "seconds", "created", "at", "stages", "time"}


@dataclass
class Killed:
    """What became of one command."""

    name: str
    kills: int
    faults: list[str]


def started(command: str, folder: Path) -> subprocess.Popen[bytes]:
    """A command at work in a folder, in a group of its own, with what it says in a file."""
    with (folder.parent / "said").open("wb") as said:
        words = [sys.executable, "-m", "notbugs", *command.split()]
        return subprocess.Popen(
            words,
            cwd=folder,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def finished(command: str, folder: Path) -> str:
    """What a command says that fails; empty for one that does not."""
    status = started(command, folder).wait()
    return "" if status == 0 else f"status {status}: {(folder.parent / 'said').read_text(errors='replace')[-300:]}"


def without_times(values: Any) -> Any:
    """JSON values without what may differ from run to run."""
    if isinstance(values, dict):
        return {name: without_times(value) for name, value in values.items() if name not in TIMES}
    return [without_times(value) for value in values] if isinstance(values, list) else values


def bits(folder: Path) -> dict[str, str]:
    """The hash of every file without times; not of pages, which say when and are made of the rest, nor hidden ones."""
    found = {}
    for file in sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix != ".html" and path.name[0] != "."
    ):
        data = file.read_bytes()
        if file.suffix == ".json":
            data = json.dumps(without_times(json.loads(data))).encode()
        if "stages" not in file.parts or not file.name.startswith("build-"):
            found[str(file.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def disturbed(name: str, count: int, draw: random.Random, alone: Path, often: Path) -> Killed:
    """Do a command in two folders, killed `count` times in one of them."""
    command, faults, kills = COMMANDS[name], [], 0
    if name == "compare":
        for folder in (alone, often):
            shutil.copytree(folder / "s", folder / "t", dirs_exist_ok=True)
    began = time.monotonic()
    if said := finished(command, alone):
        return Killed(name, 0, [f"undisturbed: {said}"])
    seconds, before = time.monotonic() - began, set(often.rglob("*"))
    while kills < count:
        process = started(command, often)
        time.sleep(draw.uniform(0.3, 1) * seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        elif process.returncode:
            faults.append(f"status {process.returncode}: {(often.parent / 'said').read_text(errors='replace')[-300:]}")
            kills += 1
        process.wait()
        if not process.returncode:  # it was done: from the beginning
            for path in sorted(set(often.rglob("*")) - before, reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    if said := finished(command, often):
        faults.append(f"given again: {said}")
    one, other = bits(alone), bits(often)
    faults += [f"differs: {file}" for file in sorted(one.keys() | other.keys()) if one.get(file) != other.get(file)]
    return Killed(name, kills, faults)


def disturb_all(names: list[str], count: int, seed: int) -> list[Killed]:
    """Every command in its order; those that are not asked for are done once, for the others need them."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        alone, often = (Path(root, name) for name in ("alone", "often"))
        alone.mkdir()
        often.mkdir()
        share = -(-count // len(names))
        found = []
        for name in COMMANDS:
            if name not in names and name != "run":
                continue
            found.append(disturbed(name, share if name in names else 0, draw, alone, often))
            print(f"{name:10} {found[-1].kills:4} kills, {len(found[-1].faults)} faults", flush=True)
            for fault in found[-1].faults:
                print(f"  {fault}", flush=True)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--kills", type=int, default=100, help="in all, shared evenly among the commands")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = disturb_all(given.commands or list(COMMANDS), given.kills, given.seed)
    print(f"{sum(one.kills for one in found)} kills, {sum(len(one.faults) for one in found)} faults")
    return int(any(one.faults for one in found))


if __name__ == "__main__":
    sys.exit(main())
