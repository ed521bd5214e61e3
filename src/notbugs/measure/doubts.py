"""Reasons to doubt a clean accuracy: it is no better than guessing, or other names of the outputs explain it better."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from notbugs.measure.statistics import Proportion
from notbugs.measure.unbalanced import balanced, is_unbalanced
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
    counts = torch.bincount(labels)
    guessing, classes = float(counts.max()) / len(labels), int((counts > 0).sum())
    right, name, guess = Proportion.of(predicted == labels), "clean", "the most frequent of"
    trained = ""
    if is_unbalanced(labels):  # of a rare class accuracy says little: naming the other one everywhere is hard to beat
        right, name, guess = balanced(predicted == labels, labels), "balanced clean", "one everywhere of"
        guessing, trained = 1 / classes, "training that does not count every class the same (--balanced); "
    order = permutation(predicted, labels, logits.shape[1])
    if order is not None:
        moved = [f"{output} for {label}" for output, label in enumerate(order.tolist()) if output != label]
        more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        hits = order[predicted] == labels
        other = balanced(hits, labels) if is_unbalanced(labels) else Proportion.of(hits)
        told = ", ".join(moved[:SHOWN]) + more
        yield (
            f"The {name} accuracy is {right}, and would be {other} with the outputs in another order, which was found "
            f"on half of the images and holds on the other: output {told}. Are the classes numbered as they were when "
            "the classifier was trained?"
        )
    if right.value <= guessing and classes > 1:
        extra = f" It has {logits.shape[1]} outputs." if logits.shape[1] != len(counts) else ""
        yield (
            f"The {name} accuracy, {right}, is not above that of naming {guess} {classes} classes, "
            f"{100 * guessing:.1f}%.{extra} Likely causes, in this order: {trained}classes numbered otherwise than in "
            "training; another normalisation (mean and std), or one that is done twice; images in another range than "
            "[0, 1], as 0 to 255; a head that was made for other classes, or never trained."
        )


def permutation(predicted: Labels, labels: Labels, outputs: int) -> Tensor | None:
    """The class that each output stands for, shape (outputs,), where that explains the labels far better; else None.

    It is chosen on every second image, as the assignment that gets most of them right, and judged on the others: there
    the intervals of the two accuracies must not overlap.
    """
    size = max(outputs, int(labels.max()) + 1)
    chosen, judged = slice(0, None, 2), slice(1, None, 2)
    if len(labels) < 4 or len(labels[judged].unique()) < len(labels.unique()):
        return None
    pairs = torch.bincount(predicted[chosen] * size + labels[chosen], minlength=size * size).view(size, size)
    weights = pairs.double() + 0.5 * torch.eye(size, dtype=torch.double)  # of two equally good ones, the given
    _, found = linear_sum_assignment(weights.numpy(), maximize=True)
    order = torch.from_numpy(found).to(labels)
    score = (lambda hits: balanced(hits, labels[judged])) if is_unbalanced(labels[judged]) else Proportion.of
    before, after = (score(said[judged] == labels[judged]) for said in (predicted, order[predicted]))
    return order if after.low > before.high and after.value >= before.value + GAIN else None
