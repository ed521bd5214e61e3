"""A classifier of which only some features may speak: its network is frozen, a linear head refitted on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import check_count, must
from notbugs.measure.features import check_alone, feature_values, penultimate
from notbugs.seeds import generator
from notbugs.shapes import Batch, Features, Labels, Logits
from notbugs.training.loop import class_weights

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Weights of the l2 penalty that are tried, strong to weak, on features of unit variance."""
HELD_OUT = 0.2
"""Share of the training images on which the strength is chosen."""
CONSTANT = 1e-6
"""Share of its mean below which a feature's standard deviation is rounding."""
ITERATIONS = 200
"""Of LBFGS, at most, for each strength."""


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
    """
    labels = train.labels
    if features is None:
        check_alone(penultimate(classifier), train)
        features = feature_values(penultimate(classifier), train)
    _check(features, labels, chosen, classes)
    group = features[:, chosen].double()
    mean = group.mean(0)
    group = group - mean
    std = group.square().mean(0).sqrt()
    std = torch.where(std > CONSTANT * mean.abs(), std, 1.0)  # else what is left of a constant feature is rounding
    group = group / std
    order = torch.randperm(len(labels), generator=generator(seed, "refitted head"))
    count = max(1, round(HELD_OUT * len(order)))
    held, kept = order[:count], order[count:]
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
