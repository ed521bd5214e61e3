"""Files of `torch.save`, of every form since torch 0.2: which tensors are in them, and where their numbers are."""

from __future__ import annotations

import io
import math
import mmap
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from notbugs.errors import InputError, in_one_line
from notbugs.models.opcodes import Inert, Malformed, Name, Strided, read

PICKLE_BYTES = 2**28
"""Of the pickle in an archive, without the numbers of its tensors."""
VISITS = 20_000_000
"""Values looked at in search of tensors: a pickle can refer to one value over and over again."""
DEPTH = 100
"""Of values within values."""

MAGIC = 0x1950A86A20F9469CFC6C
"""What `torch.save` began with before torch 1.6."""

STORAGES: dict[str, torch.dtype | None] = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "QInt8": torch.int8,
    "QUInt8": torch.uint8,
    "QInt32": torch.int32,
    "QUInt4x2": torch.uint8,
    "QUInt2x4": torch.uint8,
    "Untyped": None,
}
UNUSABLE = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta (a shape without numbers)",
    "torch._utils._rebuild_wrapper_subclass": "of a class of their own",
}
"""Tensors that are not plain numbers in a storage, by what makes them."""
BUFFERS = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
ARRAYS = BUFFERS | {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
MODULE_PARTS = ("_parameters", "_buffers", "_modules")


class Tensors(dict[str, Tensor]):
    """Tensors by name, and of what kind those are that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.unusable: dict[str, str] = {}


@dataclass(eq=False, frozen=True)
class _Storage:
    """The numbers of a file called `key`; tensors count them from `start`."""

    container: _Zip | _Sequence
    dtype: torch.dtype | None
    key: str
    start: int = 0

    def values(self, dtype: torch.dtype | None) -> Tensor:
        """All of them, one after another."""
        raw, dtype = self.container.raw(self.key), dtype or self.dtype or torch.uint8
        if len(raw) % dtype.itemsize:
            raise Malformed(f"its storage {self.key} has {len(raw)} bytes, no multiple of {dtype.itemsize}")
        if raw.data_ptr() % dtype.itemsize:
            raw = raw.clone()
        return raw.view(dtype) if len(raw) else torch.empty(0, dtype=dtype)


def read_archive(path: Path, form: str) -> Tensors:
    """Every tensor in a file of `torch.save`, by its path through dictionaries and objects, joined with dots.

    Nothing in the file runs (see `opcodes`); the numbers stay on disk until they are used.

    Parameters
    ----------
    path : Path
        The file.
    form : {"zip", "pickle"}
        As torch writes them since 1.6, TorchScript's too; or before that, or a plain pickle.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    try:
        return _tensors_in(_Zip(path, content).root() if form == "zip" else _Sequence(content).root())
    except Malformed as error:
        raise InputError(f"{path} cannot be read: {in_one_line(error)}. Download or copy it again.") from error


def check_records(path: Path) -> None:
    """Compare every record of an archive with its checksum, where it has one, before torch reads it: torch does not.

    Raises
    ------
    InputError
        If one is not what was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.CRC:
                    with archive.open(info) as record:
                        while record.read(2**20):
                            pass
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {in_one_line(error)}. Download or copy it again.") from error


class _Zip:
    """The form since torch 1.6: `data.pkl`, and a stored record for each storage."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.content = content
        self.storages: dict[str, Tensor] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                self.records = {info.filename: info for info in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise Malformed(str(error)) from error
        self.folder = min((name for name in self.records if name.endswith("/data.pkl")), key=len)[: -len("data.pkl")]

    def root(self) -> Any:
        """The value that was saved."""
        if (order := self.records.get(f"{self.folder}byteorder")) and bytes(self._bytes(order)) == b"big":
            raise Malformed("a machine of another byte order wrote it")
        pickle = self._bytes(self.records[f"{self.folder}data.pkl"])
        if len(pickle) > PICKLE_BYTES:
            raise Malformed(f"its pickle has {len(pickle):,} bytes")
        return read(io.BytesIO(pickle), lambda id: _storage(self, id), _within)

    def raw(self, key: str) -> Tensor:
        """The bytes of the storage called `key`."""
        if key not in self.storages:
            name = f"{self.folder}data/{key}"
            if name not in self.records:
                raise Malformed(f"it has no storage {key[:40]!r}")
            self.storages[key] = _as_tensor(self._bytes(self.records[name]))
        return self.storages[key]

    def _bytes(self, info: zipfile.ZipInfo) -> memoryview:
        """Of a record, checked against its checksum; torch writes 0 where it was told to leave it out."""
        head = self.content[info.header_offset : info.header_offset + 30]
        start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        part = memoryview(self.content)[start : start + info.file_size]
        if info.compress_type or info.flag_bits & 1:
            raise Malformed("its records are compressed or encrypted, and torch.save does neither")
        if len(part) != info.file_size or len(head) != 30 or head[:4] != b"PK\x03\x04":
            raise Malformed("it ends too early")
        if info.CRC and zlib.crc32(part) != info.CRC:
            raise Malformed(f"its record {info.filename} is not what was written")
        return part


class _Sequence:
    """The form before torch 1.6, pickles and then the storages; or a plain pickle."""

    def __init__(self, content: mmap.mmap | io.BytesIO) -> None:
        self.content = content
        self.dtypes: dict[str, torch.dtype | None] = {}
        self.storages: dict[str, Tensor] = {}

    def root(self) -> Any:
        """The value that was saved."""
        first = self._next()
        if first != MAGIC:
            return first
        self._next()
        system = self._next()
        if any(key == "little_endian" and value is False for key, value in getattr(system, "items", ())):
            raise Malformed("a machine of another byte order wrote it")
        root = self._next()
        keys = self._next()
        for key in keys if isinstance(keys, list) else []:
            dtype = self.dtypes.get(str(key)) or torch.uint8
            size = int.from_bytes(self.content.read(8), "little") * dtype.itemsize
            part = self.content.read(min(size, 2**62))
            if len(part) != size:
                raise Malformed("it ends too early")
            self.storages[str(key)] = _as_tensor(memoryview(bytearray(part)))
        return root

    def raw(self, key: str) -> Tensor:
        """The bytes of the storage called `key`."""
        if key not in self.storages:
            raise Malformed(f"it has no storage {key[:40]!r}")
        return self.storages[key]

    def _next(self) -> Any:
        return read(self.content, self._persistent, _within)

    def _persistent(self, id: Any) -> Any:
        if isinstance(id, tuple) and id[:1] == ("module",):  # a class, with its source
            return id[1]
        storage = _storage(self, id)
        self.dtypes.setdefault(storage.key, storage.dtype)
        return storage


def _within(content: bytes) -> _Storage:
    """The storage in bytes within a pickle: tensors that were pickled without `torch.save` hold theirs so."""
    inner = _Sequence(io.BytesIO(content))
    root = inner.root()
    if not isinstance(root, _Storage):
        raise Malformed("a storage in it is none")
    return root


def _storage(container: _Zip | _Sequence, id: Any) -> _Storage:
    """The storage that a persistent id names: ("storage", class, key, device, count), and a view in the oldest."""
    if not isinstance(id, tuple) or len(id) < 5 or id[0] != "storage" or not isinstance(id[2], str | int):
        raise Malformed("it refers to something that is no storage")
    name = id[1].dotted.rpartition(".")[2].removesuffix("Storage") if isinstance(id[1], Name) else ""
    if name not in STORAGES:
        raise Malformed(f"it has a storage of an unknown kind, {getattr(id[1], 'dotted', '?')[:60]}")
    start = id[5][1] if len(id) > 5 and isinstance(id[5], tuple) else 0
    if not isinstance(start, int) or start < 0:
        raise Malformed("it has a storage that begins nowhere")
    return _Storage(container, STORAGES[name], str(id[2]), start)


def _as_tensor(part: memoryview) -> Tensor:
    return torch.frombuffer(part, dtype=torch.uint8) if len(part) else torch.empty(0, dtype=torch.uint8)


def _tensors_in(root: Any) -> Tensors:
    """The tensors in a value."""
    tensors = Tensors()
    for path, value in _within_reach(root):
        name = ".".join(path)
        if isinstance(value, Strided) and isinstance(value.storage, _Storage):
            tensors[name] = _strided(value, name)
        elif isinstance(value, Inert) and value.name in ARRAYS:
            if (array := _array(value)) is not None:
                tensors[name] = array
        elif isinstance(value, Inert) and value.name in UNUSABLE:
            tensors.unusable[name] = UNUSABLE[value.name]
    return tensors


def _within_reach(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value within a value that may be or hold a tensor, with its path; one within itself is passed over."""
    yield (), root
    above: list[tuple[tuple[str, ...], Iterator[tuple[str, Any]], int]] = [((), _parts(root), id(root))]
    left = VISITS
    while above:
        path, parts, _ = above[-1]
        if (part := next(parts, None)) is None:
            above.pop()
            continue
        step, value = part
        yield (*path, step), value
        left -= 1 + _length(value)
        if left < 0:
            raise Malformed(f"it refers to its values more than {VISITS:,} times")
        if len(above) < DEPTH and all(id(value) != other for _, _, other in above):
            above.append(((*path, step), _parts(value), id(value)))


def _length(value: Any) -> int:
    if isinstance(value, Inert):
        return len(value.items) + sum(len(part.items) for part in _states(value))
    return len(value) if isinstance(value, list | tuple) else 0


def _states(value: Inert) -> list[Inert]:
    """Of an object, its dictionaries of attributes."""
    state = value.state if isinstance(value.state, tuple) else (value.state,)
    return [part for part in state if isinstance(part, Inert)]


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What is in a dictionary, a sequence or an object: of a network, what its `state_dict` would have."""
    if isinstance(value, list | tuple):
        yield from ((str(place), part) for place, part in enumerate(value) if isinstance(part, HOLDERS))
    if not isinstance(value, Inert) or value.name in ARRAYS or value.name in UNUSABLE:
        return
    held = [pair for part in (value, *_states(value)) for pair in part.items]
    attributes = {key: part for key, part in held if isinstance(key, str)}
    if all(isinstance(attributes.get(part), Inert) for part in MODULE_PARTS):
        left_out = _strings(attributes.get("_non_persistent_buffers_set"))
        pairs = [(part, *pair) for part in MODULE_PARTS for pair in attributes[part].items]
        held = [(key, inner) for part, key, inner in pairs if part != "_buffers" or key not in left_out]
    yield from ((_text(key), part) for key, part in held if isinstance(part, HOLDERS))


HOLDERS = (Inert, Strided, list, tuple)
"""What may be or hold a tensor."""


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key) if isinstance(key, str | int) else "?"


def _strings(value: Any) -> list[str]:
    """Of a set, in either of the ways in which pickles hold one."""
    if not isinstance(value, Inert):
        return []
    lists = [value.elements, *(part for part in value.args if isinstance(part, list))]
    return [item for part in lists for item in part if isinstance(item, str)]


def _strided(value: Strided, name: str) -> Tensor:
    """The tensor that is described, a view of the file.

    Raises
    ------
    Malformed
        If it reaches beyond its storage.
    """
    numbers = (value.offset, *_sizes(value.size), *_sizes(value.stride))
    if not all(isinstance(number, int) and 0 <= number < 2**62 for number in numbers):
        raise Malformed(f"its tensor {name[:80]} has no shape")
    dtype = getattr(torch, value.dtype.rpartition(".")[2], None) if value.dtype else None
    if value.dtype and not isinstance(dtype, torch.dtype):
        raise Malformed(f"its tensor {name[:80]} is of an unknown kind, {value.dtype[:40]}")
    values = value.storage.values(dtype)
    try:
        return values.as_strided(value.size, value.stride, value.storage.start + value.offset)
    except (RuntimeError, TypeError, ValueError) as error:
        raise Malformed(f"its tensor {name[:80]} reaches beyond its storage") from error


def _sizes(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (None,)


def _array(value: Inert) -> Tensor | None:
    """A NumPy array of plain numbers; None for others, of objects or of another byte order."""
    if value.name in BUFFERS:
        raw, dtype, shape, order = value.args
    else:
        if not isinstance(value.state, tuple) or len(value.state) != 5:
            raise Malformed("it has an array without numbers")
        _, shape, dtype, is_fortran, raw = value.state
        order = "F" if is_fortran is True else "C"
    code = dtype.args[0] if isinstance(dtype, Inert) and dtype.args else None
    written = dtype.state[1] if isinstance(dtype, Inert) and isinstance(dtype.state, tuple) else "<"
    if not isinstance(code, str) or code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"):
        return None
    if written == ">" or not isinstance(raw, bytes | bytearray):
        return None
    sizes = _sizes(shape)
    if not all(isinstance(size, int) and size >= 0 for size in sizes) or math.prod(sizes) * int(code[1]) != len(raw):
        raise Malformed("it has an array whose shape does not fit its numbers")
    flat = np.frombuffer(bytearray(raw), dtype=np.dtype(code))
    return torch.from_numpy(flat.reshape(sizes, order="F" if order == "F" else "C").copy(order="C"))
