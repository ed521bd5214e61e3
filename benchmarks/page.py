"""`python -m benchmarks.page RESULTS.json ...`: docs/reference/performance.md from the numbers alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import overhead, robust_accuracy
from benchmarks.search.table import Row, markdown, number
from notbugs.files import write_text

ROBUST = Path(__file__).parents[1] / "results" / "robust-accuracy"
"""Where `benchmarks.robust_accuracy` leaves its files."""

INTRODUCTION = """# Performance

What a search over inputs costs, ours beside five libraries and a transcription of a sixth. This page is written by
`python -m benchmarks.page` from the files that `python -m benchmarks.search`, `scaling`, `overhead` and
`robust_accuracy` leave.

To run it again:

```sh
python -m benchmarks.peers
python -m benchmarks.search --data FOLDER --json results/search/all.json
python -m benchmarks.scaling --json results/search/scaling.json --picture docs/images/scaling.svg
python -m benchmarks.overhead --json results/search/overhead.json
python -m benchmarks.page results/search/all.json results/search/scaling.json
```

`--models`, `--tasks` and `--libraries` time a part. Where two files on one device hold the same task and model, the one
named later counts.

## What is timed

Every library gets the same network, built from the same plain PyTorch code with the same weights, the same images, in
the same batches, from the same start (the clean images), with the same radius, step and number of steps, and the same
number of threads. Each runs in a process of its own, in an environment of its own, with the same torch; one works at a
time, in turns (A B C A B C), after a warm-up that is not timed. Images a second are those of the median time; in
brackets, of the slowest and fastest repeat. Wrapping the model is not timed; copies that a library makes of images are.

- **forwards, backwards**: a sample; counted where torch runs the network's first convolution, in a run of its own.
- **loss, success, norm**: of what came back, computed by the benchmark in fp32 on the plain network. For PGD the mean
  cross-entropy of the label and the share misclassified; towards a target, of the target class and the share classified
  as it; for feature matching the mean of ‖g(x) − g(guide)‖ / ‖g(guide)‖, and the share at or below the given loss; for
  adversarial training the robust cross-entropy and the robust accuracy of the model after one pass, under PGD-20. The
  norm is the mean l2 norm of perturbations, of those that succeed.
- **to best peer**: images a second over those of the fastest other library whose row is comparable; above 1 is faster.
- **to floor**: time a gradient over that of the bare forward and input-backward, in the form that the library runs it
  in: `floor` (folded, channels_last, our automatic precision) for notbugs, `floor fp32` (contiguous) for all others.

notbugs searches on a frozen copy with its batch norms folded, as `evaluate`, `relabel` and `robustify` do; making it is
not timed. It has rows for the plain loop, in which all images take all steps; for PGD in which misclassified images
leave and others take their places; and for relabelling in 20 steps in place of 100. It keeps the iterate with the
lowest margin, others the last one or that with the highest loss: its success can be higher where its loss is lower.
secml-torch takes one target class a call, so its targeted attacks run class by class. Libraries without adversarial
training get a plain loop around their PGD. Ours trains without its guard against catastrophic overfitting, which
attacks up to 250 images after every epoch.

**MadryLab** is a transcription of what the loop of MadryLab/robustness 1.2.1 computes, as the library does not import
on a current torch and has no CPU path (`attacker.py`, lines 139, 163 to 227 and 326; `attack_steps.py`). Per step: a
forward, the gradient of the mean loss, the best iterate kept by boolean indexing, a step of fixed length, the
projection. After the last step a forward with its graph to score it, and a forward of the result. For feature matching,
as in its notebooks (but with a ReLU that is a ReLU in the backward pass too), the network runs twice a step, and the
best iterate is not kept. It takes the steps of the paper; every other library gets the fewest steps with which it
reaches the loss reached there, found beforehand on a few images.
"""


def main(given: list[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files of benchmarks.search and benchmarks.scaling")
    parser.add_argument("--out", type=Path, default=Path("docs/reference/performance.md"), help="default: %(default)s")
    options = parser.parse_args(given)
    write_text(options.out, page([json.loads(path.read_text(encoding="utf-8")) for path in options.results]))


def page(results: list[dict[str, Any]]) -> str:
    """The page's Markdown."""
    parts = [INTRODUCTION]
    for result in joined([result for result in results if "rows" in result]):
        parts += search(result)
    for result in results:
        parts += scaling(result) if "sweeps" in result else []
    robust = [row for file in sorted(ROBUST.glob("*.json")) for row in json.loads(file.read_text(encoding="utf-8"))]
    parts += robust_accuracy.section(robust) if robust else []
    parts += overhead.section(json.loads(overhead.LEFT.read_text(encoding="utf-8"))) if overhead.LEFT.exists() else []
    return "\n".join(parts)


