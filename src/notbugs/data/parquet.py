"""Tables of the Hugging Face Hub: parquet files, or its data sets by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notbugs.data.rows import Found, Reading, choose, split_of
from notbugs.data.tables import BATCH, Table, hub_features, listing_of
from notbugs.data.walk import Node, Passed
from notbugs.errors import InputError

SHARD = re.compile(r"(-\d+-of-\d+)?(-[0-9a-f]{16})?$|[-_.]?\d+$")
"""What tells the files of one split apart."""


def parquet_file(source: Path, reading: Reading) -> Found:
    """Find images and labels in one parquet file; see `parquet_files` for its columns."""
    return listing_of(source.stem, _table([source], reading), {}, reading)


def parquet_files(node: Node, passed: Passed, reading: Reading) -> Found:
    """Find images and labels in the parquet files of a folder.

    A file belongs to a split by its name without numbers, or by that of the folder it is in; see `splits`. The image
    column (`img`, `image`, `images`, or the only one of the Hub's type Image) holds encoded bytes, bare or in a
    struct with
    the field `bytes`, or nested lists; the label column (`label`, `labels`, `fine_label`, or the only ClassLabel) whole
    numbers or names. Class names come from the schema's `huggingface` metadata where it is present; where those of the
    test split are in another order, labels are matched by name.

    Raises
    ------
    InputError
        If pyarrow or Pillow is missing, there are no training files or those of two configurations, a file cannot be
        read, or a column is missing or of another type.
    """
    files = sorted(
        below.path / name for below in node.nodes() for name, kind in below.arrays.items() if kind == "parquet"
    )
    splits: dict[str, list[Path]] = {}
    configurations: dict[str, set[str]] = {}
    for file in files:
        name, configuration = _split(file, node.path)
        splits.setdefault(name, []).append(file)
        configurations.setdefault(name, set()).add(configuration)
    if not reading.splits and not any((split := split_of(name)) and split.kind == "train" for name in splits):
        raise InputError(
            f"No train*.parquet in {node.path}. It holds {', '.join(map(str, list(splits)[:8]))}. A parquet "
            "data folder holds "
            "train*.parquet, and test*.parquet or validation*.parquet; a single file can be named itself."
        )
    if node.count:
        passed.add("images beside parquet files", next(str(file) for file in node.files()))
    chosen = choose(splits, reading.splits, node.path)
    _check_one(node.path, set().union(*(configurations[name] for name in (chosen.train, *chosen.tests.values()))))
    tests = {called: _table(splits[name], reading) for called, name in chosen.tests.items()}
    for name in set(splits) - {chosen.train, *chosen.tests.values()}:
        passed.add("parquet files of other splits", str(splits[name][0].relative_to(node.path)))
    return listing_of(node.path.resolve().name, _table(splits[chosen.train], reading), tests, reading, passed.notes())


def _check_one(root: Path, folders: set[str]) -> None:
    """Refuse files of several data sets or configurations: each has its own folder."""
    inner = sorted(folders - {"."})
    if len(inner) > 1:
        raise InputError(
            f"{root} holds {len(inner)} data sets or configurations: {', '.join(inner[:8])}. Name the folder of one, "
            f"as {root / inner[0]}."
        )


def _split(file: Path, root: Path) -> tuple[str, str]:
    """The name of a file's split, and the folder that its data set is in, both from its path below `root`."""
    inner = file.relative_to(root)
    name = SHARD.sub("", inner.stem)
    if split_of(name) or not inner.parent.name:
        return name, str(inner.parent)
    for depth, folder in enumerate(inner.parent.parts):
        if split_of(folder):
            return folder, str(Path(*inner.parent.parts[:depth]))
    return name, str(inner.parent)


def _table(files: list[Path], reading: Reading) -> Table:
    opened = [_open(file) for file in files]
    counts = [file.metadata.num_rows for file in opened]
    schema = opened[0].schema_arrow
    for file, other in zip(files, opened, strict=True):
        if other.schema_arrow.types != schema.types or other.schema_arrow.names != schema.names:
            raise InputError(
                f"{file} must have the columns of {files[0]}, {', '.join(schema.names)}, and their types. "
                "Write all files of a split with one schema."
            )
        names, others = (
            {key: one.get("names") for key, one in hub_features(of).items()} for of in (schema, other.schema_arrow)
        )
        if names != others:
            raise InputError(
                f"{file} must have the class names of {files[0]}: they are of one split. "
                "Write both with the same names."
            )

    def name(row: int) -> str:
        number = 0
        while row >= counts[number]:
            row, number = row - counts[number], number + 1
        return f"The image in row {row} of {files[number]}"

    return Table(str(files[0]), schema, lambda column, first: _parts(files, column, first), name, files, reading)


def _parts(files: list[Path], column: str, first: int) -> Iterator[Any]:
    """Row groups before row `first` are not read."""
    for path in files:
        file = _open(path)
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if first >= count:
                first -= count
                continue
            batches = file.iter_batches(BATCH, row_groups=[group], columns=[column], use_threads=False)
            while (batch := _next(batches, path)) is not None:
                skipped = min(first, len(batch))
                first -= skipped
                if skipped < len(batch):
                    yield batch.column(0).slice(skipped)


def _next(batches: Iterator[Any], file: Path) -> Any:
    """The next batch, or None after the last; pyarrow finds out here that a file is damaged."""
    import pyarrow

    try:
        return next(batches, None)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> InputError:
    said = " ".join(str(error).split())
    return InputError(f"{file} is not a readable parquet file ({said}). Make or fetch it again.")


def _open(file: Path) -> Any:
    try:
        import PIL  # noqa: F401
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet files need pyarrow and Pillow: pip install 'notbugs[data]'.") from None
    try:
        return pyarrow.parquet.ParquetFile(
            file, memory_map=True, pre_buffer=False, buffer_size=2**20, page_checksum_verification=True
        )
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


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
        split: _hub_table(splits[split], f"{source}, {split}", reading)
        for split in (chosen.train, *chosen.tests.values())
    }
    tests = {called: tables[split] for called, split in chosen.tests.items()}
    return listing_of(name, tables[chosen.train], tests, reading)


def _hub_table(split: Any, where: str, reading: Reading) -> Table:
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
