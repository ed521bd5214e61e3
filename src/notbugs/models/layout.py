"""How images lie in memory: channels last is faster in convolutions, and not every network runs so.

A network with `.view` behind a convolution, for instance, does not. Only networks that notbugs made, and its own copies
of others, are ever laid out anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from notbugs.classifier import Classifier
from notbugs.seeds import generator, seeded

log = logging.getLogger("notbugs")


def to_channels_last(
    classifier: Classifier, shape: Sequence[int], works: Callable[[], bool] | None = None
) -> Classifier:
    """Lay out a network that nobody else holds with channels last, if it runs so; it is tried once, in place.

    Parameters
    ----------
    classifier : Classifier
        Its network was made by notbugs, or is a copy.
    shape : sequence of int
        Of an image: channel, height, width.
    works : callable, optional
        Whether the classifier works, once it is laid out; by default, whether it takes images.
    """
    if not has_images(classifier.network):
        return classifier
    lay_out(classifier, True)
    try:
        is_fine = works() if works else _takes_images(classifier, shape)
    except Exception as error:  # what a network of any kind may raise
        log.debug("The network does not run with channels last: %s: %s", type(error).__name__, error)
        is_fine = False
    if not is_fine:
        lay_out(classifier, False)
    return classifier


@torch.no_grad()
def _takes_images(classifier: Classifier, shape: Sequence[int]) -> bool:
    with classifier.evaluating("fp32"), seeded(0, "layout"):
        classifier(trial_images(classifier, shape))
    return True


def lay_out(classifier: Classifier, is_channels_last: bool) -> None:
    """Change the layout of the weights in place, and of the images that the network is given."""
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    classifier.network.to(memory_format=memory_format)  # pyrefly: ignore
    classifier.is_channels_last = is_channels_last


def has_images(network: nn.Module) -> bool:
    """Whether the layout of images matters: some weight is that of a convolution of images."""
    return any(parameter.ndim == 4 for parameter in network.parameters())


def trial_images(classifier: Classifier, shape: Sequence[int]) -> Tensor:
    """Two random images to try a network on; torch's global generator is left alone."""
    return torch.rand(2, *shape, generator=generator(0, "frozen")).to(classifier.device)
