"""The loss that training descends: of one label for an image, or of several, and with every class counting the same."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from notbugs.shapes import Labels, Logits


def class_weights(labels: Labels) -> Float[Tensor, "*label class"]:
    """Weights with which every class counts the same: images / (classes * images of the class), so 1 on average.

    Of one label for an image, shape (class,). Of several, shape (label, 2): of lacking and of having each.
    """
    if labels.ndim == 2:
        having = labels.sum(0)
        counts = torch.stack([len(labels) - having, having], 1)
    else:
        counts = torch.bincount(labels)
    return len(labels) / (counts.shape[-1] * counts.clamp_min(1))


def summed_loss(logits: Logits, labels: Labels, weights: Tensor | None = None) -> Tensor:
    """The sum over images of the cross-entropy; of several labels, of the mean over labels of the binary one.

    Parameters
    ----------
    logits : Tensor
        Shape (batch, class), or (batch, label).
    labels : Tensor
        Shape (batch,), or 0 and 1 of shape (batch, label).
    weights : Tensor, optional
        Of `class_weights`.
    """
    if labels.ndim == 1:
        if weights is None:
            return cross_entropy(logits, labels, reduction="sum")
        return (cross_entropy(logits, labels, reduction="none") * weights[labels]).sum()
    each = None if weights is None else torch.where(labels == 1, weights[:, 1], weights[:, 0])
    return binary_cross_entropy_with_logits(logits, labels.to(logits), each, reduction="sum") / labels.shape[1]
