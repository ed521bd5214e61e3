"""The robust set D_R, the non-robust set D_NR, and the relabelled sets D_rand and D_det."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from notbugs._version import __version__
from notbugs.classifier import Classifier
from notbugs.construct.plan import Targets, choose_starts, choose_targets
from notbugs.construct.store import ConstructedSet, build
from notbugs.data import Data
from notbugs.progress import Progress, silent
from notbugs.search import Found, Schedule, Steps, fast_matching, match_features, targeted_pgd
from notbugs.threat import L2, Threat

BATCH = 250  # divides the number of images in a shard, so batches are the same after a resume
PAPER_RELABELLING = Schedule(steps=100, step_size=0.1)
"""The paper's schedule for D_rand and D_det on CIFAR-10, with l2 radius 0.5 (appendix C.5, Table 6)."""


def robustify(
    classifier: Classifier,
    data: Data,
    folder: str | Path,
    *,
    schedule: Steps | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ConstructedSet:
    """Build D_R from a robust classifier, or D_NR from a standard one (the paper, section 3.1).

    For every training image, another one drawn at random is moved until the classifier's features of the two are
    equal; it gets the label of the image it matches. Where the classifier relies on robust features, only these are
    left correlated with the label.

    Parameters
    ----------
    classifier : Classifier
        The source.
    data : Data
        Its training images are targets and starts.
    folder : Path
        Where the set is written; a killed build goes on there.
    schedule : Schedule, optional
        Of the search; `fast_matching` by default. `PAPER_MATCHING` is the paper's.
    seed : int
        Decides which image each search starts from.
    progress : Progress
        Told after every batch.

    Raises
    ------
    InputError
        If `folder` holds another set or another process is building there.
    """
    images = data.train
    schedule = schedule or fast_matching(images.shape)
    starts, targets = choose_starts(len(images), seed), torch.arange(len(images))

    def run(index: Tensor) -> Found:
        start, _ = images.batch(starts[index])
        target, _ = images.batch(targets[index])
        return match_features(classifier, start.to(classifier.device), target.to(classifier.device), schedule)

    request = _request(classifier, data, "feature matching", L2(math.inf), schedule, seed, targets=None)
    columns = {"labels": images.labels, "start": starts, "target": targets}
    return build(Path(folder), request, len(images), _shard_builder(run, columns, len(images), progress))


def relabel(
    classifier: Classifier,
    data: Data,
    folder: str | Path,
    *,
    targets: Targets = "any",
    threat: Threat = L2(0.5),  # noqa: B008  frozen
    schedule: Steps = PAPER_RELABELLING,
    seed: int = 0,
    progress: Progress = silent,
) -> ConstructedSet:
    """Build D_rand (`targets` "any" or "other") or D_det ("next") (the paper, section 3.2).

    Every training image is pushed towards a target class inside the threat model, and labelled with that class.
    Images whose search failed are kept, as in the paper.

    Parameters
    ----------
    classifier : Classifier
        The source; the paper's is a standard classifier.
    data : Data
        Its training images are the starts.
    folder : Path
        Where the set is written; a killed build goes on there.
    targets : {"any", "other", "next"}
        See `choose_targets`.
    threat : Threat
        Radius in pixel units; the paper's is `L2(0.5)` on CIFAR-10.
    schedule : Schedule
        Of the search; the paper's by default.
    seed : int
        Decides the targets.
    progress : Progress
        Told after every batch.

    Raises
    ------
    InputError
        If `targets` is unknown, `folder` holds another set, or another process is building there.
    """
    images = data.train
    labels = choose_targets(images.labels, len(data.classes), targets, seed)

    def run(index: Tensor) -> Found:
        inputs, _ = images.batch(index)
        return targeted_pgd(
            classifier, inputs.to(classifier.device), labels[index].to(classifier.device), threat, schedule
        )

    request = _request(classifier, data, "targeted cross-entropy", threat, schedule, seed, targets=targets)
    columns = {"labels": labels, "start": torch.arange(len(images)), "target": labels.clone()}
    return build(Path(folder), request, len(images), _shard_builder(run, columns, len(images), progress))


def fingerprint(classifier: Classifier) -> str:
    """SHA-256 over the names, shapes and bytes of a classifier's weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _request(
    classifier: Classifier,
    data: Data,
    objective: str,
    threat: Threat,
    schedule: Steps,
    seed: int,
    targets: Targets | None,
) -> dict[str, Any]:
    """Everything that decides the bits of a set, and where it comes from."""
    return {
        "objective": objective,
        "targets": targets,
        "threat": {"norm": threat.norm, "eps": threat.eps if math.isfinite(threat.eps) else None},
        "schedule": {"kind": type(schedule).__name__, **asdict(schedule)},  # pyrefly: ignore
        "seed": seed,
        "source": fingerprint(classifier),
        "precision": classifier.precision,
        "data": {"name": data.title, "fingerprint": data.fingerprint, "images": len(data.train)},
        "classes": list(data.classes),
        "dtype": "float32",
        "versions": {"notbugs": __version__, "torch": torch.__version__},
    }


def _shard_builder(
    run: Callable[[Tensor], Found], columns: dict[str, Tensor], count: int, progress: Progress
) -> Callable[[int, int], dict[str, Tensor]]:
    def build_shard(first: int, last: int) -> dict[str, Tensor]:
        images, losses = [], []
        for low in range(first, last, BATCH):
            high = min(low + BATCH, last)
            found = run(torch.arange(low, high))
            images.append(found.images.cpu())
            losses.append(found.score.cpu())
            progress(high, count, f"loss {float(found.score.mean()):.3f}")
        part = {name: column[first:last] for name, column in columns.items()}
        return {"images": torch.cat(images), "loss": torch.cat(losses), **part}

    return build_shard
