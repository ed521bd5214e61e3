"""Whether a classifier fits some images, found out with two of them before any work."""

from __future__ import annotations

import torch

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError, must


def check_fits(classifier: Classifier, images: Images, classes: int | None = None) -> None:
    """Refuse a classifier that cannot be searched on these images.

    Parameters
    ----------
    classifier : Classifier
        Left as it is.
    images : Images
        Two of them go through it, forward and back.
    classes : int, optional
        How many logits it must give; by default, at least enough for the labels.

    Raises
    ------
    InputError
        If the network does not take images of this shape, gives another number of logits, logits that are not finite,
        or no gradient.
    """
    if images.has_several:
        raise InputError(
            f"An image must have one label here, and these have {images.labels.shape[1]}. Choose one of them: "
            "Data.label(NAME) and Classifier.label(NUMBER), or --label NAME."
        )
    leaf = images.batch(slice(2))[0].to(classifier.device).requires_grad_()
    try:
        with torch.enable_grad(), classifier.evaluating():
            logits = classifier(leaf)
    except InputError:
        raise
    except Exception as error:  # what a network of any kind may raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The classifier cannot take images of shape {images.shape}: {text} "
            "Build its network for their channels and size, or give images of another --size."
        ) from error
    needed = classes or int(images.labels.max()) + 1
    if logits.shape[1] < needed or (classes and logits.shape[1] > needed):
        rule = f"give {needed} logits, one for each class"
        remedy = "Say which of its outputs are the classes (outputs, --outputs), or take one that was made for them."
        raise must("classifier", rule, logits.shape[1], remedy)
    if not bool(logits.isfinite().all()):
        raise must(
            "classifier", "give finite logits", logits[0].tolist()[:3], "Its weights may hold NaN: train it anew."
        )
    if logits.requires_grad:  # perhaps for the weights alone
        logits.sum().backward(inputs=[leaf])
    if leaf.grad is None:
        remedy = "Take out detach(), no_grad() and numpy."
        raise must("classifier", "be differentiable with respect to images", "logits without a gradient", remedy)
