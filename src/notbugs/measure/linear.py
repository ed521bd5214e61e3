"""Linear models of images: training against a threat model without a search, and what can be proved of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import check_count, must
from notbugs.shapes import Batch, Features, Labels, Logits, PerSample
from notbugs.threat import Threat

ITERATIONS = 200
"""Of LBFGS, at most."""
CONSTANT = 1e-6
"""Share of the largest variance below which that of another direction is rounding."""

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
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(train))
    is_there = values > CONSTANT * values.max().clamp_min(torch.finfo(values.dtype).tiny)
    turn = vectors[:, is_there] / values[is_there].sqrt()
    return (centred @ turn).to(train), ((other.double() - mean) @ turn).to(other)
