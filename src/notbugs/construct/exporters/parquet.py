"""Parquet files in the Hub's layout: pictures, class labels, and the pixels as they are stored."""

from __future__ import annotations

import json
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from notbugs.construct.exporters.rows import Pictures, chunks, class_labels, fits_png, png
from notbugs.construct.store import ConstructedSet
from notbugs.errors import InputError
from notbugs.progress import Progress

FILE_CHUNKS = 60  # about 500 MB of float32, the Hub's own size


def write_parquet(
    built: ConstructedSet, to: Path, progress: Progress
) -> tuple[dict[str, Any], dict[str, float] | None]:
    """Write `data/train-00000.parquet` and so on; return features, and what the pictures lost.

    `image` is a PNG, left out where there are neither 1 nor 3 channels; `pixels` is exact: what is stored, in its type.

    Raises
    ------
    InputError
        If pyarrow or Pillow is missing.
    """
    pyarrow = _import_pyarrow()
    pictures = Pictures() if fits_png(built) else None
    features = _features(built, with_image=pictures is not None)
    schema = _schema(pyarrow, features)
    (to / "data").mkdir()
    parts = chunks(built, progress)
    for number, first in enumerate(parts):  # the first of each file; its others are taken inside
        with pyarrow.parquet.ParquetWriter(to / "data" / f"train-{number:05d}.parquet", schema) as writer:
            for part, pixels in chain([first], islice(parts, FILE_CHUNKS - 1)):
                columns = _columns(pyarrow, built, part, pixels, pictures)
                writer.write_table(pyarrow.table([columns[name] for name in schema.names], schema=schema))
    return features, pictures.lost() if pictures else None


def _features(built: ConstructedSet, *, with_image: bool) -> dict[str, Any]:
    """The columns as `datasets` describes them."""
    request = built.manifest["request"]
    pixels = {"_type": "Array3D", "shape": list(built.images.shape), "dtype": request["dtype"]}
    whole = {"_type": "Value", "dtype": "int64"}
    return {
        **({"image": {"_type": "Image"}} if with_image else {}),
        "label": class_labels(request["classes"]),
        "start": whole,
        "target": whole,
        "loss": {"_type": "Value", "dtype": "float32"},
        "pixels": pixels,
    }


def _schema(pyarrow: Any, features: dict[str, Any]) -> Any:
    """The types of the columns, with what `datasets` needs to know them again.

    Without the field's own metadata it would silently read `pixels` as lists of lists.
    """
    kind = features["pixels"]
    nested = pyarrow.from_numpy_dtype(kind["dtype"])
    for _ in kind["shape"]:
        nested = pyarrow.list_(nested)
    extension = {
        "ARROW:extension:name": "datasets.features.features.Array3DExtensionType",
        "ARROW:extension:metadata": json.dumps([kind["shape"], kind["dtype"]]),
    }
    types = {
        "image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}),
        "label": pyarrow.int64(),
        "start": pyarrow.int64(),
        "target": pyarrow.int64(),
        "loss": pyarrow.float32(),
    }
    fields = [pyarrow.field(name, types[name]) for name in features if name != "pixels"]
    fields.append(pyarrow.field("pixels", nested, metadata=extension))
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _columns(
    pyarrow: Any, built: ConstructedSet, part: slice, pixels: Tensor, pictures: Pictures | None
) -> dict[str, Any]:
    """Arrow arrays of some rows, by name."""
    plain = {"label": built.images.labels, "start": built.start, "target": built.target, "loss": built.loss}
    columns = {name: pyarrow.array(column[part].numpy()) for name, column in plain.items()}
    columns["pixels"] = _nested(pyarrow, pixels.numpy())
    if pictures is not None:
        names = [f"{row:06d}.png" for row in range(part.start, part.stop)]
        encoded = [png(picture) for picture in pictures(pixels)]
        columns["image"] = pyarrow.StructArray.from_arrays([encoded, names], ["bytes", "path"])
    return columns


def _nested(pyarrow: Any, values: np.ndarray) -> Any:
    """A list array of list arrays, as many deep as `values` has axes but one, over its values in place."""
    array = pyarrow.array(values.reshape(-1))
    for length in reversed(values.shape[1:]):
        offsets = np.arange(0, len(array) + 1, length, dtype=np.int32)
        array = pyarrow.ListArray.from_arrays(offsets, array)
    return array


def _import_pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet files need pyarrow and Pillow: pip install 'notbugs[data]'.") from None
    return pyarrow
