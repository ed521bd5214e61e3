"""Labelled images, in memory or in files that are mapped, and a data set of a training and a test split."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from notbugs.data.classes import match_classes, renumbered
from notbugs.data.decode import CLIP, overshoots
from notbugs.errors import InputError, check_choice, check_count, in_one_line, must
from notbugs.given import checked
from notbugs.seeds import generator
from notbugs.shapes import Batch, Labels

ALIKE = "Read both alike: give a 'size' (--size), or 'channels' (--channels)."
"""How images of two splits get one shape."""
_TYPES = {"U8": "uint8", "F16": "float16", "F32": "float32"}


class Mapped:
    """A tensor too large for memory, as images need it: its shape, its type, and the rows at an index.

    The files are mapped read-only: the system keeps in memory what was read of late and drops it when it needs room.

    Parameters
    ----------
    files : sequence of Path
        Safetensors files, their rows one after the other.
    name : str
        Of the tensor in each file: uint8, float16 or float32, all of one type and one shape but for the rows.
    rows : Tensor, optional
        int64, shape (row,): which rows, in which order; all by default.

    Raises
    ------
    InputError
        If a file holds no such tensor, or one of another type or shape than the first file's.
    """

    def __init__(self, files: Sequence[Path], name: str, rows: Tensor | None = None) -> None:
        self._parts = [_find(Path(file), name) for file in files]
        first = self._parts[0]
        for part in self._parts:
            if part.dtype != first.dtype or part.shape[1:] != first.shape[1:]:
                raise must(
                    f"{name} of {part.file}", f"be {first.dtype} {first.shape[1:]} as in {first.file}", part.shape
                )
        self._ends = torch.tensor([part.shape[0] for part in self._parts]).cumsum(0)
        self._rows = torch.arange(int(self._ends[-1])) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> torch.Size:
        """As of a tensor: (row, ...)."""
        return torch.Size([len(self), *self._parts[0].shape[1:]])

    @property
    def dtype(self) -> torch.dtype:
        """As of a tensor."""
        return getattr(torch, self._parts[0].dtype)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """The rows at `index`, in memory."""
        rows = self._rows[index]
        part_of = torch.searchsorted(self._ends, rows, right=True)
        images = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for number in part_of.unique().tolist():
            here = (part_of == number).nonzero().flatten()
            part = self._parts[number]
            first = int(self._ends[number]) - part.shape[0]
            images.numpy()[here.numpy()] = _map(part)[(rows[here] - first).numpy()]
        return images

    def subset(self, index: Tensor | slice) -> Mapped:
        """The same files, and of the rows those at `index`."""
        chosen = object.__new__(Mapped)
        chosen._parts, chosen._ends, chosen._rows = self._parts, self._ends, self._rows[index]
        return chosen


@dataclass(frozen=True)
class _Part:
    """Where in a file a tensor's bytes begin, and what they are; another file of the same name is another part."""

    file: Path
    identity: tuple[int, int]
    offset: int
    dtype: str
    shape: tuple[int, ...]


