"""What a reader finds, and by which choices: splits whose images are decoded only as they are asked for.

A name is divided into words: at everything that is no letter or digit, between a small and a capital letter, and
between letters and digits; upper and lower case are one. It is of a split where exactly one word is one of that split's
words below, alone or with an ending such as `set` or `images`; other words do not matter: `train`, `Training`,
`seg_train`, `testImages`, `train-00000-of-00005`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from notbugs.data.classes import ClassList, class_list, is_unlabelled, renumbered
from notbugs.data.jpeg import JPEG
from notbugs.errors import InputError, check_count, check_number, most_of, must

Groups = Mapping[str, str]
"""New classes by name: class folders and ranges of them, as `n02123045..n02124075, lion`."""
PART = "{group}"
"""In a pattern of paths: what names the group."""
ALL = "all images"
"""What the one split is called where there are none."""
MOST_SIDE = 4096
"""Pixels that images are resized to at most, unless NOTBUGS_MOST_SIDE in the environment says otherwise."""


@dataclass(frozen=True)
class Reading:
    """Every choice; see `notbugs.load` for what each is."""

    size: int | None = None
    channels: int | None = None
    groups: Groups = field(default_factory=dict)
    classes: Sequence[str] | str | Path = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    image_column: str | None = None
    label_column: str | Sequence[str] | None = None
    group_column: str | None = None
    group_pattern: str | None = None
    label_offset: int = 0
    white_level: float | None = None
    severity: int | None = None
    uncertain: int | None = None
    blank: int | None = None
    jpeg: JPEG | None = None
    skip_broken: bool = False
    follow_links: bool = False

    def __post_init__(self) -> None:
        if self.size is not None:
            most = most_of("NOTBUGS_MOST_SIDE", MOST_SIDE)
            if check_count("size", self.size) > most:
                remedy = "Give a smaller one, or set NOTBUGS_MOST_SIDE in the environment."
                raise must("size", f"be at most {most:,} pixels", self.size, remedy)
        if self.channels not in (None, 1, 3):
            raise must("channels", "be 1 for grey images or 3 for colour", self.channels)
        if self.severity is not None:
            check_count("severity", self.severity)
        if self.white_level is not None:
            check_number("white_level", self.white_level, open_low=True)
        if self.group_pattern is not None:
            if self.group_pattern.count(PART) != 1 or self.group_pattern.count("*") > 3:
                raise must("group_pattern", f"have {PART} once, and * up to 3 times: {PART}_*", self.group_pattern)
            if self.group_column is not None:
                raise must("group_pattern", "be given without a 'group_column'", self.group_pattern, "Leave one out.")
        for name in ("uncertain", "blank"):
            if getattr(self, name) not in (None, 0, 1):
                raise must(name, "be 0 or 1, what such a label counts as", getattr(self, name))

    @property
    def columns(self) -> str:
        """The first column that was asked for, as the option is called; empty if none was."""
        options = ("image_column", "label_column", "group_column")
        options += ("uncertain", "blank")
        return next((name for name in options if getattr(self, name) is not None), "")

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Those that were asked for."""
        columns = self.label_column
        return (columns,) if isinstance(columns, str) else tuple(columns or ())

    @cached_property
    def names(self) -> ClassList | None:
        """The classes that were given, in their order."""
        return class_list(self.classes) if self.classes else None


WORDS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation", "holdout"),
}
ENDINGS = "(?:sets?|data|dataset|images?|imgs?|pics|pictures|splits?|folder|files?|labels?)?"
_SPLITS = {word: kind for kind, words in WORDS.items() for word in words} | {"t10k": "test"}  # MNIST's ten thousand
_WORD = re.compile(rf"({'|'.join(sorted(_SPLITS, key=len, reverse=True))}){ENDINGS}")


@dataclass(frozen=True)
class Split:
    """Which split a name is of.

    Attributes
    ----------
    kind : str
        `train`, `test` or `val`.
    word : str
        That told it.
    exact : bool
        Whether the name is that word and nothing else.
    """

    kind: str
    word: str
    exact: bool


