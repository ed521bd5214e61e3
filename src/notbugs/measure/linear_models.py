"""Linear models of images or of features: trained against a threat model, certified, or refitted as a head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import check_count, must
from notbugs.given import checked
from notbugs.measure.features import check_alone, feature_values, penultimate
from notbugs.shapes import Batch, Features, Labels, Logits, PerSample
from notbugs.threat import Threat
from notbugs.training.loop import class_weights

ITERATIONS = 200
"""Of LBFGS, at most."""
CONSTANT = 1e-6
"""What is below this share of the largest variance, or of a mean, is rounding."""

START = 1e-3
"""Share of the means of the classes at which a fit starts: at 0 the loss against an adversary has a kink."""


@dataclass(frozen=True)
class LinearModel:
    """Logits that are linear in the pixels.

    Attributes
    ----------
    weight : Tensor
        Shape (class, channel, height, width), for pixels in [0, 1].
    bias : Tensor
        Shape (class,).

    Examples
    --------
    >>> model = nb.measure.robust_linear(data.train.sample(100, 0, 'examples'), nb.L2(0.25), classes=10)
    """

    weight: Float[Tensor, "class channel height width"]
    bias: Float[Tensor, " class"]

    def __call__(self, images: Batch) -> Logits:
        """The logits, which are also its features: shape (batch, class)."""
        return linear(images.flatten(1), self.weight.flatten(1), self.bias)

    def certificate(self, images: Batch, threat: Threat) -> PerSample:
        """By how much the predicted class stays ahead under the worst perturbation; above 0 is a proof.

        It is min over j of (w_i - w_j)^T x + b_i - b_j - eps ||w_i - w_j||_*, i the predicted class. Exact for
        perturbations that may leave [0, 1], and a lower bound for those that may not.
        """
        logits = self(images)
        chosen = logits.argmax(1, keepdim=True)
        ahead = logits.gather(1, chosen) - logits - threat.eps * rises(self.weight, threat)[chosen[:, 0]]
        return ahead.scatter(1, chosen, torch.inf).amin(1)

    def classifier(self) -> Classifier:
        """The same as a classifier, for attacks and other measurements."""
        head = nn.Linear(self.weight[0].numel(), len(self.bias))
        head.load_state_dict({"weight": self.weight.flatten(1), "bias": self.bias})
        return Classifier(nn.Sequential(nn.Flatten(), head).to(self.weight.device)).eval()


@checked
def robust_linear(
    images: Images,
    threat: Threat,
    *,
    classes: int,
    device: torch.device | None = None,
) -> LinearModel:
    """A linear model trained against `threat`, by full-batch LBFGS; nothing in it is random.

    The loss is the mean cross-entropy of z_j + eps ||w_j - w_y||_*, each logit at its worst. For two classes this is
    the adversarial loss itself; for more it is the least upper bound that has one term for each class, as the worst
    perturbations for different j differ.

    Parameters
    ----------
    images : Images
        To train on; all of them are held in memory as float32.
    threat : Threat
        The perturbations, in pixel units; radius 0 trains the standard way.
    classes : int
        At least two.

    Raises
    ------
    InputError
        If the radius is infinite or a label is not below `classes`.

    Examples
    --------
    >>> model = nb.measure.robust_linear(data.train.sample(100, 0, 'examples'), nb.L2(0.25), classes=10)
    """
    if threat.eps == float("inf"):
        raise must("threat", "have a finite radius", threat.eps)
    inputs, labels = (part.to(device or "cpu") for part in images.batch(slice(None)))
    mean = inputs.mean(0)
    centred = (inputs - mean).flatten(1)
    shape = (classes, *images.shape)
    weight, bias = fit_linear(
        centred,
        labels,
        classes=classes,
        rise=lambda weight: threat.eps * rises(weight.view(shape), threat),
    )
    return LinearModel(weight.view(shape).cpu(), (bias - weight @ mean.flatten()).cpu())


def rises(weight: Tensor, threat: Threat) -> Float[Tensor, "class class"]:
    """||w_i - w_j||_* of every pair: how much a perturbation of length 1 can bring j nearer to i."""
    differences = weight[:, None] - weight[None]
    return threat.dual(differences.flatten(0, 1)).view(len(weight), len(weight))


def fit_linear(
    inputs: Features,
    labels: Labels,
    *,
    classes: int,
    rise: Callable[[Tensor], Tensor] | None = None,
    penalty: float = 0.0,
) -> tuple[Float[Tensor, "class feature"], Float[Tensor, " class"]]:
    """Weight and bias at the minimum of the mean cross-entropy, found by LBFGS.

    Parameters
    ----------
    inputs, labels : Tensor
        Shapes (image, feature) and (image,); features of mean 0.
    classes : int
        Number of logits.
    rise : callable, optional
        From the weight to what an adversary adds to each logit (column) of images of each class (row).
    penalty : float
        Half of it, times the squared norm of the weight, is added.

    Raises
    ------
    InputError
        If a label is not between 0 and `classes` - 1, or an input is not finite.
    """
    check_count("classes", classes, low=2)
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise must("labels", f"be between 0 and {classes - 1}", sorted({int(labels.min()), int(labels.max())}))
    if not bool(inputs.isfinite().all()):
        raise must("features", "be finite", "NaN or infinity", "The classifier's weights may be damaged.")
    sums = inputs.new_zeros(classes, inputs.shape[1]).index_add_(0, labels, inputs)
    weight = (START * sums / labels.bincount(minlength=classes).clamp_min(1)[:, None]).requires_grad_()
    bias = inputs.new_zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = linear(inputs, weight, bias)
        value = cross_entropy(logits + rise(weight)[labels] if rise else logits, labels)
        value = value + penalty / 2 * weight.square().sum()
        value.backward()
        return value.detach()

    with torch.enable_grad():
        optimiser.step(loss)
    return weight.detach(), bias.detach()


def whitened(
    train: Float[Tensor, "image feature"], other: Float[Tensor, "other feature"]
) -> tuple[Float[Tensor, "image direction"], Float[Tensor, "other direction"]]:
    """Both in the principal directions of the first, each of unit variance there; directions without any are left out.

    A linear model can say the same of them, and is found in a tenth of the steps.
    """
    mean = train.double().mean(0)
    centred = train.double() - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(train))
    is_there = variances > CONSTANT * variances.max().clamp_min(torch.finfo(variances.dtype).tiny)
    turn = vectors[:, is_there] / variances[is_there].sqrt()
    return (centred @ turn).to(train), ((other.double() - mean) @ turn).to(other)


STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Weights of the l2 penalty that are tried, strong to weak, on features of unit variance."""
HELD_OUT = 0.2
"""Share of the training images on which the strength is chosen."""


