"""Columns of Arrow tables: which hold images and labels, and how these are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from notbugs.data.arrays import fit_all, planes
from notbugs.data.decode import Box, Decoder, decode_all
from notbugs.data.reading import Reading
from notbugs.data.rows import Broken, Piece
from notbugs.errors import InputError, must

IMAGES = ("img", "image", "images")
LABELS = ("label", "labels", "fine_label")


def choose(schema: Any, choices: Sequence[str], kind: str, where: str, asked: str | None, flag: str) -> str:
    """The column asked for, else that with one of the names in `choices`, else the only one of a type of the Hub's.

    Raises
    ------
    InputError
        If there is none, or there are several of the type.
    """
    if asked is not None:
        if asked not in schema.names:
            raise must(flag, f"be a column of {where}: {', '.join(schema.names)}", asked)
        return asked
    typed = [name for name, feature in hub_features(schema).items() if feature.get("_type") == kind]
    for name in (*choices, *(typed if len(typed) == 1 else ())):
        if name in schema.names:
            return name
    raise InputError(
        f"{where} must have a column named {' or '.join(choices)}. It has {', '.join(schema.names)}. "
        f"Name it with --{flag.replace('_', '-')}."
    )


def hub_features(schema: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` wrote into a schema about the columns; nothing if it did not."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def labels(column: Any, where: str) -> np.ndarray:
    """A column of whole numbers or of names.

    Raises
    ------
    InputError
        If it is of another type, or a row has none.
    """
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    types, kind = pyarrow.types, column.type
    text = types.is_string(kind) or types.is_large_string(kind)
    if column.null_count == len(column) > 0 and not _is_list(kind):  # a test split whose labels are kept secret
        return np.full(len(column), -1, np.int64)
    number = types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind)
    if not (text or number) or column.null_count:
        gaps = f" with {column.null_count} gaps" if column.null_count else ""
        raise must(where, "be a column of whole numbers or names without gaps", f"{kind}{gaps}")
    return np.asarray(column.to_pylist(), np.str_ if text else None)


def check_images(kind: Any, where: str) -> None:
    """Refuse a column whose type is neither encoded images nor arrays."""
    import pyarrow

    if not (is_encoded(kind) or _is_list(kind) or isinstance(kind, pyarrow.FixedShapeTensorType)):
        raise must(where, "be encoded images (bytes, or a struct with bytes) or arrays (nested lists)", str(kind))


def images(
    parts: Iterable[Any], kind: Any, first: int, name: Callable[[int], str], reading: Reading
) -> Iterator[Piece]:
    """The images of a column of type `kind` that comes in parts; the first row is number `first`."""
    if is_encoded(kind):
        yield from decode_all(_named(parts, first, name), Decoder(reading.size, reading.white_level))
        return
    for part in parts:
        yield fit_all(
            planes(_stacked(part, name(first)), name(first).removeprefix("The "), reading.white_level), reading.size
        )
        first += len(part)


def is_encoded(kind: Any) -> bool:
    """Whether a type holds encoded images, bare or in a struct with the field `bytes`."""
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_encoded(kind.field("bytes").type)
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def encoded(part: Any) -> list[bytes | None]:
    """The bytes in a column of encoded images."""
    return [value["bytes"] if isinstance(value, dict) else value for value in part.to_pylist()]


def _named(
    parts: Iterable[Any], first: int, name: Callable[[int], str]
) -> Iterator[tuple[bytes | Broken, str, Box | None]]:
    for part in parts:
        for row, data in enumerate(encoded(part), first):
            gap = Broken(name(row), "has no bytes", "Was the file written with paths in place of images?")
            yield gap if data is None else data, name(row), None
        first += len(part)


def _is_list(kind: Any) -> bool:
    import pyarrow

    kind = kind.storage_type if isinstance(kind, pyarrow.BaseExtensionType) else kind
    types = pyarrow.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _stacked(part: Any, name: str) -> np.ndarray:
    """Nested lists, or a column of tensors, as one array."""
    import pyarrow.compute

    if isinstance(part.type, pyarrow.FixedShapeTensorType):
        return part.to_numpy_ndarray()
    compute = pyarrow.compute.call_function
    shape = [len(part)]
    while _is_list(part.type):
        part = part.storage if isinstance(part.type, pyarrow.BaseExtensionType) else part
        lengths = compute("min_max", [compute("list_value_length", [part])]).as_py()
        if part.null_count or lengths["min"] != lengths["max"]:
            raise InputError(f"{name} or one of the rows after it has another size than the others, or none.")
        shape.append(lengths["min"])
        part = part.flatten()
    if part.null_count:
        raise InputError(f"{name} or one of the rows after it has a gap in place of a pixel.")
    return part.to_numpy(zero_copy_only=False).reshape(shape)
