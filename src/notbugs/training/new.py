"""Fresh classifiers for a data set."""

from __future__ import annotations

from typing import Any

import torch

from notbugs.classifier import Classifier, Precision, default_device
from notbugs.data import Data
from notbugs.models import build
from notbugs.models.layout import to_channels_last
from notbugs.models.whitening import Whitening
from notbugs.models.zoo import normalisation
from notbugs.normalisation import own_normaliser
from notbugs.seeds import seeded

WHITENED = 2000
"""Training images whose patches a whitening layer is computed from."""


def new_classifier(
    data: Data,
    architecture: str = "cnn",
    *,
    seed: int = 0,
    precision: Precision = "auto",
    device: torch.device | None = None,
    **options: Any,
) -> Classifier:
    """An untrained classifier for `data`, with the normalisation of its training images.

    With `pretrained=True`, where the architecture has it, the weights and the normalisation are the published ones.

    Parameters
    ----------
    data : Data
        Gives the channels, the size, the classes and the statistics.
    architecture : str
        As `notbugs.models.build` takes it; `options` go to it, for instance `width` and `features` of `cnn`.
    seed : int
        The weights follow from it; torch's global generator is left as it was.
    precision : {"auto", "fp32", "bf16"}
        What the network computes in.
    device : torch.device, optional
        The accelerator that torch reports, else the CPU.

    Raises
    ------
    InputError
        If there is no such architecture or option.
    """
    channels, height, width = data.train.shape
    with seeded(seed, "weights"):
        network = build(architecture, channels=channels, classes=len(data.classes), size=(height, width), **options)
    published = normalisation(architecture) if options.get("pretrained") else None
    mean, std = published or (((0.0,), (1.0,)) if own_normaliser(network) else data.channel_statistics)
    classifier = Classifier(network, mean=mean, std=std, channel_order="rgb", precision=precision)
    to_channels_last(classifier, data.train.shape)
    for module in classifier.modules():
        if isinstance(module, Whitening):
            images, _ = data.train.sample(WHITENED, seed, "whitening").batch(slice(None))
            module.fit((images - classifier.mean) / classifier.std)
    return classifier.to(device or default_device())
