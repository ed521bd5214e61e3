"""Images that come as arrays: their layout, their values, another size."""

from __future__ import annotations

import numpy as np

from notbugs.errors import must

CHANNELS = (1, 2, 3, 4)


def planes(array: np.ndarray, name: str) -> np.ndarray:
    """The images as (image, channel, height, width), uint8 or float32 in [0, 1].

    Parameters
    ----------
    array : ndarray
        Shape (image, height, width), (image, height, width, channel) or (image, channel, height, width) with at most 4
        channels; whole numbers in 0..255, booleans, or floating point in [0, 1].
    name : str
        What an error calls it.

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
    return _values(array, name)


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """A (channel, height, width) image with its shorter side resized to `size`, antialiased, and the middle cut out."""
    from PIL import Image, ImageOps

    square = [ImageOps.fit(Image.fromarray(plane), (size, size), Image.Resampling.BILINEAR) for plane in image]
    fitted = np.stack([np.asarray(plane) for plane in square])
    return fitted if fitted.dtype == np.uint8 else fitted.clip(0, 1)  # a weighted mean may be above 1 by rounding


def fit_all(images: np.ndarray, size: int | None) -> np.ndarray:
    """`fit` for every image of an array; without a size, the array."""
    return images if size is None else np.stack([fit(image, size) for image in images])


def _values(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.float32)
    if kind not in "iuf":
        raise must(name, "hold numbers", str(array.dtype))
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= (1 if kind == "f" else 255)):  # NaN fails both comparisons
        remedy = "Divide by the largest value possible, or undo the normalisation: it belongs to the classifier."
        rule = "hold whole numbers in 0..255 or floating point in [0, 1]"
        raise must(name, rule, f"{array.dtype} in [{low}, {high}]", remedy)
    return array.astype(np.float32 if kind == "f" else np.uint8)
