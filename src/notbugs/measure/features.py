"""Feature maps: from images to the numbers whose usefulness is measured; and in how many directions they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs import networks
from notbugs.classifier import Classifier, Precision
from notbugs.data import Images
from notbugs.errors import InputError, check_choice, check_count, must
from notbugs.given import checked
from notbugs.models.execution import copied, ready
from notbugs.search.compatibility import FEW, check_own
from notbugs.search.loop import check_gradients_allowed
from notbugs.seeds import seeded
from notbugs.shapes import Batch, Features

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A differentiable function from images, shape (b, c, h, w), to features, shape (b, f).

    Made by `penultimate`, `layer`, `logits`, `pixels`, `principal_components`, `linear_features`, `function_features`.

    Attributes
    ----------
    name : str
        What the features are.
    function : callable
        From images to features; from classifier and images, where `classifier` is given.
    names : tuple of str
        Of each feature; empty where they have none.
    weight : Tensor, optional
        Shape (f, c, h, w), on the CPU: of an affine map, whose worst case is known exactly. None for every other.
    classifier : Classifier, optional
        Whose features they are.
    device : torch.device
        Where images go.
    folds : bool
        Whether the classifier may be searched with its batch norms folded away.

    Examples
    --------
    >>> features = nb.measure.penultimate(classifier)
    >>> features(inputs).shape
    torch.Size([20, 8])
    """

    name: str
    function: Callable[..., Features]
    names: tuple[str, ...] = ()
    weight: Float[Tensor, "f c h w"] | None = None
    classifier: Classifier | None = None
    device: torch.device = CPU
    folds: bool = True

    def __call__(self, images: Batch) -> Features:
        """The features of images in [0, 1]."""
        return self.function(images) if self.classifier is None else self.function(self.classifier, images)

    @contextmanager
    def evaluating(self, precision: Precision | None = None) -> Iterator[FeatureMap]:
        """As `Classifier.evaluating`; nothing changes for a map without a classifier."""
        if self.classifier is None:
            yield self
        else:
            with self.classifier.evaluating(precision):
                yield self

    def ready(self, shape: Sequence[int], batch: int) -> FeatureMap:
        """The same in its fastest form, frozen, for a long search on images of `shape`."""
        if self.classifier is None:
            return self
        fast = ready(self.classifier, shape, batch=batch)[0] if self.folds else copied(self.classifier)
        return replace(self, classifier=fast)


FeatureSource = FeatureMap | Classifier | Callable[[Batch], Features]


def feature_map(source: FeatureSource) -> FeatureMap:
    """A feature map as it is; of a classifier its penultimate features; of a function its values."""
    if isinstance(source, FeatureMap):
        return source
    return penultimate(source) if isinstance(source, Classifier) else function_features(source)


@checked
def penultimate(classifier: Classifier) -> FeatureMap:
    """The inputs of the final linear layer, which are the features of the paper (section 3.1).

    Examples
    --------
    >>> nb.measure.penultimate(classifier)(inputs).shape
    torch.Size([20, 8])
    """
    return FeatureMap("penultimate", Classifier.features, classifier=classifier, device=classifier.device)


@checked
def logits(classifier: Classifier, names: Sequence[str] = ()) -> FeatureMap:
    """The logits, one feature for each class.

    Examples
    --------
    >>> nb.measure.logits(classifier)(inputs).shape
    torch.Size([20, 10])
    """
    return FeatureMap("logits", Classifier.__call__, tuple(names), classifier=classifier, device=classifier.device)


@checked
def layer(classifier: Classifier, name: str, *, over: Literal["mean", "flatten"] = "mean") -> FeatureMap:
    """The outputs of a layer of the network.

    Parameters
    ----------
    classifier : Classifier
        Of which the layer is a part.
    name : str
        As in `network.named_modules()`.
    over : {"mean", "flatten"}
        What becomes of outputs with more than two dimensions: the mean over all after the second (one feature for each
        channel), or every value a feature of its own.

    Raises
    ------
    InputError
        If no layer has that name or, at the first call, the layer is not called or its output is not a tensor.

    Examples
    --------
    >>> names = [name for name, _ in classifier.network.named_modules() if name]
    >>> features = nb.measure.layer(classifier, names[0])
    """
    networks.find_module(networks.unwrapped(classifier.network), name)
    check_choice("over", over, ("mean", "flatten"))

    def outputs(classifier: Classifier, images: Batch) -> Features:
        module = networks.find_module(networks.unwrapped(classifier.network), name)
        with networks.recorded_calls({name: module}) as calls:
            classifier(images)
        activations = _of_layer(name, calls, len(images)).to(images.dtype)
        return activations.flatten(2).mean(2) if over == "mean" and activations.ndim > 2 else activations.flatten(1)

    device = classifier.device
    return FeatureMap(f"layer {name}, {over}", outputs, classifier=classifier, device=device, folds=False)


def function_features(
    function: Callable[[Batch], Features],
    name: str = "function",
    *,
    names: Sequence[str] = (),
    device: torch.device | None = None,
) -> FeatureMap:
    """Features that a function of yours gives.

    Parameters
    ----------
    function : callable
        From images in [0, 1], shape (b, c, h, w), to (b, f); differentiable, each row a function of its image alone.
    name, names : str, sequence of str
        Of all features, and of each.
    device : torch.device, optional
        Where images go; the CPU by default.

    Examples
    --------
    >>> mean = nb.measure.function_features(lambda images: images.mean((2, 3)), 'brightness')
    >>> mean(inputs).shape
    torch.Size([20, 1])
    """
    return FeatureMap(name, function, tuple(names), device=device or CPU)


