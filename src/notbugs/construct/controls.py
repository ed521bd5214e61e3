"""Control sets: what a relabelled set would teach if its images carried no adversarial features."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.construct.builder import Rows, build_labelled, by_whom, fingerprint, identity
from notbugs.construct.manifest import Request, build_id, kind_of
from notbugs.construct.storage import Dtype, sizes
from notbugs.construct.store import ConstructedSet
from notbugs.data import Data, Images
from notbugs.errors import InputError, check_choice, must
from notbugs.frequency import Band
from notbugs.given import checked
from notbugs.progress import Progress, silent
from notbugs.search.compatibility import check_fits
from notbugs.seeds import generator
from notbugs.shapes import Batch, Labels, PerSample
from notbugs.threat import L2, Norm, Threat, threat

Control = Literal["leakage", "random", "labels"]
CONTROLS: tuple[Control, ...] = ("leakage", "random", "labels")

NO_SEARCH = {"kind": "none"}


@checked
def control(
    classifier: Classifier,
    data: Data,
    folder: str | Path,
    *,
    of: ConstructedSet,
    kind: Control,
    weak: Classifier | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ConstructedSet:
    """Build a control of a relabelled set: the same number of images, the same labels, no adversarial features.

    `leakage`: one fixed synthetic pattern for each class is added to every image, that of the image's label, as long as
    the set's radius is, or, in a set of free radius, as long as the image's own adversarial perturbation; except to
    images that are consistent with their label as they are. The patterns explain all other labels away, so what is
    learned from images without one is what their own features say. `random`: every image is moved as far as its
    adversarial one, in a random direction. `labels`: images stay as they are.

    Parameters
    ----------
    classifier : Classifier
        The source of the set; the manifest says how often it gives the control's images their labels.
    data : Data
        What the set was built from.
    folder : Path
        Where the control is written, in the set's type; a killed build goes on there.
    of : ConstructedSet
        The relabelled set, started from images.
    kind : {"leakage", "random", "labels"}
        What takes the place of the adversarial perturbations.
    weak : Classifier, optional
        Decides which images are consistent, for `leakage`: those to which it gives their label; for instance one whose
        training was stopped after an epoch. By default those whose label is the true one, as in D_rand with targets
        `any`; sets without such images need it.
    seed : int
        Decides patterns and directions.
    progress : Progress
        Told after every batch.

    Raises
    ------
    InputError
        If an argument breaks its rule, `of` was built from other data or with another source, or `folder` holds another
        set.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> of = nb.relabel(classifier, small, 'of', targets='any', schedule=nb.search.PGDSteps(2))
    >>> random = nb.control(classifier, small, 'random', of=of, kind='random')
    """
    check_choice("kind", kind, CONTROLS)
    if weak is not None and kind != "leakage":
        raise must("weak", f"be left out for {kind}, which has no use for it", "one", "It is of kind 'leakage'.")
    plan = of.manifest["request"]
    _check(classifier, data, plan)
    check_fits(classifier, data.train, len(data.classes))
    if kind == "leakage":
        _check_consistent(plan, weak)
        check_fits(weak or classifier, data.train, len(data.classes))
    norm, reach = plan["threat"]["norm"], plan["threat"]["eps"]
    is_free = reach is None
    ball = threat(norm, 1.0 if is_free else reach)
    band = Band(**plan["threat"]["band"]) if "band" in plan["threat"] else None

    def lengths(begin: Batch, rows: Rows) -> PerSample:
        """How far the set moved each image."""
        return ball.size(of.images.batch(rows["start"])[0] - begin.cpu()).to(begin)

    def run(begin: Batch, rows: Rows) -> Batch:
        if kind == "leakage":
            is_consistent = _consistent(begin, rows, data.train, weak)
            pattern = added[rows["labels"]]
            if is_free:
                pattern = pattern * lengths(begin, rows)[:, None, None, None]
            return torch.where(is_consistent[:, None, None, None], begin, (begin + pattern).clamp(0, 1))
        if kind == "random":
            return _moved_at_random(begin, rows["start"], lengths(begin, rows), norm, seed, band)
        return begin

    added = patterns(data, ball, seed).to(classifier.device) if kind == "leakage" else torch.empty(0)
    request: Request = {
        **plan,
        "objective": f"{kind} control",
        # Without a band: patterns have frequencies of their own, and turning inwards adds some to directions.
        "threat": {"norm": norm, "eps": reach if kind != "labels" else 0.0},
        "schedule": NO_SEARCH,
        "seed": seed,
        "precision": "fp32",
        "versions": identity(data)["versions"],
        "of": build_id(plan),
        **by_whom(classifier, *([weak] if weak else [])),
        **({"weak": fingerprint(weak)} if kind == "leakage" and weak else {}),
    }
    columns = {"labels": of.images.labels, "start": of.start, "target": of.target}
    return build_labelled(classifier, data, folder, request, columns, run, progress)


@checked
def mislabel(
    classifier: Classifier,
    data: Data,
    folder: str | Path,
    *,
    dtype: Dtype = "float32",
    batch: int | None = None,
    progress: Progress = silent,
) -> ConstructedSet:
    """Build the set of the training images that a classifier gets wrong, untouched, labelled as it predicts (Wallace).

    Every label is wrong, no image was changed, and yet a classifier trained on it generalises: it is told what the
    first one has learned. As a control it says how much of that a relabelled set may owe to its labels.

    Parameters
    ----------
    classifier : Classifier
        For instance one whose training was stopped after two epochs (Wallace's experiment A).
    data : Data
        Its training images are taken.
    folder : Path
        Where the set is written; a killed build goes on there.
    dtype : {"float32", "float16", "uint8"}
        What images are stored in.
    batch : int, optional
        Images at once; 250 by default, or fewer of large images.
    progress : Progress
        Told after every batch.

    Raises
    ------
    InputError
        If an argument breaks its rule, the classifier gets every image right, or `folder` holds another set.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> wrong = nb.construct.mislabel(classifier, small, 'mislabelled')
    """
    check_fits(classifier, data.train, len(data.classes))
    stored = sizes(data.train.shape, dtype, batch)
    parts = torch.arange(len(data.train)).split(stored["batch"])
    predicted = torch.cat([_predict(classifier, data.train.batch(part)[0]) for part in parts])
    start = (predicted != data.train.labels).nonzero().flatten()
    if not len(start):
        rule = "get at least one training image wrong"
        raise must("classifier", rule, f"none of {len(data.train)} wrong", "Train it for fewer epochs.")
    request: Request = {
        "objective": "mislabelled by the source",
        "targets": "predicted",
        "threat": {"norm": "l2", "eps": 0.0},
        "schedule": NO_SEARCH,
        "seed": 0,
        **by_whom(classifier),
        "precision": "fp32",
        "images": len(start),
        **identity(data),
        **stored,
    }
    columns = {"labels": predicted[start], "start": start, "target": predicted[start]}
    return build_labelled(classifier, data, folder, request, columns, lambda begin, rows: begin, progress)


@checked
def patterns(data: Data, ball: Threat, seed: int = 0) -> Batch:
    """One pattern for each class, of the radius of `ball`, shape (class, channel, height, width).

    A small tile of random values, repeated over the image: convolutional networks learn these sooner than anything in
    the images, and sooner than patterns of noise. The tile is the smallest with room for orthogonal patterns, two
    pixels a side for ten classes in colour.

    Examples
    --------
    >>> nb.construct.patterns(data, nb.L2(0.5)).shape
    torch.Size([10, 1, 8, 8])
    """
    channels, height, width = data.train.shape
    classes = len(data.classes)
    side = next(side for side in range(2, classes + 2) if channels * side * side >= classes)
    drawn = torch.randn(channels * side * side, classes, generator=generator(seed, "patterns"), dtype=torch.float32)
    tiles = torch.linalg.qr(drawn).Q.T.reshape(classes, channels, side, side)
    whole = tiles.repeat(1, 1, -(-height // side), -(-width // side))[:, :, :height, :width]
    return whole * (ball.eps / ball.size(whole))[:, None, None, None]


def _moved_at_random(
    images: Batch, numbers: Tensor, size: PerSample, norm: Norm, seed: int, band: Band | None
) -> Batch:
    """Every image moved by `size` in a random direction; what would leave [0, 1] points inwards, to keep the length.

    The direction has the frequencies of the set's band, before that.
    """
    draws = (generator(seed, "random control", number) for number in numbers.tolist())
    shape, kept = images.shape[1:], torch.float32
    drawn = torch.stack([torch.randn(shape, generator=draw, dtype=kept) for draw in draws]).to(images)
    drawn = band(drawn) if band else drawn
    direction = drawn.sign() if norm == "linf" else L2(1.0).step(drawn)
    move = direction * size[:, None, None, None]
    is_outside = (images + move < 0) | (images + move > 1)
    return (images + torch.where(is_outside, -move, move)).clamp(0, 1)


def _consistent(images: Batch, rows: Rows, originals: Images, weak: Classifier | None) -> Tensor:
    """Whether the images alone say what they are labelled with: true, or as a weak classifier sees it."""
    said = _predict(weak, images) if weak else originals.labels[rows["start"]]
    return (said == rows["labels"]).to(images.device)


def _predict(classifier: Classifier, images: Batch) -> Labels:
    with torch.no_grad(), classifier.evaluating("fp32"):
        return classifier(images.to(classifier.device)).argmax(1).cpu()


def _check(classifier: Classifier, data: Data, request: Request) -> None:
    """Refuse what is no relabelled set of these images by this source."""
    if kind_of(request) != "relabelled":
        raise must("of", "be a relabelled set: D_rand or D_det", f"a {kind_of(request)} set")
    if "start" in request:
        raise must("of", "start from images", f"{request['start']} noise", "Noise has no class that could leak.")
    for name, got, wanted in (
        ("data", data.fingerprint, request["data"]["fingerprint"]),
        ("classifier", fingerprint(classifier), request["source"]),
    ):
        if got != wanted:
            raise must(name, f"be what the relabelled set was built with, of hash {wanted[:12]}", got[:12])


def _check_consistent(request: Request, weak: Classifier | None) -> None:
    if weak is None and request["targets"] != "any":
        raise InputError(
            f"The 'weak' must be given where no image keeps its label, as with targets {request['targets']!r}. "
            "Give a classifier whose training was stopped early."
        )
