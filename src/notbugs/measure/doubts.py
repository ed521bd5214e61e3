"""Reasons to doubt a clean accuracy: it is no better than guessing, or other names of the outputs explain it better."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from notbugs.measure.statistics import Proportion
from notbugs.shapes import Labels, Logits

GAIN = 0.1
"""By how much a permutation of the outputs must raise accuracy to be told."""
SHOWN = 12
"""Outputs that are named."""


def doubts(logits: Logits, labels: Labels) -> Iterator[str]:
    """Sentences on a clean accuracy that is at or below guessing, or far below that of permuted outputs.

    Parameters
    ----------
    logits : Tensor
        Of images as they are, shape (n, outputs).
    labels : Tensor
        True classes, shape (n,).
    """
    predicted = logits.argmax(1)
    right = Proportion.of(predicted == labels)
    counts = torch.bincount(labels)
    guessing, classes = float(counts.max()) / len(labels), int((counts > 0).sum())
    order = permutation(predicted, labels, logits.shape[1])
    if order is not None:
        moved = [f"{output} for {label}" for output, label in enumerate(order.tolist()) if output != label]
        more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        other = Proportion.of(order[predicted] == labels)
        told = ", ".join(moved[:SHOWN]) + more
        yield (
            f"The clean accuracy is {right}, and would be {other} with the outputs in another order, which was found "
            f"on half of the images and holds on the other: output {told}. Are the classes numbered as they were when "
            "the classifier was trained?"
        )
    if right.value <= guessing and classes > 1:
        extra = f" It has {logits.shape[1]} outputs." if logits.shape[1] != len(counts) else ""
        yield (
            f"The clean accuracy, {right}, is not above that of naming the most frequent of {classes} classes, "
            f"{100 * guessing:.1f}%.{extra} Likely causes, in this order: classes numbered otherwise than in training; "
            "another normalisation (mean and std), or one that is done twice; images in another range than [0, 1], "
            "as 0 to 255; a head that was made for other classes, or never trained."
        )


def permutation(predicted: Labels, labels: Labels, outputs: int) -> Tensor | None:
    """The class that each output stands for, shape (outputs,), where that explains the labels far better; else None.

    It is chosen on every second image, as the assignment that gets most of them right, and judged on the others: there
    the intervals of the two accuracies must not overlap.
    """
    size = max(outputs, int(labels.max()) + 1)
    chosen, judged = slice(0, None, 2), slice(1, None, 2)
    if len(labels) < 4:
        return None
    pairs = torch.bincount(predicted[chosen] * size + labels[chosen], minlength=size * size).view(size, size)
    weights = pairs.double() + 0.5 * torch.eye(size, dtype=torch.double)  # of two equally good ones, the given
    _, found = linear_sum_assignment(weights.numpy(), maximize=True)
    order = torch.from_numpy(found).to(labels)
    before, after = (Proportion.of(said[judged] == labels[judged]) for said in (predicted, order[predicted]))
    return order if after.low > before.high and after.value >= before.value + GAIN else None
