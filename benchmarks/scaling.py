"""`python -m benchmarks.scaling`: how the cost of PGD grows with batch, steps, image size and width, beside the floor.

The weights are random: cost does not depend on them. Every point is the median of interleaved repeats.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

import notbugs as nb
from benchmarks import nets
from benchmarks.peers import FOLDER
from benchmarks.search.__main__ import device_name
from benchmarks.search.cases import CLASSES, Case
from benchmarks.search.tasks import Task
from benchmarks.search.workers import Conditions, Worker
from notbugs.errors import InputError
from notbugs.files import write_json, write_tensors
from notbugs.seeds import derive, generator

BASE = {"batch": 128, "steps": 20, "size": 32, "width": 32}
SWEEPS = {
    "batch": (8, 16, 32, 64, 128, 256, 512),
    "steps": (5, 10, 20, 40, 80),
    "size": (16, 24, 32, 48, 64, 96),
    "width": (8, 16, 32, 64, 128),
}
QUICK = {"batch": (4, 8), "steps": (2, 4), "size": (16, 32), "width": (8, 16)}
TITLES = {
    "batch": "images in a batch",
    "steps": "gradient steps",
    "size": "pixels a side",
    "width": "channels of the first layer",
}
LIBRARIES = ("notbugs", "floor")


def random_case(model: str, size: int, width: int, images: int, folder: Path) -> Case:
    """A case with random weights and images."""
    path = folder / f"{model}-{size}-{width}-{images}.safetensors"
    draw = generator(0, "scaling", size)
    built = nets.build(model, 3, CLASSES, seed=derive(0, "scaling"), width=width)
    inputs = torch.rand(images, 3, size, size, generator=draw)
    labels = torch.randint(CLASSES, (images,), generator=draw)
    weights = {f"model.{name}": value for name, value in built.state_dict().items()}
    write_tensors(path, weights | {"images": inputs, "labels": labels})
    return Case(path, model, CLASSES, [0.5] * 3, [0.25] * 3, images, 0.0, {"width": width})


def point(workers: dict[str, Worker], model: str, at: dict[str, int], repeats: int, folder: Path) -> dict[str, float]:
    """Median seconds of PGD with l2 steps on one batch, for each library."""
    case = random_case(model, at["size"], at["width"], at["batch"], folder)
    task = replace(Task("pgd", "pgd", 1), steps=at["steps"])
    attack = {"notbugs": "PGD", "floor": "passes"}
    times: dict[str, list[float]] = {library: [] for library in workers}
    for repeat in range(repeats + 1):  # the first one warms up
        for library, worker in workers.items():
            answer = worker.run(case.job, task, attack[library], at["batch"], batch=at["batch"], warm_up=repeat == 0)
            times[library] += [answer["seconds"]] if repeat else []
    case.path.unlink()
    return {library: median(seconds) for library, seconds in times.items()}


def sweep(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows."""
    rows = []
    base = BASE | ({"batch": 8, "steps": 2, "width": 8} if options.quick else {})
    with tempfile.TemporaryDirectory(prefix="notbugs-scaling-") as name, ExitStack() as stack:
        conditions = Conditions(options.threads, options.device, base["batch"])
        workers = {library: Worker(library, FOLDER, Path(name), conditions) for library in LIBRARIES}
        for worker in workers.values():
            stack.callback(worker.close)
        for swept, values in (QUICK if options.quick else SWEEPS).items():
            for value in values:
                at = base | {swept: value}
                for library, seconds in point(workers, options.model, at, options.repeats, Path(name)).items():
                    passes = at["batch"] * (at["steps"] if library == "notbugs" else min(at["steps"], 20))
                    cost = {"seconds": seconds, "milliseconds_a_gradient": 1000 * seconds / passes}
                    rows.append({"sweep": swept, "value": value, "library": library} | cost)
                    print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """One panel for each sweep, both axes logarithmic, as SVG or PNG by the name of `picture`."""
    import altair as alt
    import vl_convert

    def panel(swept: str) -> alt.Chart:
        own = [row for row in rows if row["sweep"] == swept]
        values = sorted({row["value"] for row in own})
        base = alt.Chart(alt.Data(values=own), title=TITLES[swept], width=210, height=190)
        return base.mark_line(point=True, strokeWidth=2).encode(
            x=alt.X("value:Q", title=None, scale=alt.Scale(type="log", nice=False)).axis(values=values, format="d"),
            y=alt.Y("milliseconds_a_gradient:Q", title="ms an image and gradient", scale=alt.Scale(type="log")),
            color=alt.Color("library:N", scale=alt.Scale(domain=list(LIBRARIES), range=["#0072b2", "#d55e00"])).legend(
                title=None, orient="top"
            ),
            strokeDash=alt.StrokeDash("library:N", legend=None),
        )

    chart = alt.concat(*map(panel, SWEEPS), columns=2).configure(background="#ffffff", font="sans-serif")
    picture.parent.mkdir(parents=True, exist_ok=True)
    if picture.suffix == ".png":
        picture.write_bytes(vl_convert.vegalite_to_png(chart.to_dict(), scale=2))
    else:
        picture.write_text(vl_convert.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


def main(given: list[str] | None = None) -> None:
    """Sweep, write, draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--picture", type=Path, help="draw them here, .svg or .png (pip install 'notbugs[report]')")
    parser.add_argument("--model", default="cnn", choices=list(nets.NETWORKS), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny: does it run?")
    options = parser.parse_args(given)
    options.device = str(nb.classifier.default_device()) if options.device == "auto" else options.device
    if options.picture and not find_spec("vl_convert"):
        raise InputError("A picture needs Altair and vl-convert: pip install 'notbugs[report]'.")
    rows = sweep(options)
    if options.json:
        about = {"device": device_name(options.device), "threads": options.threads, "model": options.model}
        picture = options.picture.name if options.picture else None
        settings = {"base": BASE, "quick": options.quick, "picture": picture, "versions": {"torch": torch.__version__}}
        write_json(options.json, about | settings | {"sweeps": rows})
    if options.picture:
        draw(rows, options.picture)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
