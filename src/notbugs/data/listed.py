"""Images whose labels are in a table beside them: the Hub's metadata.csv, Kaggle's, ISIC's, GTSRB's annotation."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unicodedata import normalize

import numpy as np
from torch import Tensor

from notbugs.data.classes import coded
from notbugs.data.decode import Box, Decoder, decode_all
from notbugs.data.folder import through
from notbugs.data.grouping import apart, grouped_by_name, numbered_groups
from notbugs.data.published import GTSRB_CLASSES
from notbugs.data.rows import ALL, Broken, Found, Piece, Reading, Rows, choose, labelled, list_files, split_of
from notbugs.data.sheets import (
    GROUPS,
    IMAGES,
    Labels,
    Sheet,
    check_single,
    is_blank,
    label_values,
    labels_of,
    read_sheet,
    split_column,
)
from notbugs.data.walk import Node, Passed
from notbugs.errors import InputError, check_choice, must

CORNERS = ("roix1", "roiy1", "roix2", "roiy2")
PREDICTED = re.compile("(?<![a-z])(preds?|probs?)(?![a-z])|predict|confidence|probabilit|logit")
"""What the name of a table that a model wrote has in it, or what one of its columns is called."""
DIFFERENT = 0.5
"""Share of images from which on the names of their folders and their labels have nothing to do with each other."""
LOOKED_AT = 100
SHOWN = 8
NONE = "No Finding"
"""What ChestX-ray14 has in place of labels where an image has none."""


@dataclass
class _Part:
    """The rows of one split: what is in each column that is used."""

    files: list[Path | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    """Empty texts where nothing says of which group an image is."""
    grouped_by: str = ""
    """The column that says it."""
    boxes: list[Box | None] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)


def listed(node: Node, passed: Passed, reading: Reading, only: Path | None = None) -> Found | None:
    """Find the images that tables below a folder list, with their labels; None if no table lists any.

    Columns are known by their names (`sheets.IMAGES` and so on), or asked for. An image is found by its path from the
    table or from the folder, or by its name, with or without its suffix, anywhere below. A row is of the split that a
    column `split` says; else that of its table's name, its table's folder or its image's folder. Columns `Roi.X1`,
    `Roi.Y1`, `Roi.X2` and `Roi.Y2` cut out the part of the image between them. Images of one patient stay together.

    Parameters
    ----------
    only : Path, optional
        The one table to read.

    Raises
    ------
    InputError
        If a table cannot be read, it is not clear which column or table is meant, or whether the table or the folders
        have the labels, an image is listed twice, or a patient is in two splits.
    """
    sheets = _usable(node, passed, reading, only)
    if not sheets:
        _refuse_unlisted(node, reading)
        return None
    parts, names, are_several = _parts(node, sheets, reading, passed)
    if only is None and not (reading.label_column or reading.image_column or are_several):
        _refuse_other_folders(node, sheets, parts.values(), names, reading)
    chosen = choose(parts, reading.splits, node.path) if set(parts) != {ALL} or reading.splits else None
    train = parts[chosen.train] if chosen else parts[ALL]
    tests = {called: parts[name] for called, name in chosen.tests.items()} if chosen else {}
    what = f"labels in {sheets[0].path}"
    if not are_several:
        _check_gaps(train, *tests.values(), what=what)
    if names is None and reading.names is None:
        check_single(train.labels, what)
    names, train_values, values = _values(train, tests, names, are_several)
    signs = ("classes are named as GTSRB's",) if reading.names is None and _are_signs(sheets, train_values) else ()
    names = list(GTSRB_CLASSES) if signs else names
    test_name, secret = labelled(values)
    train_labels, test_labels, classes = coded(
        train_values,
        values.get(test_name),
        names,
        what,
        offset=reading.label_offset,
        listed=reading.names,
    )
    used = [(train, train_labels)] + ([] if test_labels is None else [(tests[test_name], test_labels)])
    column = next((part.grouped_by for part, _ in used if part.grouped_by), "track")
    named, alone = apart([part.groups if part.grouped_by or any(part.groups) else None for part, _ in used], column)
    groups = numbered_groups(named, sheets[0].path)
    rows = [_rows(part, labels, group, reading) for (part, labels), group in zip(used, groups, strict=True)]
    files = [file for part, _ in used for file in part.files if file]
    _pass_over(node, passed, set(files), {file for part in parts.values() for file in part.files if file})
    told = f"labels are from {', '.join(str(sheet.path.relative_to(node.path)) for sheet in sheets[:3])}"
    more = f" and {len(sheets) - 3} more tables" if len(sheets) > 3 else ""
    boxes = [box for part, _ in used for box in part.boxes]
    key = hashlib.sha256(repr(boxes).encode()).hexdigest() if any(boxes) else ""
    together = ("images of one patient or group are kept together",) if groups[0] is not None else ()
    columns = [f"columns of {name} that are not used: {unused}" for unused, name in passed.columns.items()]
    none = f"; {NONE!r} is none" if NONE in train.labels else ""
    several = (f"labels for an image are several: {', '.join(classes)}{none}",) if train_labels.ndim > 1 else ()
    notes = (told + more, *signs, *several, *together, *alone, *secret, *columns, *passed.notes())
    test = rows[1] if len(rows) > 1 else None
    name = node.path.resolve().name
    listing = Found(name, rows[0], test, classes, list_files(files), test_name, notes=notes, parts=key)
    if reading.group_pattern:
        paths = [[file and file.relative_to(node.path) for file in part.files] for part, _ in used]
        listing = grouped_by_name(listing, paths, reading.group_pattern)
    return listing


def _pass_over(node: Node, passed: Passed, files: set[Path], in_tables: set[Path]) -> None:
    """Note the images that are not used: of other splits, or listed nowhere."""
    for file in sorted(in_tables - files):
        passed.add("images of other splits", str(file.relative_to(node.path)))
    for file in sorted(set(node.files()) - in_tables):
        passed.add("images that no table lists with a label", str(file.relative_to(node.path)))


def _are_signs(sheets: Sequence[Sheet], labels: np.ndarray) -> bool:
    """Whether these are the annotation of GTSRB: tables `GT-...` with corners, and all of its classes."""
    tables = all(sheet.path.name.startswith("GT-") and len(sheet.known(CORNERS)) == len(CORNERS) for sheet in sheets)
    return tables and labels.dtype.kind == "i" and np.unique(labels).tolist() == list(range(len(GTSRB_CLASSES)))


def _refuse_unlisted(node: Node, reading: Reading) -> None:
    """Refuse tables that list no images, where there are no class folders either, or columns of a table were named."""
    inner = node
    while len(inner.with_images()) == 1 and not inner.images:
        (inner,) = inner.with_images().values()
    tables = [below.path / name for below in node.nodes() for name in below.tables]
    if (len(inner.with_images()) > 1 and not reading.columns) or not tables:
        return
    finder, path = _Finder(node), tables[0]
    sheet = read_sheet(path)
    hits = {
        name: sum(finder.find(sheet, value, "") is not None for value in values[:LOOKED_AT])
        for name, values in sheet.columns.items()
    }
    best = max(hits, key=hits.__getitem__)
    looked = min(len(sheet), LOOKED_AT)
    some = f"of the first {looked} values in {best!r}, {hits[best]} are" if hits[best] else "no value of any column is"
    remedy = f"Name it with --image-column {shlex.quote(best)}" if hits[best] == looked else "Correct the table"
    raise InputError(
        f"{path} does not list the images of {node.path}: its columns are {', '.join(sheet.columns)}, and {some} the "
        f"name of an image there. {remedy}. Its first line must name its columns, and one column the images."
    )


def _values(
    train: _Part, tests: dict[str, _Part], names: list[str] | None, are_several: bool
) -> tuple[list[str] | None, np.ndarray, dict[str, np.ndarray]]:
    """Names of labels, if they are known, and the labels of all splits; several for an image where a text has `|`."""
    splits = [train, *tests.values()]
    if not (are_several or any("|" in text for text in train.labels)):
        numbers = [label_values(part.labels) for part in splits]
    else:
        said = [[set(text.split("|")) - {NONE} for text in part.labels] for part in splits]
        names = names or sorted(set().union(*said[0]) - {""})
        if unknown := sorted(set().union(*(words for part in said for words in part)) - {"", *names}):
            raise InputError(f"The label {unknown[0]!r} is of no training image. Rename it, or take these images out.")
        numbers = [np.array([[name in words for name in names] for words in part], np.int64) for part in said]
    return names, numbers[0], dict(zip(tests, numbers[1:], strict=True))


def _check_gaps(train: _Part, *tests: _Part, what: str) -> None:
    """Refuse rows without a label, however that is written; a split to measure on may have none at all."""
    for part in (train, *tests):
        gaps = [text for text in part.labels if is_blank(text)]
        if gaps and (part is train or len(gaps) < len(part.labels)):
            got = f"{len(gaps)} empty ones" if not any(gaps) else f"{len(gaps)} of {max(gaps)!r}"
            raise must(what, "not be empty", got, "Take these rows out, or give them labels.")


def _refuse_other_folders(
    node: Node, sheets: Sequence[Sheet], parts: Iterable[_Part], names: list[str] | None, reading: Reading
) -> None:
    """Refuse a table that labels images otherwise than the class folders that they lie in: what a model predicted, say.

    Folders are classes where most labels have their names; and beside predictions, by the name of the table, where they
    are as many as the labels. Other folders are patients, cameras, folds or parts of an archive.
    """
    folders = _class_folders(node, reading)
    rows = [
        (file, name, table)
        for part in parts
        for file, text, table in zip(part.files, part.labels, part.tables, strict=True)
        if file in folders and not is_blank(text)
        for name in [names[int(text)] if names else text]
    ]
    if any("|" in name for _, name, _ in rows):
        return
    if not rows:
        return
    inside, labels = ({_plain(name) for name in some} for some in (folders.values(), (name for _, name, _ in rows)))
    differing = [row for row in rows if _plain(row[1]) != _plain(folders[row[0]])]
    if len(differing) < DIFFERENT * len(rows):
        other = next(iter(differing), None)
    else:
        pairs = {(_plain(folders[file]), _plain(name)) for file, name, _ in rows}
        is_told = any(
            PREDICTED.search(sheet.path.stem.lower()) or any(map(PREDICTED.fullmatch, map(str.lower, sheet.columns)))
            for sheet in sheets
        )
        is_doubtful = len(inside) == len(labels) < len(pairs) and is_told
        other = rows[0] if is_doubtful else None
    if other is None:
        return
    file, name, table = other
    alone = len(sheets) == 1 and table.parent == node.path
    columns = _known(sheets[0], _Finder(node), reading)[1].columns
    whole = f"--data {shlex.quote(str(table))}" if alone else f"--label-column {shlex.join(columns)}"
    raise InputError(
        f"{table} labels images otherwise than the folders that they lie in, {file.relative_to(node.path)} as "
        f"{name!r}: which are the labels? Give {whole} for those of the table, or move "
        f"{'it' if len(sheets) == 1 else 'all tables'} out of {node.path} for the folders."
    )


def _class_folders(node: Node, reading: Reading) -> dict[Path, str]:
    """Each image and its folder, where folders would be read as classes: two or more, and no image beside them."""
    root = through(node)
    outer = root.with_images()
    are_splits = bool(outer) and all(split_of(name) or name in reading.splits.values() for name in outer)
    tops = [through(below) for below in outer.values()] if are_splits else [root]
    names = [set(top.with_images()) for top in tops]
    classes = max(names, key=len)
    # A test folder whose images lie in no class folders, as GTSRB's, has its labels from a table.
    if len(classes) < 2 or any(top.images for top in tops) or not all(some <= classes for some in names):
        return {}
    return {file: name for top in tops for name, below in top.with_images().items() for file in below.files()}


@cache
def _plain(name: str) -> str:
    """A name without what people write in different ways; a number without zeros in front, and without a point."""
    if number := re.fullmatch(r"(\d+)(\.0+)?", name):
        return str(int(number[1]))
    return re.sub(r"[\W_]", "", normalize("NFC", name)).casefold()


def _usable(node: Node, passed: Passed, reading: Reading, only: Path | None) -> list[Sheet]:
    """The tables with images of this folder and labels for them."""
    usable, without = [], []
    paths = [below.path / name for below in node.nodes() for name in below.tables] if only is None else [only]
    finder = _Finder(node)
    for path in paths:
        if "submission" in path.stem.lower():  # Kaggle's form to fill in: what looks like labels is none
            passed.add("tables that are forms for submissions", path.name)
            continue
        sheet = read_sheet(path)
        image = _image_column(sheet, finder, reading)
        if image is None:
            passed.add("tables that list no images of this folder", path.name)
        elif labels_of(sheet, image, reading) is None:
            without.append((sheet, image))
        else:
            usable.append(sheet)
    for sheet, image in without:
        if not usable:
            for column in reading.label_columns:
                check_choice("label_column", column, sheet.columns)
            others = [name for name in sheet.columns if name != image]
            example = f", as --label-column {shlex.quote(others[0])}" if others else ""
            raise InputError(
                f"{sheet.path} lists images, and none of its columns is known to hold labels: "
                f"{', '.join(sheet.columns)}. "
                f"Name it with --label-column{example}, or remove the table if the folders are the classes."
            )
        passed.add("tables without labels", sheet.path.name)
    if only is not None and not usable:
        raise InputError(f"{only} lists no image that is below {node.path}. Name the column with --image-column.")
    return usable


def _image_column(sheet: Sheet, finder: _Finder, reading: Reading) -> str | None:
    for name in [reading.image_column] if reading.image_column else sheet.known(IMAGES):
        values = sheet.columns.get(name, [])[:LOOKED_AT]
        if sum(finder.find(sheet, value, "") is not None for value in values) * 2 > len(values):
            return name
    return None


def _parts(
    node: Node, sheets: Sequence[Sheet], reading: Reading, passed: Passed
) -> tuple[dict[str, _Part], list[str] | None, bool]:
    """The rows of each split, the names of columns of 0 and 1, and whether these are several labels for an image."""
    finder, parts = _Finder(node), {}
    known = [_known(sheet, finder, reading) for sheet in sheets]
    if len({labels.columns for _, labels in known if labels.bits is not None}) > 1 or (
        len({labels.bits is None for _, labels in known}) > 1
    ):
        raise InputError(f"The tables of {node.path} have their labels in different columns. Name one: --label-column.")
    names = None if known[0][1].bits is None else list(known[0][1].columns)
    are_several = any(labels.bits is not None and (labels.bits.sum(1) != 1).any() for _, labels in known)
    listed_by: dict[Path, tuple[Path, str, str]] = {}
    for sheet, (image, labels) in zip(sheets, known, strict=True):
        texts = _texts(labels, are_several)
        split = split_column(sheet, {image, *labels.columns}, reading.splits)
        group = None if reading.group_pattern else sheet.column(reading.group_column, GROUPS, "group_column")
        corners = sheet.known(CORNERS)
        for row, value in enumerate(sheet.columns[image]):
            said = sheet.columns[split][row] if split else ""
            file = finder.find(sheet, value, said)
            name = said or _split_of_row(sheet, file, node)
            part = parts.setdefault(name, _Part())
            row_says = (sheet.path, name, texts[row])
            if file is not None and listed_by.setdefault(file, row_says) is not row_says:
                _refuse_again(file, listed_by[file], row_says)
                passed.add("rows that list an image again", f"{value} in {sheet.path.name}")
                continue
            part.files.append(file)
            part.tables.append(sheet.path)
            part.names.append(f"{value} in {sheet.path}" if file is None else str(file))
            part.labels.append(texts[row])
            part.boxes.append(_box(sheet, corners, row) if len(corners) == len(CORNERS) else None)
            is_track = not group and not reading.group_pattern and part.boxes[-1] and file is not None
            # GTSRB: images of one track show one sign
            part.groups.append(sheet.columns[group][row] if group else _track(file, texts[row]) if is_track else "")
            part.grouped_by = part.grouped_by or group or ""
        used = {image, *labels.columns, split, group, *corners}
        if unused := [name for name in sheet.columns if name and name not in used]:
            more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
            told = f"{', '.join(unused[:SHOWN])}{more}"
            passed.columns.setdefault(told, sheet.path.name)
    return parts, names, are_several


def _known(sheet: Sheet, finder: _Finder, reading: Reading) -> tuple[str, Labels]:
    image = _image_column(sheet, finder, reading) or ""
    labels = labels_of(sheet, image, reading)
    assert labels is not None  # it is usable
    return image, labels


def _texts(labels: Labels, are_several: bool) -> Sequence[str]:
    """A text for each row: the class, its number, or the names of its labels with `|` between them."""
    if labels.bits is None:
        return labels.texts
    if not are_several:
        return [str(place) for place in labels.bits.argmax(1).tolist()]
    return [
        "|".join(name for name, bit in zip(labels.columns, row, strict=True) if bit) for row in labels.bits.tolist()
    ]


def _split_of_row(sheet: Sheet, file: Path | None, node: Node) -> str:
    """The name that tells the split of a row: of its table, its table's folder, or its image's folder."""
    inner = sheet.path.relative_to(node.path) if sheet.path.is_relative_to(node.path) else Path(sheet.path.name)
    image = file.relative_to(node.path).parent.parts if file is not None else ()
    return next((name for name in (inner.stem, *inner.parent.parts, *image) if split_of(name)), ALL)


def _refuse_again(file: Path, first: tuple[Path, str, str], again: tuple[Path, str, str]) -> None:
    """An image may be listed twice where both rows say the same."""
    if first[0] is not again[0]:
        raise InputError(
            f"{file} is in two tables, {first[0]} and {again[0]}. Name the one to read, as "
            f"--data {again[0]}, or remove the other."
        )
    if first != again:
        said = [f"{label} ({name})" if first[1] != again[1] else label for _, name, label in (first, again)]
        raise InputError(f"{first[0]} lists {file} twice, as {said[0]} and as {said[1]}. Keep one row for each image.")


def _track(file: Path, label: str) -> str:
    return f"{label}/{file.stem.rsplit('_', 1)[0]}" if "_" in file.stem else f"alone/{file}"


def _box(sheet: Sheet, corners: Sequence[str], row: int) -> Box:
    texts = [sheet.columns[corner][row] for corner in corners]
    try:
        left, upper, right, lower = map(int, texts)
    except ValueError:
        raise must(f"corners in row {row + 2} of {sheet.path}", "be whole numbers", texts) from None
    return left, upper, right, lower


class _Finder:
    """Images by their path below a folder, their name, and their name without its suffix."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.paths: set[Path] = set()
        self.names: dict[str, list[Path]] = {}
        for file in node.files():
            self.paths.add(file)
            for name in {file.name, file.stem}:
                self.names.setdefault(name, []).append(file)

    def find(self, sheet: Sheet, value: str, split: str) -> Path | None:
        """The image that a table means; None if there is none, or several."""
        inner = value.replace("\\", "/").removeprefix("./")
        parts = Path(inner).parts if inner else ()
        for start in range(len(parts)):  # a path may begin above the folder: CheXpert-v1.0/train/patient00001/...
            for folder in (sheet.path.parent, self.node.path) if start < len(parts) - 1 or not start else ():
                if (file := folder.joinpath(*parts[start:])) in self.paths:
                    return file
        files = self.names.get(Path(inner).name, []) if inner else []
        if len(files) > 1 and (wanted := split_of(split or sheet.path.stem)):
            files = [file for file in files if self._kinds(file) == {wanted.kind}]
        if len(files) > 1:
            files = [file for file in files if file.is_relative_to(sheet.path.parent)]
        return files[0] if len(files) == 1 else None

    def _kinds(self, file: Path) -> set[str]:
        return {split.kind for part in file.relative_to(self.node.path).parts[:-1] if (split := split_of(part))}


def _rows(part: _Part, labels: Tensor, groups: Tensor | None, reading: Reading) -> Rows:
    remedy = "Add it, correct the table, or name the column with --image-column."

    def item(row: int) -> tuple[Path | Broken, str, Box | None]:
        file, name = part.files[row], part.names[row]
        return file or Broken(name, "is not there, or there are several of this name", remedy), name, part.boxes[row]

    def read(first: int) -> Iterator[Piece]:
        return decode_all(map(item, range(first, len(part.files))), Decoder(reading.size, reading.white_level))

    return Rows(labels, read, lambda row: part.names[row], groups)
