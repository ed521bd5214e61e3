"""The one decoder: what a file is by its first bytes, and from it, or from an array, to planes of pixels."""

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

from notbugs.data.rows import Broken
from notbugs.errors import InputError, must

FIRST_BYTES = 160
IMAGES = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WebP", "PPM")
UNREAD = ("HEIC or AVIF", "JPEG 2000", "JPEG XL", "DICOM", "NIfTI")
"""Images that nothing here reads: to pass over them would lose data."""

_BEGIN = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"PK\x03\x04", "npz"),
    (b"PK\x05\x06", "npz"),
    (b"PAR1", "parquet"),
    (b"\x93NUMPY", "npy"),
    (b"\x1f\x8b", "gzip"),
    (b"MATLAB 5.0", "mat"),
    (b"MATLAB 7.3", "HDF5"),
    (b"\x89HDF", "HDF5"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\\\x01\0\0", "NIfTI"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"/annex/objects/", "git-annex pointer"),
    (b"%PDF", "PDF"),
)
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


def format_of(head: bytes) -> str:
    """The format of a file that begins with `head`, of which `FIRST_BYTES` are enough; "" where it is not known."""
    if not head:
        return "empty"
    for begin, name in _BEGIN:
        if head.startswith(begin):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return "HEIC or AVIF"
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    if head[:3] == b"\0\0\x08" and 1 <= head[3] <= 4:
        return "idx"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "web page" if start.startswith((b"<!doctype html", b"<html", b"<head")) else ""


def file_format(file: Path) -> str:
    """The format of a file.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    with file.open("rb") as stream:
        return format_of(stream.read(FIRST_BYTES))


def in_words(name: str) -> str:
    """What a file that is no image is, to a reader: "a web page, not an image; ..."."""
    known = {
        "empty": "is empty",
        "web page": "is a web page, as servers answer in place of a file: download it again",
        "Git LFS pointer": "is a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned",
        "git-annex pointer": "is a git-annex pointer, not the file itself: run `git annex get` where it was cloned",
    }
    return known.get(name) or (f"is a file of the format {name}" if name else "")


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
        raise must(name, rule, f"{array.dtype} in [{low}, {high}]", _remedy(low, high, kind != "f", level))
    if kind == "f":
        return (array / np.float32(level)).astype(np.float32) if level != 1 else array.astype(np.float32)
    if 255 % level == 0:
        return array.astype(np.uint8) * np.uint8(255 // level)
    return array.astype(np.float32) / np.float32(level)


def to_front(shape: Sequence[int], count: int) -> str:
    """How the axis of the images comes to the front, where it is the last, as in MATLAB; empty where it is not."""
    return "Put the images first: np.moveaxis(array, -1, 0)." if shape[-1:] == (count,) else ""


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


OVERSHOOT = 0.05
"""Of white: as far as resizing (bicubic, Lanczos) goes beyond black and white at sharp edges, at most."""


CLIP = "Resizing overshoots black and white as little as this: clip the images, as"


def overshoots(low: float, high: float, white: float) -> bool:
    """Whether values in `low` to `high` are what resizing leaves of images in 0 to `white`."""
    beyond = low < 0 or high > white
    return beyond and low >= -OVERSHOOT * white and white / 2 < high <= (1 + OVERSHOOT) * white


def _remedy(low: float, high: float, whole: bool, level: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "Find where it was divided by zero, and save finite numbers."
    if level in (1, 255) and overshoots(low, high, level):
        # Of whole numbers above 255, the first image of a set of more bits may be dark.
        other = f", or, if white is more, give --white-level {likely_white(high)}" if whole and high > level else ""
        return f"{CLIP} np.clip(images, 0, {level:g}){other}."
    if level == 1 and not whole and overshoots(low, high, 255):
        return f"{CLIP} np.clip(images, 0, 255), and give --white-level 255 (white_level=255)."
    if low < 0 and whole:
        return "Shift and scale them, so that black is 0 and white is 255; of CT, choose a window first."
    if low < 0:
        return "Undo the normalisation, so that black is 0 and white is 1: it belongs to the classifier."
    level = likely_white(high)
    return f"Say which value is white: --white-level {level} (white_level={level}), if the images have {level} for it."


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


def decode(encoded: Encoded, name: str, decoder: Decoder = PLAIN, box: Box | None = None) -> np.ndarray:
    """One image, upright, as (channel, height, width): grey or RGB.

    Parameters
    ----------
    encoded : Path or bytes
        A file, or what is in it: JPEG, PNG, BMP, GIF, TIFF, WebP or PPM.
    name : str
        What an error calls it.
    decoder : Decoder
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
            planes = _planes(_cut(image, name, box), name, decoder.white)
            return planes if decoder.size is None else fit(planes, decoder.size)
    except Unreadable:
        raise
    except InputError as error:
        rule, _, remedy = str(error).removeprefix(f"The 'pixels of {name}' ").partition(" instead. ")
        raise Unreadable(name, rule, remedy) from None
    except Exception as error:  # the formats' plugins raise all sorts
        what = in_words(_format(encoded))
        if what and isinstance(error, UnidentifiedImageError):
            raise Unreadable(name, f"cannot be decoded: it {what}", "Repair it, or remove it from the data.") from None
        reason = "no image of a format that is read" if isinstance(error, UnidentifiedImageError) else error
        raise Unreadable(name, f"cannot be decoded ({reason})", "Repair it, or remove it from the data.") from error


def decode_all(
    encoded: Iterable[tuple[Encoded | Broken, str, Box | None]], decoder: Decoder
) -> Iterator[list[np.ndarray | Broken]]:
    """Images decoded in parallel, a few at a time, in their order; each comes with its name and the part to use."""

    def one(item: Encoded | Broken, name: str, box: Box | None) -> np.ndarray | Broken:
        try:
            return item if isinstance(item, Broken) else decode(item, name, decoder, box)
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
