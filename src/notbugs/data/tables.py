"""Columns of Arrow tables: which hold images and labels, and how these are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from notbugs.data.classes import check_known, coded
from notbugs.data.decode import Box, Decoder, decode_all, fit_all, planes
from notbugs.data.grouping import apart, grouped_by_name, numbered_groups
from notbugs.data.published import recognised
from notbugs.data.rows import Broken, Found, Piece, Reading, Rows, labelled, list_files, split_of
from notbugs.data.sheets import FLAGS, GROUPS, SPLITS, Sheet, bits, decided, is_blank
from notbugs.errors import InputError, must

IMAGES = ("img", "image", "images")
LABELS = ("label", "labels", "fine_label")


def choose(schema: Any, choices: Sequence[str], kind: str, where: str, wanted: str | None, flag: str) -> str:
    """The column asked for, else that with one of the names in `choices`, else the only one of a type of the Hub's.

    Raises
    ------
    InputError
        If there is none, there are several of these names, or none of them and several of the type.
    """
    if wanted is not None:
        if wanted not in schema.names:
            raise must(flag, f"be a column of {where}: {', '.join(schema.names)}", wanted)
        return wanted
    typed = [name for name, feature in hub_features(schema).items() if feature.get("_type") == kind]
    known = [name for name in choices if name in schema.names] or (typed if len(typed) == 1 else [])
    option = f"--{flag.replace('_', '-')}"
    if len(known) > 1:
        raise InputError(
            f"{where} has the columns {' and '.join(known)}: which is it? Name it with {option}, as in {option} "
            f"{known[0]}."
        )
    if known:
        return known[0]
    raise InputError(
        f"{where} must have a column named {' or '.join(choices)}. It has {', '.join(schema.names)}. "
        f"Name it with {option}."
    )


def hub_features(schema: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` wrote into a schema about the columns; nothing if it did not."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def labels(column: Any, where: str) -> np.ndarray:
    """A column of whole numbers or of names; -1 for all if none has a label.

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
    number = types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind)
    values = column.to_pylist() if text or number else []
    # What pandas and spreadsheets write in place of a label is none, as in tables of text.
    gaps = [one for one in values if one is None or ((text or one != one) and is_blank(str(one)))]
    if len(gaps or range(column.null_count)) == len(column) > 0:  # a test split whose labels are kept secret
        return np.full(len(column), -1, np.int64)
    if gaps or not (text or number):
        written = next((f", as {one!r}" for one in gaps if one), "")
        got = f"{kind} with {len(gaps)} gap{'s' if len(gaps) > 1 else ''}{written}" if gaps else str(kind)
        remedy = "Take these rows out, or give them labels." if gaps else ""
        raise must(where, "be a column of whole numbers or names without gaps", got, remedy)
    return np.asarray(values, np.str_ if text else None)


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
        name = choose(self.schema, IMAGES, "Image", self.where, self.reading.image_column, "image_column")
        check_images(self.schema.field(name).type, f"{name} in {self.where}")
        return name

    @cached_property
    def label(self) -> str:
        """The name of the label column."""
        columns = [
            choose(self.schema, LABELS, "ClassLabel", self.where, name, "label_column")
            for name in self.reading.label_columns or (None,)
        ]
        return columns[0]

    @property
    def class_names(self) -> object:
        """The columns, where there are several of 0 and 1; else from the metadata, whatever somebody wrote there."""
        if len(self.reading.label_columns) > 1:
            return list(self.reading.label_columns)
        feature = hub_features(self.schema).get(self.label, {})
        inner = feature.get("feature")
        return (inner if isinstance(inner, dict) else feature).get("names")

    @cached_property
    def labels(self) -> np.ndarray:
        """Shape (row,): whole numbers or names; or (row, label), 0 and 1, of several columns or of lists of labels."""
        import pyarrow

        where = f"{self.label} in {self.where}"
        if len(self.reading.label_columns) > 1:
            columns = {name: self._values(name) for name in self.reading.label_columns}
            texts = {name: [_text(one) for one in values] for name, values in columns.items()}
            return bits(self.where, texts, self.reading)
        if self.reading.uncertain is not None or self.reading.blank is not None:
            texts = [_text(one) for one in self._values(self.label)]
            if all(is_blank(text) or FLAGS.get(text) == "uncertain" for text in texts):  # a test split kept secret
                return np.full(len(texts), -1, np.int64)
            return np.array(decided(self.where, self.label, texts, self.reading), np.int64)
        if _is_list(self.schema.field(self.label).type):
            return self._listed(where)
        if not (parts := list(self.parts(self.label, 0))):
            raise InputError(f"{self.where} has no rows.")
        return labels(pyarrow.chunked_array(parts), where)

    def _values(self, name: str) -> list[Any]:
        return [one for part in self.parts(name, 0) for one in part.to_pylist()]

    def _listed(self, where: str) -> np.ndarray:
        """Of lists of the numbers of labels, one list for each row."""
        lists = self._values(self.label)
        numbers = {one for each in lists for one in each or ()}
        names = self.class_names
        largest = max((one for one in numbers if isinstance(one, int)), default=0)
        count = len(names) if isinstance(names, list) else largest + 1
        if not all(isinstance(one, int) and 0 <= one < count for one in numbers) or None in lists:
            got = f"{min(map(str, numbers), default='')} to {max(map(str, numbers), default='')}"
            raise must(where, f"be lists of the numbers of labels, 0 to {count - 1}, without gaps", got)
        matrix = np.zeros((len(lists), count), np.int64)
        for row, each in enumerate(lists):
            matrix[row, each] = 1
        return matrix

    @cached_property
    def group(self) -> str | None:
        """The name of the column that says of which patient, or other group, each row is; None where none does."""
        name = self.reading.group_column
        if self.reading.group_pattern:
            return None
        if name is None:
            named = Sheet(Path(self.where), {column: [] for column in self.schema.names})
            return named.column(None, GROUPS, "group_column")
        return choose(self.schema, (), "", self.where, name, "group_column")

    @cached_property
    def groups(self) -> list[str] | None:
        """Of each row, what that column says; empty where it says nothing."""
        return None if self.group is None else [_text(one) for one in self._values(self.group)]

    @property
    def paths(self) -> list[str]:
        """Of every row, what the file of its image was called, as the Hub's tables keep it.

        Raises
        ------
        InputError
            If there is no such field, or it is empty.
        """
        import pyarrow

        kind = self.schema.field(self.image).type
        paths: list[str | None] = [None]
        if pyarrow.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            paths = [path for part in self.parts(self.image, 0) for path in part.field("path").to_pylist()]
        named = [str(path) for path in paths if path]
        if len(named) < len(paths):
            rule = "be given with images that have the names of their files, in a field 'path' of theirs"
            raise must("group_pattern", rule, f"{self.where} without", "Give a 'group_column', or leave it out.")
        return named

    def rows(self, labels: Any, groups: Any) -> Rows:
        """The split as readers hand it on."""
        kind = self.schema.field(self.image).type
        return Rows(
            labels,
            lambda first: images(self.parts(self.image, first), kind, first, self.name, self.reading),
            self.name,
            groups,
        )

    def first(self) -> list[bytes]:
        """The first encoded image; nothing if images are arrays."""
        if not is_encoded(self.schema.field(self.image).type):
            return []
        return [data for data in encoded(next(self.parts(self.image, 0)).slice(0, 1)) if data]


