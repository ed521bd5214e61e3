"""Data sets of the Hugging Face Hub, by the library `datasets`, which keeps them in its own cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notbugs.data.rows import Found
from notbugs.data.tables import BATCH, Table, found
from notbugs.errors import InputError

PREFIX = "hub:"
TESTS = ("test", "validation", "valid", "val")


def hub(source: str, size: int | None) -> Found:
    """Find `hub:OWNER/NAME` or `hub:OWNER/NAME/CONFIG` in the cache of `datasets`, or download it first.

    Columns are chosen as in parquet files.

    Raises
    ------
    InputError
        If `datasets` is missing, there is no such data set, it cannot be reached, or it has no images and labels.
    """
    match = re.fullmatch(PREFIX + r"([\w.-]+/([\w.-]+))(?:/([\w.-]+))?", source)
    if not match:
        raise InputError(
            f"Name a data set of the Hub as hub:OWNER/NAME or hub:OWNER/NAME/CONFIG. Got {source!r} instead."
        )
    path, name, config = match.groups()
    if Path(path).exists():  # `datasets` would read it in place of the Hub's
        raise InputError(f"A folder {path} here hides {source}. Give ./{path} to read it, or start elsewhere.")
    splits = _load(path, config)
    test_name = next((split for split in TESTS if split in splits), None)
    if "train" not in splits:
        raise InputError(f"{source} must have a split named train. It has {', '.join(splits)}.")
    test = _table(splits[test_name], f"{source}, {test_name}") if test_name else None
    return found(name, _table(splits["train"], f"{source}, train"), test, test_name or "heldout", size)


def _table(split: Any, where: str) -> Table:
    def parts(column: str, first: int) -> Iterator[Any]:
        rows = split.select_columns([column]).select(range(first, len(split))).with_format("arrow")
        return (batch.column(0).combine_chunks() for batch in rows.iter(BATCH))

    files = [Path(file["filename"]) for file in split.cache_files]
    return Table(where, split.features.arrow_schema, parts, lambda row: f"The image in row {row} of {where}", files)


def _load(path: str, config: str | None) -> Any:
    try:
        import datasets
        import PIL  # noqa: F401
    except ImportError:
        raise InputError("Data sets of the Hub need the library datasets: pip install 'notbugs[hub]'.") from None
    try:
        return datasets.load_dataset(path, config)
    except Exception as error:  # of the library, of the web below it, and of its cache
        reason = " ".join(str(error).split())
        raise InputError(
            f"{PREFIX}{path} cannot be loaded ({reason}). See https://huggingface.co/datasets/{path} for its name and "
            "configurations; without a connection, only what was loaded before is there."
        ) from error
