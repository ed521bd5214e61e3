"""One task on one model: quality and passes first, then the times, interleaved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from safetensors.torch import load_file

from benchmarks.search import quality
from benchmarks.search.cases import Case
from benchmarks.search.tasks import Task
from benchmarks.search.workers import LIBRARIES, OURS, Worker, floor_of, is_floor

PROBE, GROWTH, FEWEST = 16, 1.25, 10  # feature matching: images to choose the number of steps on, and how


@dataclass
class Entry:
    """One attack of one library, with its row so far."""

    worker: Worker
    task: Task
    attack: str
    row: dict[str, Any]

    @property
    def running(self) -> bool:
        """Whether nothing went wrong yet."""
        return self.row["status"] == "ok"

    def run(self, case: Case, images: int, **flags: bool) -> dict[str, Any]:
        """One run; what goes wrong is written into the row."""
        answer = self.worker.run(case.job, self.task, self.attack, images, **flags)
        if "error" in answer:
            self.row["status"] = answer["error"].removeprefix("NotImplementedError: ")
        return answer

    def loss(self, case: Case, images: int) -> float:
        """The loss that one run reaches."""
        self.run(case, images)
        return quality.measure(case, self.task, load_file(self.worker.out))["loss"] if self.running else math.inf


def measure_task(
    case: Case, task: Task, workers: dict[str, Worker], missing: dict[str, str], repeats: int
) -> list[dict[str, Any]]:
    """The rows of one task on one model: every library's, in the order of `LIBRARIES`."""
    images = math.ceil(case.images * task.share)
    if task.kind == "training":
        images = len(case.tensors()["train.images"])
    entries = [entry for worker in workers.values() for entry in enter(worker, task, case, images)]
    given = match_losses(case, task, entries, images) if task.kind == "matching" else None
    for entry in entries:
        assess(entry, case, images, given)
    times: dict[int, list[float]] = {index: [] for index in range(len(entries))}
    for _ in range(repeats):  # A B C A B C: what else the machine does hits all of them
        for index, entry in enumerate(entries):
            if entry.running and "seconds" in (answer := entry.run(case, images)):
                times[index].append(answer["seconds"])
                entry.row["peak_memory"] = answer.get("peak_memory")
    for index, entry in enumerate(entries):
        if entry.running:
            add_times(entry.row, times[index])
    rows = [entry.row for entry in entries]
    quality.mark_comparable(case, task, rows, given)
    add_ratios(rows)
    absent = {name: why for name, why in missing.items() if not is_floor(name)}
    rows += [blank(case, task, name, None, images) | {"status": why} for name, why in absent.items()]
    return sorted(rows, key=lambda row: list(LIBRARIES).index(row["library"]))


def enter(worker: Worker, task: Task, case: Case, images: int) -> list[Entry]:
    """An entry for each attack that a library offers; one that says so where it offers none."""
    attacks = worker.offers.get(task.kind, [None])
    entries = [Entry(worker, task, attack, blank(case, task, worker.library, attack, images)) for attack in attacks]
    for entry in entries:
        if entry.attack is None:
            entry.row["status"] = "not there" if worker.library in OURS else "not offered"
    return entries


def blank(case: Case, task: Task, library: str, attack: str | None, images: int) -> dict[str, Any]:
    """A row before anything is measured."""
    start = {"task": task.name, "model": case.model, "library": library, "attack": attack, "status": "ok"}
    measured = ("seconds", "images_per_second", "forwards", "backwards", "loss", "success", "norm", "comparable")
    derived = ("ratio_to_best_peer", "ratio_to_floor", "peak_memory")
    return start | {"images": images, "steps": task.steps} | dict.fromkeys((*measured, *derived))


def assess(entry: Entry, case: Case, images: int, given: float | None) -> None:
    """Count passes, which warms up too, and judge what comes back."""
    if not entry.running:
        return
    if entry.worker.conditions.device != "cpu":
        entry.run(case, images, warm_up=True)  # what is compiled or recorded is so before it is counted
    if entry.running:
        answer = entry.run(case, images, count=True)
    if entry.running:
        entry.row |= {name: round(answer[name], 2) for name in ("forwards", "backwards")}
    if entry.running and not is_floor(entry.worker.library):
        entry.row |= quality.measure(case, entry.task, load_file(entry.worker.out), given)


def match_losses(case: Case, task: Task, entries: list[Entry], images: int) -> float | None:
    """Give every other library the fewest steps with which it reaches the loss of the paper's schedule.

    That loss, over all images, is returned. The steps are chosen on a few images, outside of the timing.
    """
    reference = next((entry for entry in entries if entry.worker.library == "MadryLab"), None)
    if reference is None:
        return None
    probe = min(PROBE, images)
    wanted = reference.loss(case, probe)
    for entry in entries:
        if entry is reference or is_floor(entry.worker.library):
            continue
        steps = float(FEWEST)
        while entry.running:
            entry.task = replace(task, steps=min(math.ceil(steps), task.steps))
            if entry.task.steps == task.steps or entry.loss(case, probe) <= wanted:
                break
            steps *= GROWTH
        entry.row["steps"] = entry.task.steps
    return reference.loss(case, images) if images > probe else wanted


def add_times(row: dict[str, Any], seconds: list[float]) -> None:
    """Median with its spread, and images a second."""
    row["seconds"] = {"median": median(seconds), "min": min(seconds), "max": max(seconds)}
    row["images_per_second"] = row["images"] / median(seconds)


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """Speed over the best comparable peer's; time of a backward over that of the floor's.

    `ratio_to_best_peer` above 1 is faster. `ratio_to_floor` is per input gradient, so that it says what a loop adds to
    the bare pass; what fewer gradients gain is in `ratio_to_best_peer`.
    """
    floors = {row["library"]: row for row in rows if is_floor(row["library"])}
    peers = [row for row in rows if row["comparable"] and row["library"] not in OURS and row["seconds"]]
    best = max((row["images_per_second"] for row in peers), default=None)
    for row in rows:
        if is_floor(row["library"]) or not row["seconds"]:
            continue
        row["ratio_to_best_peer"] = row["images_per_second"] / best if best else None
        floor = floors.get(floor_of(row["library"]))
        if floor and floor["seconds"] and row["backwards"]:
            own, bare = (r["seconds"]["median"] / r["images"] / r["backwards"] for r in (row, floor))
            row["ratio_to_floor"] = own / bare
