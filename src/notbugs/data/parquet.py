"""Parquet files in the Hub's layout: an image column with encoded bytes, and a label column."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from notbugs.data.images import Data, Images, class_names
from notbugs.errors import InputError, must

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG"


def parquet_folder(folder: Path) -> Data:
    """Read `train*.parquet` and `test*.parquet` below `folder`.

    The image column holds encoded bytes, bare or in a struct with the field `bytes`; the label column is named `label`,
    `labels` or `fine_label`. Class names come from the schema's `huggingface` metadata where it is present.

    Raises
    ------
    InputError
        If pyarrow or Pillow is missing, a split has no file, a column is missing, or images differ in shape.
    """
    train, train_names, train_jpeg = _read_split(folder, "train")
    test, _, test_jpeg = _read_split(folder, "test")
    names = class_names(int(train.labels.max()) + 1, train_names)
    name = "CIFAR-10" if names == CIFAR10_CLASSES and train.shape == (3, 32, 32) else folder.resolve().name
    # CIFAR-10 was published without loss; a copy in JPEG has lost high frequencies, and results must say so.
    lossy = name == "CIFAR-10" and (train_jpeg or test_jpeg)
    return Data(name, train, test, names, variant="JPEG copy" if lossy else "")


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _read_split(folder: Path, split: str) -> tuple[Images, list[str] | None, bool]:
    pyarrow = _import_pyarrow()
    files = sorted(folder.rglob(f"{split}*.parquet"))
    if not files:
        raise InputError(
            f"No {split}*.parquet in {folder}. A parquet data folder holds train*.parquet and test*.parquet."
        )
    try:
        table = pyarrow.concat_tables([pyarrow.parquet.read_table(file) for file in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"The {split}*.parquet files in {folder} cannot be read together ({error}).") from error
    label = _column(table, files[0], "label", "labels", "fine_label")
    image = _column(table, files[0], "img", "image")
    encoded = [value["bytes"] if isinstance(value, dict) else value for value in table[image].to_pylist()]
    if not pyarrow.types.is_integer(table[label].type) or table[label].null_count:
        raise must(label, "be a column of whole numbers without gaps", str(table[label].type))
    labels = torch.tensor(table[label].to_pylist(), dtype=torch.int64)
    return Images(_decode(encoded, files[0]), labels), _names(table.schema, label), encoded[0][:3] == _JPEG


def _column(table: Any, file: Path, *choices: str) -> str:
    for name in choices:
        if name in table.column_names:
            return name
    raise InputError(f"{file} must have a column named {' or '.join(choices)}. It has {', '.join(table.column_names)}.")


def _names(schema: Any, label: str) -> list[str] | None:
    try:
        return json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None


def _decode(encoded: list[bytes], file: Path) -> torch.Tensor:
    import numpy as np
    from PIL import Image

    arrays = []
    for row, data in enumerate(encoded):
        try:
            with Image.open(io.BytesIO(data)) as image:
                arrays.append(np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")))
        except (OSError, TypeError) as error:
            raise InputError(f"The image in row {row} of {file} cannot be decoded ({error}).") from error
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise InputError(f"All images must have one shape. {file} holds {sorted(shapes)[:4]}. Resize them first.")
    pixels = torch.from_numpy(np.stack(arrays))
    return (pixels[..., None] if pixels.dim() == 3 else pixels).permute(0, 3, 1, 2).contiguous()


def _import_pyarrow() -> Any:
    try:
        import PIL  # noqa: F401
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet files need pyarrow and Pillow: pip install 'notbugs[data]'.") from None
    return pyarrow
