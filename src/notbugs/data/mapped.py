"""Pixels that stay on disk: rows of a tensor in safetensors files, read when they are asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from notbugs.errors import InputError, in_one_line, must

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
        found = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for number in part_of.unique().tolist():
            here = (part_of == number).nonzero().flatten()
            part = self._parts[number]
            first = int(self._ends[number]) - part.shape[0]
            found.numpy()[here.numpy()] = _map(part)[(rows[here] - first).numpy()]
        return found

    def subset(self, index: Tensor | slice) -> Mapped:
        """The same files, and of the rows those at `index`."""
        chosen = object.__new__(Mapped)
        chosen._parts, chosen._ends, chosen._rows = self._parts, self._ends, self._rows[index]
        return chosen


@dataclass(frozen=True)
class _Part:
    """Where in a file a tensor's bytes begin, and what they are; another file of the same name is another part."""

    file: Path
    made: tuple[int, int]
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
        made = about.st_ino, about.st_mtime_ns
        part = _Part(file, made, 8 + length + entry["data_offsets"][0], _TYPES[entry["dtype"]], tuple(entry["shape"]))
        _map(part)
        return part
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} cannot be mapped: it holds no readable tensor {name!r} ({in_one_line(error)})."
        ) from error


@lru_cache(maxsize=256)  # a map holds a file descriptor, and a process may have about a thousand
def _map(part: _Part) -> np.ndarray:
    return np.memmap(part.file, part.dtype, "r", part.offset, part.shape)
