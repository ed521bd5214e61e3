"""The robust set D_R, the non-robust set D_NR, and the relabelled sets D_rand and D_det."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from notbugs.classifier import Classifier
from notbugs.construct.builder import (
    STARTS,
    Builder,
    Rows,
    Start,
    Targets,
    build_labelled,
    choose_starts,
    choose_targets,
    ready_for,
    request_of,
)
from notbugs.construct.storage import Dtype, sizes
from notbugs.construct.store import ConstructedSet, build
from notbugs.data import Data, Images
from notbugs.errors import check_choice, must
from notbugs.given import checked
from notbugs.progress import Progress, silent
from notbugs.search import (
    FMN,
    PGDSteps,
    Steps,
    fast_matching,
    fast_relabelling,
    match_features,
    minimum_norm,
    targeted_pgd,
    targeted_pgd_alone,
)
from notbugs.search.attacks import Hold, check_hold
from notbugs.search.backward import fake_relu_features
from notbugs.search.compatibility import check_fits
from notbugs.search.objectives import mismatch
from notbugs.shapes import Batch, Logits, PerSample
from notbugs.threat import L2, Threat, check_radii

PAPER_RELABELLING = PGDSteps(steps=100, step_size=0.1)
"""The paper's schedule for D_rand and D_det on CIFAR-10, with l2 radius 0.5 (appendix C.5, Table 6).

Examples
--------
>>> nb.construct.PAPER_RELABELLING.steps
100
"""


@checked
def robustify(
    classifier: Classifier,
    data: Data,
    folder: str | Path,
    *,
    start: Start = "images",
    schedule: Steps | None = None,
    fake_relu: bool | str = False,
    features: Sequence[int] | None = None,
    dtype: Dtype = "float32",
    batch: int | None = None,
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
    start : {"images", "gaussian", "uniform"}
        What each search starts from: another training image, or noise, which is far from any image and wants more steps
        (the paper's figure 7 takes ten times as many). See `construct.builder.noise`.
    schedule : Steps, optional
        Of the search; `fast_matching` by default. `PAPER_MATCHING` is the paper's.
    fake_relu : bool or str
        Whether gradients pass the last ReLU unchanged, or the name of the one they pass so; see `match_features`.
    features : sequence of int, optional
        Numbers of the features that are matched, in rising order; all of them if not given.
    dtype : {"float32", "float16", "uint8"}
        What images are stored in; `uint8` rounds. The manifest's `storage` says what it cost.
    batch : int, optional
        Images searched at once, which may decide the last bits; 250 by default, or fewer of large images: 16 MiB of
        float32.
    seed : int
        Decides which image each search starts from.
    progress : Progress
        Told after every batch.

    Raises
    ------
    InputError
        If an argument breaks its rule, `folder` holds another set, or another process is building there.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.robustify(classifier, small, 'D_R', schedule=nb.search.LBFGS(2, reach=0.3))
    >>> len(built)
    20
    """
    images = data.train
    check_choice("start", start, STARTS)
    check_fits(classifier, images, len(data.classes), features=True)
    chosen = None if features is None else _checked_features(features, classifier, images)
    schedule = schedule or fast_matching(images.shape)
    targets = torch.arange(len(images))
    starts = choose_starts(len(images), seed) if start == "images" else targets.clone()
    stored = sizes(images.shape, dtype, batch)
    fast, form = ready_for(classifier, images, folder, stored["batch"])
    if fake_relu:  # before any work
        with fast.evaluating():
            fake_relu_features(fast, images.batch(slice(1))[0].to(fast.device), fake_relu)

    def run(begin: Batch, rows: Rows) -> Batch:
        target, _ = images.batch(rows["target"])
        target = target.to(begin.device)
        return match_features(fast, begin, target, schedule, fake_relu=fake_relu, features=chosen).images

    def losses(pixels: Batch, rows: Rows) -> tuple[Logits, PerSample]:
        target, _ = images.batch(rows["target"])
        found, logits = classifier.features_and_logits(pixels)
        wanted = classifier.features(target.to(pixels.device))
        matched = slice(None) if chosen is None else torch.tensor(chosen, device=pixels.device)
        return logits, mismatch(found[:, matched], wanted[:, matched])

    free = L2(math.inf)
    request = request_of(classifier, form, data, "feature matching", free, schedule, seed, None, start, (), stored)
    if chosen is not None:
        request["features"] = chosen
    if fake_relu:
        request["fake_relu"] = fake_relu
    columns = {"labels": images.labels, "start": starts, "target": targets}
    return build(Path(folder), request, Builder(classifier, images, request, columns, run, losses), progress)


