"""The two Gaussians on real features and a real classifier: what they predict, against what is measured.

Tensors in, tensors out: whoever has a classifier takes its features for a pair of classes, attacks it, and
brings both here. The theory speaks of perturbations of the features, so a radius in pixels has first to be
turned into the distance that the features move at that radius.

The theory's linear rule is put on top of the classifier's features, and the images are attacked through both. The
theory knows features only, so it is told how far along the rule the search moved them on average at each radius; it
predicts how many samples that turns. It is exact where the features of each class are Gaussian with one covariance,
and the search moves every sample equally far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError, check_number, must
from notbugs.given import checked
from notbugs.models.execution import ready
from notbugs.search import PGDSteps, search
from notbugs.shapes import Features
from notbugs.theory.gaussians import TwoGaussians
from notbugs.theory.linear import ArrayLike, Estimate, as_rows, as_vector, share
from notbugs.threat import Norm, threat


@dataclass(frozen=True)
class FittedPair:
    """Two Gaussians fitted to the features of two classes.

    Attributes
    ----------
    gaussians : TwoGaussians
        Of the features less `centre`; +1 stands for the first class of `classes`.
    centre : Tensor, shape (dim)
        The point midway between the two class means.
    shrinkage : float
        Weight, from 0 to 1, that the covariance gives to the multiple of the identity with the same trace.
    classes : tuple of int

    Examples
    --------
    >>> features = nb.measure.penultimate(classifier)(data.train.batch(slice(200))[0])
    >>> fitted = nb.theory.fit(features, data.train.labels[:200], (3, 8))
    """

    gaussians: TwoGaussians
    centre: Float[Tensor, " dim"]
    shrinkage: float
    classes: tuple[int, int]

    def predicted_accuracy(self, radii: ArrayLike) -> Float[Tensor, " radii"]:
        """Accuracy that the theory predicts under l2 perturbations of the features by each of `radii`."""
        lengths = as_vector("radii", radii)
        return torch.tensor([1 - self.gaussians.error(radius) for radius in lengths.tolist()], dtype=torch.float64)


@dataclass(frozen=True)
class Comparison:
    """Predicted and measured robust accuracy at each feature radius, and how far apart they are at most.

    Examples
    --------
    >>> fitted, comparison = nb.theory.vulnerability(classifier, data.train, data.test, (3, 8), [0.25])
    """

    radii: Float[Tensor, " radii"]
    predicted: Float[Tensor, " radii"]
    measured: tuple[Estimate, ...]
    largest_difference: float
    inside: int
    """Number of radii at which the prediction lies in the measured 95 % interval."""


def fit(
    features: ArrayLike, labels: Shaped[Tensor, " n"], pair: tuple[int, int], shrinkage: float | None = None
) -> FittedPair:
    """Fit two Gaussians with a common covariance to the features of two classes.

    The two class means give the centre and the mean, the pooled scatter about them the covariance, the class
    counts the prior. The covariance is (1 - w) S + w (tr S / d) I, with the weight w stated in the result.

    Parameters
    ----------
    features : (n, dim) numbers
    labels : n whole numbers
        Class of each row; rows of other classes are left out.
    pair : (int, int)
        The two classes, the first of which is +1.
    shrinkage : float, optional
        w, from 0 to 1. Left out, the oracle approximating shrinkage of Chen, Wiesel, Eldar and Hero (2010,
        equation 23), which falls to 0 as samples grow and makes a singular S regular.

    Raises
    ------
    InputError
        For classes that are equal or absent, features that do not vary or that S leaves singular; with the
        value.

    Examples
    --------
    >>> features = nb.measure.penultimate(classifier)(data.train.batch(slice(200))[0])
    >>> fitted = nb.theory.fit(features, data.train.labels[:200], (3, 8))
    """
    rows = as_rows("features", features)
    if tuple(labels.shape) != (len(rows),):
        raise must("labels", f"have one entry for each of the {len(rows)} rows", tuple(labels.shape))
    if pair[0] == pair[1]:
        raise must("pair", "name two different classes", pair)
    groups = [rows[labels == label] for label in pair]
    for label, group in zip(pair, groups, strict=True):
        if not len(group):
            raise must("pair", "name classes that occur in 'labels'", label)
    means = [group.mean(0) for group in groups]
    residuals = torch.cat([group - mean for group, mean in zip(groups, means, strict=True)])
    scatter = residuals.mT @ residuals / len(residuals)
    scale = scatter.trace() / rows.shape[1]
    if scale == 0:
        raise must("features", "vary within the two classes", 0.0, "That is their variance.")
    weight = _oracle_shrinkage(scatter, len(residuals)) if shrinkage is None else check_number("shrinkage", shrinkage)
    if weight > 1:
        raise must("shrinkage", "be at most 1", shrinkage)
    covariance = (1 - weight) * scatter + weight * scale * torch.eye(rows.shape[1], dtype=torch.float64)
    gaussians = TwoGaussians((means[0] - means[1]) / 2, covariance, len(groups[0]) / len(residuals))
    return FittedPair(gaussians, (means[0] + means[1]) / 2, weight, pair)


def compare(fitted: FittedPair, feature_radii: ArrayLike, correct: Shaped[Tensor, "radii n"]) -> Comparison:
    """Hold the theory's prediction against measured robust accuracy.

    Parameters
    ----------
    fitted : FittedPair
    feature_radii : vector of k numbers
        How far the features move (l2, for instance the mean over the samples) at each radius that was
        attacked.
    correct : Tensor, shape (k, n), bool
        Whether each attacked sample of the pair was still classified right, at each radius.

    Examples
    --------
    >>> fitted, comparison = nb.theory.vulnerability(classifier, data.train, data.test, (3, 8), [0.25])
    """
    radii = as_vector("feature_radii", feature_radii)
    if correct.ndim != 2 or len(correct) != len(radii) or not correct.shape[1]:
        raise must("correct", f"have one row for each of the {len(radii)} radii", tuple(correct.shape))
    if correct.dtype != torch.bool:
        raise InputError(f"The 'correct' must be a boolean tensor. Got {correct.dtype} instead.")
    predicted = fitted.predicted_accuracy(radii)
    measured = tuple(share(row) for row in correct)
    differences = [abs(p - m.value) for p, m in zip(predicted.tolist(), measured, strict=True)]
    inside = sum(m.holds(p) for p, m in zip(predicted.tolist(), measured, strict=True))
    return Comparison(radii, predicted, measured, max(differences), inside)


def _oracle_shrinkage(scatter: Float[Tensor, "dim dim"], n: int) -> float:
    dim = len(scatter)
    square, squared_trace = scatter.square().sum().item(), scatter.trace().item() ** 2
    top = (1 - 2 / dim) * square + squared_trace
    bottom = (n + 1 - 2 / dim) * (square - squared_trace / dim)
    return 1.0 if bottom <= top else top / bottom


CHUNK = 250


@checked
def vulnerability(
    classifier: Classifier,
    train: Images,
    test: Images,
    pair: tuple[int, int],
    radii: Sequence[float],
    *,
    norm: Norm = "l2",
    schedule: PGDSteps = PGDSteps(20),  # noqa: B008  frozen
) -> tuple[FittedPair, Comparison]:
    """Fit the two Gaussians to the features of two classes, attack their rule, and compare.

    Parameters
    ----------
    classifier : Classifier
        Whose penultimate features are taken.
    train, test : Images
        The Gaussians are fitted on the first and judged on the second.
    pair : (int, int)
        Two classes; the first is +1.
    radii : sequence of float
        Of the attack on images, in pixel units.
    norm : {"l2", "linf"}
        Of the attack on images.
    schedule : PGDSteps
        Of the search.

    Returns
    -------
    FittedPair, Comparison
        The comparison starts at radius 0: accuracy on images as they are.

    Raises
    ------
    InputError
        If the pair does not name two classes that occur in both splits, or a radius is negative.

    Examples
    --------
    >>> fitted, comparison = nb.theory.vulnerability(classifier, data.train, data.test, (3, 8), [0.25])
    """
    balls = [threat(norm, eps) for eps in radii]
    chosen = _of_classes(train, pair)
    fitted = fit(torch.cat(_features(classifier, chosen)).double(), chosen.labels, pair)
    judged = _of_classes(test, pair)
    rule = fitted.gaussians.classifier
    direction, centre = (tensor.float().to(classifier.device) for tensor in (rule.direction, fitted.centre))
    signs = torch.where(judged.labels == pair[0], 1.0, -1.0)

    def signed_scores(features: Features, signs: Tensor) -> Tensor:
        return ((features - centre) @ direction + rule.bias) * signs

    clean = signed_scores(torch.cat(_features(classifier, judged)).to(classifier.device), signs.to(classifier.device))
    scores, fast = [clean], ready(classifier, judged.shape, batch=CHUNK)[0]
    for ball in balls:
        parts = []
        for first in range(0, len(judged), CHUNK):
            images, _ = judged.batch(slice(first, first + CHUNK))
            part = signs[first : first + CHUNK].to(classifier.device)

            def objective(images: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
                score = signed_scores(fast.features(images), part)
                return score, score.detach()

            with fast.evaluating():
                found = search(objective, images.to(classifier.device), (part,), ball, schedule).images
            with torch.no_grad(), classifier.evaluating("fp32"):  # in bf16 rounding alone would be a distance
                parts.append(signed_scores(classifier.features(found), part))
        scores.append(torch.minimum(torch.cat(parts), clean))
    moved = [float((clean - score).clamp_min(0).mean() / direction.norm()) for score in scores]
    return fitted, compare(fitted, moved, torch.stack(scores).cpu() > 0)


def _features(classifier: Classifier, images: Images) -> list[Tensor]:
    with torch.no_grad(), classifier.evaluating("fp32"):
        chunks = (images.batch(slice(first, first + CHUNK))[0] for first in range(0, len(images), CHUNK))
        return [classifier.features(chunk.to(classifier.device)).cpu() for chunk in chunks]


def _of_classes(images: Images, pair: tuple[int, int]) -> Images:
    return images.subset(((images.labels == pair[0]) | (images.labels == pair[1])).nonzero().flatten())
