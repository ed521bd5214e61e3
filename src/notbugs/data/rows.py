"""What a reader finds: splits whose images are decoded only as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from notbugs.data.classes import ClassList
from notbugs.errors import InputError

PIECE_BYTES = 2**22
NAMED = 10


@dataclass(frozen=True)
class Broken:
    """In place of an image that cannot be read: its name, why, and the remedy."""

    name: str
    why: str
    remedy: str


Piece = np.ndarray | list[np.ndarray | Broken]
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
    groups : Tensor, optional
        Shape (image,), int64: images of one number, of one patient say, belong together.
    """

    labels: Tensor
    read: Callable[[int], Iterable[Piece]]
    name: Callable[[int], str]
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def form(self) -> Form:
        """Of the first image that can be read."""
        broken: list[Broken] = []
        for piece in self.read(0) if len(self) else ():
            for image in piece:
                if not isinstance(image, Broken):
                    return Form(image.shape, image.dtype.name)
                broken.append(image)
        raise unreadable(broken) if broken else InputError("There are no images.")

    def images(self, form: Form, broken: dict[int, Broken], first: int = 0) -> Iterator[np.ndarray]:
        """The images from row `first` on in one form: arrays of shape (image, channel, height, width).

        In place of one that cannot be read there are zeros, and `broken` gets its row.

        Raises
        ------
        InputError
            If an image has another size than the first one: both are named.
        Wider
            If an image has colour or 16 bits and `form` has not.
        """
        for piece in self.read(first):
            for number, image in enumerate(piece if isinstance(piece, list) else piece[:1]):
                if isinstance(image, Broken):
                    broken[first + number] = image
                elif not form.fits(image):
                    raise self._other_size(first + number, image, form)
            if isinstance(piece, list):
                blank = np.zeros(form.shape, form.dtype)
                yield np.stack([blank if isinstance(image, Broken) else form.convert(image) for image in piece])
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

    `listing` has every file with its size and time of change: decoded images are found again by it, and by `parts`,
    which says what of them is used.
    """

    name: str
    train: Rows
    test: Rows | None
    classes: tuple[str, ...]
    listing: list[tuple[str, int, int]]
    test_name: str = "test"
    variant: str = ""
    notes: tuple[str, ...] = ()
    parts: str = ""


def list_files(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size in bytes, and time of change in nanoseconds of every file."""
    states = ((file, file.stat()) for file in files)
    return [(str(file.absolute()), state.st_size, state.st_mtime_ns) for file, state in states]


def reordered(found: Found, given: ClassList | None) -> Found:
    """The same with its classes in the order that was given."""
    if given is None:
        return found
    classes, labels = given.order(found.classes, found.name)
    place = torch.tensor(labels)
    train = replace(found.train, labels=place[found.train.labels])
    test = found.test and replace(found.test, labels=place[found.test.labels])
    return replace(found, train=train, test=test, classes=classes)


def unreadable(broken: Sequence[Broken]) -> InputError:
    """Every image that cannot be read, in one error; of many, some."""
    remedies = " ".join(dict.fromkeys(one.remedy for one in broken[:NAMED]))
    skip = "Or leave out what cannot be read: --skip-broken (skip_broken=True)."
    if len(broken) == 1:
        return InputError(f"{broken[0].name} {broken[0].why}. {remedies} {skip}")
    named = "; ".join(f"{one.name} {one.why}" for one in broken[:NAMED])
    more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    return InputError(f"{len(broken)} images cannot be read: {named}{more}. {remedies} {skip}")


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


def pieces(first: int, last: int, image_bytes: int) -> Iterator[tuple[int, int]]:
    """The rows from `first` to `last` as (row, count) of pieces of a few megabytes, after one image alone.

    The first image tells the form of all: who wants no more does not wait for more.
    """
    if first < last:
        yield first, 1
    step = piece_rows(image_bytes)
    for row in range(first + 1, last, step):
        yield row, min(step, last - row)


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} pixels with {channels} channel{'s' if channels > 1 else ''}"
