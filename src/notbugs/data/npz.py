"""NumPy archives: MedMNIST's layout, Keras's, or one set of images and labels."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from torch import Tensor

from notbugs.data.classes import coded, named_in
from notbugs.data.decode import fit_all, planes, to_front
from notbugs.data.download import available_memory, in_words
from notbugs.data.rows import Found, Reading, Rows, labelled, list_files, pieces
from notbugs.errors import InputError, in_one_line, must

LAYOUTS = (
    {split: (f"{split}_images", f"{split}_labels") for split in ("train", "test", "val")},
    {split: (f"x_{split}", f"y_{split}") for split in ("train", "test", "val")},
    {"train": ("images", "labels")},
)
SMALL = 2**24
"""Bytes that are there without asking: to ask takes longer than to read them."""
FAULTS = (OSError, KeyError, IndexError, ValueError, EOFError, RuntimeError, SyntaxError, TypeError, OverflowError)
FAULTS += (MemoryError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError)
"""What NumPy, SciPy and the standard library raise of damaged files."""
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def npz_file(file: Path, reading: Reading) -> Found:
    """Find images and labels in an npz file, compressed or not, without reading the images.

    The arrays are named as in `LAYOUTS`; `classes`, if it is there, has the names of the classes.

    Raises
    ------
    InputError
        If the file cannot be read, has none of the layouts, or holds pickled objects, several labels for an image, or
        arrays of other shapes or values than `planes` takes.
    """
    with _readable(file), zipfile.ZipFile(file) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
    if twice := [key for key, times in Counter(keys).items() if times > 1]:
        raise InputError(f"{file} holds {twice[0]!r} twice: which one is meant is not known. Save it again.")
    layout = _layout(file, keys)
    parts = {split: pair for split, pair in layout.items() if set(pair) <= set(keys)}
    tests = {split: _labels(file, pair) for split, pair in parts.items() if split != "train"}
    test_name, secret = labelled(tests)
    names = named_in(_whole(file, "classes"), f"classes in {file}") if "classes" in keys else None
    train_labels, test_labels, classes = coded(
        _labels(file, layout["train"]),
        tests.get(test_name),
        names,
        f"labels in {file}",
        offset=reading.label_offset,
        listed=reading.names,
    )
    train = _rows(file, layout["train"][0], train_labels, reading)
    test = None if test_labels is None else _rows(file, layout[test_name][0], test_labels, reading)
    used = {"classes", *layout["train"], *(parts[test_name] if test is not None else ())}
    left = [key for key in keys if key not in used]
    unused = (f"passed over: arrays that are not used ({len(left)}: {', '.join(left[:8])})",) if left else ()
    return Found(file.stem, train, test, classes, list_files([file]), test_name, notes=(*secret, *unused))


def _layout(file: Path, keys: list[str]) -> dict[str, tuple[str, str]]:
    """The names of images and labels of every split, as they are spelt in this file."""
    spelt = {key.lower(): key for key in keys}
    layout = next((layout for layout in LAYOUTS if set(layout["train"]) <= set(spelt)), None)
    if layout is None:
        wanted = "; or ".join(", ".join(f"{images}, {labels}" for images, labels in part.values()) for part in LAYOUTS)
        raise InputError(f"{file} must hold arrays named {wanted}. It holds {', '.join(keys) or 'nothing'}.")
    known = {name for pair in layout.values() for name in pair}
    others = {name for part in LAYOUTS for pair in part.values() for name in pair} - known
    if others := [spelt[name] for name in sorted(others & set(spelt))]:
        pair = layout["train"]
        raise InputError(
            f"{file} holds {', '.join(others)} beside {' and '.join(pair)}: which are the training images? Name the "
            "arrays train_images, train_labels, test_images, test_labels."
        )
    return {split: (spelt.get(images, images), spelt.get(labels, labels)) for split, (images, labels) in layout.items()}


def _rows(file: Path, key: str, labels: Tensor, reading: Reading) -> Rows:
    with _member(file, key) as (_, shape, dtype, by_columns):
        if by_columns:
            raise InputError(f"{key} in {file} is in column order. Save np.ascontiguousarray({key}).")
        rule = f"be numbers, one image for each of {len(labels)} labels"
        if dtype.kind not in "biuf" or shape[:1] != (len(labels),):
            raise must(f"{key} in {file}", rule, f"{dtype} of shape {shape}", to_front(shape, len(labels)))
        _check_memory(4 * math.prod(shape[1:]) * dtype.itemsize, f"an image of {key} in {file}")
        planes(np.broadcast_to(np.uint8(0), (1, *shape[1:])), f"{key} in {file}")

    def read(first: int) -> Iterator[np.ndarray]:
        with _member(file, key) as (stream, *_):
            image = math.prod(shape[1:]) * dtype.itemsize
            stream.seek(first * image, 1)
            for _, count in pieces(first, len(labels), image):
                flat = np.frombuffer(stream.read(count * image), dtype)
                whole = flat.reshape(count, *shape[1:])
                yield fit_all(planes(whole, f"{key} in {file}", reading.white_level), reading.size)

    return Rows(labels, read, lambda row: f"{key}[{row}] in {file}")


@contextmanager
def _member(file: Path, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype, bool]]:
    """One array of the archive: a stream that stands at its first byte, its shape, its type, whether columns follow."""
    with _readable(file), zipfile.ZipFile(file) as archive, archive.open(f"{key}.npy") as stream:
        shape, dtype, by_columns = header(stream, f"{key} in {file}")
        size, held = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{key}.npy").file_size
        if size > held:
            promise = f"promises {in_words(size)} and holds {in_words(held)}"
            raise InputError(f"{file} is damaged: {key} {promise}. Make or fetch it again.")
        yield stream, shape, dtype, by_columns


def header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Of an array in NumPy's format: its shape, its type, whether columns follow each other; the stream is after it.

    Raises
    ------
    InputError
        If it holds pickled objects, or has no shape. What a damaged one raises else is among `FAULTS`.
    """
    version = np.lib.format.read_magic(stream)
    shape, fortran, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise InputError(f"{name} holds pickled objects, which are never read. Save an array of numbers.")
    if any(length < 0 for length in shape):
        raise InputError(f"{name} is damaged: its shape is {shape}. Make or fetch it again.")
    return shape, dtype, fortran and len(shape) > 1


def _labels(file: Path, pair: tuple[str, str]) -> np.ndarray:
    """The labels that belong to an array of images: their number is compared before they are unpacked."""
    images, key = pair
    with _member(file, images) as (_, whole, *_), _member(file, key) as (_, shape, dtype, _):
        if math.prod(shape) * dtype.itemsize > SMALL and shape[:1] != whole[:1]:
            raise must(f"{key} in {file}", f"be one label for each row of {images} {whole}", f"the shape {shape}")
    return _whole(file, key)


def _whole(file: Path, key: str) -> np.ndarray:
    with _member(file, key) as (stream, shape, dtype, by_columns):
        _check_memory(math.prod(shape) * dtype.itemsize, f"{key} in {file}")
        return np.frombuffer(stream.read(), dtype).reshape(shape, order="F" if by_columns else "C")


def _check_memory(size: int, name: str) -> None:
    if size > SMALL and size > (free := available_memory()):
        raise must(
            name, f"fit into the free memory, {in_words(free)}", in_words(size), "Free or add some, or cut it down."
        )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """What goes wrong inside is that the file is damaged."""
    try:
        yield
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(
            f"{file} is not a readable npz file ({in_one_line(error)}). Make or fetch it again."
        ) from error
