"""The one decoder: an image file, or its bytes, to an array."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from notbugs.data.arrays import fit, values
from notbugs.data.formats import FIRST_BYTES, format_of, in_words
from notbugs.data.rows import Broken
from notbugs.errors import InputError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
GREY = ("1", "L", "LA", "La")
WORKERS = min(8, os.cpu_count() or 1)
TASK = 16

Encoded = Path | bytes
Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge of a part of an image, in pixels; the last two lie outside it."""


class Unreadable(InputError):
    """One image that cannot be used: its name, why, and the remedy."""

    def __init__(self, name: str, why: str, remedy: str) -> None:
        super().__init__(f"{name} {why}. {remedy}")
        self.broken = Broken(name, why, remedy)


@dataclass(frozen=True)
class Decoder:
    """How every image of a set is decoded.

    Attributes
    ----------
    size : int, optional
        Height and width, see `fit`; its own by default.
    white : float, optional
        The value of white; of 8-bit files 255, of 16-bit files 65535 by default. More than 255 is of 16-bit files
        alone.
    """

    size: int | None = None
    white: float | None = None


PLAIN = Decoder()


def decode(encoded: Encoded, name: str, how: Decoder = PLAIN, box: Box | None = None) -> np.ndarray:
    """One image, upright, as (channel, height, width): grey or RGB.

    Parameters
    ----------
    encoded : Path or bytes
        A file, or what is in it: JPEG, PNG, BMP, GIF, TIFF, WebP or PPM.
    name : str
        What an error calls it.
    how : Decoder
        Size, and the value of white.
    box : tuple of int, optional
        The part of it to use; all by default.

    Returns
    -------
    ndarray
        uint8; float32 in [0, 1] where the file holds 16-bit grey.

    Raises
    ------
    Unreadable
        If it cannot be decoded, has several frames, has pixels that are not opaque, or more than 8 bits that would
        be lost.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded), formats=FORMATS) as image:
            _refuse(image, name)
            ImageOps.exif_transpose(image, in_place=True)
            planes = _planes(_cut(image, name, box), name, how.white)
            return planes if how.size is None else fit(planes, how.size)
    except Unreadable:
        raise
    except InputError as error:
        raise Unreadable(name, "cannot be used", str(error)) from None
    except Exception as error:  # the formats' plugins raise all sorts
        what = in_words(_format(encoded))
        if what and isinstance(error, UnidentifiedImageError):
            raise Unreadable(name, f"cannot be decoded: it {what}", "Mend it, or remove it from the data.") from None
        reason = "no image of a format that is read" if isinstance(error, UnidentifiedImageError) else error
        raise Unreadable(name, f"cannot be decoded ({reason})", "Mend it, or remove it from the data.") from error


def decode_all(
    encoded: Iterable[tuple[Encoded | Broken, str, Box | None]], how: Decoder
) -> Iterator[list[np.ndarray | Broken]]:
    """Images decoded in parallel, a few at a time, in their order; each comes with its name and the part to use."""

    def one(item: Encoded | Broken, name: str, box: Box | None) -> np.ndarray | Broken:
        try:
            return item if isinstance(item, Broken) else decode(item, name, how, box)
        except Unreadable as error:
            return error.broken

    def several(items: list[tuple[Encoded | Broken, str, Box | None]]) -> list[np.ndarray | Broken]:
        return [one(*item) for item in items]

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
        raise Unreadable(name, f"has {frames} frames, and an image has one", "Save the frame to use as a PNG file.")
    if image.mode in ("I", "F"):
        remedy = "Scale it and save 8 or 16 bits, or give an npz file of floats."
        raise Unreadable(name, "has 32 bits a pixel, and no range", remedy)
    if _loses_bits(image):
        remedy = "Save it with 8 bits, or give an npz file of floats in [0, 1]."
        raise Unreadable(name, "has 16 bits a channel in colour, which Pillow cuts to 8", remedy)


def _cut(image: Any, name: str, box: Box | None) -> Any:
    """The part of an image in a box."""
    if box is None:
        return image
    left, upper, right, lower = box
    if not (0 <= left < right <= image.width and 0 <= upper < lower <= image.height):
        why = (
            f"is {image.width}x{image.height} pixels, and its table wants the part {left}, {upper} to {right}, {lower}"
        )
        raise Unreadable(name, why, "Correct the table.")
    return image.crop(box)


def _format(encoded: Encoded) -> str:
    if isinstance(encoded, bytes):
        return format_of(encoded[:FIRST_BYTES])
    try:
        with encoded.open("rb") as file:
            return format_of(file.read(FIRST_BYTES))
    except OSError:
        return ""


def _loses_bits(image: Any) -> bool:
    """Whether Pillow will open 16 bits a channel as 8: its tiles still say what the file has."""
    if image.mode.startswith("I;16") or not image.tile:
        return False
    arguments = image.tile[0][3]
    if image.format == "PPM":
        return isinstance(arguments, Sequence) and isinstance(arguments[-1], int) and arguments[-1] > 255
    return ";16" in str(arguments)


def _planes(image: Any, name: str, white: float | None) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return values(np.asarray(image)[None], f"pixels of {name}", white or 65535)
    grey = image.mode in GREY
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            remedy = "Flatten it onto a background, for instance with `magick IN -background white -alpha remove OUT`."
            raise Unreadable(name, "has transparent pixels, whose colour depends on what is behind them", remedy)
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    if white is not None and white < 255:
        pixels = values(pixels, f"pixels of {name}", white)
    return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))
