"""How a classifier of a relabelled set does on labels changed as its training labels were."""

from __future__ import annotations

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.measure.accuracy import predictions
from notbugs.measure.statistics import Proportion


def relabelled_accuracy(classifier: Classifier, images: Images, classes: int) -> Proportion:
    """Accuracy against the next class, label + 1 modulo `classes`, with its 95 % interval (the paper, table 10).

    D_det tells a classifier both that non-robust features of t mean t and that robust features of t - 1 mean t. Clean
    accuracy says how much of the first it has learned, this accuracy how much of the second. Where the source is
    robust, its perturbations bring no non-robust features, and this one is the larger.

    Parameters
    ----------
    classifier : Classifier
        Trained on D_det or one of its controls.
    images : Images
        Test images with their true labels.
    classes : int
        How many classes there are.

    Examples
    --------
    >>> share = nb.measure.relabelled_accuracy(classifier, images, classes=10)
    """
    return Proportion.of(predictions(classifier, images) == (images.labels + 1) % classes)