def joined(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs on each device as one; of a task and model that two have, the later one's rows."""
    found: dict[Any, dict[str, Any]] = {}
    for result in results:
        key = tuple(result[name] for name in ("device", "threads", "quick", "data", "seed"))
        before = found.get(key, result | {"rows": [], "runs": []})
        new = {(row["task"], row["model"]) for row in result["rows"]}
        kept = [row for row in before["rows"] if (row["task"], row["model"]) not in new]
        models = {name: None for row in kept + result["rows"] for name in [row["model"]]}
        found[key] = before | {"rows": kept + result["rows"], "runs": [*before["runs"], result], "models": models}
    return list(found.values())


def search(result: dict[str, Any]) -> Iterator[str]:
    """The runs of `benchmarks.search` on one device."""
    yield f"## {result['device']}, {result['threads']} threads\n"
    if result["quick"]:
        yield "**A trial with few images, steps and one repeat: it shows that everything runs, and not how fast.**\n"
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    yield f"{result['data']}, seed {result['seed']}. {versions}.\n"
    yield "Networks, trained briefly, on test images that they get right:\n"
    yield from runs(result["runs"])
    yield f"{result['tolerance']}\n"
    yield from goals(result)
    for (task, model), rows in groupby(result["rows"], key=lambda row: (row["task"], row["model"])):
        listed = list(rows)
        steps = {row["library"]: row["steps"] for row in listed if row["seconds"]}
        yield f"### {task}, {model}\n\n{listed[0]['images']} images. {steps_text(steps)}\n\n{markdown(listed)}\n"


def runs(results: list[dict[str, Any]]) -> Iterator[str]:
    """What each call timed, and on how busy a machine."""
    lines = ["| model | accuracy | tasks | batch | repeats | load at the start |", "|---|---:|---|---:|---:|---:|"]
    for result in results:
        for model, about in result["models"].items():
            tasks = ", ".join(dict.fromkeys(row["task"] for row in result["rows"] if row["model"] == model))
            how = f"{result['batch']} | {result['repeats']} | {result['load_at_start']:g}"
            lines.append(f"| {model} | {about['accuracy']:.3f} | {tasks} | {how} |")
    yield "\n".join(lines) + "\n"


def steps_text(steps: dict[str, int]) -> str:
    """How many steps the libraries took."""
    if len(set(steps.values())) <= 1:
        return f"{next(iter(steps.values()), 'No')} steps."
    return f"Steps: {', '.join(f'{library} {count}' for library, count in steps.items() if 'floor' not in library)}."


Measure = Callable[[list[Row]], float | None]


def ours(rows: list[Row]) -> Row | None:
    """Our fastest row, in the automatic precision, whose quality is that of the others."""
    own = [row for row in rows if row["library"] == "notbugs" and row["comparable"] and row["images_per_second"]]
    return max(own, key=lambda row: row["images_per_second"], default=None)


def to_best_peer(rows: list[Row]) -> float | None:
    """Images a second over the best comparable peer's."""
    own = ours(rows)
    return own["ratio_to_best_peer"] if own else None


def every_step(rows: list[Row]) -> float | None:
    """The same of the plain loop."""
    return to_best_peer([row for row in rows if row["backwards"] == row["steps"]])


def to_floor(rows: list[Row]) -> float | None:
    """Time a gradient over the bare pass's, where all images take all steps."""
    plain = [row for row in rows if row["library"] == "notbugs" and row["backwards"] == row["steps"]]
    return min((row["ratio_to_floor"] for row in plain if row["ratio_to_floor"]), default=None)


def over_madry(rows: list[Row]) -> float | None:
    """Our images a second over MadryLab's."""
    own, theirs = ours(rows), next((row for row in rows if row["library"] == "MadryLab"), None)
    return own["images_per_second"] / theirs["images_per_second"] if own and theirs and theirs["seconds"] else None


def memory(rows: list[Row]) -> float | None:
    """Our peak memory over the smallest of the comparable peers'."""
    own = ours(rows)
    peers = [r["peak_memory"] for r in rows if "notbugs" not in r["library"] and r["comparable"] and r["peak_memory"]]
    return own["peak_memory"] / min(peers) if own and own["peak_memory"] and peers else None


GOALS: dict[str, list[tuple[str, str | None, str, Measure, float]]] = {  # task, model, what, how, bound
    "cpu": [
        ("pgd-20 l2", None, "to the floor, at most", to_floor, 1.10),
        ("pgd-20 l2", "resnet18", "to the best peer, at least", to_best_peer, 2.3),
        ("pgd-20 l2", "cnn", "to the best peer, at least", to_best_peer, 2.5),
        ("pgd-20 l2", "resnet18", "the same where all images take all steps, at least", every_step, 2.3),
        ("pgd-20 l2", "cnn", "the same where all images take all steps, at least", every_step, 2.5),
        ("relabelling", None, "to the best peer, at least", to_best_peer, 5.0),
        ("feature matching", None, "to MadryLab's arithmetic, at least", over_madry, 40.0),
    ],
    "cuda": [
        ("pgd-20 l2", None, "to the floor, at most", to_floor, 1.05),
        ("pgd-20 l2", "resnet18", "to the best peer, at least", to_best_peer, 4.0),
        ("pgd-20 l2", None, "peak memory to the best peer's, at most", memory, 0.6),
    ],
}


def goals(result: dict[str, Any]) -> Iterator[str]:
    """What was aimed at, and what was reached."""
    lines = ["| goal | model | bound | reached | |", "|---|---|---:|---:|---|"]
    for task, only, what, measure, bound in GOALS[result["device_type"]]:
        for model in result["models"]:
            rows = [row for row in result["rows"] if (row["task"], row["model"]) == (task, model)]
            if only not in (None, model) or not rows:
                continue
            value = measure(rows)
            met = value is not None and (value <= bound if what.endswith("most") else value >= bound)
            verdict = "a trial" if result["quick"] else "not measured" if value is None else "met" if met else "not met"
            lines.append(f"| {task}: {what} | {model} | {bound:g} | {number(value, '.2f')} | {verdict} |")
    yield "\n".join(lines) + "\n"
    yield from limits(result)


def limits(result: dict[str, Any]) -> Iterator[str]:
    """What the precision alone can gain: the floors against each other."""
    gains = {}
    for row in result["rows"]:
        if row["library"] in ("floor", "floor fp32") and row["seconds"] and row["task"] == "pgd-20 l2":
            gains.setdefault(row["model"], {})[row["library"]] = row["images_per_second"]
    gains = {model: speeds["floor"] / speeds["floor fp32"] for model, speeds in gains.items() if len(speeds) == 2}
    if gains:
        listed = ", ".join(f"{model} {gain:.2f}" for model, gain in gains.items())
        yield (
            f"Our floor is faster than the peers' by a factor of: {listed}. Where all images take all steps, no loop "
            "gains more than that over a peer at its own floor; what is beyond it comes from images that leave and "
            "from fewer steps. A floor and a loop are measured in turns, and each within its own spread.\n"
        )


def scaling(result: dict[str, Any]) -> Iterator[str]:
    """One run of `benchmarks.scaling`."""
    yield f"## How cost grows: {result['model']} on {result['device']}, {result['threads']} threads\n"
    base = ", ".join(f"{name} {value}" for name, value in result["base"].items())
    torch = result["versions"]["torch"]
    yield f"PGD with l2 steps on one batch, one thing changed at a time from {base}; torch {torch}.\n"
    if result["quick"]:
        yield "**A trial: it shows that everything runs, and not how fast.**\n"
    if result["picture"]:
        yield f"![Milliseconds an image and gradient against each of them](../images/{result['picture']})\n"
    for swept, rows in groupby(result["sweeps"], key=lambda row: row["sweep"]):
        yield sweep_table(swept, list(rows))


def sweep_table(swept: str, rows: list[Row]) -> str:
    """Milliseconds an image and gradient, ours and the floor."""
    lines = [f"| {swept} | notbugs, ms a gradient | floor | ratio |", "|---:|---:|---:|---:|"]
    for value, pair in groupby(rows, key=lambda row: row["value"]):
        ours, floor = (row["milliseconds_a_gradient"] for row in pair)
        lines.append(f"| {value} | {ours:.3g} | {floor:.3g} | {ours / floor:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
