"""`python -m benchmarks.overhead`: what training and building add to the passes that they cannot do without.

Training stands beside a plain loop: forward, backward and a step of SGD on the same network, in bf16 and channels_last,
on images that lie in memory as they are. Building stands beside as many passes forward and back to the image as its
search takes, of the same frozen copy, and is timed whole: targets, search, judging in fp32, hashing and writing. Both
run in turns in one process; a ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import notbugs as nb
from benchmarks.search.__main__ import device_name
from notbugs.files import write_json
from notbugs.models.execution import ready
from notbugs.search import LBFGS, PGDSteps
from notbugs.seeds import generator

BATCH, BUILT = 256, 250
LEFT = Path(__file__).parents[1] / "results" / "search" / "overhead.json"


def random_data(images: int, size: int) -> nb.Data:
    """Noise in ten classes: time does not depend on what images show."""
    pixels = torch.rand(images, 3, size, size, generator=generator(0, "overhead"))
    made = nb.Images(pixels, torch.arange(images) % 10)
    return nb.Data("random", made, made.subset(slice(100)), tuple("abcdefghij"))


def plain_training(classifier: nb.Classifier, data: nb.Data) -> None:
    """One epoch of the loop that everybody writes, without augmentation."""
    pixels, labels = data.train.batch(slice(None))
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    classifier.train()
    for index in torch.randperm(len(labels)).split(BATCH):
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(classifier(pixels[index]), labels[index]).backward()
        optimizer.step()


def plain_passes(frozen: nb.Classifier, data: nb.Data, steps: int) -> None:
    """So many passes over every batch."""
    pixels, _ = data.train.batch(slice(None))
    for batch in pixels.split(BUILT):
        leaf = batch.clone().requires_grad_()
        for _ in range(steps):
            torch.autograd.grad(frozen(leaf).sum(), leaf)


def measured(ours: Callable[[], object], bare: Callable[[], object], images: int, repeats: int) -> dict[str, Any]:
    """Images a second of both, the median of `repeats` in turns, after one of each that is not timed."""
    seconds: dict[str, list[float]] = {"notbugs": [], "bare": []}
    for number in range(repeats + 1):
        for name, work in (("notbugs", ours), ("bare", bare)):
            began = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - began)
    own, floor = (median(seconds[name]) for name in ("notbugs", "bare"))
    return {"notbugs": images / own, "bare": images / floor, "ratio": own / floor, "seconds": seconds}


def in_a_folder(build: Callable[[str], object]) -> None:
    """A set that is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        build(f"{folder}/set")


def rows(width: int, images: int, size: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each kind of work."""
    data = random_data(images, size)
    made = nb.new_classifier(data, "resnet9", width=width, precision="auto")
    frozen, form = ready(made.eval(), data.train.shape, batch=BUILT)
    how = {
        "training": nb.Training(epochs=1, batch=BATCH, lr=0.01),
        "training, with shifts and mirror images": nb.Training(epochs=1, batch=BATCH, lr=0.01, shift=4, flip=True),
    }
    found = []
    for what, settings in how.items():
        row = measured(
            lambda settings=settings: nb.train(made, data.train, settings),
            lambda: plain_training(made, data),
            images,
            repeats,
        )
        found.append({"what": what, "steps": 1} | row)
    ten, thirty = PGDSteps(10, decay="linear"), LBFGS(30, 1.0)
    builds: dict[str, tuple[int, Callable[[str], object]]] = {
        "D_rand, 10 steps": (
            ten.steps,
            lambda path: nb.relabel(made.eval(), data, path, targets="any", threat=nb.L2(0.5), schedule=ten),
        ),
        "D_R, 30 quasi-Newton steps": (
            thirty.steps,
            lambda path: nb.robustify(made.eval(), data, path, schedule=thirty),
        ),
    }
    for what, (steps, build) in builds.items():
        row = measured(
            lambda build=build: in_a_folder(build),
            lambda steps=steps: plain_passes(frozen, data, steps),
            images,
            repeats,
        )
        found.append({"what": what, "steps": steps, "form": form} | row)
    return found


def section(result: dict[str, Any]) -> list[str]:
    """What the page of performance says of it."""
    lines = ["| work | images a second | bare passes | time over theirs | goal |", "|---|---:|---:|---:|---:|"]
    for row in result["rows"]:
        goal = 1.10 if "training" in row["what"] else 1.15
        lines.append(
            f"| {row['what']} | {row['notbugs']:,.0f} | {row['bare']:,.0f} | {row['ratio']:.2f} | {goal:.2f} |"
        )
    about = result["settings"]
    return [
        "## What training and building add\n",
        f"`python -m benchmarks.overhead`, a ResNet-9 of width {about['width']} on {about['images']:,} images of "
        f"{about['size']}x{about['size']} pixels, {about['repeats']} repeats in turns; {result['device']}, "
        f"{result['threads']} threads, torch {result['torch']}. Training beside a plain loop (forward, backward, "
        "a step of SGD) in bf16 and channels_last; building beside as many passes forward and back to the image as its "
        "search takes, of the same frozen copy, and timed whole, with judging in fp32, hashing and writing.\n",
        "\n".join(lines) + "\n",
    ]


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--width", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help=f"as {LEFT.relative_to(LEFT.parents[2])}")
    given = parser.parse_args()
    settings = {name: getattr(given, name) for name in ("width", "images", "size", "repeats")}
    about = {"device": device_name("cpu"), "threads": torch.get_num_threads(), "torch": torch.__version__}
    result = {"settings": settings, **about, "rows": rows(**settings)}
    print(*section(result), sep="\n")
    if given.json:
        write_json(given.json, result)


if __name__ == "__main__":
    main()
