"""Images that come as arrays: their layout, their values, another size."""

from __future__ import annotations

import numpy as np

from notbugs.errors import must

CHANNELS = (1, 2, 3, 4)
LEVELS = tuple(2**bits - 1 for bits in (1, 2, 4, 8, 10, 12, 14, 16))
"""Of white, in pictures of so many bits."""


def planes(array: np.ndarray, name: str, white: float | None = None) -> np.ndarray:
    """The images as (image, channel, height, width), uint8 or float32 in [0, 1].

    Parameters
    ----------
    array : ndarray
        Shape (image, height, width), (image, height, width, channel) or (image, channel, height, width) with at most 4
        channels; whole numbers in 0..255, booleans, or floating point in [0, 1].
    name : str
        What an error calls it.
    white : float, optional
        The value of white, where it is another than 255 in whole numbers and 1 in floating point.

    Raises
    ------
    InputError
        If shape or values are others.
    """
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in CHANNELS:
        rule = "have shape (image, height, width), with up to 4 channels last or before the height"
        raise must(name, rule, array.shape)
    return values(array, name, white)


def values(array: np.ndarray, name: str, white: float | None = None) -> np.ndarray:
    """Pixels in 0..`white` as uint8 where these hold them to the bit, else as float32 in [0, 1]."""
    if array.dtype == np.uint8 and white in (None, 255):
        return array
    kind = array.dtype.kind
    if kind not in "biuf":
        raise must(name, "hold numbers", str(array.dtype))
    if kind == "b":
        return array.astype(np.float32)
    level = white or (1 if kind == "f" else 255)
    low, high = (array.min().item(), array.max().item()) if array.size else (0, 0)
    if not (low >= 0 and high <= level):  # NaN fails both comparisons
        rule = f"hold values in 0..{level:g}" if white else "hold whole numbers in 0..255 or floating point in [0, 1]"
        raise must(name, rule, f"{array.dtype} in [{low}, {high}]", _remedy(low, high))
    if kind == "f":
        return (array / np.float32(level)).astype(np.float32) if level != 1 else array.astype(np.float32)
    if 255 % level == 0:
        return array.astype(np.uint8) * np.uint8(255 // level)
    return array.astype(np.float32) / np.float32(level)


def likely_white(value: float) -> int:
    """The smallest value of white of any number of bits that is not below `value`."""
    return next((level for level in LEVELS if level >= value), LEVELS[-1])


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """A (channel, height, width) image with its shorter side resized to `size`, antialiased, and the middle cut out."""
    from PIL import Image, ImageOps

    square = [ImageOps.fit(Image.fromarray(plane), (size, size), Image.Resampling.BILINEAR) for plane in image]
    fitted = np.stack([np.asarray(plane) for plane in square])
    return fitted if fitted.dtype == np.uint8 else fitted.clip(0, 1)  # a weighted mean may be above 1 by rounding


def fit_all(images: np.ndarray, size: int | None) -> np.ndarray:
    """`fit` for every image of an array; without a size, the array."""
    return images if size is None else np.stack([fit(image, size) for image in images])


def _remedy(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "Find where it was divided by zero, and save finite numbers."
    if low < 0:
        return "Undo the normalisation, so that black is 0 and white is 1: it belongs to the classifier."
    level = likely_white(high)
    return f"Say which value is white: --white-level {level} (white_level={level}), if the images have {level} for it."
