"""Data sets of the Hugging Face Hub, by the library `datasets`, which keeps them in its own cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notbugs.data.reading import Reading
from notbugs.data.rows import Found
from notbugs.data.splits import choose, split_of
from notbugs.data.tables import BATCH, Table, found
from notbugs.errors import InputError

PREFIX = "hub:"


def hub(source: str, reading: Reading) -> Found:
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
    if not reading.splits and not any((split := split_of(one)) and split.kind == "train" for one in splits):
        raise InputError(f"{source} must have a split named train. It has {', '.join(splits)}.")
    chosen = choose(splits, reading.splits, source)
    tables = {
        split: _table(splits[split], f"{source}, {split}", reading) for split in (chosen.train, *chosen.tests.values())
    }
    tests = {called: tables[split] for called, split in chosen.tests.items()}
    return found(name, tables[chosen.train], tests, reading)


def _table(split: Any, where: str, reading: Reading) -> Table:
    def parts(column: str, first: int) -> Iterator[Any]:
        rows = split.select_columns([column]).select(range(first, len(split))).with_format("arrow")
        return (batch.column(0).combine_chunks() for batch in rows.iter(BATCH))

    files = [Path(file["filename"]) for file in split.cache_files]
    return Table(
        where, split.features.arrow_schema, parts, lambda row: f"The image in row {row} of {where}", files, reading
    )


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