@checked
def relabel(
    classifier: Classifier,
    data: Data,
    folder: str | Path,
    *,
    targets: Targets = "any",
    threat: Threat = L2(0.5),  # noqa: B008  frozen
    start: Start = "images",
    schedule: Steps | None = None,
    others: Sequence[Classifier] = (),
    hold: Hold = "label",
    dtype: Dtype = "float32",
    batch: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ConstructedSet:
    """Build D_rand (`targets` "any" or "other") or D_det ("next") (the paper, section 3.2).

    Every training image is pushed towards a target class inside the threat model, and labelled with that class.
    Images whose search failed are kept, as in the paper: the manifest's success counts them. With a `FMN`
    schedule the perturbation is the smallest that reaches the class; where none inside the threat model was found, the
    image stays as it was.

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
        Radius in pixel units; the paper's is `L2(0.5)` on CIFAR-10. `L2(math.inf)` leaves smallest perturbations free.
        With a `band`, perturbations have its frequencies alone, but for what clipping to [0, 1] adds.
    start : {"images", "gaussian", "uniform"}
        What is perturbed: the training images, or as many images of noise, which have no class that could leak (Kumano
        et al. 2024). Targets are drawn from the labels of the training images all the same.
    schedule : Steps, optional
        Of the search; `fast_relabelling` by default. `PAPER_RELABELLING` is the paper's, `FMN(50)` searches for
        the smallest perturbation. Store those as float32: rounding takes them back over the boundary.
    others : sequence of Classifier
        Classifiers that are to keep to the label of the start while the source is moved to the target (Nakkiran 2019):
        what then moves it is a bug of this one, no feature that classifiers share. Images must be the starts.
    hold : {"label", "outputs"}
        What `others` are held at: the label of the start, as Nakkiran has it, or all their outputs there. With more
        than two classes, what is shared may move those of third classes though the label stays.
    dtype : {"float32", "float16", "uint8"}
        What images are stored in; `uint8` rounds. The manifest's `storage` says what it cost.
    batch : int, optional
        Images searched at once, which may decide the last bits; 250 by default, or fewer of large images: 16 MiB of
        float32.
    seed : int
        Decides the targets.
    progress : Progress
        Told after every batch.

    Raises
    ------
    InputError
        If an argument breaks its rule, `folder` holds another set, or another process is building there.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> steps = nb.search.PGDSteps(2)
    >>> built = nb.relabel(classifier, small, 'D_det', targets='next', threat=nb.L2(0.5), schedule=steps)
    >>> built.images.labels[0] == (small.train.labels[built.start[0]] + 1) % 10
    tensor(True)
    """
    images = data.train
    _check_relabelling(classifier, data, threat, start, schedule, others)
    if others or hold != "label":
        check_hold(hold, others)
    labels = choose_targets(images.labels, len(data.classes), targets, seed)
    stored = sizes(images.shape, dtype, batch)
    fast, form = ready_for(classifier, images, folder, stored["batch"])
    kept = [ready_for(other, images, folder, stored["batch"])[0] for other in others]
    schedule = schedule or fast_relabelling(threat)
    objective = "smallest perturbation" if isinstance(schedule, FMN) else "targeted cross-entropy"
    request = request_of(classifier, form, data, objective, threat, schedule, seed, targets, start, others, stored)
    if others and hold != "label":
        request["hold"] = hold
    columns = {"labels": labels, "start": torch.arange(len(images)), "target": labels.clone()}
    run = _relabelling(fast, kept, hold, images, threat, schedule)
    return build_labelled(classifier, data, folder, request, columns, run, progress)


def _check_relabelling(
    classifier: Classifier,
    data: Data,
    threat: Threat,
    start: Start,
    schedule: Steps | None,
    others: Sequence[Classifier],
) -> None:
    check_choice("start", start, STARTS)
    check_radii([threat], data.train.shape, band=not isinstance(schedule, FMN))
    for each in (classifier, *others):
        check_fits(each, data.train, len(data.classes))
    if others and (start != "images" or isinstance(schedule, FMN)):
        rule = "be left out where starts are noise, which has no label to keep, and of smallest perturbations"
        raise must("others", rule, f"{len(others)}, from {start}")


def _relabelling(
    fast: Classifier, others: Sequence[Classifier], hold: Hold, images: Images, threat: Threat, schedule: Steps
) -> Callable[[Batch, Rows], Batch]:
    """The search that moves images to the labels they train with; what `others` are held at stays."""

    def run(begin: Batch, rows: Rows) -> Batch:
        wanted = rows["labels"].to(begin.device)
        if isinstance(schedule, FMN):
            return minimum_norm(fast, begin, wanted, threat.norm, schedule, targeted=True, eps=threat.eps).images
        if others:
            own = images.labels[rows["start"]].to(begin.device)
            return targeted_pgd_alone(fast, others, begin, wanted, own, threat, schedule, hold=hold).images
        return targeted_pgd(fast, begin, wanted, threat, schedule).images

    return run


def _checked_features(features: Sequence[int], classifier: Classifier, images: Images) -> list[int]:
    """The numbers of some of a classifier's features, if they are such."""
    with torch.no_grad(), classifier.evaluating():
        count = classifier.features(images.batch(slice(1))[0].to(classifier.device)).shape[1]
    chosen = sorted(map(int, features))
    if not chosen or len(set(chosen)) < len(chosen) or chosen[0] < 0 or chosen[-1] >= count:
        raise must("features", f"be different numbers between 0 and {count - 1}, one at least", list(features)[:20])
    return chosen
