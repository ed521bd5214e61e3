"""Images of a split in one array, in a file of their own beside their labels: npy, MNIST's idx, SVHN's mat."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from notbugs.data.classes import coded
from notbugs.data.decode import fit_all, planes, to_front
from notbugs.data.npz import FAULTS, header
from notbugs.data.rows import ALL, Found, Reading, Rows, choose, labelled, list_files, pieces, split_of
from notbugs.data.walk import Node, Passed
from notbugs.errors import InputError, in_one_line, must

ROLE = re.compile(r"(?<![a-z])(?:(x|data|images?|imgs?)|(y|labels?|targets?))(?![a-z])")
IDX = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
DENSEST = 1100
"""How many bytes gzip can make of one."""
BLOCKS = 5
"""Severities of CIFAR-10-C, one after the other in each of its files."""


@dataclass(frozen=True)
class Stack:
    """Images and labels of one split.

    Attributes
    ----------
    file : Path
        With the images.
    labels : ndarray
        One for each image.
    read : callable
        Images from a row on, as arrays of shape (image, ...), of any type and layout that `planes` takes.
    """

    file: Path
    labels: np.ndarray
    read: Callable[[int], Iterator[np.ndarray]]

    def rows(self, labels: Any, reading: Reading) -> Rows:
        """As readers hand them on."""

        def read(first: int) -> Iterator[np.ndarray]:
            for piece in self.read(first):
                yield fit_all(planes(piece, f"images in {self.file}", reading.white_level), reading.size)

        return Rows(labels, read, lambda row: f"image {row} in {self.file}")


def stacked(
    name: str,
    stacks: Mapping[str, Stack],
    where: Path,
    reading: Reading,
    names: Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
) -> Found:
    """The data set of these splits by name; `ALL` alone where there are none."""
    chosen = choose(stacks, reading.splits, where) if set(stacks) != {ALL} or reading.splits else None
    train = stacks[chosen.train if chosen else ALL]
    tests = {called: stacks[split] for called, split in chosen.tests.items()} if chosen else {}
    test_name, secret = labelled({called: stack.labels for called, stack in tests.items()})
    test = tests.get(test_name)
    train_labels, test_labels, classes = coded(
        train.labels,
        test.labels if test else None,
        names,
        f"labels of {train.file}",
        offset=reading.label_offset,
        listed=reading.names,
    )
    files = [train.file, *([test.file] if test else [])]
    variant = f"severity {reading.severity}" if reading.severity else ""
    return Found(
        name,
        train.rows(train_labels, reading),
        test.rows(test_labels, reading) if test else None,
        classes,
        list_files(files),
        test_name,
        variant,
        (*notes, *secret),
        variant,
    )


# npy and idx: files of images and files of labels, which belong together by their names


def array_files(node: Node, passed: Passed, reading: Reading) -> Found:
    """Find pairs of files, of images and of labels, in a folder: npy, or idx as MNIST has them, also compressed.

    They belong together if their names are equal but for `images`, `data` or `x` in place of `labels` or `y`; a
    single file of labels without anything else in its name belongs to all.

    Raises
    ------
    InputError
        If there is no pair, two are of one split, or a file cannot be read.
    """
    kinds = ("npy", "idx", "gzip")
    files = [below.path / name for below in node.nodes() for name, kind in below.arrays.items() if kind in kinds]
    stacks = array_pairs(files, node.path, reading, passed)
    return stacked(node.path.resolve().name, stacks, node.path, reading, notes=passed.notes())


def array_pairs(files: Sequence[Path], where: Path, reading: Reading, passed: Passed) -> dict[str, Stack]:
    """The files of images among these with their labels, by the name of their split."""
    images: dict[str, Path] = {}
    pairs: dict[str, Path] = {}
    for file in sorted(files):
        same_folder = [other for other in files if other.parent == file.parent and _role(other) == "y"]
        if file in same_folder or (labels := _labels_of(file, same_folder)) is None:
            continue
        inner = file.relative_to(where).parts
        split = next((part for part in (_plain(file), *inner[-2::-1]) if split_of(part)), ALL)
        if split in images:
            raise InputError(
                f"{where} has several files of images, {images[split].name} and {file.name}. Name the one to read, "
                f"as {file}."
            )
        images[split], pairs[split] = file, labels
    if not images:
        raise InputError(
            f"{where} must hold pairs of files, as train_images.npy and train_labels.npy. It holds "
            f"{', '.join(file.name for file in files[:8])}."
        )
    for file in sorted(set(files) - {*images.values(), *pairs.values()}):
        passed.add("files of arrays that belong to no pair", file.name)
    return {split: _stack(file, pairs[split], reading) for split, file in images.items()}


def array_file(file: Path, reading: Reading) -> Found:
    """Find the images in one such file and the labels beside it.

    With `reading.severity`, of the five blocks of CIFAR-10-C the one with this number.
    """
    others = [
        other for other in sorted(file.parent.iterdir()) if other.is_file() and other != file and _role(other) == "y"
    ]
    labels = _labels_of(file, others)
    if labels is None:
        raise InputError(
            f"{file} needs its labels in a file beside it: labels{file.suffix}, or one of its name with "
            "'labels' in place "
            "of 'data' or 'images'."
        )
    return stacked(file.stem, {ALL: _stack(file, labels, reading)}, file, reading)


def _plain(file: Path) -> str:
    """A name without its suffixes and its number of axes."""
    return re.sub(r"(\.npy|\.gz|\.idx\d?(-ubyte)?|[-.]idx\d-ubyte)", "", file.name.lower())


def _role(file: Path) -> str:
    """What a name says last of what is in it: `x_labels` are labels."""
    found = list(ROLE.finditer(_plain(file).replace("_", "-")))
    return "" if not found else "x" if found[-1][1] else "y"


def _labels_of(file: Path, labels: Sequence[Path]) -> Path | None:
    def rest(path: Path) -> str:
        name = _plain(path).replace("_", "-")
        for role in list(ROLE.finditer(name))[-1:]:
            name = name[: role.start()] + name[role.end() :]
        return re.sub(r"\W+", "", name)

    same = [other for other in labels if rest(other) == rest(file)]
    if len(same) > 1:
        raise InputError(
            f"{file} has two files of labels, {same[0].name} and {same[1].name}. Keep one of them beside it."
        )
    same = same or ([labels[0]] if len(labels) == 1 and not rest(labels[0]) else [])
    return same[0] if same else None


def _stack(file: Path, labels: Path, reading: Reading) -> Stack:
    with _array(labels) as (stream, shape, dtype, by_columns):
        flat = np.frombuffer(_exactly(stream, math.prod(shape) * dtype.itemsize, labels), dtype)
        numbers = flat.reshape(shape, order="F" if by_columns else "C")
    with _array(file) as (_, shape, dtype, by_columns):
        if by_columns:
            raise InputError(f"{file} is in column order. Save np.ascontiguousarray of it.")
        if dtype.kind not in "biuf" or shape[:1] != numbers.shape[:1]:
            rule = f"be numbers, one for each of the {len(numbers)} labels in {labels}"
            raise must(f"images in {file}", rule, f"{dtype} of shape {shape}", to_front(shape, len(numbers)))
        planes(np.broadcast_to(np.uint8(0), (1, *shape[1:])), f"images in {file}")
    start, stop = _block(file, len(numbers), reading.severity)

    def read(first: int) -> Iterator[np.ndarray]:
        with _array(file) as (stream, shape, dtype, _):
            image = math.prod(shape[1:]) * dtype.itemsize
            stream.seek((start + first) * image, 1)
            for _, count in pieces(start + first, stop, image):
                flat = np.frombuffer(_exactly(stream, count * image, file), dtype)
                yield flat.reshape(count, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)

    return Stack(file, numbers[start:stop].astype(numbers.dtype.newbyteorder("=")), read)


def _block(file: Path, count: int, severity: int | None) -> tuple[int, int]:
    if severity is None:
        return 0, count
    if severity > BLOCKS or count % BLOCKS:
        rule = f"be 1 to {BLOCKS}, of a file of {BLOCKS} equal blocks"
        raise must("severity", rule, f"{severity} of {file}, {count} images")
    size = count // BLOCKS
    return (severity - 1) * size, severity * size


@contextmanager
def _array(file: Path) -> Iterator[tuple[Any, tuple[int, ...], np.dtype, bool]]:
    """A file of one array: a stream that stands at its first byte, its shape, its type, whether columns follow."""
    try:
        with file.open("rb") as plain:
            packed = plain.peek(2)[:2] == b"\x1f\x8b"  # pyrefly: ignore
            with gzip.GzipFile(fileobj=plain) if packed else nullcontext(plain) as stream:
                shape, dtype, by_columns = _header(file, stream)
                size = math.prod(shape) * dtype.itemsize
                if size > file.stat().st_size * (DENSEST if packed else 1):
                    raise InputError(f"{file} ends early: by its first bytes it has {size} more. Fetch it again.")
                yield stream, shape, dtype, by_columns
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(
            f"{file} is not a readable file of an array ({in_one_line(error)}). Make or fetch it again."
        ) from error


def _header(file: Path, stream: Any) -> tuple[tuple[int, ...], np.dtype, bool]:
    begin = stream.read(4)
    if begin[:2] == b"\0\0" and len(begin) == 4 and begin[2] in IDX:
        shape = tuple(int.from_bytes(stream.read(4), "big") for _ in range(begin[3]))
        return shape, np.dtype(IDX[begin[2]]), False
    stream.seek(0)
    return header(stream, str(file))


def _exactly(stream: Any, size: int, file: Path) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise InputError(f"{file} ends early: {size} bytes were to come, and {len(data)} came. Fetch it again.")
    return data


# SVHN's mat


def mat_files(node: Node, passed: Passed, reading: Reading) -> Found:
    """Find images in MATLAB's files as SVHN has them: `X`, shape (height, width, channel, image), and labels `y`."""
    files = {
        (below.path / name).stem: below.path / name
        for below in node.nodes()
        for name, kind in below.arrays.items()
        if kind in ("mat", "HDF5")
    }
    splits = {stem: file for stem, file in files.items() if split_of(stem) or stem in reading.splits.values()}
    for stem in files.keys() - splits.keys():
        passed.add("mat files of no split", stem)
    if not splits:
        raise must(f"mat files in {node.path}", "be named after splits, as train_32x32.mat", sorted(files))
    return svhn_splits(node.path.resolve().name, splits, node.path, reading, passed.notes())