def _find(file: Path, name: str) -> _Part:
    """A tensor of a safetensors file: eight bytes with the length of a JSON header, the header, the bytes."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            entry = json.loads(stream.read(length))[name]
            about = os.fstat(stream.fileno())
        identity = about.st_ino, about.st_mtime_ns
        offset = 8 + length + entry["data_offsets"][0]
        part = _Part(file, identity, offset, _TYPES[entry["dtype"]], tuple(entry["shape"]))
        _map(part)
        return part
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} cannot be mapped: it holds no readable tensor {name!r} ({in_one_line(error)})."
        ) from error


@lru_cache(maxsize=256)  # a map holds a file descriptor, and a process may have about a thousand
def _map(part: _Part) -> np.ndarray:
    return np.memmap(part.file, part.dtype, "r", part.offset, part.shape)


CHUNK_BYTES = 2**21
CHANNELS = 4
"""Of an image as others have it, channels last: 1, 3 or, with transparency, these."""
RESIDENT_BYTES = 8 * 2**30
"""Largest set that is moved to an accelerator whole."""


@dataclass(frozen=True)
class Images:
    """Images with labels.

    Attributes
    ----------
    pixels : Tensor or Mapped
        Shape (image, channel, height, width); uint8 in 0..255, or floating point in [0, 1]. `Mapped` pixels stay on
        disk until they are asked for; they are not searched for values outside [0, 1].
    labels : Tensor
        Shape (image,), int64. Or shape (image, label), int64: 0 or 1 for each of several labels.
    groups : Tensor, optional
        Shape (image,), int64: images of one number, of one patient say, are never on two sides of a split.
    classes : int, optional
        How many classes there are, if that is known: a `Data` says so to its images. What classifies them must have
        as many logits.

    Raises
    ------
    InputError
        If something is no tensor, shapes or types do not fit, one of several labels is not 0 or 1, or pixels are
        outside [0, 1] or not finite.

    Examples
    --------
    >>> pixels = torch.zeros(2, 1, 8, 8)
    >>> images = nb.Images(pixels, torch.tensor([3, 7]))
    >>> inputs, labels = images.batch(slice(2))
    >>> labels
    tensor([3, 7])
    """

    pixels: Tensor | Mapped
    labels: Tensor
    groups: Tensor | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        for name in ("pixels", "labels", "groups"):
            given = getattr(self, name)
            if not isinstance(getattr(given, "dtype", None), torch.dtype) and (name != "groups" or given is not None):
                raise must(name, "be a tensor", type(given).__name__, f"Give torch.as_tensor({name}).")
        if len(self.pixels.shape) != 4 or len(self.pixels) == 0:
            raise must("images", "have shape (image, channel, height, width), at least one image", self.pixels.shape)
        height, width, channels = self.pixels.shape[1:]
        is_last = channels in (3, CHANNELS) or (channels == 1 and height == width)  # a signal may be (leads, time, 1)
        if min(height, width) > CHANNELS and is_last:
            rule = f"have shape (image, channel, height, width), channels before the {height}x{width} pixels"
            raise must("images", rule, tuple(self.pixels.shape), "Give torch.permute(pixels, (0, 3, 1, 2)).")
        fits = self.labels.ndim in (1, 2) and self.labels.shape[:1] == self.pixels.shape[:1]
        if not fits or self.labels.dtype != torch.int64:
            rule = f"be int64 of shape ({len(self.pixels)},), one for each image, or several: (image, label)"
            raise must("labels", rule, f"{self.labels.dtype}, {tuple(self.labels.shape)}")
        if self.has_several and not bool(((self.labels == 0) | (self.labels == 1)).all()):
            raise must("labels", "be 0 or 1, where an image has several", int(self.labels.max()))
        if self.groups is not None and (self.groups.shape != (len(self),) or self.groups.dtype != torch.int64):
            rule = f"be int64 of shape ({len(self)},), a number for each image"
            raise must("groups", rule, f"{self.groups.dtype}, {tuple(self.groups.shape)}")
        if isinstance(self.pixels, Tensor) and self.pixels.dtype != torch.uint8:
            _check_range(self.pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def has_several(self) -> bool:
        """Whether an image has several labels, each 0 or 1, in place of one class."""
        return self.labels.ndim == 2

    def label(self, number: int) -> Images:
        """The same images with one of their labels: class 0 without it, class 1 with it."""
        return replace(self, labels=self.labels[:, number].contiguous(), classes=2)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        return tuple(self.pixels.shape[1:])  # pyrefly: ignore

    def batch(self, index: Tensor | slice) -> tuple[Batch, Labels]:
        """Float images in [0, 1] and labels at `index`."""
        pixels = self.pixels[index]
        pixels = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()
        return pixels, self.labels[index]

    def resident(self, device: torch.device) -> Images:
        """The same images on an accelerator, uint8 where they are stored so; as they are on a CPU, or if too large."""
        size = len(self) * math.prod(self.shape) * self.pixels.dtype.itemsize
        if device.type == "cpu" or size > RESIDENT_BYTES:
            return self
        return Images(self.pixels[:].to(device), self.labels.to(device), self.groups, self.classes)

    def chunks(self) -> Iterator[Tensor]:
        """The pixels as they are stored, a few megabytes at a time."""
        size = max(1, CHUNK_BYTES // (self.pixels.dtype.itemsize * math.prod(self.shape)))
        for first in range(0, len(self), size):
            yield self.pixels[first : first + size]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, pixels and labels."""
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        for part in chain(self.chunks(), [self.labels]):
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    def subset(self, index: Tensor | slice) -> Images:
        """The images at `index`, in that order."""
        pixels = self.pixels[index] if isinstance(self.pixels, Tensor) else self.pixels.subset(index)
        return Images(pixels, self.labels[index], None if self.groups is None else self.groups[index], self.classes)

    def __repr__(self) -> str:
        labels = "several labels each" if self.has_several else "a label each"
        return f"Images({len(self):,} of {'x'.join(map(str, self.shape))}, {labels})"

    def of_classes(self, count: int) -> Images:
        """The same images, of which is known how many classes there are. Pixels are not looked at again."""
        if self.classes == count:
            return self
        images = copy(self)
        object.__setattr__(images, "classes", count)
        return images

    def sample(self, count: int | None, seed: int, purpose: str) -> Images:
        """`count` images at random, in their order; all of them if there are no more or `count` is None.

        Raises
        ------
        InputError
            If `count` is no whole number at or above 1.
        """
        if count is not None:
            check_count("count", count)
        if count is None or count >= len(self):
            return self
        return self.subset(torch.randperm(len(self), generator=generator(seed, purpose))[:count].sort().values)

    def divided(self, count: int, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Numbers of `count` images drawn at random, and of the others, each in order.

        Images of one group are never on two sides: then about so many are drawn, without groups that are larger than
        that, where others are there. Where all are of one, it is divided.
        """
        if self.groups is None or len(ids := self.groups.unique()) < 2:
            order = torch.randperm(len(self), generator=generator(seed, purpose))
            return order[:count].sort().values, order[count:].sort().values
        index = torch.searchsorted(ids, self.groups)
        order, sizes = torch.randperm(len(ids), generator=generator(seed, purpose)), torch.bincount(index)
        fitting = order[sizes[order] <= count]
        order = fitting if len(fitting) else order
        number = min(int((sizes[order].cumsum(0) < count).sum()) + 1, len(ids) - 1)
        is_drawn = torch.isin(index, order[:number])
        return is_drawn.nonzero().flatten(), (~is_drawn).nonzero().flatten()


SHOWN_CLASSES = 10
"""Names that are printed; a data set may have thousands."""


@dataclass(frozen=True)
class Data:
    """A data set: what every reader returns.

    Attributes
    ----------
    train, test : Images
        With one label for each image, the number of its class; or with several, and `classes` are their names.
    several : tuple of str
        Where the classes are one of several labels, and not this label: the names of all of them, in order.
    notes : tuple of str
        What whoever reads a result of it must know: what was passed over, duplicates, what was left unlabelled.
    left_out : tuple of str
        Images that cannot be read and were left out, and why.

    Raises
    ------
    InputError
        If labels are out of range, there are fewer than two classes, a class has no training image, or the splits
        have images of different shapes.

    Examples
    --------
    >>> data = nb.load('digits').take(100, 50, seed=0)
    >>> len(data.train), len(data.test), len(data.classes)
    (100, 50, 10)
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    variant: str = ""
    test_name: str = "test"
    several: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            if not isinstance(given := getattr(self, split), Images):
                raise must(split, "be notbugs.Images", type(given).__name__, "Give nb.Images(pixels, labels).")
        if isinstance(self.classes, str):
            raise must("classes", "be the names of the classes", self.classes, "Give a tuple of text.")
        # A folder's name need not be text: what is no UTF-8 in it is spelt out, for all that is written from here on.
        named = tuple(name.encode("utf-8", "backslashreplace").decode() for name in self.classes)
        object.__setattr__(self, "classes", named)
        for split in ("train", "test"):
            object.__setattr__(self, split, getattr(self, split).of_classes(len(named)))
        if len(self.classes) < 2:
            raise must("data", "have at least two classes", self.classes)
        if self.train.shape != self.test.shape:
            raise must("test images", f"have the training images' shape {self.train.shape}", self.test.shape, ALIKE)
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise must("classes", "be names that differ", f"{twice[0]} twice", "Name all of them with classes=...")
        if self.train.has_several or self.test.has_several:
            for images in (self.train, self.test):
                if images.labels.shape[1:] != (len(self.classes),):
                    raise must("labels", f"be {len(self.classes)} for each image", tuple(images.labels.shape))
            return
        for split, images in (("training", self.train), ("test", self.test)):
            low, high = int(images.labels.min()), int(images.labels.max())
            if low < 0 or high >= len(self.classes):
                rule = f"be between 0 and {len(self.classes) - 1}, as there are {len(self.classes)} classes"
                raise must(f"{split} labels", rule, low if low < 0 else high)
        if self.several:  # whoever needs both sides of a label looks
            return
        counts = torch.bincount(self.train.labels, minlength=len(self.classes))
        empty = [self.classes[index] for index in (counts == 0).nonzero().flatten().tolist()]
        if empty:
            raise InputError(
                f"Every class must have a training image; {', '.join(empty[:5])} has none. "
                "Remove the class from the data, or take more training images."
            )

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train.shape))
        names = ", ".join(self.classes[:SHOWN_CLASSES]) + (", ..." if len(self.classes) > SHOWN_CLASSES else "")
        split = "" if self.test_name == "test" else f" ({self.test_name})"
        return (
            f"Data({self.name}: {len(self.train):,} training and {len(self.test):,} test images{split} of {shape}, "
            f"{len(self.classes)} {'labels' if self.train.has_several else 'classes'}: {names})"
        )

    def label(self, name: str) -> Data:
        """One of several labels as a binary data set: class 0 is `no NAME`, class 1 is `NAME`.

        Raises
        ------
        InputError
            If an image has one label only, or there is no label of this name.
        """
        if not self.train.has_several:
            raise must("label", "be given with data of several labels for an image", name, "Leave it out.")
        number = self.classes.index(check_choice("label", name, self.classes))
        return replace(
            self,
            name=f"{self.name}, {name}",
            train=self.train.label(number),
            test=self.test.label(number),
            classes=(f"no {name}", name),
            several=self.classes,
        )

    @property
    def title(self) -> str:
        """Name with its variant: `CIFAR-10 (JPEG copy)`."""
        return f"{self.name} ({self.variant})" if self.variant else self.name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shapes, pixels, labels and class names of both splits."""
        digest = hashlib.sha256(repr((self.classes, self.train.pixels.shape, self.test.pixels.shape)).encode())
        for images in (self.train, self.test):
            for part in chain(images.chunks(), [images.labels]):
                digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    @cached_property
    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of every channel over the training pixels, in [0, 1] units."""
        scale = 255 if self.train.pixels.dtype == torch.uint8 else 1
        total = square = torch.zeros(self.train.shape[0], dtype=torch.float64)
        for part in self.train.chunks():
            planes = part.transpose(0, 1).flatten(1).to(torch.float64, copy=True).div_(scale)
            total, square = total + planes.sum(1), square + planes.square_().sum(1)
        mean = total / (count := len(self.train) * self.train.shape[1] * self.train.shape[2])
        variance = (square - count * mean.square()) / max(count - 1, 1)
        return mean.tolist(), variance.clamp_min(1e-6).sqrt().tolist()

    def take(self, train: int | None, test: int | None, seed: int) -> Data:
        """A random subset of both splits.

        Raises
        ------
        InputError
            If a number of images is no whole number at or above 1.
        """
        for name, count in (("train", train), ("test", test)):
            if count is not None:
                check_count(name, count)
        return replace(
            self,
            train=self.train.sample(train, seed, "train subset"),
            test=self.test.sample(test, seed, "test subset"),
        )

    def hold_out(self, share: float, seed: int) -> Data:
        """The training split alone, divided: `share` of it takes the place of the test split.

        For choosing settings without touching the test images.

        Raises
        ------
        InputError
            If `share` is not strictly between 0 and 1, or leaves a class without training images.
        """
        if not 0 < share < 1:
            raise must("share", "be strictly between 0 and 1", share)
        count = max(1, round(share * len(self.train)))
        held, kept = self.train.divided(count, seed, "held out")
        return replace(self, train=self.train.subset(kept), test=self.train.subset(held), test_name="heldout")

    def in_order_of(self, classes: Sequence[str]) -> Data:
        """The same images with the labels of a classifier that has these classes, in its order.

        Raises
        ------
        InputError
            If the classifier has other classes than the data: see `match_classes`.
        """
        places = match_classes(classes, self.classes)
        if len(places) != len(classes):
            raise must("classes", f"be those of the data, {', '.join(self.classes[:12])}", tuple(classes)[:12])
        train, test = (replace(images, labels=renumbered(images.labels, places)) for images in (self.train, self.test))
        return replace(self, train=train, test=test, classes=tuple(classes))


@checked
def round_to_8_bits(images: Batch) -> Batch:
    """The images as an 8-bit file would give them back: rounded to the nearest of 256 levels.

    Examples
    --------
    >>> nb.data.round_to_8_bits(torch.tensor([0.5])) * 255
    tensor([128.])
    """
    return images.mul(255).round().div(255)


def _check_range(pixels: Tensor) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if not (pixels.is_floating_point() and low >= 0 and high <= 1):  # NaN fails both comparisons
        remedy = "Divide by 255, or undo the normalisation: it belongs to the classifier."
        remedy = f"{CLIP} torch.clip(images, 0, 1)." if overshoots(low, high, 1) else remedy
        raise must(
            "images",
            "be floating point in [0, 1], or uint8",
            f"{pixels.dtype} in [{low:g}, {high:g}]",
            remedy,
        )