def listing_of(
    name: str, train: Table, tests: Mapping[str, Table], reading: Reading, notes: tuple[str, ...] = ()
) -> Found:
    """The data set of these splits, named CIFAR-10 if that is what it is.

    Of `tests`, by what results call them, the first one with labels is measured on.
    """
    for table in (train, *tests.values()):
        _refuse_splits_within(table)
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
        listed=reading.names,
    )
    tables = [train, test] if test else [train]
    column = next((table.group for table in tables if table.group), "")
    named, alone = apart([table.groups for table in tables], column)
    groups = numbered_groups(named, train.where)
    labels = [train_labels] if test_labels is None else [train_labels, test_labels]
    rows = [table.rows(*part) for table, *part in zip(tables, labels, groups, strict=True)]
    together = ("images of one patient or group are kept together",) if groups[0] is not None else ()
    notes = (*notes, *together, *alone, *secret)
    listing = list_files(file for table in tables for file in table.files)
    result = Found(name, rows[0], rows[1] if test else None, classes, listing, test_name, notes=notes)
    if reading.group_pattern:
        result = grouped_by_name(result, [table.paths for table in tables], reading.group_pattern)
    return result if reading.size else recognised(result, [data for table in tables for data in table.first()])


def _refuse_splits_within(table: Table) -> None:
    """Refuse a column that says of which split a row is: test images would be trained on."""
    for name in Sheet(Path(table.where), {column: [] for column in table.schema.names}).known(SPLITS):
        values = sorted({str(one) for one in table._values(name)})
        if len(values) > 1 and all(split_of(value) for value in values):
            raise InputError(
                f"{table.where} has rows of several splits, {', '.join(values)}, by its column {name!r}. Save a file "
                "for each, as train.parquet and test.parquet, and give their folder; or rename the column if it is "
                "something else."
            )


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


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
    if labels.ndim > 1:
        if set(own) != set(names):
            raise must(f"labels of {test.where}", f"be those of the training images: {', '.join(names[:8])}", own[:8])
        return labels[:, [own.index(name) for name in names]]
    if labels.min() < 0 or labels.max() >= len(own):
        rule = f"be between 0 and {len(own) - 1}, as its metadata names {len(own)} classes"
        raise must(f"{test.label} in {test.where}", rule, int(labels.max() if labels.min() >= 0 else labels.min()))
    check_known([own[label] for label in np.unique(labels).tolist()], names)
    places = np.array([names.index(name) if name in names else -1 for name in own])
    return places[labels]
