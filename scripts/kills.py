"""Kill every command that writes at random moments, give it again, and compare the bits with those of undisturbed ones.

    python scripts/kills.py [--kills 100] [--seed 0] [COMMAND ...]

Each command works on a small study of digits in two folders: in one it is left alone, in the other SIGKILL ends it at
random moments, each time followed by the same command again. Half of the moments are drawn from the time that the
command takes, half from the files that it has yet to write: it is killed as one of them appears. At the end both
folders must hold files of the same names with the same bytes, but for times; a page that shows times must be the one
that its numbers give. Exit status 1 if they do not, or if a command that is given again fails or does not end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from typing import Any

from notbugs.__main__ import main as notbugs
from notbugs.report import PAGES, drawn
from notbugs.training import loop

SMALL = "--train-images 150 --test-images 40 --arch.width 4 --arch.features 6"
EPOCHS = "--standard.epochs 2 --robust.epochs 2 --constructed.epochs 2"
STEPS = "--matching.steps 5 --relabelling.steps 5 --evaluation.attack.steps 3 --evaluation.pgd.steps 3"
STANDARD, ROBUST = (f"s/classifiers/{name}.safetensors" for name in ("standard", "robust"))
DATA = "--data digits --train-images 150 --test-images 40"
ROBUSTLY = "--adversary.eps 0.5 --adversary.steps 3"
TRAINED = "--architectures 'cnn width=4' --standard.epochs 2 --constructed.epochs 2 --relabelling.steps 5 --steps 3"
COMMANDS = {
    "run": f"run digits --out s --no-page {SMALL} {EPOCHS} {STEPS}",
    "train": f"train {DATA} --architecture.width 4 --epochs 8 {ROBUSTLY} --out m.safetensors",
    "build": f"build robust {STANDARD} --data digits --train-images 150 --matching.steps 50 --out set",
    "export-parquet": "export s/sets/D_R --to parquet --out parquet",
    "export-imagefolder": "export s/sets/D_rand --to imagefolder --out pictures",
    "export-npz": "export s/sets/D_det --to npz --out npz",
    "evaluate": f"evaluate {STANDARD} {DATA} --radii 0.25 --autoattack --autoattack-images 4 --keep kept",
    "audit": f"audit {STANDARD} {DATA} --attack.steps 3 --out audited",
    "tune": "tune s --sets D_det --learning-rates 0.01 0.1",
    "transfer": f"transfer {STANDARD} {ROBUST} {DATA} {TRAINED} --out transferred",
    "compare": "compare s t --out compared",
    "figures": "figures s",
    "theory": "theory --out s",
    "report": "report s",
}
"""In the order in which they need each other; `t` is a copy of `s`."""
PROCESSES: Any = multiprocessing.get_context("forkserver")
"""Its server imports what commands need, once, and computes nothing: threads do not outlive a fork."""
LONGEST = 600
"""Seconds that a command may take."""
TIMES = {"checksum", "seconds", "created", "at", "stages", "time"}
IMPORTED = ["__main__", "notbugs.cli", "sklearn.datasets", "pyarrow.parquet", "pyautoattack"]
FULL_OF_TIMES = "stages/build-"
"""The value of such a stage is how long it took."""
ROW_OF_TIMES = b"Time to build"


@dataclass
class Killed:
    """What became of one command."""

    name: str
    kills: int
    faults: list[str]


def started(command: str, folder: Path) -> Process:
    """A command at work in a folder, in a process of its own, with what it says in a file."""
    process: Process = PROCESSES.Process(target=work, args=(command, folder))
    process.start()
    return process


def work(command: str, folder: Path) -> None:
    loop.CHECKPOINT_SECONDS = -1.0  # every epoch: trainings as short as these would keep none
    os.chdir(folder)
    said = os.open(folder.parent / "said", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(said, 1)
    os.dup2(said, 2)
    status = notbugs(shlex.split(command))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # at the interpreter's own exit a forked `tune` was seen to wait for ever


def timed(command: str, folder: Path) -> tuple[float, str]:
    """Seconds that a command takes, and what it says if it fails."""
    began, process = time.monotonic(), started(command, folder)
    process.join(LONGEST)
    if process.exitcode is None:
        end(process)
        return LONGEST, f"not ended after {LONGEST} s: {said_last(folder)}"
    return time.monotonic() - began, failed(process.exitcode, folder) if process.exitcode else ""


def end(process: Process) -> None:
    process.kill()
    process.join()


def said_last(folder: Path) -> str:
    return (folder.parent / "said").read_text(errors="replace")[-300:]


def failed(status: int, folder: Path) -> str:
    return f"status {status}: {said_last(folder)}"


def wait(process: Process, seconds: float, folder: Path, missing: int, draw: random.Random) -> None:
    """Wait for a random moment of a command's work, or for its end."""
    if draw.random() < 0.5:
        process.join(draw.uniform(0, seconds))
        return
    before, awaited = set(folder.rglob("*")), draw.randint(1, max(1, missing))
    deadline = time.monotonic() + LONGEST
    while len(set(folder.rglob("*")) - before) < awaited and time.monotonic() < deadline:
        process.join(0.002)
        if process.exitcode is not None:
            return


