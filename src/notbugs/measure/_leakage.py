"""Robust-feature leakage: what a linear head learns of a relabelled set when only robust features may speak (Goh)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, Field
from torch import Tensor

from notbugs.data import Images
from notbugs.errors import InputError, check_count, check_number, must
from notbugs.given import checked
from notbugs.measure._usefulness import Usefulness, usefulness
from notbugs.measure.accuracy import Score
from notbugs.measure.features import (
    FeatureMap,
    FeatureSource,
    check_alone,
    feature_map,
    feature_values,
    function_features,
    linear_features,
)
from notbugs.measure.linear_models import LinearModel, fit_linear, robust_linear, whitened
from notbugs.measure.spectrum import KINDS
from notbugs.measure.statistics import Proportion, against_chance
from notbugs.measure.unbalanced import balanced, is_uneven
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.seeds import generator
from notbugs.shapes import Features, Labels
from notbugs.threat import Norm, Threat

KEPT = 0.8
"""Share of test images that must keep their prediction for a model to be robust by the second specification."""
PENALTY = 1e-4
"""Of a probe's weights, on whitened features: enough for a minimum to exist."""
SHUFFLES = 39
"""Beyond the lowest or the highest of 39 lies one in twenty."""
FIELDS = {"rho": "rho", "gamma": "gamma", "gamma_low": "low", "gamma_high": "high"}
"""What `usefulness` calls the numbers of a feature, and what a certificate does."""
FACTORS = (1.0, 2.0, 4.0, 8.0)
"""Of the radius that a certificate asks for: the radii at which a linear model is trained until it keeps it."""

Verdict = Literal["holds", "fails", "unclear"]


class CertifiedFeature(Record):
    """One output of a linear model, of zero mean and unit variance, as a feature of the class it says most about."""

    class_: int = Field(alias="class", description="number of the class with the largest gamma, where rho is above 0")
    rho: float = Field(description="usefulness on the test images: E[y f]")
    gamma: float = Field(description="robust usefulness: rho - eps ||w||_* / standard deviation of w x; signed")
    low: float = Field(description="of gamma, 95 % interval over the test images")
    high: float = Field(description="upper end of gamma's interval")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Certificate(Record):
    """Whether the outputs of a linear model are robust features, by each of Goh's two specifications.

    Examples
    --------
    >>> small = data.take(100, 50, seed=0)
    >>> model = nb.measure.robust_linear(small.train, nb.L2(0.25), classes=10)
    >>> certificate = nb.measure.certify(model, small.train, small.test, nb.L2(0.25))
    """

    norm: Norm = Field(description="of the threat")
    eps: float = Field(description="radius, pixel units, within which everything here is proved")
    n: int = Field(description="test images")
    features: list[CertifiedFeature] = Field(description="one for each class: the logit")
    gamma_at_least_0: Verdict = Field(description="first: every feature has gamma at or above 0 for its class")
    accuracy: Proportion = Field(description="clean, on the test images")
    certified: Proportion = Field(description="test images classified correctly within the whole radius")
    kept: Proportion = Field(description="test images whose prediction no perturbation changes")
    keeps_predictions: Verdict = Field(description=f"second: at least {KEPT:.0%} keep their prediction")


class Leak(Record):
    """What a linear head on given features, trained on a set, knows about untouched test images.

    Examples
    --------
    >>> found = nb.leakage(classifier, data.train, images, classes=10)
    >>> found.finding in ('leakage', 'none', 'below chance')
    True
    """

    score: Score = Field(
        "accuracy",
        description="what accuracy, chance and shuffled are: balanced where classes of the test images differ much in "
        "size, as a head that learned nothing names all of them",
    )
    accuracy: Proportion = Field(description="on the test images")
    fitted: Proportion = Field(description="share of the set's own images that it gives the label they train with")
    chance: float = Field(description="of the best constant answer on the test images")
    shuffled: tuple[float, float] = Field(
        description=f"lowest and highest accuracy of {SHUFFLES} heads trained on the set with its labels shuffled"
    )
    images: int = Field(description="images of the set that it was trained on")
    features: int = Field(description="number of features")

    @property
    def finding(self) -> Literal["leakage", "none", "below chance"]:
        """Whether the accuracy is on one side of chance by an exact test, and outside of what shuffled labels give.

        A head that learned nothing is not right by chance alone: it has one direction, by chance, for all test images.
        So its accuracy is compared to other such heads, too. Two-sided, that alone is a test at the 5 % level.
        """
        (low, high), order = self.shuffled, against_chance(self.accuracy, self.chance)
        if order == "higher" and self.accuracy.value > high:
            return "leakage"
        return "below chance" if order == "lower" and self.accuracy.value < low else "none"