class Refitted(Classifier):
    """A classifier whose logits are a linear function of the features of another.

    It shares the network of `source`, whose own head is never called. A feature whose weights are 0 cannot speak.

    Parameters
    ----------
    source : Classifier
        Whose features are read.
    weight, bias : Tensor
        Shapes (class, feature) and (class,).
    """

    def __init__(self, source: Classifier, weight: Tensor, bias: Tensor) -> None:
        super().__init__(
            source.network,
            mean=source.mean.flatten().tolist(),
            std=source.std.flatten().tolist(),
            channel_order="rgb" if source.channel_order == "auto" else source.channel_order,
            head=source.head_name,
            output=source.output,
            outputs_are=source.outputs_are,
            precision=source.precision,
        )
        self.head_is_certain, self.meaning = source.head_is_certain, source.meaning
        self.is_channels_last = source.is_channels_last
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    weight: Tensor
    bias: Tensor

    def forward(self, images: Batch) -> Logits:
        """Logits, shape (batch, class), of images in [0, 1]."""
        return nn.functional.linear(self.features(images), self.weight, self.bias)


@dataclass(frozen=True)
class Fit:
    """A linear head fitted on a group of features.

    Attributes
    ----------
    classifier : Refitted
        The features of the group, and the new head.
    features : int
        How many features are in the group.
    strength : float
        Weight of the l2 penalty that was chosen.
    held_out : float
        Cross-entropy at this strength on the training images that were held out to choose it, in nats.
    """

    classifier: Refitted
    features: int
    strength: float
    held_out: float


