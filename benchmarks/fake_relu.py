"""`python -m benchmarks.fake_relu`: how much it matters that gradients pass the last ReLU unchanged.

Trains the sources of a recipe, builds D_R and D_NR with the true and with the fake gradient of the last ReLU, and says
of either the matching loss, whom its images resemble, and the accuracy of classifiers trained on it, for several seeds.
The paper's authors were asked this (robust_representations, issue 10).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import notbugs as nb
from notbugs.files import write_json
from notbugs.search import PAPER_MATCHING
from notbugs.seeds import derive
from notbugs.study import Recipe, read_recipe
from notbugs.training import train

SOURCES = {"D_R": "robust", "D_NR": "standard"}


def classifiers(recipe: Recipe, data: nb.Data) -> dict[str, nb.Classifier]:
    """A standard, a robust and a second robust classifier, which judges."""
    found = {}
    for name, section in (("standard", "standard"), ("robust", "robust"), ("judge", "robust")):
        found[name] = recipe.architecture.new(data, derive(recipe.seed, "init", name), recipe)
        train(found[name], data.train, getattr(recipe, section), seed=derive(recipe.seed, "train", name))
    return found


def measure(recipe: Recipe, data: nb.Data, seeds: int, folder: Path, *, paper: bool = False) -> list[dict[str, Any]]:
    """A row for every set and gradient."""
    made, rows = classifiers(recipe, data), []
    schedule = PAPER_MATCHING if paper else recipe.matching.schedule(data.train.shape)
    for name, source in SOURCES.items():
        for fake in (False, True):
            path = folder / f"{name}-{fake}"
            built = nb.robustify(made[source], data, path, schedule=schedule, fake_relu=fake, seed=recipe.seed)
            images = recipe.constructed.augmentation
            judge = "judge" if source == "robust" else "robust"
            found = nb.measure.measure_set(
                built, data.train, made[source], made["standard"], images, judge=made[judge], judge_name=judge
            )
            row: dict[str, Any] = {"set": name, "fake_relu": fake, "steps": schedule.steps}
            row |= {"loss": found["matching_loss"], "l2": found["l2"], "resemblance": found["resemblance"]}
            row["accuracies"] = [accuracies(recipe, data, built.images, seed) for seed in range(seeds)]
            rows.append(row)
            print(*said(row), sep="\n", flush=True)
    return rows


def accuracies(recipe: Recipe, data: nb.Data, images: nb.Images, seed: int) -> list[dict[str, Any]]:
    """Clean and robust accuracy of a classifier trained on a set."""
    new = recipe.architecture.new(data, derive(seed, "init", "fake ReLU"), recipe)
    train(new, images, recipe.constructed, seed=derive(seed, "train", "fake ReLU"))
    found = nb.evaluate(new, data.test, norm=recipe.evaluation.norm, radii=recipe.evaluation.radii)
    return [{"under": one.under, **one.share.model_dump()} for one in found]


def said(row: dict[str, Any]) -> list[str]:
    """The row in a few lines."""
    loss, like = row["loss"], row["resemblance"]["measures"]
    lines = [
        f"{row['set']}, {'fake' if row['fake_relu'] else 'true'} gradient, {row['steps']} steps: loss median "
        f"{loss['median']:.4f}, mean {loss['mean']:.4f}, 95 % below {loss['p95']:.4f}; l2 {row['l2']['median']:.3g}"
    ]
    nearer = ((one["by"], one["nearer_target"], one["difference"]) for one in like)
    lines += [
        f"  nearer to the target, {by}: {100 * share['value']:.1f} % ({100 * share['low']:.1f} to "
        f"{100 * share['high']:.1f}); difference {mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f})"
        for by, share, mean in nearer
    ]
    for under in (one["under"] for one in row["accuracies"][0]):
        values = [100 * one["value"] for seed in row["accuracies"] for one in seed if one["under"] == under]
        lines.append(f"  accuracy, {under}: {', '.join(f'{value:.1f}' for value in values)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="digits", help="name or file of a recipe")
    parser.add_argument("--data", help="in place of the recipe's")
    parser.add_argument("--heldout", type=float, default=0.2, help="of the training images, to measure on")
    parser.add_argument("--seed", type=int, default=0, help="of the sources and the sets")
    parser.add_argument("--seeds", type=int, default=3, help="of the classifiers trained on each set")
    parser.add_argument("--paper", action="store_true", help="the paper's 1000 steps of 0.1")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    changes = {"heldout": given.heldout, "seed": given.seed} | ({"data": given.data} if given.data else {})
    recipe = read_recipe(given.recipe, changes)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(recipe, recipe.read(), given.seeds, Path(folder), paper=given.paper)
    if given.json:
        write_json(given.json, {"recipe": recipe.settings(), "rows": rows})


if __name__ == "__main__":
    main()