@checked
def certify(model: LinearModel, train: Images, test: Images, threat: Threat) -> Certificate:
    """Compare a linear model with both of Goh's specifications of a robust feature.

    Exact where perturbed pixels may leave [0, 1]; where they may not, the features are at least as robust.

    Parameters
    ----------
    model : LinearModel
        Its outputs are the features.
    train : Images
        The features are standardised on them.
    test : Images
        Everything else is measured on them.
    threat : Threat
        The perturbations; Goh has l2 of radius 0.25.

    Examples
    --------
    >>> small = data.take(100, 50, seed=0)
    >>> model = nb.measure.robust_linear(small.train, nb.L2(0.25), classes=10)
    >>> certificate = nb.measure.certify(model, small.train, small.test, nb.L2(0.25))
    """
    features = _certified(model, train, test, threat)
    correct = feature_values(feature_map(model), test).argmax(1) == test.labels
    ahead = function_features(lambda images: model.certificate(images, threat)[:, None])
    is_kept = feature_values(ahead, test)[:, 0] > 0
    kept, lows, highs = Proportion.of(is_kept), *([getattr(f, end) for f in features] for end in ("low", "high"))
    return Certificate(
        norm=threat.norm,
        eps=threat.eps,
        n=len(test),
        features=features,
        gamma_at_least_0=_verdict(min(lows), min(highs), 0.0),
        accuracy=Proportion.of(correct),
        certified=Proportion.of(correct & is_kept),
        kept=kept,
        keeps_predictions=_verdict(kept.low, kept.high, KEPT),
    )


@checked
def certified_linear(
    train: Images, threat: Threat, *, classes: int, device: torch.device | None = None, progress: Progress = silent
) -> tuple[LinearModel, float]:
    """A linear model whose outputs are robust features by both specifications, and the radius it was trained at.

    It is trained at growing multiples of the threat's radius, and the first is taken that keeps both specifications on
    the training images: of all of them it has lost the least accuracy. If none keeps both, it is the one that is
    certified to classify the most training images correctly.

    Parameters
    ----------
    train : Images
        To train on, and to choose on.
    threat : Threat
        Of the specifications, with a radius above 0.
    classes : int
        At least two.
    device : torch.device, optional
        Where it is trained; the CPU if not given.

    Raises
    ------
    InputError
        As `robust_linear`; and if the radius is 0, at which every feature is robust.
    """
    if not threat.eps:
        raise must("threat", "have a radius above 0", threat.eps)
    tried: list[tuple[float, LinearModel, float]] = []
    for number, factor in enumerate(FACTORS, 1):
        trained = replace(threat, eps=factor * threat.eps)
        model = robust_linear(train, trained, classes=classes, device=device)
        certificate = certify(model, train, train, threat)
        progress(number, len(FACTORS))
        if certificate.gamma_at_least_0 == certificate.keeps_predictions == "holds":
            return model, trained.eps
        tried.append((certificate.certified.value, model, trained.eps))
    return max(tried, key=lambda one: one[0])[1:]


@checked
def leakage(
    features: FeatureSource,
    images: Images,
    test: Images,
    *,
    classes: int,
    seed: int = 0,
    progress: Progress = silent,
) -> Leak:
    """What frozen features explain of a relabelled set: a linear head on them, trained on the set, tested on the test.

    Logistic regression on features whitened on `images`, with hardly a penalty, by LBFGS. If the features
    are robust, the accuracy is a lower bound of what robust features leak: other robust features, or a head that is not
    linear, may leak more.

    Parameters
    ----------
    features : FeatureMap, Classifier or callable
        A classifier stands for its penultimate features; a `LinearModel` is a function. Frozen.
    images : Images
        The set, with the labels that it trains with.
    test : Images
        Untouched images with true labels.
    classes : int
        At least two.
    seed : int
        Of the shuffles of `Leak.shuffled`; nothing else is random.

    Raises
    ------
    InputError
        If the shapes of `images` and `test` differ, a label is not below `classes`, a feature is not finite, or an
        image's features depend on the images beside it or on chance.

    Examples
    --------
    >>> robust = nb.measure.penultimate(classifier)
    >>> found = nb.leakage(robust, data.train, images, classes=10)
    """
    if images.shape != test.shape:
        raise must("test images", f"have the shape of the set's images, {images.shape}", test.shape)
    source = feature_map(features)
    check_alone(source, test)
    fitted, held = feature_values(source, images), feature_values(source, test)
    count = fitted.shape[1]
    fitted, held = whitened(fitted, held)
    is_even = not is_uneven(test.labels)
    score = Proportion.of if is_even else partial(balanced, labels=test.labels.cpu())
    shuffled = []
    for number in range(SHUFFLES):
        order = torch.randperm(len(images), generator=generator(seed, "shuffled labels", number))
        is_right, _ = _hits(fitted, images.labels[order], held, test.labels, classes)
        shuffled.append(score(is_right.cpu()).value)
        progress(number + 1, SHUFFLES)
    is_right, is_fitted = _hits(fitted, images.labels, held, test.labels, classes)
    counts = test.labels.bincount()
    return Leak(
        score="accuracy" if is_even else "balanced accuracy",
        accuracy=score(is_right.cpu()),
        fitted=Proportion.of(is_fitted),
        chance=float(counts.max()) / len(test) if is_even else 1 / int((counts > 0).sum()),
        shuffled=(min(shuffled), max(shuffled)),
        images=len(images),
        features=count,
    )


