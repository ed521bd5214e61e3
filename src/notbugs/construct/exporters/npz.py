"""One file of numpy arrays, with the names and shapes that MedMNIST gives them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from notbugs.construct.exporters.rows import channels_last, chunks
from notbugs.construct.store import ConstructedSet
from notbugs.progress import Progress


def write_npz(built: ConstructedSet, to: Path, progress: Progress) -> tuple[dict[str, Any], None]:
    """Write `data.npz`; return no features, as the Hub reads none, and nothing lost.

    `train_images` is (image, height, width), or (image, height, width, channel) of several channels, in the type it is
    stored in; `train_labels` is (image, 1). `train_start`, `train_target`, `train_loss` are (image,); `classes` names
    the classes.
    """
    count, (channels, height, width) = len(built), built.images.shape
    dtype = np.dtype(built.manifest["request"]["dtype"])
    shape = (count, height, width) + ((channels,) if channels > 1 else ())
    columns = {
        "labels": built.images.labels[:, None].numpy(),
        "start": built.start.numpy(),
        "target": built.target.numpy(),
        "loss": built.loss.numpy(),
    }
    with zipfile.ZipFile(to / "data.npz", "w") as file:
        pixels = (channels_last(part) for _, part in chunks(built, progress))
        _write_array(file, "train_images", dtype, shape, pixels)
        for name, column in columns.items():
            _write_array(file, f"train_{name}", column.dtype, column.shape, [column])
        names = np.array(built.manifest["request"]["classes"])
        _write_array(file, "classes", names.dtype, names.shape, [names])
    return {}, None


def _write_array(
    file: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[np.ndarray]
) -> None:
    """Write an array part by part: `numpy.savez` wants all of it in memory."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_2_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part).tobytes())
