"""The one decoder: an image file, or its bytes, to an array."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from notbugs.data.arrays import fit
from notbugs.errors import InputError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
GREY = ("1", "L", "LA", "La")
WORKERS = min(8, os.cpu_count() or 1)
TASK = 16

Encoded = Path | bytes


def decode(encoded: Encoded, name: str, size: int | None = None) -> np.ndarray:
    """One image, upright, as (channel, height, width): grey or RGB.

    Parameters
    ----------
    encoded : Path or bytes
        A file, or what is in it: JPEG, PNG, BMP, GIF, TIFF, WebP or PPM.
    name : str
        What an error calls it.
    size : int, optional
        Height and width, see `fit`; its own by default.

    Returns
    -------
    ndarray
        uint8; float32 in [0, 1] where the file holds 16-bit grey.

    Raises
    ------
    InputError
        If it cannot be decoded, has several frames, has pixels that are not opaque, or more than 8 bits that would
        be lost.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded), formats=FORMATS) as image:
            _refuse(image, name)
            ImageOps.exif_transpose(image, in_place=True)
            planes = _planes(image, name)
            return planes if size is None else fit(planes, size)
    except InputError:
        raise
    except Exception as error:  # the formats' plugins raise all sorts
        reason = "no image of a format that is read" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{name} cannot be decoded ({reason}). Mend it, or remove it from the data.") from error


def decode_all(encoded: Iterable[tuple[Encoded, str]], size: int | None) -> Iterator[list[np.ndarray]]:
    """Images decoded in parallel, a few at a time, in their order; every one comes with its name for an error."""

    def several(items: list[tuple[Encoded, str]]) -> list[np.ndarray]:
        return [decode(item, name, size) for item, name in items]

    source = iter(encoded)
    # The first image tells the form of all: who wants no more does not wait for more.
    if first := list(islice(source, 1)):
        yield several(first)
    with ThreadPoolExecutor(WORKERS) as pool:
        # A task is several images: one of 32x32 pixels is decoded as fast as a task is handed over.
        while tasks := [task for _ in range(WORKERS) if (task := list(islice(source, TASK)))]:
            yield from pool.map(several, tasks)


def is_jpeg(encoded: Encoded) -> bool:
    """Whether it begins as JPEG does."""
    if isinstance(encoded, bytes):
        return encoded.startswith(b"\xff\xd8\xff")
    with encoded.open("rb") as file:
        return is_jpeg(file.read(3))


def _refuse(image: Any, name: str) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a telephone's JPEG carries previews behind the picture
        raise InputError(f"{name} has {frames} frames, and an image has one. Save the frame to use as a PNG file.")
    if image.mode in ("I", "F"):
        raise InputError(
            f"{name} has 32 bits a pixel, and no range. Scale it and save 8 or 16 bits, or give an npz file of floats."
        )
    if _loses_bits(image):
        raise InputError(
            f"{name} has 16 bits a channel in colour, which Pillow cuts to 8. Save it with 8 bits, or give an npz file "
            "of floats in [0, 1]."
        )


def _loses_bits(image: Any) -> bool:
    """Whether Pillow will open 16 bits a channel as 8: its tiles still say what the file has."""
    if image.mode.startswith("I;16") or not image.tile:
        return False
    arguments = image.tile[0][3]
    if image.format == "PPM":
        return isinstance(arguments, Sequence) and isinstance(arguments[-1], int) and arguments[-1] > 255
    return ";16" in str(arguments)


def _planes(image: Any, name: str) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.float32)[None] / 65535
    grey = image.mode in GREY
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            raise InputError(
                f"{name} has transparent pixels, whose colour depends on what is behind them. Flatten it onto a "
                "background, for instance with `magick IN -background white -alpha remove OUT`."
            )
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))
