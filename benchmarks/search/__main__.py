"""`python -m benchmarks.search`: ours beside the peers and the floors, on this machine, in one run."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import notbugs as nb
from benchmarks import nets
from benchmarks.peers import FOLDER
from benchmarks.search.cases import Case, load, make_case
from benchmarks.search.measuring import measure_task
from benchmarks.search.quality import TOLERANCE
from benchmarks.search.table import table
from benchmarks.search.tasks import TASKS, quick
from benchmarks.search.workers import LIBRARIES, Conditions, Worker
from notbugs.errors import InputError, check_choice
from notbugs.files import write_json


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here, after every task")
    parser.add_argument("--models", default="cnn,resnet9,resnet18", help="default: %(default)s")
    parser.add_argument("--tasks", default=";".join(task.name for task in TASKS), help="by ';'; default: all")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="default: all")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each; default: %(default)s")
    parser.add_argument(
        "--images", type=int, default=256, help="attacked images, of which long tasks take a half or a quarter"
    )
    parser.add_argument("--train-images", type=int, default=1280, help="of adversarial training; default: %(default)s")
    parser.add_argument("--batch", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--data", help="a folder of parquet files; default: smooth noise in ten classes")
    parser.add_argument("--weights", type=Path, help="weights of the one model; default: a brief training, cached")
    parser.add_argument("--peers", type=Path, default=FOLDER, help="where benchmarks.peers put them; %(default)s")
    parser.add_argument("--quick", action="store_true", help="16 images, fewer steps, one repeat: does it run?")
    options = parser.parse_args(given)
    if options.quick:
        options.images, options.batch, options.train_images, options.repeats = 16, 16, 320, 1
    options.device = str(nb.classifier.default_device()) if options.device == "auto" else options.device
    return options


def choose(name: str, given: str, known: list[str], separator: str = ",") -> list[str]:
    """The names in a list, in the order of `known`."""
    chosen = {check_choice(name, part.strip(), known) for part in given.split(separator)}
    return [name for name in known if name in chosen]


def device_name(device: str) -> str:
    """The processor's name, and its kind of instructions or memory."""
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    name = names[0].split(":")[1].strip() if names else platform.processor()
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def start(options: argparse.Namespace, folder: Path, stack: ExitStack) -> tuple[dict[str, Worker], dict[str, str]]:
    """A worker for each library, and what is wrong with those that have none."""
    workers: dict[str, Worker] = {}
    missing: dict[str, str] = {}
    conditions = Conditions(options.threads, options.device, options.batch)
    for library in choose("libraries", options.libraries, list(LIBRARIES)):
        try:
            workers[library] = Worker(library, options.peers, folder, conditions)
            stack.callback(workers[library].close)
        except InputError as error:
            missing[library] = str(error)
            print(error, file=sys.stderr)
    return workers, missing


def head(options: argparse.Namespace, data: nb.Data, workers: dict[str, Worker]) -> dict[str, Any]:
    """What the rows were measured with."""
    versions: dict[str, str] = {"python": platform.python_version()}
    for worker in workers.values():
        versions |= {name: value for name, value in worker.versions.items() if versions.get(name, value) == value}
    torches = {worker.versions["torch"] for worker in workers.values()}
    if len(torches) > 1:
        raise InputError(f"The libraries run on different versions of torch: {torches}. Make the environments again.")
    names = ("threads", "batch", "repeats", "seed", "quick")
    settings = {name: getattr(options, name) for name in names}
    loads = os.getloadavg() if hasattr(os, "getloadavg") else (0.0,)
    return {
        "device": device_name(options.device), "device_type": options.device.split(":")[0], "versions": versions,
        **settings, "data": data.title, "load_at_start": round(loads[0], 2), "tolerance": TOLERANCE,
        "models": {}, "rows": [],
    }  # fmt: skip


def main(given: list[str] | None = None) -> dict[str, Any]:
    """Run it, print a table after every task, and return the results."""
    options = arguments(given)
    models = choose("models", options.models, list(nets.NETWORKS))
    names = choose("tasks", options.tasks, [task.name for task in TASKS], ";")
    tasks = [quick(task) if options.quick else task for task in TASKS if task.name in names]
    data = load(options.data, options.seed)
    with tempfile.TemporaryDirectory(prefix="notbugs-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        workers, missing = start(options, folder, stack)
        results = head(options, data, workers)
        for model in models:
            case = prepare(model, data, folder, options)
            results["models"][model] = {"accuracy": case.accuracy, "images": case.images}
            for task in tasks:
                rows = measure_task(case, task, workers, missing, options.repeats)
                results["rows"] += rows
                print(table(rows), flush=True)
                if options.json:
                    write_json(options.json, results)
    return results


def prepare(model: str, data: nb.Data, folder: Path, options: argparse.Namespace) -> Case:
    """The case of one model."""
    sizes = {"images": options.images, "train_images": options.train_images}
    return make_case(model, data, folder, **sizes, seed=options.seed, weights=options.weights)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