def svhn_splits(
    name: str, files: Mapping[str, Path], where: Path, reading: Reading, notes: tuple[str, ...] = ()
) -> Found:
    """The data set in these files; where labels are 1 to 10, 10 is the digit 0, as SVHN has it."""
    if reading.severity is not None:
        raise must("severity", "be given with npy files", reading.severity, "Leave it out.")
    stacks = {split: _matlab(file) for split, file in files.items()}
    names = None
    if not reading.label_offset and all(
        stack.labels.min() == 1 and stack.labels.max() == 10 for stack in stacks.values()
    ):
        stacks = {split: Stack(stack.file, stack.labels % 10, stack.read) for split, stack in stacks.items()}
        names, notes = tuple("0123456789"), (*notes, "label 10 is the digit 0")
    return stacked(name, stacks, where, reading, names, notes)


def _matlab(file: Path) -> Stack:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    def part(name: str) -> np.ndarray:
        try:
            return loadmat(file, variable_names=[name])[name]
        except NotImplementedError:
            raise InputError(f"{file} is in MATLAB's format 7.3. Save it with '-v7', or as npz.") from None
        except (MatReadError, *FAULTS) as error:
            raise InputError(
                f"{file} has no readable {name!r} ({in_one_line(error)}). SVHN's files hold X and y."
            ) from None

    def read(first: int) -> Iterator[np.ndarray]:
        images = part("X")
        for row, count in pieces(first, images.shape[3], math.prod(images.shape[:3])):
            yield np.ascontiguousarray(images[..., row : row + count].transpose(3, 0, 1, 2))

    labels = part("y").reshape(-1)
    shape = part("X").shape
    if len(shape) != 4 or shape[3] != len(labels):
        raise must(f"X in {file}", f"have shape (height, width, channel, {len(labels)})", shape)
    return Stack(file, labels, read)
