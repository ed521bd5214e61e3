"""Does every kind of work on the CPU and on a pretended device, and writes which did not end alike, and why.

Argument: the JSON file to write, from the name of a work to what went wrong, or nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

import notbugs as nb
from notbugs.construct.controls import control
from notbugs.data import Augmentation, Data, load
from notbugs.measure import (
    corruption_accuracy,
    evaluate,
    masking_signs,
    measure_set,
    refit_head,
    spatial_accuracy,
    transfer,
    usefulness,
)
from notbugs.search import (
    FMN,
    Attack,
    PGDSteps,
    fast_matching,
    match_features,
    minimum_norm,
    pgd,
    spatial_pgd,
    targeted_pgd,
)
from notbugs.threat import L2, Linf, Spatial
from notbugs.training import Adversary, SpatialTraining, Training, new_classifier, train
from tests.pretended import pretended

DATA: Data = load("digits").take(60, 12, seed=0)
NEAR = L2(0.5)
NETWORKS = {"cnn": {"width": 4, "features": 6}, "resnet9": {"width": 4, "whiten": True}}


def classifier(device: torch.device, architecture: str = "cnn", **options: Any) -> nb.Classifier:
    options = NETWORKS.get(architecture, {}) | options
    return new_classifier(DATA, architecture, device=device, **{"precision": "fp32", **options}).eval()


def test_batch(device: torch.device) -> tuple[Tensor, Tensor]:
    return tuple(part.to(device) for part in DATA.test.batch(slice(None)))  # pyrefly: ignore


def trained(device: torch.device, architecture: str = "cnn", **settings: Any) -> list[Tensor]:
    made = train(classifier(device, architecture), DATA.train, Training(epochs=1, batch=16, lr=0.01, **settings))
    return list(made.state_dict().values())


def searched(device: torch.device, search: Callable[..., Any], *more: Any, **named: Any) -> list[Tensor]:
    found = search(classifier(device), *test_batch(device), *more, **named)
    return [found.images, found.score]


def in_bfloat16(device: torch.device) -> list[Tensor]:
    """What may differ in rounding from device to device is left out."""
    found = pgd(classifier(device, precision="bf16"), *test_batch(device), NEAR, PGDSteps(3))
    return [found.images.isfinite(), found.score.isfinite()]


def matched(device: torch.device, schedule: Any) -> list[Tensor]:
    images, _ = test_batch(device)
    found = match_features(classifier(device), images, images.flip(0), schedule)
    return [found.images, found.score]


def built(device: torch.device, **settings: Any) -> list[Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        make = nb.relabel if "targets" in settings else nb.robustify
        made = make(classifier(device), DATA, Path(folder) / "set", batch=32, **settings)
        other = classifier(device, seed=1)
        measured = measure_set(made, DATA.train, classifier(device), other, Augmentation(1, True))
        parts = [made.images.batch(slice(None))[0], values(measured)]
        if "targets" in settings:
            named = control(classifier(device), DATA, Path(folder) / "control", of=made, kind="random")
            parts.append(named.images.batch(slice(None))[0])
        return parts


def values(tree: Any) -> Tensor:
    """All numbers in the fields of a result."""
    if hasattr(tree, "model_dump"):
        tree = tree.model_dump()
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return torch.cat([torch.empty(0), *map(values, tree)])
    return torch.tensor([float(tree)] if isinstance(tree, int | float) else [])


WORKS: dict[str, Callable[[torch.device], list[Tensor]]] = {
    "standard training": lambda device: trained(device, shift=1, flip=True),
    "training of a ResNet-9 with a whitening layer": lambda device: trained(device, "resnet9"),
    "adversarial training": lambda device: trained(device, adversary=Adversary(eps=0.5, steps=2)),
    "training with rotations": lambda device: trained(device, spatial=SpatialTraining(tries=2)),
    "pgd, l2": lambda device: searched(device, pgd, NEAR, PGDSteps(3)),
    "pgd, linf": lambda device: searched(device, pgd, Linf(0.1), PGDSteps(3, momentum=0.5)),
    "targeted pgd": lambda device: searched(device, targeted_pgd, NEAR, PGDSteps(3)),
    "minimum norm": lambda device: searched(device, minimum_norm, schedule=FMN(10)),
    "pgd in bfloat16": lambda device: in_bfloat16(device),
    "rotations": lambda device: searched(device, spatial_pgd, Spatial(20, 1), PGDSteps(3)),
    "feature matching, quasi-Newton": lambda device: matched(device, fast_matching(DATA.train.shape, 12)),
    "feature matching, momentum": lambda device: matched(device, PGDSteps(3, 0.1, momentum=0.8)),
    "robustify and measure": lambda device: built(device, schedule=fast_matching(DATA.train.shape, 12)),
    "relabel, control and measure": lambda device: built(device, targets="next"),
    "relabel by the smallest perturbation": lambda device: built(device, targets="any", schedule=FMN(10)),
    "evaluation": lambda device: [
        values(
            evaluate(classifier(device), DATA.test, radii=(0.1, 0.5), attack=Attack(steps=10, restarts=2, queries=20))
        )
    ],
    "evaluation with targets": lambda device: [
        values(evaluate(classifier(device), DATA.test, radii=(0.5,), attack=Attack(steps=10, targeted=2, queries=20)))
    ],
    "accuracy under rotations": lambda device: [
        values(spatial_accuracy(classifier(device), DATA.test, Spatial(20, 1), shifts=3, angles=3, steps=3))
    ],
    "accuracy under corruptions": lambda device: [
        values(corruption_accuracy(classifier(device), DATA.test, severities=[3]))
    ],
    "transfer": lambda device: [
        values(transfer({"one": classifier(device), "other": classifier(device, seed=1)}, DATA.test, NEAR, steps=3))
    ],
    "signs of masked gradients": lambda device: [values(masking_signs(classifier(device), DATA.test, NEAR, steps=3))],
    "usefulness": lambda device: [
        values(usefulness(classifier(device), DATA.train, DATA.test, NEAR, steps=3).summary())
    ],
    "a refitted head": lambda device: [
        refit_head(classifier(device), DATA.train, torch.arange(6) < 3, classes=10).classifier.weight
    ],
}


def wrong(work: Callable[[torch.device], list[Tensor]], device: torch.device) -> str:
    """What is wrong with a work on the device; empty if it ends as on the CPU."""
    try:
        there = [part.cpu() for part in work(device)]
        assert_close(there, work(torch.device("cpu")), equal_nan=True)
    except Exception:
        return traceback.format_exc()
    return ""


def main(out: str) -> None:
    with pretended() as device:
        works = WORKS | {"a tensor left behind": lambda device: [torch.ones(3, device=device) + torch.ones(3)]}
        found = {name: wrong(work, device) for name, work in works.items()}
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
