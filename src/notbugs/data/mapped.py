"""Pixels that stay on disk: rows of a tensor in safetensors files, read when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from notbugs.errors import InputError, must

_TYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}


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
        self._parts = [_map(Path(file), name) for file in files]
        first = self._parts[0]
        for file, part in zip(files, self._parts, strict=True):
            if part.dtype != first.dtype or part.shape[1:] != first.shape[1:]:
                raise must(f"{name} of {file}", f"be {first.dtype} {first.shape[1:]} as in {files[0]}", part.shape)
        self._ends = torch.tensor([len(part) for part in self._parts]).cumsum(0)
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
        return getattr(torch, self._parts[0].dtype.name)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """The rows at `index`, in memory."""
        rows = self._rows[index]
        part_of = torch.searchsorted(self._ends, rows, right=True)
        found = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for number in part_of.unique().tolist():
            here = (part_of == number).nonzero().flatten()
            first = int(self._ends[number]) - len(self._parts[number])
            found.numpy()[here.numpy()] = self._parts[number][(rows[here] - first).numpy()]
        return found

    def subset(self, index: Tensor | slice) -> Mapped:
        """The same files, and of the rows those at `index`."""
        chosen = object.__new__(Mapped)
        chosen._parts, chosen._ends, chosen._rows = self._parts, self._ends, self._rows[index]
        return chosen


def _map(file: Path, name: str) -> np.ndarray:
    """One tensor of a safetensors file: eight bytes with the length of a JSON header, the header, the bytes."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            entry = json.loads(stream.read(length))[name]
        first, _ = entry["data_offsets"]
        dtype = _TYPES[entry["dtype"]]
        return np.memmap(file, dtype, "r", 8 + length + first, tuple(entry["shape"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} cannot be mapped: it holds no readable tensor {name!r} ({error!r}).") from error
