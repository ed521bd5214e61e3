"""`python -m benchmarks.scale_estimate`: what a whole study costs, worked out: hours, bytes and devices of each stage.

The unit is the forward pass of one image. A gradient with respect to the image alone costs two of them, forward and
backward, and a training step three, as the backward pass then has the weights' gradients too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from notbugs.study import Recipe, read_recipe
from notbugs.study.sets import ON_ORIGINALS, SETS

GRADIENT, STEP = 2, 3
DTYPES = {"float32": 4, "float16": 2, "uint8": 1}


@dataclass(frozen=True)
class Size:
    """What a study's cost depends on besides its recipe.

    Parameters
    ----------
    train, test : int
        Images.
    pixels : int
        Height and width.
    forward : float
        Floating-point operations of the forward pass of one image, two for a multiplication with its addition.
    device : float
        Operations a second that a device does at its peak, in the precision of the network.
    share : float
        Of the peak that the work reaches.
    devices : int
        Over which images are shared.
    """

    train: int = 1_281_167
    test: int = 50_000
    pixels: int = 224
    forward: float = 8.18e9
    device: float = 989e12
    share: float = 0.3
    devices: int = 1

    def hours(self, passes: float) -> float:
        """Of so many forward passes."""
        return passes * self.forward / (self.device * self.share * self.devices) / 3600


@dataclass(frozen=True)
class Cost:
    """One stage: forward passes, hours on the devices, and bytes that it leaves on disk."""

    stage: str
    passes: float
    hours: float
    bytes: float


def costs(recipe: Recipe, size: Size, weights: float = 25.6e6) -> list[Cost]:
    """Of every training, set and measurement of a study, in their order, then the whole.

    Measurements of sets, theory and instruments are left out: they look at samples or cost few passes an image.
    """
    found = []

    def add(stage: str, passes: float, left: float = 0.0) -> None:
        found.append(Cost(stage, passes, size.hours(passes), left))

    attack = recipe.evaluation.pgd.steps * recipe.evaluation.pgd.restarts * GRADIENT
    measuring = size.test * (1 + len(recipe.evaluation.radii) * attack)
    image = 3 * size.pixels**2 * DTYPES[recipe.storage.dtype]
    for plan in ON_ORIGINALS:
        add(f"train {plan.name}", size.train * _training(recipe, plan.name), 4 * weights)
        add(f"measure {plan.name}", measuring)
    for plan in SETS:
        steps = recipe.matching.steps if plan.targets is None else plan.relabelling(recipe.relabelling).steps
        add(f"build {plan.name}", size.train * (1 + GRADIENT * steps), size.train * image)
        add(f"train on {plan.name}", size.train * _training(recipe, plan.name), 4 * weights)
        add(f"measure {plan.name}", measuring)
    whole = (sum(getattr(cost, name) for cost in found) for name in ("passes", "hours", "bytes"))
    return [*found, Cost("the whole study", *whole)]


def table(found: list[Cost]) -> str:
    """As Markdown."""
    lines = ["| stage | forward passes | hours | GB on disk |", "|---|---|---|---|"]
    lines += [f"| {at.stage} | {at.passes:.2g} | {at.hours:,.1f} | {at.bytes / 1e9:,.1f} |" for at in found]
    return "\n".join(lines)


def _training(recipe: Recipe, classifier: str) -> float:
    settings = recipe.training(classifier)
    inner = GRADIENT * settings.adversary.steps if settings.adversary else 0
    return settings.epochs * (STEP + inner)


def main(given: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_estimate", description=__doc__)
    parser.add_argument("recipe", nargs="?", default="restricted-imagenet", help="default: %(default)s")
    parser.add_argument("--matching-steps", type=int, help="in place of the recipe's")
    parser.add_argument("--relabelling-steps", type=int, help="in place of the recipe's")
    parser.add_argument("--epochs", type=int, help="of every training, in place of the recipe's")
    for name, default in vars(Size()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
    options = vars(parser.parse_args(given))
    changes = {"matching": options.pop("matching_steps"), "relabelling": options.pop("relabelling_steps")}
    overrides = {section: {"steps": steps} for section, steps in changes.items() if steps}
    if epochs := options.pop("epochs"):
        overrides |= {section: {"epochs": epochs} for section in ("standard", "robust", "constructed")}
    recipe = read_recipe(options.pop("recipe"), overrides)
    print(table(costs(recipe, Size(**options))))


if __name__ == "__main__":
    main()
