"""CIFAR-10 and CIFAR-100 from their authors' binary archives, read without unpacking."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch

from notbugs.data.arrays import fit_all
from notbugs.data.cache import cache_folder
from notbugs.data.decode import Encoded, is_jpeg
from notbugs.data.download import Published, fetch
from notbugs.data.reading import Reading
from notbugs.data.rows import Found, Rows, list_files, piece_rows, reordered
from notbugs.errors import InputError, in_one_line
from notbugs.progress import Progress, silent

BASE = "https://www.cs.toronto.edu/~kriz"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Archive:
    """What is in an archive: each record is `label_bytes` labels, of which the last counts, and the pixels."""

    title: str
    published: Published
    label_bytes: int
    names: str
    train: tuple[str, ...]
    test: tuple[str, ...]


ARCHIVES = {
    "cifar10": Archive(
        "CIFAR-10",
        Published(
            "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170052171
        ),
        label_bytes=1,
        names="cifar-10-batches-bin/batches.meta.txt",
        train=tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
        test=("cifar-10-batches-bin/test_batch.bin",),
    ),
    "cifar100": Archive(
        "CIFAR-100",
        Published(
            "cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168513733
        ),
        label_bytes=2,
        names="cifar-100-binary/fine_label_names.txt",
        train=("cifar-100-binary/train.bin",),
        test=("cifar-100-binary/test.bin",),
    ),
}


def cifar(name: str, reading: Reading, progress: Progress = silent, *, base: str = BASE) -> Found:
    """Find CIFAR-10 or CIFAR-100 in the cache, or download it from `base` first.

    Raises
    ------
    InputError
        If it cannot be downloaded, or what came is not the published archive.
    """
    archive = ARCHIVES[name]
    file = fetch(archive.published, base, cache_folder() / "downloads", progress)
    with _open(file, archive.names) as stream:
        classes = tuple(stream.read().decode().split())
    rows = [_rows(file, archive, members, reading.size) for members in (archive.train, archive.test)]
    return reordered(Found(archive.title, rows[0], rows[1], classes, list_files([file])), reading.names)


def recognised(found: Found, encoded: Iterable[Encoded]) -> Found:
    """The same, named CIFAR-10 if that is what it is.

    CIFAR-10 was published without loss; a copy in JPEG has lost high frequencies, and results must say so.
    """
    if found.classes != CIFAR10_CLASSES or found.train.form.shape != SHAPE:
        return found
    return replace(found, name="CIFAR-10", variant="JPEG copy" if any(map(is_jpeg, encoded)) else "")


def _rows(file: Path, archive: Archive, members: tuple[str, ...], size: int | None) -> Rows:
    label = archive.label_bytes - 1
    labels = np.concatenate([records[:, label] for records in _records(file, archive, members, 0)])

    def read(first: int) -> Iterator[np.ndarray]:
        for records in _records(file, archive, members, first):
            yield fit_all(records[:, archive.label_bytes :].reshape(-1, *SHAPE), size)

    return Rows(torch.from_numpy(labels.astype(np.int64)), read, lambda row: f"image {row} in {file}")


def _records(file: Path, archive: Archive, members: tuple[str, ...], first: int) -> Iterator[np.ndarray]:
    """A few records at a time, from number `first` on: shape (record, byte)."""
    length = archive.label_bytes + PIXELS
    for member in members:
        with _open(file, member) as stream:
            inside = stream.seek(0, 2) // length
            stream.seek(min(first, inside) * length)
            first = max(0, first - inside)
            while data := stream.read(piece_rows(length) * length):
                yield np.frombuffer(data, np.uint8).reshape(-1, length)


@contextmanager
def _open(file: Path, member: str) -> Iterator[IO[bytes]]:
    """A file of the archive, as a stream."""
    try:
        with tarfile.open(file, "r:gz") as archive:
            stream = archive.extractfile(member)
            if stream is None:
                raise KeyError(member)
            yield stream
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zlib.error) as error:
        raise InputError(f"{file} cannot be read ({in_one_line(error)}). Delete it to download it again.") from error
