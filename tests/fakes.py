"""Study folders made by hand, for tests of everything that only reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from notbugs.measure import Likeness, Mean, PerturbationSize, Resemblance
from notbugs.study.recipe import Recipe
from notbugs.study.results import (
    AttackUsed,
    Proportion,
    Results,
    Row,
    SetProperties,
    Spread,
    Stage,
    StudyInfo,
    TrainSet,
)
from notbugs.study.sections import Architecture, StudyEvaluation
from notbugs.training import Training
from notbugs.training.settings import Adversary

RADII = (0.25, 0.5, 1.0)
HOSTILE = ("</title><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "'};alert(1)//")

# clean and robust accuracies (%) in the order of RADII: a rough trial on the digits
ACCURACIES: dict[tuple[TrainSet, str, str], tuple[float, ...]] = {
    ("D", "standard", "standard"): (99.4, 94.7, 63.3, 0.0),
    ("D", "standard", "independent"): (99.2, 94.2, 60.6, 0.3),
    ("D", "adversarial", "robust"): (97.5, 93.6, 82.8, 44.7),
    ("D_R", "standard", "D_R"): (97.8, 89.7, 60.8, 3.6),
    ("D_NR", "standard", "D_NR"): (98.6, 86.4, 49.2, 0.6),
    ("D_rand", "standard", "D_rand"): (97.2, 60.0, 12.5, 0.0),
    ("D_rand_other", "standard", "D_rand_other"): (96.4, 55.3, 9.7, 0.0),
    ("D_det", "standard", "D_det"): (61.9, 20.3, 1.7, 0.0),
}


def proportion(share: float, n: int) -> Proportion:
    """The share of `n` nearest to `share`, with its 95 % Wilson interval."""
    p, z = round(share * n) / n, 1.959963984540054
    centre, spread = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + side * spread) / (1 + z * z / n) for side in (-1, 1))
    return Proportion(value=p, low=max(0.0, min(low, p)), high=min(1.0, max(high, p)), n=n)


def row(
    train_set: TrainSet = "D",
    accuracy: float = 0.9,
    *,
    eps: float | None = None,
    training: Any = "standard",
    classifier: str | None = None,
    n: int = 360,
    norm: Any = "l2",
    **changes: Any,
) -> Row:
    share = proportion(accuracy, n)
    attack = None
    if eps is not None:
        attack = AttackUsed(norm=norm, eps=eps, steps=20, step_size=2.5 * eps / 20, restarts=2)
    name = classifier or (train_set if train_set != "D" else {"standard": "standard"}.get(training, "robust"))
    values: dict[str, Any] = {
        "train_set": train_set, "training": training, "classifier": name, "architecture": "cnn", "test_set": "test",
        "attack": attack, "accuracy": share.value, "low": share.low, "high": share.high, "n": n, "seed": 0,
    }  # fmt: skip
    return Row(**(values | changes))


def spread(median: float) -> Spread:
    return Spread(mean=1.04 * median, median=median, p95=1.6 * median, max=2.1 * median)


def resemblance(like: str, *, matched: bool = True, judge: str | None = "robust", n: int = 900) -> Resemblance:
    """Of images that are like their target, like their start, or, `unclear`, like one by one measure only."""
    high = {"target": (0.8, 0.9, 0.97), "start": (0.1, 0.02, 0.2), "unclear": (0.1, 0.9, 0.97)}[like]
    means = [Mean(value=2 * share - 1, low=2 * share - 1.05, high=2 * share - 0.95, n=n) for share in high]
    return Resemblance(
        n=n,
        target="matched image" if matched else "nearest image of the new class",
        judge=judge,
        measures=[
            Likeness(by=by, nearer_target=proportion(share, n), difference=mean)
            for by, share, mean in zip(("pixels", "ssim", "robust features"), high, means, strict=True)
            if judge or by != "robust features"
        ],
        judged_target=proportion(high[2], n) if judge else None,
        judged_start=proportion(0.9 * (1 - high[2]), n) if judge else None,
    )


def perturbation(to_nearest: float = 0.1, noticed: float = 0.03, n: int = 900) -> PerturbationSize:
    return PerturbationSize(
        n=n, to_nearest=spread(to_nearest), below_half=proportion(float(to_nearest < 0.5), n), noticed=spread(noticed)
    )


def properties(name: TrainSet, **changes: Any) -> SetProperties:
    matched, n = name in ("D_R", "D_NR"), 1437
    targets: Any = {"D_rand": "any", "D_rand_other": "other", "D_det": "next"}.get(name)
    kept = {"D_rand": 0.102, "D_rand_other": 0.0, "D_det": 0.0}.get(name, 0.099)
    values: dict[str, Any] = {
        "name": name,
        "folder": f"sets/{name}",
        "kind": "matched" if matched else "relabelled",
        "source": "robust" if name == "D_R" else "standard",
        "targets": targets,
        "n": n,
        "settings": {
            "objective": "feature matching" if matched else "targeted cross-entropy",
            "threat": {"norm": "l2", "eps": None if matched else 1.5},
            "schedule": {"kind": "Schedule", "steps": 200, "step_size": 0.1, "momentum": 0.0, "decay": "linear"},
            "seed": 3940221493445864517,
        },
        "kept_label": proportion(kept, n),
        "success_source": proportion(0.985, n),
        "success_source_changed": proportion(0.983, n - 146) if name != "D_R" else None,
        "success_independent": proportion(0.97 if name == "D_R" else 0.71, n),
        "rises_source": proportion(0.991, min(n, 2000)),
        "rises_independent": proportion(0.87, min(n, 2000)),
        "success_8bit": proportion(0.984, n),
        "success_augmented": proportion(0.89, n),
        "l2": spread(2.7 if matched else 1.31),
        "linf": spread(0.62 if matched else 0.34),
        "matching_loss": spread(0.041) if matched else None,
        "distance_to_target": spread(0.61) if matched else None,
        "resemblance": resemblance("target" if name == "D_R" else "start", matched=matched),
        "perturbation": None if matched else perturbation(),
        "seconds": 8.32,
    }
    return SetProperties(**(values | changes))


def results(*, hostile: bool = False, n: int = 360) -> Results:
    """What a run on the digits would leave."""
    rows = []
    for (train_set, training, classifier), values in ACCURACIES.items():
        for eps, value in zip((None, *RADII), values, strict=True):
            rows.append(row(train_set, value / 100, eps=eps, training=training, classifier=classifier, n=n))
    sets: tuple[TrainSet, ...] = ("D_R", "D_NR", "D_rand", "D_rand_other", "D_det")
    return Results(
        study=study(hostile=hostile),
        rows=rows,
        sets=[properties(name, folder=HOSTILE[1] if hostile else f"sets/{name}") for name in sets],
    )


def recipe(*, hostile: bool = False) -> Recipe:
    """Whatever a user may write in a recipe is written by somebody hostile, if asked for."""
    evil = HOSTILE if hostile else ("digits", "", "", "cnn")
    adversary = Adversary(eps=0.5, steps=7, step_size=0.2)
    return Recipe(
        data=evil[0],
        groups={evil[1]: evil[2]} if hostile else {},
        architecture=Architecture(name=evil[3], width=32, features=16, options={evil[1]: evil[2]} if hostile else {}),
        standard=Training(epochs=25, batch=64),
        robust=Training(epochs=25, batch=64, adversary=adversary),
        evaluation=StudyEvaluation(radii=RADII),
    )


def study(*, hostile: bool = False) -> StudyInfo:
    evil = HOSTILE if hostile else ("digits", "8x8, scikit-learn", "0", "cnn")
    return StudyInfo(
        name=evil[0],
        created="2026-03-04T15:09:26+00:00",
        recipe=recipe(hostile=hostile).settings(),
        command=f"notbugs run digits --out '{evil[1]}'" if hostile else "notbugs run digits --out runs/digits",
        data={
            "name": evil[0],
            "variant": evil[1],
            "classes": [*HOSTILE, *"456789"] if hostile else list("0123456789"),
            "shape": [1, 8, 8],
            "train": 1437,
            "test": 360,
            "fingerprint": "b7" * 32,
        },
        architecture={
            "name": evil[3], "parameters": 35_562, "features": 16,
            "feature_rank": {"standard": 15.8, "robust": 14.2}, "input_dimension": 64,
        },
        seeds=[0],
        versions={"notbugs": "0.1.0", "torch": "2.13.0", "python": "3.11.2", evil[3] if hostile else "numpy": "2.3.1"},
        device=f"cpu {evil[3]}" if hostile else "cpu",
        threads=2,
        stages=[Stage(name=name, seconds=seconds) for name, seconds in (("standard", 9.41), ("robust", 34.7))],
        classifiers={"standard": "0a" * 32, evil[0] if hostile else "robust": "1b" * 32},
    )  # fmt: skip


def gallery(k: int = 12, channels: int = 1, side: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Synthetic images in the layout of `gallery.safetensors`: every class is a bright bar at its own place."""
    random = np.random.default_rng(seed)

    def draw(labels: np.ndarray) -> np.ndarray:
        images = 0.12 * random.random((len(labels), channels, side, side))
        for image, label in zip(images, labels, strict=True):
            if label % 2:
                image[:, label * side // 10, 1:-1] += 0.8
            else:
                image[:, 1:-1, label * side // 10] += 0.8
        return np.clip(images, 0, 1).astype(np.float32)

    labels = np.arange(k) % 10
    arrays: dict[str, np.ndarray] = {"D": draw(labels), "D.labels": labels}
    starts = random.integers(0, 10, k)
    start = draw(starts)
    steps, shares = np.array([1, 3, 8, 20]), (0.4, 0.7, 0.9, 1.0)

    def way(name: str) -> dict[str, np.ndarray]:
        """Frames on a straight line, scores that fall along it, and every third search without success."""
        moved = arrays[name] - arrays[f"{name}.start"]
        return {
            f"{name}.steps": steps,
            f"{name}.moved": np.stack([share * moved for share in shares], 1).astype(np.float16),
            f"{name}.scores": np.tile(np.float32([2, 1, 0.5, 0.2, 0.1]), (k, 1)),
            f"{name}.success": np.arange(k) % 3 != 1,
        }

    for name in ("D_R", "D_NR"):
        mix = 0.6 if name == "D_R" else 0.12
        arrays |= {
            name: ((1 - mix) * start + mix * arrays["D"]).astype(np.float32), f"{name}.labels": labels,
            f"{name}.start": start, f"{name}.start_labels": starts, f"{name}.target": arrays["D"],
            f"{name}.alike": np.tile(np.float32([1 - mix, mix]), (k, 1)),
        }  # fmt: skip
        arrays |= way(name)
    targets = {"D_rand": random.integers(0, 10, k), "D_rand_other": (labels + 1 + random.integers(0, 9, k)) % 10}
    for name, target in (targets | {"D_det": (labels + 1) % 10}).items():
        moved = np.clip(arrays["D"] + 0.18 * (draw(target) - 0.1), 0, 1).astype(np.float32)
        arrays |= {
            name: moved, f"{name}.labels": target, f"{name}.start": arrays["D"], f"{name}.start_labels": labels,
            f"{name}.size": np.where((target == labels)[:, None], np.nan, np.float32([0.25, 0.05])).astype(np.float32),
        }  # fmt: skip
        arrays |= way(name)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def write_study(folder: Path, *, hostile: bool = False, with_gallery: bool = True, **images: int) -> Results:
    """Write a study folder that has everything the report reads, and return its results."""
    folder.mkdir(parents=True, exist_ok=True)
    made = results(hostile=hostile)
    (folder / "results.json").write_text(made.model_dump_json(by_alias=True), encoding="utf-8")
    if with_gallery:
        save_file(gallery(**images), folder / "gallery.safetensors")
    return made
