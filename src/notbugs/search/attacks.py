"""Searches by their names in the field: a few lines each around the one loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data.appearance import Appearance
from notbugs.errors import check_choice, must
from notbugs.given import check_kind, checked
from notbugs.search.backward import fake_relu_features
from notbugs.search.compatibility import with_labels
from notbugs.search.loop import Found, Objective, search
from notbugs.search.objectives import (
    Answering,
    away_from,
    log_odds,
    matching,
    part_of,
    smallest,
    targeted_ce,
    targeted_ce_alone,
)
from notbugs.search.steps import FMN, LBFGS, PGDSteps, Steps
from notbugs.shapes import Batch, Labels, PerSample
from notbugs.threat import BOX, L2, Box, Norm, Parameters, Spatial, Threat, check_threat, threat

PAPER_MATCHING = PGDSteps(steps=1000, step_size=0.1)
"""The paper's schedule of feature matching on CIFAR-10 (appendix C.4, Table 5).

Examples
--------
>>> nb.search.PAPER_MATCHING.steps
1000
"""

LAST_IN_FP32 = 0.2
"""Share of the last steps of `minimum_norm` that are taken in fp32, where the classifier computes in less."""

UNDECIDED = 0.2
"""Share of the steps of an untargeted `minimum_norm` that follow the log-odds, and not yet the margin."""

MATCHING_REACH = 0.035
"""First trust radius of `fast_matching`: root mean square change of a pixel value."""


def fast_matching(shape: Sequence[int], steps: int = 60) -> LBFGS:
    """Quasi-Newton steps: the paper's matching loss in a small part of its gradients (docs/explanation/search.md).

    The first trust radius grows with the square root of the number of values in an image of `shape`, as distances
    between images do.

    Examples
    --------
    >>> nb.search.fast_matching(data.train.shape).steps
    60
    """
    return LBFGS(steps, MATCHING_REACH * math.sqrt(math.prod(shape)))


def fast_relabelling(threat: Threat, steps: int = 20) -> PGDSteps:
    """Long steps that decay to 0: about as near to the target class as the paper's 100 (docs/explanation/search.md).

    Examples
    --------
    >>> nb.search.fast_relabelling(nb.L2(0.5)).steps
    20
    """
    if math.isinf(threat.eps):
        raise must("threat", "have a finite radius, which sets the length of the steps", threat, "Or give a schedule.")
    return PGDSteps(steps, 2 * threat.eps or None, decay="linear")


@checked
def pgd(
    classifier: Classifier,
    images: Batch,
    labels: Labels,
    threat: Threat,
    schedule: Steps = PGDSteps(20),  # noqa: B008  frozen
    *,
    start: Batch | None = None,
) -> Found:
    """Untargeted projected gradient descent: leave `labels` (Madry et al. 2018).

    Parameters
    ----------
    classifier : Classifier
        Attacked in evaluation mode; its modes are restored.
    images, labels : Tensor
        In [0, 1], shape (batch, channel, height, width); int64, shape (batch,). Of a classifier of several labels,
        0 or 1 for each, shape (batch, label).
    threat : Threat
        For instance `L2(0.5)`, in pixel units.
    schedule : PGDSteps
        Number and length of the steps.
    start : Tensor, optional
        Images to start from; `images` by default, as in the paper.

    Returns
    -------
    Found
        `loss` is the log-odds of the label; `score` its margin: negative where the attack succeeded.

    Raises
    ------
    InputError
        If the labels are none of these images, or none of this classifier.

    Examples
    --------
    >>> found = nb.pgd(classifier, inputs, labels, nb.L2(0.5))
    >>> bool(((found.images - inputs).flatten(1).norm(dim=1) < 0.5 + 1e-4).all())
    True
    """
    check_threat(threat)
    answering = with_labels(classifier, images, labels, "labels")
    with classifier.evaluating():
        found = search(away_from(answering), images, (labels,), threat, schedule, start=start)
    return replace(found, is_margin=True)


@checked
def targeted_pgd(
    classifier: Classifier,
    images: Batch,
    targets: Labels,
    threat: Threat,
    schedule: Steps = PGDSteps(100),  # noqa: B008  frozen
    *,
    start: Batch | None = None,
) -> Found:
    """Targeted projected gradient descent: reach `targets` (the paper, section 3.2 and Table 6).

    Parameters as in `pgd`, with the class to reach for every image in place of its label. `score` is the
    cross-entropy of the target, `loss` the negative of its log-odds.

    Examples
    --------
    >>> found = nb.targeted_pgd(classifier, inputs, (labels + 1) % 10, nb.Linf(0.1), nb.search.PGDSteps(5))
    >>> found.images.shape
    torch.Size([20, 1, 8, 8])
    """
    check_threat(threat)
    answering = with_labels(classifier, images, targets, "targets")
    with classifier.evaluating():
        return search(targeted_ce(answering), images, (targets,), threat, schedule, start=start)


Hold = Literal["label", "outputs"]
HOLDS: tuple[Hold, ...] = ("label", "outputs")


def check_hold(hold: Hold, others: Sequence[Classifier]) -> None:
    """Refuse to hold what does not exist.

    Raises
    ------
    InputError
        If there are no `others`, or `hold` is neither of both.
    """
    check_choice("hold", hold, HOLDS)
    if not others:
        raise must("others", "be one classifier at least, whose label or outputs are held", "none")


@checked
def targeted_pgd_alone(
    classifier: Classifier,
    others: Sequence[Classifier],
    images: Batch,
    targets: Labels,
    labels: Labels,
    threat: Threat,
    schedule: Steps = PGDSteps(100),  # noqa: B008  frozen
    *,
    hold: Hold = "label",
) -> Found:
    """Targeted projected gradient descent that no other classifier is to notice (Nakkiran 2019).

    Parameters as in `targeted_pgd`, with the `others` that are to keep to `labels`, shape (batch,); or, where `hold` is
    "outputs", all their outputs, which what is shared with the source may move though the label stays. `score` is the
    cross-entropy of the target on `classifier`, and the mean over `others` of that of the label, or of how far their
    logits, less what all classes share, are from those at the start (mean square over classes).

    Raises
    ------
    InputError
        If there are no `others`, or `hold` is neither; if targets or labels are none of these images, or of the
        classifier that is to give them.

    Examples
    --------
    >>> found = nb.search.targeted_pgd_alone(
    ...     classifier, [classifier], inputs, (labels + 1) % 10, labels, nb.L2(0.5), nb.search.PGDSteps(2)
    ... )
    >>> found.images.shape
    torch.Size([20, 1, 8, 8])
    """
    check_hold(hold, others)
    check_threat(threat)
    answering, keeping = with_labels(classifier, images, targets, "targets"), others
    for other in others:
        check_kind("others", "Classifier", other)
    if hold == "label":
        keeping = [with_labels(other, images, labels, "labels") for other in others]
    with ExitStack() as held:
        for each in (classifier, *others):
            held.enter_context(each.evaluating())
        kept = labels
        if hold == "outputs":
            with torch.no_grad():
                kept = torch.stack([other(images) for other in others], 1)
        return search(targeted_ce_alone(answering, keeping), images, (targets, kept), threat, schedule)


@checked
def match_features(
    classifier: Classifier,
    start: Batch,
    target: Batch,
    schedule: Steps | None = None,
    *,
    threat: Threat = L2(math.inf),  # noqa: B008  frozen
    fake_relu: bool | str = False,
    features: Sequence[int] | None = None,
) -> Found:
    """Move `start` until its features equal those of `target` (the paper, section 3.1 and equation 6).

    Parameters
    ----------
    classifier : Classifier
        Whose penultimate features are matched.
    start, target : Tensor
        Images in [0, 1], shape (batch, channel, height, width).
    schedule : PGDSteps, optional
        `fast_matching` by default; `PAPER_MATCHING` is the paper's.
    threat : Threat
        A bound around `start`; free by default, as in the paper.
    fake_relu : bool or str
        Whether gradients pass the last ReLU before the features unchanged, so that units that are off get one, too,
        as in the authors' library; or the name of the `nn.ReLU` that they pass so. See `search.backward`.
    features : sequence of int, optional
        Numbers of the features that are matched; all of them if not given.

    Returns
    -------
    Found
        `loss` and `score` are ||g(x) - g(target)|| / ||g(target)||.

    Raises
    ------
    InputError
        If start and target have different shapes, or `fake_relu` is asked for and there is no such ReLU.

    Examples
    --------
    >>> found = nb.match_features(classifier, inputs, inputs.flip(0), nb.search.LBFGS(5, reach=0.3))
    >>> found.loss.shape
    torch.Size([20])
    """
    check_threat(threat)
    if target.shape != start.shape:
        raise must("target", f"have the shape of the start, {tuple(start.shape)}", tuple(target.shape))
    with classifier.evaluating():
        with torch.no_grad():
            wanted = classifier.features(target) if features is None else part_of(classifier.features, features)(target)
        objective = matching_objective(classifier, start, fake_relu, features)
        return search(objective, start, (wanted,), threat, schedule or fast_matching(start.shape[1:]))


def matching_objective(
    classifier: Classifier, images: Batch, fake_relu: bool | str = False, features: Sequence[int] | None = None
) -> Objective:
    """What `match_features` descends, for a classifier in evaluation mode; `images` are some that it takes."""
    g = fake_relu_features(classifier, images, fake_relu) if fake_relu else classifier.features
    return matching(classifier, g if features is None else part_of(g, features))


@checked
def minimum_norm(
    classifier: Classifier,
    images: Batch,
    classes: Labels,
    norm: Norm = "l2",
    schedule: FMN = FMN(100),  # noqa: B008  frozen
    *,
    targeted: bool = False,
    eps: float = math.inf,
) -> Found:
    """The smallest perturbation with which an image leaves its label, or reaches its target class.

    Away from a label, the first fifth of the steps follows the log-odds, which weighs all other classes; the others
    follow the margin, towards the class that is then the nearest. A boundary in reduced precision is not the one in
    fp32, so the last steps, about a fifth, are taken in fp32: what is reported as found is found in fp32.

    Parameters
    ----------
    classifier : Classifier
        Attacked in evaluation mode; its modes are restored.
    images, classes : Tensor
        In [0, 1], shape (batch, channel, height, width); labels to leave, or targets to reach.
    norm : {"l2", "linf"}
        Of the perturbation, in pixel units.
    schedule : FMN
        FMN (Pintor et al. 2021).
    targeted : bool
        Whether `classes` are to be reached.
    eps : float
        The largest norm that counts, in pixel units.

    Returns
    -------
    Found
        `score` is the norm of the perturbation, infinite where the search failed; those images are as they came.
        `loss` is negative where it succeeded.

    Examples
    --------
    >>> found = nb.minimum_norm(classifier, inputs, labels, norm='l2', schedule=nb.search.FMN(10))
    """
    ball = threat(norm, eps)
    answering = with_labels(classifier, images, classes, "classes")
    decided, undecided = (
        smallest(answering, ball, targeted=targeted, undecided=undecided) for undecided in (False, True)
    )
    early, late = (None, schedule) if targeted else schedule.split(1 - UNDECIDED)
    middle, last = (None, late) if classifier.precision == "fp32" else late.split(LAST_IN_FP32)
    start, forwards, result = None, 0, None
    for objective, steps, precision in ((undecided, early, None), (decided, middle, None), (decided, last, "fp32")):
        if steps:
            with classifier.evaluating(precision):
                result = search(objective, images, (classes, images), ball, steps, start=start)
            start, forwards = result.images, forwards + result.forwards
    assert result is not None  # the last of the three has a step at least
    reached = result.score.isfinite().view(-1, *[1] * (images.dim() - 1))
    return replace(
        result,
        images=torch.where(reached, result.images, images),
        forwards=forwards,
        backwards=schedule.steps,
    )


@dataclass(frozen=True)
class FoundSpatial:
    """The worst transformation that a search found for every image.

    Attributes
    ----------
    parameters : Tensor
        Shape (batch, 3): degrees counter-clockwise, pixels down, pixels right.
    images : Tensor
        The transformed images.
    score : Tensor
        Margin of the label, shape (batch,): negative where the search succeeded.

    Examples
    --------
    >>> ball = nb.Spatial(degrees=30, pixels=1)
    >>> found = nb.search.spatial_pgd(classifier, inputs, labels, ball, nb.search.PGDSteps(3))
    """

    parameters: Parameters
    images: Batch
    score: PerSample


@checked
def spatial_pgd(
    classifier: Classifier,
    images: Batch,
    labels: Labels,
    spatial: Spatial,
    schedule: Steps = PGDSteps(20, decay="linear"),  # noqa: B008  frozen
    *,
    start: Parameters | None = None,
) -> FoundSpatial:
    """Gradient search over rotations and shifts: leave `labels`.

    Every step moves each of the three parameters by the same share of its range, in the direction of its gradient's
    sign. The loss has many valleys: several starts find more.

    Parameters
    ----------
    classifier : Classifier
        Attacked in evaluation mode; its modes are restored.
    images, labels : Tensor
        In [0, 1], shape (batch, channel, height, width); int64, shape (batch,).
    spatial : Spatial
        The valid transformations.
    schedule : PGDSteps
        Number of steps, and their length where half the range of a parameter is 0.5.
    start : Tensor, optional
        Parameters to start from, shape (batch, 3), brought inside the valid ones; the identity by default.

    Raises
    ------
    InputError
        If the labels are none of these images, or none of this classifier.

    Examples
    --------
    >>> ball = nb.Spatial(degrees=30, pixels=1)
    >>> found = nb.search.spatial_pgd(classifier, inputs, labels, ball, nb.search.PGDSteps(3))
    """
    answering = with_labels(classifier, images, labels, "labels")
    middle = images.new_full((len(images), 3, 1, 1), 0.5)
    with classifier.evaluating():
        result = search(
            _transformed(answering, spatial),
            middle,
            (labels, images),
            BOX,
            schedule,
            start=None if start is None else spatial.place(start.to(images)),
        )
    parameters = spatial.inside(result.images)
    return FoundSpatial(parameters, spatial.apply(images, parameters), result.score)


@checked
def appearance_pgd(
    classifier: Classifier,
    images: Batch,
    labels: Labels,
    ranges: Appearance,
    schedule: Steps = PGDSteps(5, decay="linear"),  # noqa: B008  frozen
    *,
    start: Tensor | None = None,
) -> Batch:
    """The images under the change of appearance that a gradient search finds worst: leave `labels`.

    As `spatial_pgd`, over brightness, contrast, hue and blur. JPEG has no gradient: it stays as `start` has it.

    Parameters
    ----------
    start : Tensor, optional
        Changes to start from, shape (batch, 5); the identity, which has no gradient of blur, by default.

    Raises
    ------
    InputError
        If the labels are none of these images, or none of this classifier.

    Examples
    --------
    >>> found = nb.search.appearance_pgd(classifier, inputs, labels, nb.data.Appearance(jpeg=0))
    >>> found.shape == inputs.shape
    True
    """
    answering = with_labels(classifier, images, labels, "labels")
    return worst_appearance(classifier, answering, images, labels, ranges, schedule, start)


def worst_appearance(
    classifier: Classifier,
    answering: Answering,
    images: Batch,
    labels: Labels,
    ranges: Appearance,
    schedule: Steps,
    start: Tensor | None,
) -> Batch:
    """`appearance_pgd` by what answers in the classifier's place: a look at the labels waits for the device."""
    middle = images.new_full((len(images), ranges.parameters, 1, 1), 0.5)
    begun = None if start is None else (0.5 + start.to(images) / 2)[:, :, None, None]
    with classifier.evaluating():
        result = search(_transformed(answering, ranges), middle, (labels, images), BOX, schedule, start=begun)
    with torch.no_grad():
        return ranges.apply(images, ranges.inside(result.images))


