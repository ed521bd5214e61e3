"""A data set whose splits are tables, of parquet files or of the Hub: a column of images and a column of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from notbugs.data import columns
from notbugs.data.cifar import recognised
from notbugs.data.classes import check_known, coded
from notbugs.data.heldout import numbered_groups
from notbugs.data.reading import Reading
from notbugs.data.rows import Found, Rows, list_files
from notbugs.data.sheets import GROUPS, Sheet
from notbugs.data.splits import labelled
from notbugs.errors import InputError, must

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
    reading : Reading
        Which columns were asked for, and how images are read.
    """

    where: str
    schema: Any
    parts: Callable[[str, int], Iterator[Any]]
    name: Callable[[int], str]
    files: list[Path]
    reading: Reading

    @cached_property
    def image(self) -> str:
        """The name of the image column."""
        name = columns.choose(
            self.schema, columns.IMAGES, "Image", self.where, self.reading.image_column, "image_column"
        )
        columns.check_images(self.schema.field(name).type, f"{name} in {self.where}")
        return name

    @cached_property
    def label(self) -> str:
        """The name of the label column."""
        asked = self.reading.label_column
        return columns.choose(self.schema, columns.LABELS, "ClassLabel", self.where, asked, "label_column")

    @property
    def class_names(self) -> object:
        """From the metadata, whatever somebody wrote there."""
        return columns.hub_features(self.schema).get(self.label, {}).get("names")

    @cached_property
    def labels(self) -> np.ndarray:
        """Shape (row,): whole numbers or names."""
        where = f"{self.label} in {self.where}"
        found = [columns.labels(part, where) for part in self.parts(self.label, 0)]
        if not found:
            raise InputError(f"{self.where} has no rows.")
        return np.concatenate(found)

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Shape (row,): of which patient, or other group, each row is; None where no column says so."""
        name = self.reading.group_column
        if name is None:
            named = Sheet(Path(self.where), {column: [] for column in self.schema.names})
            name = named.column(None, GROUPS, "group_column")
        if name is None:
            return None
        columns.choose(self.schema, (), "", self.where, name, "group_column")
        return np.asarray([str(one) for part in self.parts(name, 0) for one in part.to_pylist()])

    def rows(self, labels: Any, groups: Any) -> Rows:
        """The split as readers hand it on."""
        kind = self.schema.field(self.image).type
        return Rows(
            labels,
            lambda first: columns.images(self.parts(self.image, first), kind, first, self.name, self.reading),
            self.name,
            groups,
        )

    def first(self) -> list[bytes]:
        """The first encoded image; nothing if images are arrays."""
        if not columns.is_encoded(self.schema.field(self.image).type):
            return []
        return [data for data in columns.encoded(next(self.parts(self.image, 0)).slice(0, 1)) if data]


def found(name: str, train: Table, tests: Mapping[str, Table], reading: Reading, notes: tuple[str, ...] = ()) -> Found:
    """The data set of these splits, named CIFAR-10 if that is what it is.

    Of `tests`, by what results call them, the first one with labels is measured on.
    """
    names = _names(train)
    test_name, secret = labelled({split: table.labels for split, table in tests.items()})
    test = tests.get(test_name)
    test_labels = None
    if test:
        own = _names(test)
        test_labels = _renamed(test, own, names) if own and names and own != names else test.labels
    train_labels, test_labels, classes = coded(
        train.labels,
        test_labels,
        names,
        f"{train.label} in {train.where}",
        offset=reading.label_offset,
        given=reading.names,
    )
    tables = [train, test] if test else [train]
    groups = numbered_groups([table.groups for table in tables], train.where)
    labels = [train_labels] if test_labels is None else [train_labels, test_labels]
    rows = [table.rows(*part) for table, *part in zip(tables, labels, groups, strict=True)]
    listing = list_files(file for table in tables for file in table.files)
    result = Found(name, rows[0], rows[1] if test else None, classes, listing, test_name, notes=(*notes, *secret))
    return result if reading.size else recognised(result, [data for table in tables for data in table.first()])


def _names(table: Table) -> list[str] | None:
    """Class names in the metadata, if they are names."""
    names = table.class_names
    if not isinstance(names, list) or not names:
        return None
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError(f"{table.where} has class names in its metadata that are no names, or one twice: {names[:8]}.")
    return names


def _renamed(test: Table, own: list[str], names: list[str]) -> np.ndarray:
    """The labels of a test split whose metadata has the classes in another order: by name, as in the training split."""
    labels = test.labels
    if labels.min() < 0 or labels.max() >= len(own):
        rule = f"be between 0 and {len(own) - 1}, as its metadata names {len(own)} classes"
        raise must(f"{test.label} in {test.where}", rule, int(labels.max() if labels.min() >= 0 else labels.min()))
    check_known([own[label] for label in np.unique(labels).tolist()], names)
    places = np.array([names.index(name) if name in names else -1 for name in own])
    return places[labels]