@checked
def refit_head(
    classifier: Classifier,
    train: Images,
    chosen: Bool[Tensor, " feature"],
    *,
    classes: int,
    features: Features | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> Fit:
    """Fit a linear head on some features of a frozen classifier: multinomial logistic regression with an l2 penalty.

    The features are standardised on the training images. The penalty's weight is the one with the least cross-entropy
    on a fifth of them, held out at random; the head is then fitted on all. With no feature chosen the head is a bias,
    and says the most frequent class.

    Parameters
    ----------
    classifier : Classifier
        Whose features they are; left as it is.
    train : Images
        Training images.
    chosen : Tensor
        Which features may speak: bool, shape (feature,).
    classes : int
        How many logits the head gives.
    features : Tensor, optional
        Of the training images, shape (image, feature), if they are known already.
    balanced : bool
        Whether every class counts the same, however many images it has.
    seed : int
        Of the images held out.

    Raises
    ------
    InputError
        If shapes do not fit, there are fewer than two images, a feature is not finite, or an image's features depend on
        the images beside it or on chance.

    Examples
    --------
    >>> chosen = torch.arange(8) < 4
    >>> fit = nb.measure.refit_head(classifier, data.train, chosen, classes=10)
    >>> accuracies = nb.evaluate(fit.classifier, images)
    """
    labels = train.labels
    if features is None:
        check_alone(penultimate(classifier), train)
        features = feature_values(penultimate(classifier), train)
    _check(features, labels, chosen, classes)
    group, mean, std = _standardised(features[:, chosen].double())
    held, kept = train.divided(max(1, round(HELD_OUT * len(labels))), seed, "refitted head")
    weights = _weights(labels, classes).to(group) if balanced else None
    strength, held_out = _strength(group, labels, kept, held, classes, weights)
    weight, bias = _fitted(group, labels, strength, _zeros(group, classes), weights)
    full = features.new_zeros(classes, features.shape[1], dtype=torch.float64)
    full[:, chosen] = weight / std
    head = Refitted(
        classifier,
        full.float().to(classifier.device),
        (bias - (weight / std) @ mean).float().to(classifier.device),
    )
    return Fit(head, int(chosen.sum()), strength, held_out)


def _standardised(group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features of mean 0 and unit variance, and their means and standard deviations: 1 of a constant one."""
    mean = group.mean(0)
    group = group - mean
    std = group.square().mean(0).sqrt()
    std = torch.where(std > CONSTANT * mean.abs(), std, 1.0)  # else what is left of a constant feature is rounding
    return group / std, mean, std


def _weights(labels: Labels, classes: int) -> Tensor:
    """With which every class counts the same; of classes without an image 0."""
    weights = labels.new_zeros(classes, dtype=torch.float64)
    known = class_weights(labels)
    weights[: len(known)] = known
    return weights


def _strength(
    group: Tensor, labels: Labels, kept: Tensor, held: Tensor, classes: int, weights: Tensor | None
) -> tuple[float, float]:
    """The strength with the least cross-entropy on the held images, and that cross-entropy."""
    start = _zeros(group, classes)
    losses = {}
    for strength in STRENGTHS:  # strong to weak: each fit starts where the one before ended
        start = _fitted(group[kept], labels[kept], strength, start, weights)
        losses[strength] = float(cross_entropy(group[held] @ start[0].T + start[1], labels[held], weights))
    best = min(losses, key=losses.__getitem__)
    return best, losses[best]


def _zeros(group: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    return group.new_zeros(classes, group.shape[1]), group.new_zeros(classes)


def _fitted(
    group: Tensor, labels: Labels, strength: float, start: tuple[Tensor, Tensor], weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weight and bias at the minimum of the penalised mean cross-entropy, a convex problem."""
    weight, bias = (part.clone().requires_grad_() for part in start)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe", history_size=20)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = cross_entropy(group @ weight.T + bias, labels, weights) + strength / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return weight.detach(), bias.detach()


def _check(features: Tensor, labels: Tensor, chosen: Tensor, classes: int) -> None:
    check_count("classes", classes, low=2)
    if len(features) != len(labels) or len(labels) < 2:
        raise must("features", f"be of the {len(labels)} training images, at least two", tuple(features.shape))
    if chosen.shape != features.shape[1:] or chosen.dtype != torch.bool:
        rule = f"be bool of shape ({features.shape[1]},), one for each feature"
        raise must("chosen", rule, f"{chosen.dtype}, {tuple(chosen.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise must("labels", f"be between 0 and {classes - 1}", int(labels.max()))
    if not bool(features.isfinite().all()):
        raise must("features", "be finite", "NaN or infinity", "The classifier's weights may be damaged.")