def split_of(name: str) -> Split | None:
    """The split that a name is of; None where it is of none, or of several."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.findall(r"t10k|[^\W\d_]+|\d+", spaced)
    hits = [match[1] for word in words if (match := _WORD.fullmatch(word))]
    if len({_SPLITS[word] for word in hits}) != 1:
        return None
    return Split(_SPLITS[hits[0]], hits[0], spaced == hits[0])


@dataclass(frozen=True)
class Choice:
    """The names that were chosen.

    Attributes
    ----------
    train : str
        Of the training split.
    tests : dict of str to str
        What results call a split to measure on, to its name: the preferred one first.
    """

    train: str
    tests: dict[str, str]


def choose(names: Iterable[str], wanted: Mapping[str, str], where: object) -> Choice:
    """Which of `names` are the splits.

    The test split is preferred to the validation split; without either, images will be held out of training.

    Parameters
    ----------
    names : iterable of str
        Of folders, of files without their numbers, or of values.
    wanted : mapping of str to str
        `train` and `test` to names, where they were given; the rule above decides on what was not.
    where : object
        What an error calls the place.

    Raises
    ------
    InputError
        If a name that was asked for is not there, none is of the training split, or two are of one split.
    """
    names = list(names)
    if wanted and names == [ALL]:
        raise must("splits", f"be left out: {where} has no splits", dict(wanted))
    for kind, name in wanted.items():
        if kind not in ("train", "test"):
            raise must("splits", "name 'train' or 'test'", kind, "As --splits.train NAME --splits.test NAME.")
        if name not in names:
            raise must(f"splits.{kind}", f"be one of {_listed(names)} in {where}", name)
    by_kind = {kind: [name for name in names if (split := split_of(name)) and split.kind == kind] for kind in WORDS}
    taken = set(wanted.values())
    train = wanted.get("train") or _one([name for name in by_kind["train"] if name not in taken], "train", where)
    if train is None:
        raise InputError(
            f"{where} has {_listed(names)}, and no training split. Name one of them 'train', or say which it is: "
            f"--splits.train {next((name for name in names if split_of(name) is None), 'NAME')}."
        )
    test = wanted.get("test") or _one([name for name in by_kind["test"] if name != train], "test", where)
    vals = [name for name in by_kind["val"] if name not in (train, test)]
    val = None if test and len(vals) > 1 else _one(vals, "test", where)
    return Choice(train, {_called(name): name for name in (test, val) if name is not None})


def labelled(tests: Mapping[str, np.ndarray]) -> tuple[str, tuple[str, ...]]:
    """The first split whose images have labels, and a note on those before it, whose labels are all -1.

    `heldout` where there is none.
    """
    notes = []
    for name, labels in tests.items():
        if not is_unlabelled(labels):
            return name, tuple(notes)
        notes.append(f"not measured on: the split {name}, whose {len(labels)} labels are all -1 (no label)")
    return "heldout", tuple(notes)


def _one(names: list[str], kind: str, where: object) -> str | None:
    if len(names) > 1:
        raise InputError(
            f"{where} has {_listed(names)}: which is the {'training' if kind == 'train' else 'test'} split? Give it "
            f"with --splits.{kind}, as in --splits.{kind} {names[0]}, or keep one of them there."
        )
    return names[0] if names else None


def _called(name: str) -> str:
    """What results call a split: `test`, or the word that told that it is for validation."""
    split = split_of(name)
    return split.word if split and split.kind == "val" else "test"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


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
    """What all images of a data set are stored as: one shape, and uint8 or float32; `fixed` if channels were given."""

    shape: tuple[int, int, int]
    dtype: str
    fixed: bool = False

    @property
    def bytes(self) -> int:
        """Of one image."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def fits(self, image: np.ndarray) -> bool:
        """Whether height and width are these, and channels these or fewer or more only by being grey."""
        channels = {self.shape[0], image.shape[-3]}
        if self.fixed and not channels <= {1, 3}:
            return False
        return image.shape[-2:] == self.shape[1:] and (len(channels) == 1 or 1 in channels)

    def convert(self, image: np.ndarray) -> np.ndarray:
        """One image or several that fit, in this form.

        Raises
        ------
        Wider
            If that loses colour or depth: float32 holds uint8, colour holds grey, and not the other way.
        """
        if self.fixed and image.shape[-3] > self.shape[0]:
            image = grey(image)
        widest = max(self.shape[0], image.shape[-3]), min(self.dtype, image.dtype.name)
        if widest != (self.shape[0], self.dtype):
            raise Wider(replace(self, shape=(widest[0], *self.shape[1:]), dtype=widest[1]))
        image = image if image.dtype.name == self.dtype else image.astype(np.float32) / 255
        return np.broadcast_to(image, (*image.shape[:-3], *self.shape))


