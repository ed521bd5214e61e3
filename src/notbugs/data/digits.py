"""scikit-learn's handwritten digits: 1,797 real images of 8x8 pixels, no download."""

from __future__ import annotations

import torch

from notbugs.data.classes import class_names
from notbugs.data.images import Data, Images
from notbugs.errors import InputError
from notbugs.seeds import generator

TEST_IMAGES = 360


def digits() -> Data:
    """The digits, split once and for all into 1,437 training and 360 test images.

    The 17 grey levels 0..16 become [0, 1].

    Raises
    ------
    InputError
        If scikit-learn, which carries the images, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("The digits come with scikit-learn: pip install 'notbugs[digits]'.") from None
    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().div(16).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target).long()
    order = torch.randperm(len(labels), generator=generator(0, "digits split"))
    test, train = order[:TEST_IMAGES].sort().values, order[TEST_IMAGES:].sort().values
    return Data("digits", Images(images[train], labels[train]), Images(images[test], labels[test]), class_names(10))
