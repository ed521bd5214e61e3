"""Chest x-rays of children, with and without pneumonia: 2,624 real images of 28x28 pixels, no download."""

from __future__ import annotations

import hashlib
from importlib import resources
from io import BytesIO

import numpy as np
import torch

from notbugs.data.images import Data, Images
from notbugs.errors import InputError

FILE = "pneumonia.npz"
SHA256 = "ea3db5f68ec8185759e0a5dcac2b2edfd8b9ef14f1f93ae180215ba51fd3421f"


def pneumonia() -> Data:
    """2,000 training images, half of each class, and all 624 test images of PneumoniaMNIST, grey, uint8.

    From MedMNIST v2 (Yang et al. 2023), which made them of x-rays of children of one to five years from one hospital
    in Guangzhou (Kermany et al. 2018); CC BY 4.0, see `data/shipped/pneumonia.md`. The training images were drawn from
    the 4,708 of the original, as many of either class, so that chance is one half; of equal images one stays. The test
    images keep their proportion, 234 normal and 390 with pneumonia.

    Several images may show one patient. Images held out of training may then share patients with it; the test images
    are the original authors' own split.

    Raises
    ------
    InputError
        If the file that is installed with notbugs was damaged.
    """
    content = (resources.files("notbugs.data") / "shipped" / FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"The images in {FILE} are not those that came with notbugs. Install notbugs again.")
    with np.load(BytesIO(content), allow_pickle=False) as archive:
        train, test = (
            Images(
                torch.from_numpy(archive[f"{split}_images"])[:, None],
                torch.from_numpy(archive[f"{split}_labels"]).long(),
            )
            for split in ("train", "test")
        )
        return Data("pneumonia", train, test, tuple(archive["classes"].tolist()))
