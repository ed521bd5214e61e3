"""Parquet files as the Hub has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notbugs.data.rows import Found
from notbugs.data.tables import BATCH, Table, found
from notbugs.errors import InputError

STARTS = {"train": "train", "test": "test", "validation": "val"}


def parquet_files(source: Path, size: int | None) -> Found:
    """Find images and labels in one parquet file, or in the `train*`, `test*` and `validation*` files of a folder.

    A file belongs to a split by its name, or by that of the folder it is in. The image column (`img`, `image`,
    `images`, or the only one of the Hub's type Image) holds encoded bytes, bare or in a struct with the field `bytes`,
    or nested lists; the label column (`label`, `labels`, `fine_label`, or the only ClassLabel) whole numbers or names.
    Class names come from the schema's `huggingface` metadata where it is present.

    Raises
    ------
    InputError
        If pyarrow or Pillow is missing, there are no training files, a file cannot be read, or a column is missing or
        of another type.
    """
    if source.is_file():
        return found(source.stem, _table([source]), None, "heldout", size)
    files = sorted(source.rglob("*.parquet"))
    splits = {
        split: [file for file in files if _begins(file.relative_to(source), start)] for split, start in STARTS.items()
    }
    if not splits["train"]:
        raise InputError(
            f"No train*.parquet in {source}. A parquet data folder holds train*.parquet, and test*.parquet or "
            "validation*.parquet; a single file can be named itself."
        )
    test_name = next((split for split in ("test", "validation") if splits[split]), None)
    test = _table(splits[test_name]) if test_name else None
    return found(source.resolve().name, _table(splits["train"]), test, test_name or "heldout", size)


def _begins(file: Path, start: str) -> bool:
    """Whether the name of a file, or of the folder it is in, begins so; the path is below the data's folder."""
    return file.name.startswith(start) or file.parent.name.startswith(start)


def _table(files: list[Path]) -> Table:
    opened = [_open(file) for file in files]
    counts = [file.metadata.num_rows for file in opened]
    schema = opened[0].schema_arrow
    for file, other in zip(files, opened, strict=True):
        if other.schema_arrow.types != schema.types or other.schema_arrow.names != schema.names:
            raise InputError(f"{file} must have the columns of {files[0]}, {', '.join(schema.names)}, and their types.")

    def name(row: int) -> str:
        number = 0
        while row >= counts[number]:
            row, number = row - counts[number], number + 1
        return f"The image in row {row} of {files[number]}"

    return Table(str(files[0]), schema, lambda column, first: _parts(files, column, first), name, files)


def _parts(files: list[Path], column: str, first: int) -> Iterator[Any]:
    """Row groups before row `first` are not read."""
    for path in files:
        file = _open(path)
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if first >= count:
                first -= count
                continue
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=[column], use_threads=False):
                skipped = min(first, len(batch))
                first -= skipped
                if skipped < len(batch):
                    yield batch.column(0).slice(skipped)


def _open(file: Path) -> Any:
    try:
        import PIL  # noqa: F401
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet files need pyarrow and Pillow: pip install 'notbugs[data]'.") from None
    try:
        return pyarrow.parquet.ParquetFile(file, memory_map=True, pre_buffer=False, buffer_size=2**20)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} is not a readable parquet file ({error}).") from error
