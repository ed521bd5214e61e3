"""What a reader finds: splits whose images are decoded only as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from notbugs.errors import InputError

PIECE_BYTES = 2**22

Piece = np.ndarray | list[np.ndarray]
"""A few images: one array of shape (image, channel, height, width), or a list of arrays (channel, height, width)."""


class Wider(Exception):
    """An image does not fit into the form that the images before it had: it has colour, or 16 bits."""

    def __init__(self, form: Form) -> None:
        self.form = form


@dataclass(frozen=True)
class Form:
    """What all images of a data set are stored as: one shape, and uint8 or float32."""

    shape: tuple[int, int, int]
    dtype: str

    @property
    def bytes(self) -> int:
        """Of one image."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def fits(self, image: np.ndarray) -> bool:
        """Whether height and width are these, and channels these or fewer or more only by being grey."""
        channels = {self.shape[0], image.shape[-3]}
        return image.shape[-2:] == self.shape[1:] and (len(channels) == 1 or 1 in channels)

    def convert(self, image: np.ndarray) -> np.ndarray:
        """One image or several that fit, in this form.

        Raises
        ------
        Wider
            If that loses colour or depth: float32 holds uint8, colour holds grey, and not the other way.
        """
        widest = max(self.shape[0], image.shape[-3]), min(self.dtype, image.dtype.name)
        if widest != (self.shape[0], self.dtype):
            raise Wider(Form((widest[0], *self.shape[1:]), widest[1]))
        image = image if image.dtype.name == self.dtype else image.astype(np.float32) / 255
        return np.broadcast_to(image, (*image.shape[:-3], *self.shape))


@dataclass(frozen=True)
class Rows:
    """One split.

    Attributes
    ----------
    labels : Tensor
        Shape (image,), int64.
    read : callable
        The images from a row on, piece by piece; uint8, or float32 in [0, 1].
    name : callable
        What an error calls the image in a row: its path, or the file and the row.
    """

    labels: Tensor
    read: Callable[[int], Iterable[Piece]]
    name: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def form(self) -> Form:
        """Of the first image."""
        image = next(iter(self.read(0)))[0]
        return Form(image.shape, image.dtype.name)

    def images(self, form: Form, first: int = 0) -> Iterator[np.ndarray]:
        """The images from row `first` on in one form: arrays of shape (image, channel, height, width).

        Raises
        ------
        InputError
            If an image has another size than the first one: both are named.
        Wider
            If an image has colour or 16 bits and `form` has not.
        """
        for piece in self.read(first):
            for number, image in enumerate(piece if isinstance(piece, list) else piece[:1]):
                if not form.fits(image):
                    raise self._other_size(first + number, image, form)
            if isinstance(piece, list):
                yield np.stack([form.convert(image) for image in piece])
            else:
                yield form.convert(piece)
            first += len(piece)

    def _other_size(self, row: int, image: np.ndarray, form: Form) -> InputError:
        return InputError(
            f"All images must have one size. {self.name(row)} is {_size(image.shape)}, images before it are "
            f"{_size(form.shape)}, for instance {self.name(0)}. Give a 'size', as in load(..., size=64) or --size 64: "
            "the square in the middle of every image, resized."
        )


@dataclass(frozen=True)
class Found:
    """A data set as a reader found it; without a test split, a share of the training images will be held out.

    `listing` has every file with its size and time of change: decoded images are found again by it.
    """

    name: str
    train: Rows
    test: Rows | None
    classes: tuple[str, ...]
    listing: list[tuple[str, int, int]]
    test_name: str = "test"
    variant: str = ""


def list_files(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size in bytes, and time of change in nanoseconds of every file."""
    states = ((file, file.stat()) for file in files)
    return [(str(file.absolute()), state.st_size, state.st_mtime_ns) for file, state in states]


def blocks(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same images, `size` in every array; the last may have fewer."""
    held: list[np.ndarray] = []
    room = size
    for piece in pieces:
        while len(piece) >= room:
            yield np.concatenate([*held, piece[:room]])
            piece, held, room = piece[room:], [], size
        if len(piece):
            held.append(piece)
            room -= len(piece)
    if held:
        yield np.concatenate(held)


def piece_rows(image_bytes: int) -> int:
    """How many images make a piece of a few megabytes."""
    return max(1, PIECE_BYTES // max(image_bytes, 1))


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} pixels with {channels} channel{'s' if channels > 1 else ''}"
