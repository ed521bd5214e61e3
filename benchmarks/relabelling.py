"""`python -m benchmarks.relabelling`: what schedules of the targeted search reach, at equal gradients.

Success and cross-entropy of the target are those in fp32, on training images. Without checkpoints two small
classifiers are trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import notbugs as nb
from benchmarks.search.__main__ import device_name
from notbugs.construct import choose_targets
from notbugs.files import write_json
from notbugs.threat import L2, l2_norm

GRADIENTS = (10, 20, 33, 50, 100)
SCHEDULES: dict[str, Callable[[int, float], nb.search.PGDSteps]] = {
    "paper": lambda steps, eps: nb.search.PGDSteps(steps, nb.construct.PAPER_RELABELLING.step_size),
    "2.5 eps / steps": lambda steps, eps: nb.search.PGDSteps(steps),
    "eps, linear": lambda steps, eps: nb.search.PGDSteps(steps, eps, decay="linear"),
    "fast: 2 eps, linear": lambda steps, eps: nb.search.fast_relabelling(L2(eps), steps),
    "2 eps, cosine": lambda steps, eps: nb.search.PGDSteps(steps, 2 * eps, decay="cosine"),
    "4 eps, cosine": lambda steps, eps: nb.search.PGDSteps(steps, 4 * eps, decay="cosine"),
    "2 eps, cosine, momentum 0.5": lambda steps, eps: nb.search.PGDSteps(steps, 2 * eps, 0.5, "cosine"),
    "2 eps, cosine, momentum 0.9": lambda steps, eps: nb.search.PGDSteps(steps, 2 * eps, 0.9, "cosine"),
}


def sources(options: argparse.Namespace, data: nb.Data) -> dict[str, nb.Classifier]:
    """The classifiers by name."""
    if options.models:
        return {path.stem: nb.load_classifier(path) for path in options.models}
    made = {"standard": None, "robust": nb.Adversary(norm="l2", eps=1.0, steps=7)}
    for name, adversary in made.items():
        classifier = nb.new_classifier(data, "cnn", width=16, features=16)
        nb.train(classifier, data.train, nb.Training(epochs=10, batch=64, lr=0.1, adversary=adversary))
        made[name] = classifier
    return made


def row(
    classifier: nb.Classifier, data: nb.Data, targets: str, eps: float, schedule: nb.search.PGDSteps, count: int
) -> dict:
    """What one schedule reaches on the first images."""
    images, _ = data.train.batch(slice(0, count))
    wanted = choose_targets(data.train.labels, len(data.classes), targets, 0)[:count].to(classifier.device)
    images = images.to(classifier.device)
    found = nb.targeted_pgd(classifier, images, wanted, L2(eps), schedule).images
    with torch.no_grad(), classifier.evaluating("fp32"):
        logits = classifier(found)
    return {
        "success": float((logits.argmax(1) == wanted).float().mean()),
        "cross_entropy": float(cross_entropy(logits, wanted)),
        "l2_norm": float(l2_norm(found - images).mean()),
    }


def table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows, printed as they come."""
    data, rows = nb.load(options.data).take(options.train_images, None, 0), []
    for model, classifier in sources(options, data).items():
        for eps in options.eps:
            for targets in ("any", "next"):
                for name, make in SCHEDULES.items():
                    for steps in options.gradients:
                        reached = row(classifier, data, targets, eps, make(steps, eps), options.images)
                        at = {"model": model, "eps": eps, "targets": targets, "schedule": name, "gradients": steps}
                        rows.append(at | reached)
                        values = "  ".join(f"{key} {value:.4f}" for key, value in reached.items())
                        print(f"{model} {eps:g} {targets:5} {name:28} {steps:4}  {values}", flush=True)
    return rows


def main(given: list[str] | None = None) -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relabelling", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="as `notbugs run --data` takes it")
    parser.add_argument("--train-images", type=int, help="of the data, drawn at random; all by default")
    parser.add_argument("--models", type=Path, nargs="+", help="checkpoints of `notbugs train`")
    parser.add_argument("--eps", type=float, nargs="+", default=[1.5], help="l2 radii, pixel units")
    parser.add_argument("--gradients", type=int, nargs="+", default=GRADIENTS)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(given)
    rows = table(options)
    if options.json:
        versions = {"notbugs": nb.__version__, "torch": torch.__version__}
        write_json(options.json, {"device": device_name("cpu"), "versions": versions, "rows": rows})


if __name__ == "__main__":
    main()