def _transformed(classifier: Answering, spatial: Spatial | Appearance) -> Objective:
    """From labels and images: as `away_from`, of the images transformed by a place in the box."""
    away = away_from(classifier)

    def objective(box: Box, labels: Labels, images: Batch) -> tuple[PerSample, PerSample]:
        return away(spatial.apply(images, spatial.inside(box)), labels)

    return objective


@checked
def worst_of(
    classifier: Classifier,
    images: Batch,
    labels: Labels,
    changes: Spatial | Appearance,
    parameters: Float[Tensor, "batch tries parameter"],
) -> Batch:
    """Every image under that of its transformations with the largest cross-entropy (Engstrom et al., section 5).

    Parameters
    ----------
    changes : Spatial or Appearance
        The kind of transformation.
    parameters : Tensor
        Shape (batch, tries, parameter): three of rotations and shifts, five of appearance.

    Raises
    ------
    InputError
        If the labels are none of these images, or none of this classifier.

    Examples
    --------
    >>> worst = nb.search.worst_of(classifier, inputs, labels, nb.Spatial(30, 1), torch.zeros(20, 2, 3))
    >>> worst.shape == inputs.shape
    True
    """
    answering = with_labels(classifier, images, labels, "labels")
    return worst_among(classifier, answering, images, labels, changes, parameters)


@torch.no_grad()
def worst_among(
    classifier: Classifier,
    answering: Answering,
    images: Batch,
    labels: Labels,
    changes: Spatial | Appearance,
    parameters: Float[Tensor, "batch tries parameter"],
) -> Batch:
    """`worst_of` by what answers in the classifier's place: a look at the labels waits for the device."""
    chosen, lowest = images, images.new_full((len(images),), torch.inf)
    with classifier.evaluating():
        for one in parameters.unbind(1):
            moved = changes.apply(images, one)
            odds = log_odds(answering(moved), labels)
            is_worse = odds < lowest
            chosen = torch.where(is_worse[:, None, None, None], moved, chosen)
            lowest = torch.where(is_worse, odds, lowest)
    return chosen
