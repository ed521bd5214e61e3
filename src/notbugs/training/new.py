"""Fresh classifiers for a data set."""

from __future__ import annotations

import torch

from notbugs.classifier import Classifier, Precision, default_device
from notbugs.data import Data
from notbugs.models import build
from notbugs.seeds import seeded


def new_classifier(
    data: Data,
    architecture: str = "cnn",
    *,
    seed: int = 0,
    precision: Precision = "auto",
    device: torch.device | None = None,
    **options: int,
) -> Classifier:
    """An untrained classifier for `data`, with the normalisation of its training images.

    Parameters
    ----------
    data : Data
        Gives the channels, the classes and the statistics.
    architecture : str
        By name; `options` go to it, for instance `width` and `features` of `cnn`.
    seed : int
        The weights follow from it; torch's global generator is left as it was.
    precision : {"auto", "fp32", "bf16"}
        What the network computes in.
    device : torch.device, optional
        The accelerator that torch reports, else the CPU.

    Raises
    ------
    InputError
        If there is no such architecture.
    """
    mean, std = data.channel_statistics
    with seeded(seed, "weights"):
        network = build(architecture, channels=data.train.shape[0], classes=len(data.classes), **options)
    return Classifier(network, mean=mean, std=std, precision=precision).to(device or default_device())
