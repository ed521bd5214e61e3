"""The parent's end: one process a library, of which one works at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import interpreter
from benchmarks.search.tasks import Task
from notbugs.errors import InputError

ROOT = Path(__file__).parents[2]
OURS, FLOORS = ("notbugs", "notbugs fp32"), {"notbugs": "floor"}
LIBRARIES: dict[str, tuple[str, str | None]] = {  # module, environment; None is this interpreter
    "notbugs": ("notbugs", None),
    "notbugs fp32": ("notbugs_fp32", None),
    "foolbox": ("foolbox", "peers"),
    "torchattacks": ("torchattacks", "peers"),
    "ART": ("art", "peers"),
    "secml-torch": ("secml", "peers"),
    "adv-lib": ("advlib", "adv-lib"),
    "MadryLab": ("madry", None),
    "floor": ("floor", None),
    "floor fp32": ("floor_fp32", None),
}


def is_floor(library: str) -> bool:
    """Whether it is no library but a bare pass."""
    return library.startswith("floor")


def floor_of(library: str) -> str:
    """The floor a library is measured against: the pass in the form that it runs."""
    return FLOORS.get(library, "floor fp32")


@dataclass(frozen=True)
class Conditions:
    """What is the same for every library."""

    threads: int
    device: str
    batch: int


class Worker:
    """A library in its own process."""

    def __init__(self, library: str, peers: Path, folder: Path, conditions: Conditions) -> None:
        module, environment = LIBRARIES[library]
        python = interpreter(peers, environment) if environment else Path(sys.executable)
        if not python.exists():
            raise InputError(f"{library} is not installed in {peers}. Run `python -m benchmarks.peers {peers}`.")
        self.library, self.conditions = library, conditions
        self.out, self.log = folder / f"{module}.found.safetensors", folder / f"{module}.log"
        paths = [str(ROOT), *([] if environment else [p for p in sys.path if p])]
        threads = str(conditions.threads)
        variables = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": threads}
        command = [python, "-m", "benchmarks.search.worker", module]
        pipe = subprocess.PIPE
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=log, text=True, cwd=ROOT, env=variables
            )
        hello = self._answer()
        self.versions, self.offers = hello["versions"], hello["offers"]

    def run(self, case: dict[str, Any], task: Task, attack: str, images: int, **others: Any) -> dict[str, Any]:
        """Give one job and wait for its answer; `others` are its flags `count` and `warm_up`, or another `batch`."""
        what = {"task": asdict(task), "attack": attack, "images": images, "out": str(self.out)}
        job = case | asdict(self.conditions) | what | {"count": False, "warm_up": False} | others
        assert self.process.stdin
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        if self.process.stdin and self.process.stdout:
            self.process.stdin.close()
            self.process.wait(timeout=60)
            self.process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            last = self.log.read_text(encoding="utf-8").strip().splitlines()[-1:]
            raise InputError(f"{self.library} ended: {''.join(last)} The whole story is in {self.log}.")
        return json.loads(line)
