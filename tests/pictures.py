"""Small images, as arrays, as encoded bytes, and as folders."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def noise(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> np.ndarray:
    """Of all values that the type has."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def encoded(array: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(file, kind, **options)
    return file.getvalue()


def png16(array: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel in RGB, which Pillow cannot write: shape (height, width, 3), uint16."""
    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def write_class_folder(folder: Path, counts: dict[str, int], shape: tuple[int, ...] = (4, 5), seed: int = 0) -> None:
    """`folder/CLASS/NUMBER.png`, as many as `counts` says, all different."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed += 1
            (folder / name / f"{number}.png").write_bytes(encoded(noise(*shape, seed=seed)))