def linear_features(
    weight: Float[Tensor, "f c h w"],
    bias: Float[Tensor, " f"] | None = None,
    name: str = "linear",
    *,
    names: Sequence[str] = (),
) -> FeatureMap:
    """Affine features: the inner product with each of `weight`, shape (f, c, h, w), plus `bias`, shape (f,).

    Examples
    --------
    >>> features = nb.measure.linear_features(torch.ones(2, 1, 8, 8))
    >>> features(inputs).shape
    torch.Size([20, 2])
    """
    kept = weight.detach().cpu().float()
    flat, offset = kept.flatten(1).T.contiguous(), torch.zeros(len(kept)) if bias is None else bias.detach().cpu()

    def function(images: Batch) -> Features:
        return torch.addmm(offset.to(images), images.flatten(1), flat.to(images))

    return FeatureMap(name, function, tuple(names), kept)


def pixels(shape: Sequence[int]) -> FeatureMap:
    """Every pixel value of images of `shape` (channel, height, width).

    Examples
    --------
    >>> nb.measure.pixels(data.train.shape)(inputs).shape
    torch.Size([20, 64])
    """
    count = torch.Size(shape).numel()
    return linear_features(torch.eye(count).view(count, *shape), name="pixels")


@checked
def principal_components(images: Images, count: int = 64, *, sample: int = 5000, seed: int = 0) -> FeatureMap:
    """Projections on the leading directions of variance, the largest first (`torch.pca_lowrank`).

    Parameters
    ----------
    images : Images
        Training images.
    count : int
        Number of components; no more than there are images or pixel values.
    sample : int
        Images used, drawn at random if there are more.
    seed : int
        Of the sample and of the randomised decomposition.

    Raises
    ------
    InputError
        If `count` is out of range.

    Examples
    --------
    >>> components = nb.measure.principal_components(data.train, 5)
    >>> components(inputs).shape
    torch.Size([20, 5])
    """
    pixels = images.sample(sample, seed, "principal components").batch(slice(None))[0].flatten(1)
    if check_count("count", count) > min(pixels.shape):
        raise must("count", f"be at most {min(pixels.shape)}, the smaller of images and pixel values", count)
    with seeded(seed, "principal components"):
        directions = torch.pca_lowrank(pixels, min(count + 10, *pixels.shape), niter=4)[2][:, :count]
    return linear_features(directions.T.reshape(count, *images.shape), name="principal components")


def feature_values(source: FeatureMap, images: Images, *, batch: int = 500) -> Float[Tensor, "image feature"]:
    """The features of every image, in fp32 and evaluation mode, on the CPU."""
    parts = []
    with torch.no_grad(), source.evaluating("fp32"):
        for first in range(0, len(images), batch):
            inputs, _ = images.batch(slice(first, first + batch))
            parts.append(source(inputs.to(source.device)).float().cpu())
    return torch.cat(parts)


def check_map(source: FeatureMap, images: Images) -> None:
    """Refuse a map that cannot be measured on these images, found out with two of them.

    Raises
    ------
    InputError
        If it does not give finite features of shape (image, feature), gives no gradient, or an image's features depend
        on the images beside it or on chance.
    """
    check_gradients_allowed()
    leaf = images.batch(slice(2))[0].to(source.device).requires_grad_()
    try:
        with torch.enable_grad(), source.evaluating("fp32"):
            output = source(leaf)
    except InputError:
        raise
    except Exception as error:  # what a function of any kind may raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"The features cannot be computed from images of shape {images.shape}: {text}") from error
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(leaf) or not output.is_floating_point():
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise must("features", "be floating point of shape (image, feature)", got, "Flatten them, for instance.")
    if source.names and len(source.names) != output.shape[1]:
        raise must("names", f"be {output.shape[1]}, one for each feature", len(source.names))
    if not output.isfinite().all():
        raise must("features", "be finite", output.flatten()[~output.flatten().isfinite()][0].item())
    if not output.requires_grad:
        raise must("features", "be differentiable with respect to images", "features without a gradient")
    check_alone(source, images)


def check_alone(source: FeatureMap, images: Images) -> None:
    """Refuse a map whose features of an image depend on the images beside it or on chance.

    Raises
    ------
    InputError
        If they do, on a few of these images.
    """
    with source.evaluating("fp32"):
        check_own("features", "values", source, images.batch(slice(FEW))[0].to(source.device))


def _of_layer(name: str, calls: dict[str, tuple[Any, Any]], count: int) -> Tensor:
    if name not in calls:
        raise must("layer", "be called by the network in a forward pass", name)
    output = calls[name][1]
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != count:
        rule = "give one tensor with a row for each image"
        raise must("layer", rule, type(output).__name__, "Name another layer.")
    return output


@checked
def feature_rank(classifier: Classifier, images: Batch, *, tolerance: float = 0.01) -> float:
    """Mean numerical rank of the Jacobian of the features with respect to the image.

    Feature matching can only rebuild the part of an image that the features see. Where this rank comes near the
    number of pixels, the matched image is the target image itself, and D_R is D.

    Parameters
    ----------
    classifier : Classifier
        Whose features g are looked at.
    images : Tensor
        Where the Jacobian is taken, shape (batch, channel, height, width).
    tolerance : float
        Singular values below this share of the largest one do not count.

    Examples
    --------
    >>> rank = nb.measure.feature_rank(classifier, inputs)
    >>> 0 < rank <= 8
    True
    """
    check_gradients_allowed()
    with torch.enable_grad(), classifier.evaluating("fp32"):
        inputs = images.clone().requires_grad_(True)
        features = classifier.features(inputs)
        rows = [torch.autograd.grad(column.sum(), inputs, retain_graph=True)[0] for column in features.T]
    jacobians = torch.stack(rows, 1).flatten(2)
    singular = torch.linalg.svdvals(jacobians)
    return float((singular > tolerance * singular[:, :1]).sum(1).double().mean())