def without_times(values: Any) -> Any:
    """JSON values without what may differ from run to run."""
    if isinstance(values, dict):
        return {name: without_times(value) for name, value in values.items() if name not in TIMES}
    return [without_times(value) for value in values] if isinstance(values, list) else values


def bits(folder: Path) -> dict[str, str]:
    """For every file, also hidden ones, a hash of what is in it but for times."""
    return {str(file.relative_to(folder)): _bits(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def _bits(file: Path) -> str:
    data = file.read_bytes()
    if FULL_OF_TIMES in str(file):
        return "times"
    if file.suffix == ".html" and file.stem in PAGES:  # it shows times
        return "by its numbers" if data.decode() == drawn(file.parent, file.stem) else "by other numbers"
    if file.parent.name == "tables":
        data = b"".join(line for line in data.splitlines(keepends=True) if ROW_OF_TIMES not in line)
    if file.suffix == ".json":
        data = json.dumps(without_times(json.loads(data))).encode()
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def disturbed(name: str, count: int, draw: random.Random, alone: Path, often: Path) -> Killed:
    """Do a command in two folders, killed `count` times in one of them."""
    command, faults, kills = COMMANDS[name], [], 0
    if name == "compare":
        for folder in (alone, often):
            shutil.copytree(folder / "s", folder / "t", dirs_exist_ok=True)
    seconds, said = timed(command, alone)
    if said:
        return Killed(name, 0, [f"undisturbed: {said}"])
    before = set(often.rglob("*"))
    while kills < count:
        process = started(command, often)
        wait(process, seconds, often, len(names(alone) - names(often)), draw)
        if process.exitcode is None:
            end(process)
            kills += 1
            continue
        if process.exitcode:
            faults.append(failed(process.exitcode, often))
            break
        for path in sorted(set(often.rglob("*")) - before, reverse=True):  # it was done: from the beginning
            path.rmdir() if path.is_dir() else path.unlink()
    if said := timed(command, often)[1]:
        faults.append(f"given again: {said}")
    one, other = bits(alone), bits(often)
    faults += [f"differs: {file}" for file in sorted(one.keys() | other.keys()) if one.get(file) != other.get(file)]
    faults += [f"not of its numbers: {file}" for file, found in one.items() if found == "by other numbers"]
    return Killed(name, kills, faults)


def disturb_all(chosen: list[str], count: int, seed: int) -> list[Killed]:
    """Every command in its order; those that are not asked for are done once, for the others need them."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        alone, often = (Path(root, name) for name in ("alone", "often"))
        alone.mkdir()
        often.mkdir()
        share = -(-count // len(chosen))
        found = []
        for name in COMMANDS:
            if name not in chosen and name != "run":
                continue
            found.append(disturbed(name, share if name in chosen else 0, draw, alone, often))
            print(f"{name:20} {found[-1].kills:4} kills, {len(found[-1].faults)} faults", flush=True)
            for fault in found[-1].faults:
                print(f"  {fault}", flush=True)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--kills", type=int, default=100, help="in all, shared evenly among the commands")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(IMPORTED)
    found = disturb_all(given.commands or list(COMMANDS), given.kills, given.seed)
    print(f"{sum(one.kills for one in found)} kills, {sum(len(one.faults) for one in found)} faults")
    return int(any(one.faults for one in found))


if __name__ == "__main__":
    sys.exit(main())
