"""How many directions of the input the features can see."""

from __future__ import annotations

import torch

from notbugs.classifier import Classifier
from notbugs.shapes import Batch


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
    with classifier.evaluating("fp32"):
        inputs = images.clone().requires_grad_(True)
        features = classifier.features(inputs)
        rows = [torch.autograd.grad(column.sum(), inputs, retain_graph=True)[0] for column in features.T]
    jacobians = torch.stack(rows, 1).flatten(2)
    values = torch.linalg.svdvals(jacobians)
    return float((values > tolerance * values[:, :1]).sum(1).double().mean())
