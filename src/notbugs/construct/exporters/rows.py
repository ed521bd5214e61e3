"""What every exporter needs: the rows in order, pictures, and what rounding them lost."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from notbugs.construct.storage import decode, encode
from notbugs.construct.store import ConstructedSet
from notbugs.errors import InputError
from notbugs.progress import Progress
from notbugs.threat import l2_norm

CHUNK_BYTES = 2**23  # of float32


def chunks(built: ConstructedSet, progress: Progress) -> Iterator[tuple[slice, Tensor]]:
    """Consecutive rows and their pixels as stored, a few megabytes at a time."""
    size = max(1, CHUNK_BYTES // (4 * math.prod(built.images.shape)))
    for low in range(0, len(built), size):
        part = slice(low, min(low + size, len(built)))
        yield part, built.images.pixels[part]
        progress(part.stop, len(built))


class Pictures:
    """Rounds images to 8 bits, and keeps account of what that loses."""

    def __init__(self) -> None:
        self.total, self.largest, self.count = 0.0, 0.0, 0

    def __call__(self, pixels: Tensor) -> np.ndarray:
        """uint8, shape (image, height, width, channel), without the last where there is one channel."""
        images = decode(pixels)
        rounded = encode(images, "uint8")
        error = l2_norm(decode(rounded) - images)
        self.total, self.count = self.total + float(error.double().sum()), self.count + len(error)
        self.largest = max(self.largest, float(error.max()))
        return channels_last(rounded)

    def lost(self) -> dict[str, float]:
        """Mean and largest l2 distance between a picture and the image as stored."""
        return {"mean": self.total / self.count, "max": self.largest}


def channels_last(pixels: Tensor) -> np.ndarray:
    """Shape (image, height, width, channel), without the last where there is one channel."""
    moved = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    return moved[..., 0] if moved.shape[-1] == 1 else moved


def fits_png(built: ConstructedSet) -> bool:
    """Whether images are grey or of three colours."""
    return built.images.shape[0] in (1, 3)


def class_labels(names: list[str]) -> dict[str, Any]:
    """The Hub's description of a label column."""
    return {"_type": "ClassLabel", "names": names}


def png(picture: np.ndarray) -> bytes:
    """The picture as a PNG file.

    Raises
    ------
    InputError
        If Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError("Pictures need Pillow: pip install 'notbugs[data]'.") from None
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
