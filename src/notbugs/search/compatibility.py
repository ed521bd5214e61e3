"""Whether a classifier fits some images: the one place that decides, with a few of them, before any work.

Every search and every measurement asks here. An image's answer must be its own: the same in every batch, and the same
twice. Else accuracy depends on how images are put together, and what a search found at one call is gone at the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError, must
from notbugs.given import checked
from notbugs.search.loop import check_gradients_allowed
from notbugs.shapes import Batch, Logits

FEW = 8
"""Images that are looked at."""
NOISE = 1e-4
"""Largest difference of two passes, in units of the largest output, that rounding on a GPU makes."""
OTHERS = 1e-2
"""The same where batches have other sizes, for which a device may take other algorithms."""


def check_finite(logits: Logits) -> None:
    """Refuse logits that are no numbers: the largest of them would be the first class, and nothing could break it.

    Raises
    ------
    InputError
        If one is infinite or NaN.
    """
    if not bool(logits.isfinite().all()):
        wrong = logits[~logits.isfinite()][0].item()
        remedy = "Its weights may hold NaN: train it again. Or it divides by 0 somewhere, or masks a class."
        raise must("classifier", "give finite logits", wrong, remedy)


@checked
def with_labels(classifier: Classifier, images: Batch, labels: Any, name: str) -> Callable[[Batch], Logits]:
    """The classifier for a search on some images, which holds its first logits against the labels: no pass for it.

    Parameters
    ----------
    classifier : Classifier
        In evaluation mode while the search runs.
    images : Tensor
        Those that the search begins at.
    labels : Tensor
        One for each image; or, of a classifier of several labels, 0 or 1 for each of them.
    name : str
        Of the argument that they came in as.

    Raises
    ------
    InputError
        At once, if they are no labels of these images; and from the first call, if they are none of this classifier.
    """
    rule = f"be a tensor of int64 and of shape ({len(images)},), a class for each image"
    if not isinstance(labels, Tensor):
        raise must(name, rule, type(labels).__name__, f"Give torch.as_tensor({name}).")
    shape = tuple(labels.shape)
    if shape == (len(images), 1):
        raise must(name, rule, f"shape {shape}", f"Give {name}[:, 0].")
    if labels.ndim not in (1, 2) or len(labels) != len(images):
        raise must(name, rule, f"shape {shape}", "Give those of these images, in their order.")
    is_first = True

    def answered(inputs: Batch) -> Logits:
        nonlocal is_first
        logits = classifier(inputs)
        if is_first:
            is_first = False
            _check_labels(classifier, logits, labels, name)
        return logits

    return answered


def _check_labels(classifier: Classifier, logits: Logits, labels: Tensor, name: str) -> None:
    """Refuse labels that are none of a classifier with these logits."""
    count = logits.shape[1]
    if labels.ndim == 2:
        _check_several(classifier, count, labels, name)
    if labels.dtype != torch.int64:
        raise must(name, "be int64", str(labels.dtype).removeprefix("torch."), f"Give {name}.long().")
    if labels.device != logits.device:
        raise must(name, f"be where the images are, on {logits.device}", str(labels.device), "Move them there.")
    if labels.ndim == 1 and bool((wrong := (labels < 0) | (labels >= count)).any()):  # waits for the device once
        rule = f"be numbers of classes from 0 to {count - 1}, for the classifier gives {count} logits"
        raise must(name, rule, int(labels[wrong][0]), "Number the classes from 0, in the order of the logits.")


def _check_several(classifier: Classifier, count: int, labels: Tensor, name: str) -> None:
    """Refuse what is no 0 or 1 for each of several labels: classes one-hot, above all, look just like it."""
    rule = f"be of shape ({len(labels)},), a class for each image"
    shape = tuple(labels.shape)
    if classifier.number is not None:
        got = f"shape {shape} for a view of one label"
        raise must(name, rule, got, f"Give {name}[:, {classifier.number}].")
    if shape[1] != count:
        raise must(name, f"{rule}, or 0 or 1 for each of {count} labels, one for each logit", f"shape {shape}")
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise must(name, f"be 0 or 1 for each of {count} labels, or a class for each image", f"shape {shape}")
    kind = classifier.meaning.kind if classifier.meaning else "logits"
    if kind not in ("logits", "sigmoids"):  # a softmax, or a pair of logits made of one
        raise must(name, f"{rule}: of this classifier an image has one class", f"shape {shape}", _CLASSES.format(name))
    # Of a few images each may well have one finding; of more, they are classes.
    if kind == "logits" and len(labels) >= FEW and bool((labels.sum(1) == 1).all()):
        remedy = f"{_CLASSES.format(name)} If an image may have several labels, put nn.Sigmoid() behind the network."
        raise must(name, rule, f"shape {shape} with one 1 in each row", remedy)


_CLASSES = "Give {0}.argmax(1)."


@checked
def check_fits(
    classifier: Classifier,
    images: Images,
    classes: int | None = None,
    *,
    may_be_random: bool = False,
    features: bool = False,
) -> None:
    """Refuse a classifier that cannot be searched on these images.

    Parameters
    ----------
    classifier : Classifier
        Left as it is.
    images : Images
        A few of them go through it, forward and back.
    classes : int, optional
        How many logits it must give; by default, those of `images.classes`, or at least enough for the labels.
    may_be_random : bool
        Whether its answers may depend on chance.
    features : bool
        Whether its features are needed, too.

    Raises
    ------
    InputError
        If the network does not take images of this shape, gives another number of logits, logits that are not finite,
        or no gradient; if what it answers for an image depends on the images beside it, or on chance; or if it has no
        features that can be found, and these are needed.
    """
    check_gradients_allowed()
    if images.has_several:
        raise InputError(
            f"An image must have one label here, and these have {images.labels.shape[1]}. Choose one of them: "
            "Data.label(NAME) and Classifier.label(NUMBER), or --label NAME."
        )
    leaf = images.batch(slice(2))[0].to(classifier.device).requires_grad_()
    logits = _answer(classifier, leaf, features)
    known = classes or images.classes
    needed = known or int(images.labels.max()) + 1
    if logits.shape[1] < needed or (known and logits.shape[1] > needed):
        rule = f"give {needed} logits, one for each class"
        remedy = "Say which of its outputs are the classes (outputs, --outputs), or take one that was made for them."
        raise must("classifier", rule, logits.shape[1], remedy)
    check_finite(logits)
    _check_gradient(logits, leaf)
    with classifier.evaluating("fp32"):
        check_own("classifier", "logits", classifier, images.batch(slice(FEW))[0].to(classifier.device), may_be_random)


def _answer(classifier: Classifier, leaf: Tensor, features: bool) -> Tensor:
    """The logits of images, with a graph; the features are computed where they are needed."""
    try:
        with torch.enable_grad(), classifier.evaluating():
            logits = classifier(leaf)
            if features:
                classifier.features(leaf.detach())
    except InputError:
        raise
    except Exception as error:  # what a network of any kind may raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The classifier cannot take images of shape {tuple(leaf.shape[1:])}: {text.rstrip('.')}. "
            "Build its network for their channels and size, or give images of another --size, or in 1 or 3 --channels."
        ) from error
    return logits


def _check_gradient(logits: Tensor, leaf: Tensor) -> None:
    if logits.requires_grad:  # perhaps for the weights alone
        # Under `no_grad` as well, where a sum would have no graph.
        logits.backward(torch.ones_like(logits), inputs=[leaf])
    if leaf.grad is None:
        remedy = "Take out detach(), no_grad(), numpy and quantised layers."
        raise must("classifier", "be differentiable with respect to images", "logits without a gradient", remedy)


@torch.no_grad()
def check_own(
    name: str, what: str, function: Callable[[Tensor], Tensor], inputs: Tensor, may_be_random: bool = False
) -> None:
    """Refuse a function of images whose answer for an image depends on the images beside it, or on chance.

    Parameters
    ----------
    name, what : str
        Of the argument, and of what the function gives: for the message.
    function : callable
        From images to one row for each.
    inputs : Tensor
        A few images.

    Raises
    ------
    InputError
        If it does.
    """
    whole = function(inputs)
    if _differ(whole, function(inputs), NOISE):
        if may_be_random:
            return
        raise must(
            name,
            f"give the same {what} for the same images twice",
            "others",
            "Its answer depends on chance: switch off its dropout and noise in evaluation mode, as "
            "F.dropout(x, p, training=self.training) does.",
        )
    # In other company: one of the rest, more often; and black images, beside which any statistic of a batch is another.
    companies = (inputs[-1:], torch.zeros_like(inputs[:1]))
    beside = (torch.cat([inputs[:1], other.expand(3, *inputs.shape[1:])]) for other in companies)
    if any(_differ(whole[:1], function(company)[:1], OTHERS) for company in beside):
        raise must(
            name,
            f"give the same {what} for an image alone and among others",
            "others",
            "Its answer depends on its batch: batch norm must use its running statistics in evaluation mode "
            "(track_running_stats=True), not those of the batch.",
        )


def _differ(some: Tensor, others: Tensor, tolerance: float) -> bool:
    return bool((some - others).abs().max() > tolerance * some.abs().max())
