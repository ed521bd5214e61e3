"""What every build has in common: its plan and starts, the source made fast, the request, batches stored and judged."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from notbugs._version import __version__
from notbugs.classifier import Classifier
from notbugs.construct.manifest import Ball, ByWhom, Identity, Kept, Request, Sizes, Storage, read_manifest
from notbugs.construct.storage import decode, distances, encode, summary
from notbugs.construct.store import ConstructedSet, Tell, build
from notbugs.data import Data, Images
from notbugs.errors import check_choice
from notbugs.files import Damaged
from notbugs.given import checked
from notbugs.models.execution import FORMS, ready
from notbugs.networks import code_of
from notbugs.progress import Progress
from notbugs.search import FMN, LBFGS, PGDSteps, Steps
from notbugs.search.objectives import log_odds
from notbugs.seeds import generator
from notbugs.shapes import Batch, Labels, Logits, PerSample
from notbugs.threat import Threat

Targets = Literal["any", "other", "next"]
TARGETS = ("any", "other", "next")


def choose_targets(labels: Labels, classes: int, targets: Targets, seed: int) -> Labels:
    """The class that every image is pushed towards and relabelled with.

    Parameters
    ----------
    labels : Tensor
        True labels, shape (n,).
    classes : int
        How many classes there are.
    targets : {"any", "other", "next"}
        `any`: uniform over all classes, so one in `classes` keeps its label (the paper's D_rand). `other`: uniform
        over the wrong classes. `next`: label + 1 modulo `classes` (D_det).
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        If `targets` is none of these.

    Examples
    --------
    >>> nb.construct.choose_targets(labels, 10, 'next', seed=0).equal((labels + 1) % 10)
    True
    """
    check_choice("targets", targets, TARGETS)
    draw = generator(seed, "targets", targets)
    if targets == "any":
        return torch.randint(classes, labels.shape, generator=draw)
    if targets == "other":
        return (labels + torch.randint(1, classes, labels.shape, generator=draw)) % classes
    return (labels + 1) % classes


def choose_starts(count: int, seed: int) -> Tensor:
    """For every image another one, drawn uniformly and independently of the labels: where its matching starts.

    Examples
    --------
    >>> nb.construct.choose_starts(5, seed=0).shape
    torch.Size([5])
    """
    draw = torch.randint(1, count, (count,), generator=generator(seed, "starts")) if count > 1 else torch.zeros(1)
    return (torch.arange(count) + draw.long()) % count


Start = Literal["images", "gaussian", "uniform"]
STARTS = ("images", "gaussian", "uniform")

SPREAD = 0.05  # of Gaussian noise: 1 / 20, as in the authors' library


@checked
def starts_of(request: Mapping[str, Any], originals: Images) -> Callable[[Tensor], Batch]:
    """A function from numbers, as in a set's `start`, to the images that its searches started from.

    Parameters
    ----------
    request : dict
        Of the set's manifest.
    originals : Images
        The training images it was built from.

    Examples
    --------
    >>> starts = nb.construct.starts_of({'start': 'gaussian', 'seed': 0}, data.train)
    """
    kind = request.get("start", "images")
    if kind == "images":
        return lambda numbers: originals.batch(numbers)[0]
    return lambda numbers: noise(kind, numbers, originals.shape, request["seed"])


def noise(kind: str, numbers: Tensor, shape: Sequence[int], seed: int) -> Batch:
    """Images of noise; each depends on its number and the seed alone.

    `gaussian`: mean 0.5 and standard deviation 0.05, cut off at 0 and 1. `uniform`: every value between 0 and 1.
    """
    draws = (generator(seed, "noise", kind, number) for number in numbers.tolist())
    kept = torch.float32
    if kind == "uniform":
        return torch.stack([torch.rand(*shape, generator=draw, dtype=kept) for draw in draws])
    drawn = torch.stack([torch.randn(*shape, generator=draw, dtype=kept) for draw in draws])
    return drawn.mul_(SPREAD).add_(0.5).clamp_(0, 1)


Rows = dict[str, Tensor]
"""Columns of some images."""
STORED_KINDS = {PGDSteps: "Schedule", FMN: "Shrinking", LBFGS: "QuasiNewton"}
"""Steps as manifests name them: by the classes of version 0.1, so that sets begun then go on and have the same bits."""


@checked
def fingerprint(classifier: Classifier) -> str:
    """SHA-256 over the names, shapes and bytes of a classifier's weights and statistics.

    Examples
    --------
    >>> nb.construct.fingerprint(classifier) == nb.construct.fingerprint(classifier)
    True
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def by_whom(classifier: Classifier, *others: Classifier) -> ByWhom:
    """The part of a request that says what the source computes, and with what code of a user's own, if any."""
    asked: ByWhom = {"source": fingerprint(classifier)}
    if code := code_of(*(one.network for one in (classifier, *others))):
        asked["code"] = code
    if classifier.chosen_outputs is not None:
        asked["outputs"] = list(map(int, classifier.chosen_outputs))
    return asked


def ready_for(classifier: Classifier, images: Images, folder: str | Path, batch: int) -> tuple[Classifier, str]:
    """The classifier made fast for a search, and its form: that in which the set in `folder` was begun, if it was."""
    try:
        begun = read_manifest(Path(folder)) if Path(folder).is_dir() else None
    except Damaged:  # `store.build` says what becomes of it
        begun = None
    form = begun["request"]["precision"] if begun else None
    if form not in FORMS or classifier.precision not in ("auto", form.split()[0]):
        form = None
    return ready(classifier, images.shape, batch=batch, form=form)


def request_of(
    classifier: Classifier,
    form: str,
    data: Data,
    objective: str,
    threat: Threat,
    schedule: Steps,
    seed: int,
    targets: Targets | None,
    start: Start,
    others: Sequence[Classifier],
    stored: Sizes,
) -> Request:
    """Everything that decides the bits of a set."""
    kind = type(schedule)
    return {
        "objective": objective,
        "targets": targets,
        **({"start": start} if start != "images" else {}),
        "threat": ball_of(threat),
        "schedule": {"kind": STORED_KINDS.get(kind, kind.__name__), **asdict(schedule)},  # pyrefly: ignore
        "seed": int(seed),  # NumPy's whole numbers are none of JSON
        **by_whom(classifier, *others),
        "precision": form,
        **identity(data),
        **({"others": list(map(fingerprint, others))} if others else {}),
        **stored,
    }


def ball_of(threat: Threat) -> Ball:
    """A threat model as manifests have it."""
    ball: Ball = {"norm": threat.norm, "eps": threat.eps if math.isfinite(threat.eps) else None}
    if threat.band:
        ball["band"] = Kept(side=threat.band.side, cutoff=threat.band.cutoff)
    return ball


def identity(data: Data) -> Identity:
    """The part of a request that says which images a set is built from, and by which versions."""
    return {
        "data": {
            "name": data.title,
            "fingerprint": data.fingerprint,
            "images": len(data.train),
            "shape": list(data.train.shape),
        },
        "classes": list(data.classes),
        "versions": {"notbugs": __version__, "torch": torch.__version__},
    }


@dataclass
class Builder:
    """Builds a range of images in batches: search, store, and judge what was stored against what was found.

    `run` returns the images of some rows, given the images that they start from; `losses` the source's logits of images
    of some rows, and their loss.
    """

    classifier: Classifier
    originals: Images
    request: Request
    columns: Rows
    run: Callable[[Batch, Rows], Batch]
    losses: Callable[[Batch, Rows], tuple[Logits, PerSample]]

    def __call__(self, first: int, last: int, tell: Tell) -> tuple[Rows, Storage]:
        """The columns of images `first` up to `last`, and the summary of what storing did."""
        parts = []
        for low in range(first, last, self.request["batch"]):
            high = min(low + self.request["batch"], last)
            parts.append(self.batch({name: column[low:high] for name, column in self.columns.items()}))
            tell(high - low, f"loss {float(parts[-1][2]['loss_found'].mean()):.3f}")
        columns, moved, judged = (_joined(column) for column in zip(*parts, strict=True))
        part = {name: column[first:last] for name, column in self.columns.items()}
        return {**columns, "loss": judged["loss_stored"], **part}, summary(moved, judged)

    def batch(self, rows: Rows) -> tuple[Rows, Rows, Rows]:
        """Images as stored; how far they are from where; and success and loss before and after storing."""
        start = starts_of(self.request, self.originals)(rows["start"])
        found = self.run(start.to(self.classifier.device), rows).cpu()
        pixels = encode(found, self.request["dtype"])
        stored = decode(pixels)
        before = self.judge(found, rows)
        after = before if torch.equal(found, stored) else self.judge(stored, rows)
        judged = {f"{name}_found": value for name, value in before.items()}
        judged |= {f"{name}_stored": value for name, value in after.items()}
        return {"images": pixels}, distances(found, stored, start), judged

    def judge(self, images: Tensor, rows: Rows) -> Rows:
        """Whether the source gives images their labels, and their loss, in fp32."""
        with torch.no_grad(), self.classifier.evaluating("fp32"):
            logits, loss = self.losses(images.to(self.classifier.device), rows)
            return {"success": logits.argmax(1).cpu() == rows["labels"], "loss": loss.cpu()}


def build_labelled(
    classifier: Classifier,
    data: Data,
    folder: str | Path,
    request: Request,
    columns: Rows,
    run: Callable[[Batch, Rows], Batch],
    progress: Progress,
) -> ConstructedSet:
    """Build a set whose images are judged by the loss of the labels they train with."""

    def losses(images: Batch, rows: Rows) -> tuple[Logits, PerSample]:
        logits = classifier(images)
        return logits, softplus(-log_odds(logits, rows["labels"].to(logits.device)))

    return build(Path(folder), request, Builder(classifier, data.train, request, columns, run, losses), progress)


def _joined(parts: Sequence[Rows]) -> Rows:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
