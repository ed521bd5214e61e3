"""`python -m benchmarks.matching`: what each way to match features reaches, at equal gradients.

Starts and targets are training images. The loss is ||g(x) - g(target)|| / ||g(target)||, in fp32, averaged over the
images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import notbugs as nb
from notbugs.construct import choose_starts
from notbugs.files import write_json
from notbugs.search.attacks import MATCHING_REACH, PAPER_MATCHING
from notbugs.search.objectives import matching
from notbugs.search.steps import Steps
from notbugs.threat import l2_norm

GRADIENTS = (10, 25, 50, 60, 100, 200)
PAPER = (50, 100, 200, 500, 1000)


def ways(reach: float) -> dict[str, dict[int, Steps]]:
    """Name to gradients to steps; lengths in l2, pixel units."""
    found: dict[str, dict[int, Steps]] = {
        "gradient steps of 0.1 (the paper)": {n: nb.search.PGDSteps(n, PAPER_MATCHING.step_size) for n in PAPER},
        "gradient steps, falling": {n: nb.search.PGDSteps(n, reach, decay="linear") for n in GRADIENTS},
    }
    for momentum, length in ((0.8, 1.0), (0.9, 2.5)):
        name = f"momentum {momentum}, first step {length * reach:.2g}, falling"
        found[name] = {n: nb.search.PGDSteps(n, length * reach, momentum, "linear") for n in GRADIENTS}
    for memory in (3, 10, 20):
        found[f"quasi-Newton, {memory} pairs"] = {n: nb.search.LBFGS(n, reach, memory) for n in GRADIENTS}
    return found


def judged(
    classifier: nb.Classifier, found: torch.Tensor, start: torch.Tensor, target: torch.Tensor
) -> dict[str, float]:
    """Means: the loss in fp32, how far the images moved, and how much of the way to the target is left."""
    with torch.no_grad(), classifier.evaluating("fp32"):
        loss = matching(classifier)(found, classifier.features(target))[0]
    left = l2_norm(found - target) / l2_norm(start - target)
    return {"loss": float(loss.mean()), "moved": float(l2_norm(found - start).mean()), "left": float(left.mean())}


def measure(classifier: nb.Classifier, data: nb.Data, images: int, seed: int) -> list[dict[str, Any]]:
    """A row for every way and number of gradients."""
    start, _ = data.train.batch(choose_starts(len(data.train), seed)[:images])
    target, _ = data.train.batch(slice(images))
    start, target = start.to(classifier.device), target.to(classifier.device)
    reach = MATCHING_REACH * start[0].numel() ** 0.5
    rows = []
    for name, by_gradients in ways(reach).items():
        for gradients, steps in by_gradients.items():
            found = nb.match_features(classifier, start, target, steps)
            rows.append({"way": name, "gradients": gradients, **judged(classifier, found.images, start, target)})
            print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Loss against gradients, one panel for each source."""
    import altair as alt

    chart = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("gradients:Q", scale=alt.Scale(type="log"), title="gradients for each image"),
        y=alt.Y("loss:Q", scale=alt.Scale(type="log"), title="relative matching loss"),
        color=alt.Color("way:N", title=None, legend=alt.Legend(labelLimit=320)),
        shape=alt.Shape("way:N", legend=None),
    )
    lines = (chart.mark_line() + chart.mark_point(filled=True, size=45)).properties(width=330, height=280)
    lines.facet(column=alt.Column("source:N", title=None)).save(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="files of `notbugs train`; a small one on digits if none")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--train-images", type=int, help="as the classifiers were trained; all by default")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="ends in .svg or .png")
    given = parser.parse_args()
    data = nb.load(given.data).take(given.train_images, None, given.seed)
    if given.models:
        sources = {
            file.stem: nb.load_classifier(file, shape=data.train.shape, classes=data.classes) for file in given.models
        }
    else:
        sources = {"standard": nb.train(nb.new_classifier(data, features=16), data.train)}
    rows = []
    for name, classifier in sources.items():
        rows += [{"source": name, **row} for row in measure(classifier, data, given.images, given.seed)]
    if given.json:
        about = {"data": data.title, "images": given.images, "seed": given.seed, "torch": torch.__version__}
        write_json(given.json, {**about, "rows": rows})
    if given.picture:
        draw(rows, given.picture)


if __name__ == "__main__":
    main()
