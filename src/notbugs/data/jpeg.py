"""JPEG as a part of the data: every image is compressed once and read back, before anything else is done with it."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from notbugs.errors import InputError

Chroma = Literal["4:4:4", "4:2:0"]
"""How colour is kept: at every pixel, or at a quarter of them, as most cameras and programs do."""
SUBSAMPLING = {"4:4:4": 0, "4:2:0": 2}
"""As Pillow numbers them."""


class JPEG(BaseModel):
    """How images are compressed, training and test images alike, once they have their size.

    The bits are those of Pillow's JPEG library, so another version of it may give others; the data's fingerprint tells.

    Examples
    --------
    >>> nb.data.JPEG(quality=50, chroma='4:4:4').quality
    50
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality: int = Field(75, ge=1, le=100, description="As libjpeg counts it: 75 is usual, 95 is high.")
    chroma: Chroma = Field("4:2:0", description="Colour at every pixel, 4:4:4, or at a quarter of them, 4:2:0.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_number(cls, values: object) -> object:
        if not isinstance(values, dict | JPEG):
            raise ValueError(
                "it has a quality and a chroma: --jpeg.quality 75 --jpeg.chroma 4:2:0, or JPEG(quality=75)"
            )
        return values

    def __str__(self) -> str:
        """As titles of data have it."""
        return f"through JPEG of quality {self.quality}, {self.chroma}"


def compressed(image: np.ndarray, quality: int, chroma: Chroma = "4:2:0") -> np.ndarray:
    """One image as it comes back from JPEG.

    Parameters
    ----------
    image : ndarray
        Shape (channel, height, width); uint8, or float32 in [0, 1], which is rounded to 8 bits. Three channels are red,
        green and blue; of any other number each is a grey image.
    quality : int
        1 to 100.
    chroma : {"4:4:4", "4:2:0"}
        Of no meaning where images are grey.

    Returns
    -------
    ndarray
        uint8, of the same shape.

    Raises
    ------
    InputError
        If Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError("JPEG needs Pillow: pip install 'notbugs[data]'.") from None

    def through(pixels: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=SUBSAMPLING[chroma])
        return np.array(Image.open(file))

    pixels = image if image.dtype == np.uint8 else (image * 255).round().astype(np.uint8)
    if len(pixels) == 3:
        return np.ascontiguousarray(through(np.ascontiguousarray(pixels.transpose(1, 2, 0))).transpose(2, 0, 1))
    return np.stack([through(plane) for plane in pixels])
