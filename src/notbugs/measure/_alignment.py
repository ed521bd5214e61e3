"""Whether the gradient of a classifier points from class to class: its angle with the difference of their means."""

from __future__ import annotations

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.given import checked
from notbugs.search.loop import check_gradients_allowed
from notbugs.search.objectives import log_odds
from notbugs.shapes import Batch, PerSample


@checked
def class_means(images: Images, classes: int, *, batch: int = 500) -> Batch:
    """The mean image of every class, shape (class, channel, height, width); NaN of a class without images.

    Examples
    --------
    >>> nb.measure.class_means(data.train, 10).shape
    torch.Size([10, 1, 8, 8])
    """
    total, count = torch.zeros(classes, *images.shape, dtype=torch.float32), torch.zeros(classes, dtype=torch.float32)
    for index in torch.arange(len(images)).split(batch):
        some, labels = images.batch(index)
        total.index_add_(0, labels, some.float())
        count.index_add_(0, labels, torch.ones(len(labels), dtype=torch.float32))
    return total / count[:, None, None, None]


@checked
def input_gradients(classifier: Classifier, images: Images, *, batch: int = 250) -> tuple[Batch, Tensor]:
    """For every image the gradient of its label's log-odds, and the other class with the largest logit.

    In fp32 and evaluation mode.

    Returns
    -------
    tuple of Tensor and Tensor
        Shape of the images; int64, shape (image,).

    Examples
    --------
    >>> gradients, others = nb.measure.input_gradients(classifier, images)
    >>> gradients.shape == images.batch(slice(None))[0].shape
    True
    """
    gradients, others = [], []
    check_gradients_allowed()
    with torch.enable_grad(), classifier.evaluating("fp32"):
        for index in torch.arange(len(images)).split(batch):
            inputs, labels = (tensor.to(classifier.device) for tensor in images.batch(index))
            leaf = inputs.requires_grad_()
            logits = classifier(leaf)
            (gradient,) = torch.autograd.grad(log_odds(logits, labels).sum(), leaf)
            gradients.append(gradient.float().cpu())
            others.append(logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(1).cpu())
    return torch.cat(gradients), torch.cat(others)


@checked
def alignment(gradients: Batch, others: Tensor, labels: Tensor, means: Batch) -> PerSample:
    """The cosine between each gradient and the way from the mean of the other class to that of the label.

    Of two Gaussians with one covariance the gradient of the standard classifier is far from this way, and that of the
    robust one the nearer the larger its radius (the paper, theorem 3).

    Parameters
    ----------
    gradients, others : Tensor
        Of `input_gradients`.
    labels : Tensor
        int64, shape (image,).
    means : Tensor
        Of `class_means`.

    Examples
    --------
    >>> means = nb.measure.class_means(data.train, 10)
    >>> cosines = nb.measure.alignment(means[labels] - means[(labels + 1) % 10], (labels + 1) % 10, labels, means)
    >>> torch.allclose(cosines, torch.ones(20), atol=1e-5)
    True
    """
    way = (means[labels] - means[others]).flatten(1)
    return torch.cosine_similarity(gradients.flatten(1), way, dim=1, eps=1e-30)