def grey(image: np.ndarray) -> np.ndarray:
    """The luminance (ITU-R 601-2) of colour, (..., 3, height, width), as one channel; of 8 bits as Pillow has it."""
    weights = np.array([19595, 38470, 7471], np.uint32)
    if image.dtype == np.uint8:
        whole = np.tensordot(image.astype(np.uint32), weights, ([-3], [0])) + 0x8000
        return (whole >> 16).astype(np.uint8)[..., None, :, :]
    return np.tensordot(image, (weights / 65536).astype(np.float32), ([-3], [0]))[..., None, :, :].clip(0, 1)


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

    def images(
        self, form: Form, broken: dict[int, Broken], brightest: dict[str, float], first: int = 0
    ) -> Iterator[np.ndarray]:
        """The images from row `first` on in one form: arrays of shape (image, channel, height, width).

        In place of one that cannot be read there are zeros, and `broken` gets its row. `brightest` gets the largest
        pixel of all images of 8 bits and of all others, by their dtype.

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
                    continue
                if not form.fits(image):
                    raise self._other_size(first + number, image, form)
                if isinstance(piece, list):
                    _see(image, brightest)
            if not isinstance(piece, list):
                _see(piece, brightest)
            if isinstance(piece, list):
                blank = np.zeros(form.shape, form.dtype)
                yield np.stack([blank if isinstance(image, Broken) else form.convert(image) for image in piece])
            else:
                yield form.convert(piece)
            first += len(piece)

    def _other_size(self, row: int, image: np.ndarray, form: Form) -> InputError:
        others = f"images before it are {_size(form.shape)}, for instance {self.name(0)}"
        others = others if row else f"the images of the other split are {_size(form.shape)}"
        remedy = (
            "Give a 'size', as in load(..., size=64) or --size 64: the square in the middle of every image, resized."
        )
        if image.shape[-2:] == form.shape[1:]:
            remedy = "Save all with the same channels: three for colour, one for grey."
        return InputError(
            f"All images must have one size. {self.name(row)} is {_size(image.shape)}, {others}. {remedy}"
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


def _see(images: np.ndarray, brightest: dict[str, float]) -> None:
    kind = images.dtype.name
    if images.size:
        brightest[kind] = max(brightest.get(kind, 0.0), float(images.max()) / (255 if kind == "uint8" else 1))


def list_files(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size in bytes, and time of change in nanoseconds of every file."""
    states = ((file, file.stat()) for file in files)
    return [(str(file.absolute()), state.st_size, state.st_mtime_ns) for file, state in states]


def reordered(listing: Found, listed: ClassList | None) -> Found:
    """The same with its classes in the order that was given."""
    if listed is None:
        return listing
    classes, labels = listed.order(listing.classes, listing.name)
    train = replace(listing.train, labels=renumbered(listing.train.labels, labels))
    test = listing.test and replace(listing.test, labels=renumbered(listing.test.labels, labels))
    return replace(listing, train=train, test=test, classes=classes)


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
