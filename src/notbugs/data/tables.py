"""A data set whose splits are tables, of parquet files or of the Hub: a column of images and a column of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from notbugs.data import columns
from notbugs.data.cifar import recognised
from notbugs.data.classes import coded
from notbugs.data.rows import Found, Rows, list_files

BATCH = 64


@dataclass(frozen=True)
class Table:
    """One split.

    Attributes
    ----------
    where : str
        What an error calls the table.
    schema : pyarrow.Schema
        With the `huggingface` metadata, where there is any.
    parts : callable
        A column by name from a row on, as Arrow arrays of some rows each.
    name : callable
        What an error calls a row.
    files : list of Path
        That hold it.
    """

    where: str
    schema: Any
    parts: Callable[[str, int], Iterator[Any]]
    name: Callable[[int], str]
    files: list[Path]

    @cached_property
    def image(self) -> str:
        """The name of the image column."""
        name = columns.choose(self.schema, columns.IMAGES, "Image", self.where)
        columns.check_images(self.schema.field(name).type, f"{name} in {self.where}")
        return name

    @cached_property
    def label(self) -> str:
        """The name of the label column."""
        return columns.choose(self.schema, columns.LABELS, "ClassLabel", self.where)

    @property
    def class_names(self) -> list[str] | None:
        """From the metadata."""
        return columns.hub_features(self.schema).get(self.label, {}).get("names")

    def labels(self) -> np.ndarray:
        """Shape (row,): whole numbers or names."""
        where = f"{self.label} in {self.where}"
        return np.concatenate([columns.labels(part, where) for part in self.parts(self.label, 0)])

    def rows(self, labels: Any, size: int | None) -> Rows:
        """The split as readers hand it on."""
        kind = self.schema.field(self.image).type
        return Rows(
            labels,
            lambda first: columns.images(self.parts(self.image, first), kind, first, self.name, size),
            self.name,
        )

    def first(self) -> list[bytes]:
        """The first encoded image; nothing if images are arrays."""
        if not columns.is_encoded(self.schema.field(self.image).type):
            return []
        return [data for data in columns.encoded(next(self.parts(self.image, 0)).slice(0, 1)) if data]


def found(name: str, train: Table, test: Table | None, test_name: str, size: int | None) -> Found:
    """The data set of these splits, named CIFAR-10 if that is what it is."""
    tables = [train, test] if test else [train]
    labels = [table.labels() for table in tables]
    train_labels, test_labels, classes = coded(
        labels[0], labels[1] if test else None, train.class_names, f"{train.label} in {train.where}"
    )
    rows = [table.rows(part, size) for table, part in zip(tables, (train_labels, test_labels), strict=False)]
    listing = list_files(file for table in tables for file in table.files)
    result = Found(name, rows[0], rows[1] if test else None, classes, listing, test_name)
    return result if size else recognised(result, [data for table in tables for data in table.first()])