def _hits(
    fitted: Features, labels: Labels, held: Features, right: Labels, classes: int
) -> tuple[Bool[Tensor, " held"], Bool[Tensor, " fitted"]]:
    """Of a head trained on `fitted` with `labels`: which of the held-out ones and which of its own it has right."""
    weight, bias = fit_linear(fitted, labels, classes=classes, penalty=PENALTY)
    is_right = (held @ weight.T + bias).argmax(1) == right
    return is_right, (fitted @ weight.T + bias).argmax(1) == labels


def _certified(model: LinearModel, train: Images, test: Images, threat: Threat) -> list[CertifiedFeature]:
    """Every output, for the class with the largest gamma among those that it speaks for."""
    outputs = linear_features(model.weight, model.bias)
    measured = usefulness(outputs, train, test, threat, classes=len(model.bias))
    best = measured.gamma.where(measured.rho > 0, -torch.inf).argmax(1)
    columns = [best, *(getattr(measured, name).gather(1, best[:, None])[:, 0] for name in FIELDS)]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [CertifiedFeature(class_=first, **dict(zip(FIELDS.values(), rest, strict=True))) for first, *rest in rows]


def _verdict(low: float, high: float, limit: float) -> Verdict:
    """Whether the interval from `low` to `high` lies at or above `limit`, below it, or on both sides."""
    if low >= limit:
        return "holds"
    return "fails" if high < limit else "unclear"


def ensemble(source: FeatureSource, measured: Usefulness, label: int, count: int) -> FeatureMap:
    """One feature made of many: the standardised non-robust features that are most useful for a class, weighted by rho.

    Of uncorrelated features this is their most useful sum: its rho is the root of the sum of their squares.

    Parameters
    ----------
    source : FeatureMap, Classifier or callable
        What `measured` was measured of.
    measured : Usefulness
        Says which features are useful and non-robust for class `label`; those of negative rho have negative weights.
    label : int
        The class.
    count : int
        How many features are summed.

    Raises
    ------
    InputError
        If there are not so many.
    """
    if not 0 <= label < measured.rho.shape[1]:
        raise must("label", f"be a class, 0 to {measured.rho.shape[1] - 1}", label)
    rho = measured.rho[:, label].where(measured.kind[:, label] == KINDS.index("nonrobust"), 0.0)
    if check_count("count", count) > (there := int((rho != 0).sum())):
        raise must("count", f"be at most {there}, the non-robust features of class {label}", count)
    least = rho.abs().topk(count).values[-1]
    return _mixed(source, measured, rho.where(rho.abs() >= least, 0.0), f"ensemble of {count}, class {label}")


def containment(
    source: FeatureSource, measured: Usefulness, robust: int, contaminant: int, amount: float = 1.0
) -> FeatureMap:
    """A robust feature contaminated by another one: their standardised sum, `amount` times the second.

    With a second feature that is useless and far from robust, the sum is useful and non-robust, though nothing useful
    in it is non-robust.

    Parameters
    ----------
    source, measured
        As in `ensemble`.
    robust, contaminant : int
        Numbers of the two features.
    amount : float
        Above 0.

    Examples
    --------
    >>> found = nb.usefulness(classifier, data.train, images, nb.L2(0.5), steps=2)
    >>> mixed = nb.measure.containment(classifier, found, robust=0, contaminant=1)
    """
    check_number("amount", amount, open_low=True)
    for name, number in (("robust", robust), ("contaminant", contaminant)):
        if not 0 <= number < len(measured.std) or measured.std[number] == 0:
            raise must(name, f"be the number of a feature that varies, below {len(measured.std)}", number)
    weight = torch.zeros_like(measured.std)
    weight[robust], weight[contaminant] = 1.0, amount
    return _mixed(source, measured, weight, f"{robust} with {amount:g} times {contaminant}")


def _mixed(source: FeatureSource, measured: Usefulness, standard: Float[Tensor, " f"], name: str) -> FeatureMap:
    """The weighted sum of standardised features, as a map with one feature."""
    inner = feature_map(source)
    if inner.weight is not None and len(inner.weight) != len(standard):
        raise InputError(f"The usefulness is of {len(standard)} features, the map has {len(inner.weight)}.")
    weight = torch.where(measured.std > 0, standard / measured.std.where(measured.std > 0, 1.0), 0.0).float()
    offset = -(weight.double() @ measured.mean).float()

    def function(*given: Any) -> Features:
        features = inner.function(*given)
        return (features @ weight.to(features) + offset.to(features))[:, None]

    affine = None if inner.weight is None else torch.einsum("f,fchw->chw", weight, inner.weight)[None]
    return replace(inner, name=name, function=function, names=(name,), weight=affine)
