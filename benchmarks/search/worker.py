"""One library in a process of its own: `python -m benchmarks.search.worker LIBRARY`, jobs and answers as JSON lines.

It imports torch, safetensors and the one library; notbugs only where the library is notbugs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
import warnings
from contextlib import nullcontext
from typing import Any, TextIO

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import nets
from benchmarks.search.counting import PassCounter
from benchmarks.search.loops import Normalised, Setting
from benchmarks.search.tasks import Task

BESIDE = {"matching": "guides", "targeted": "targets", "targeted minimum norm": "targets"}


class Worker:
    """Answers jobs; the case read last and the attacks prepared for it are kept between them."""

    def __init__(self, library: str) -> None:
        self.library = importlib.import_module(f"benchmarks.search.libraries.{library}")
        self.path, self.case, self.prepared = "", {}, {}

    def hello(self) -> dict[str, Any]:
        """Versions, and the attacks on offer by kind of task."""
        offers = {kind: list(attacks) for kind, attacks in self.library.ATTACKS.items()}
        return {"versions": {"torch": torch.__version__, **self.library.versions()}, "offers": offers}

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one attack on the case of `job`, timed or counted."""
        torch.set_num_threads(job["threads"])
        device = torch.device(job["device"])
        if job["case"] != self.path:
            self.path, self.case, self.prepared = job["case"], load_file(job["case"], device=str(device)), {}
        task = Task(**job["task"])
        images, beside = self.inputs(task, job)
        key = json.dumps([job["task"], job["attack"], job["batch"]])
        if task.kind == "training" or key not in self.prepared:  # training starts from the same weights every time
            self.prepared[key] = self.prepare(task, job, device)
        setting, attack = self.prepared[key]
        if job["warm_up"]:
            attack(images[: job["batch"]], beside[: job["batch"]])
            return {}
        counter = PassCounter(images.shape[1]) if job["count"] else None
        _wait(device, reset=True)
        started = time.perf_counter()
        with counter or nullcontext():
            found = attack(images, beside)
        _wait(device)
        answer: dict[str, Any] = {"seconds": time.perf_counter() - started}
        if device.type == "cuda":
            answer["peak_memory"] = torch.cuda.max_memory_allocated(device)
        if counter:
            answer |= {"forwards": counter.forwards / len(images), "backwards": counter.backwards / len(images)}
        save_file(_result(setting, found), job["out"])
        return answer

    def inputs(self, task: Task, job: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The images, and the labels, target classes or guides beside them."""
        part = "train." if task.kind == "training" else ""
        count = job["images"]
        return self.case[f"{part}images"][:count], self.case[part + BESIDE.get(task.kind, "labels")][:count]

    def prepare(self, task: Task, job: dict[str, Any], device: torch.device) -> tuple[Setting, Any]:
        """The attack on a fresh copy of the model, ready to be timed."""
        shape = tuple(self.case["images"].shape[1:])
        network = nets.build(job["model"], shape[0], job["classes"], **job["options"])
        network.load_state_dict({k.removeprefix("model."): v for k, v in self.case.items() if k.startswith("model.")})
        model = Normalised(network, job["mean"], job["std"])
        setting = Setting(task, model.to(device).eval(), job["batch"], job["classes"], shape, device)
        return setting, self.library.ATTACKS[task.kind][job["attack"]](setting)


def _result(setting: Setting, found: Tensor) -> dict[str, Tensor]:
    if setting.task.kind != "training":
        return {"images": found.detach().float().cpu().contiguous()}
    state = setting.model.network.state_dict()
    return {f"model.{name}": value.cpu().contiguous() for name, value in state.items()}


def _wait(device: torch.device, *, reset: bool = False) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        if reset:
            torch.cuda.reset_peak_memory_stats(device)


def serve(library: str, answers: TextIO) -> None:
    """Answer the jobs on the standard input until it ends."""
    worker = Worker(library)
    print(json.dumps(worker.hello()), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = worker.do(json.loads(line))
        except Exception as error:  # one failing attack must not end the run: the parent writes it into its row
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    serve(sys.argv[1], pipe)
