"""Tables of text beside images: csv and tsv with any separator, and one JSON object on each line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from notbugs.data.rows import split_of
from notbugs.errors import InputError, in_one_line, must

SEPARATORS = ",;\t|"
IMAGES = (
    *("filename", "file", "path", "filepath", "imagepath", "imgpath", "image", "img", "imageid", "imagename"),
    *("imageindex", "idcode", "name", "id"),
)
LABELS = (
    "label",
    "labels",
    "class",
    "classid",
    "classname",
    "target",
    "diagnosis",
    "category",
    "dx",
    "level",
    "y",
    "findinglabels",
)
GROUPS = re.compile(
    r"(patient|subject|participant|person|individual|lesion|group|case|slide|animal)"
    r"s?(id|ids|uid|no|nr|num|number|code|key|name|index)"
    r"|patient|subject|participant|person|pid|mrn"
)
SPLITS = ("split", "subset", "partition", "usage", "phase", "set")
"""Names of columns, in small letters, without anything but letters and digits; the first one counts most."""
MOST_SPLITS = 10
FLAGS = {"0", "1", "true", "false", "yes", "no", "t", "f", "y", "n", "0.0", "1.0"}
GAPS = ("nan", "na", "n/a", "<na>", "#n/a", "null")
"""What pandas and spreadsheets write in place of nothing, in small letters."""

Names = Sequence[str] | re.Pattern[str]


@dataclass(frozen=True)
class Sheet:
    """A table: its columns by name, each with the text of every row."""

    path: Path
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def known(self, names: Names) -> list[str]:
        """The columns with one of these names, in the order of `names`."""
        plain = {column: re.sub(r"[\W_]", "", column.lower()) for column in self.columns}
        if isinstance(names, re.Pattern):
            return [column for column in self.columns if names.fullmatch(plain[column])]
        return [column for name in names for column in self.columns if plain[column] == name]

    def column(self, asked: str | None, names: Names, flag: str) -> str | None:
        """The column that was asked for, or the only one with one of these names; None where there is none.

        Raises
        ------
        InputError
            If the one that was asked for is not there, or there are several.
        """
        if asked is not None:
            return asked if asked in self.columns else None
        known = self.known(names)
        if len(known) > 1:
            raise InputError(
                f"{self.path} has the columns {' and '.join(known)}: which is it? Name it with "
                f"--{flag.replace('_', '-')}, as in --{flag.replace('_', '-')} {known[0]}."
            )
        return known[0] if known else None


def read_sheet(path: Path) -> Sheet:
    """Read a table.

    Raises
    ------
    InputError
        If it is no text in UTF-8, or a row has other columns than the first one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _json(path, file) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv(path, file)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a table in UTF-8 ({in_one_line(error)}). Save it again as csv."
        ) from None


def label_values(texts: Sequence[str]) -> np.ndarray:
    """A column of labels: whole numbers if all are, else names; -1 for all if none has a label.

    Raises
    ------
    InputError
        If they are numbers that are not whole: no classes.
    """
    if not any(texts):
        return np.full(len(texts), -1, np.int64)
    if all(re.fullmatch(r"[+-]?\d{1,18}(\.0+)?", text) for text in texts):
        return np.array([int(text.split(".")[0]) for text in texts], np.int64)
    if all(re.fullmatch(r"[+-]?\d*\.?\d+(e[+-]?\d+)?", text, re.IGNORECASE) for text in texts):
        fraction = next((text for text in texts if not re.fullmatch(r"[+-]?\d+(\.0+)?", text)), texts[0])
        raise must("labels", "be whole numbers or names", fraction, "Of what was measured, make classes: low, high.")
    return np.array(texts, np.str_)


def split_column(sheet: Sheet, besides: Iterable[str], asked: Mapping[str, str]) -> str | None:
    """The column that says the split of each row; None where there is none.

    Its name is one of `SPLITS`, or all of its values are names of splits, `train` and others.

    Raises
    ------
    InputError
        If there are two, if only some of its values are names of splits and none were `asked` for, or if splits are
        flags in columns of their own.
    """
    found = []
    for name in (name for name in sheet.columns if name not in besides):
        values = sorted(set(sheet.columns[name]))
        if len(values) > MOST_SPLITS:
            continue
        kinds = {split.kind if (split := split_of(value)) else "" for value in values}
        is_named = name in sheet.known(SPLITS)
        if asked:
            is_split = set(asked.values()) <= set(values)
        else:
            is_split = "" not in kinds and (is_named or len(kinds) > 1)
            looks_so = (len(kinds) > 1 or _are_codes(values)) if is_named else {"train", "test"} <= kinds
            if looks_so and not is_split:
                raise _not_understood(sheet, name, values)
            if split_of(name) and {text.lower() for text in values} <= FLAGS:
                raise InputError(
                    f"{sheet.path} says in the column {name!r}, with the values {', '.join(values)}, which rows are "
                    "of a split. That is read from one column named 'split', with the values train, test and val. "
                    f"Write it so, or rename {name!r} if it is something else."
                )
        found += [name] if is_split else []
    if len(found) > 1:
        raise InputError(f"{sheet.path} has the columns {' and '.join(found)}, and both name splits. Remove one.")
    return found[0] if found else None


def _are_codes(values: Sequence[str]) -> bool:
    """Whether a column of splits has numbers for them, 0 and 1 say."""
    return len(values) > 1 and all(re.fullmatch(r"\d(\.0)?", value) for value in values)


def _not_understood(sheet: Sheet, name: str, values: Sequence[str]) -> InputError:
    said = ", ".join(repr(value) for value in values)
    kinds = {split.kind: value for value in reversed(values) if (split := split_of(value))}
    first = kinds.get("train", next(value for value in values if value))
    last = kinds.get("test", kinds.get("val", values[-1]))
    return InputError(
        f"{sheet.path} has the values {said} in the column {name!r}, and not all are names of splits. Say which are: "
        f"--splits.train {first} --splits.test {last}, say; rows with other values are then left out. Or rename the "
        "column if it is something else."
    )


def one_hot(sheet: Sheet, besides: Iterable[str]) -> tuple[list[str], np.ndarray] | None:
    """The columns of a one-hot table, two or more with a single 1 in each row, and each row's label; None if not."""
    names = [name for name in sheet.columns if name not in besides]
    names = [name for name in names if all(re.fullmatch(r"[01](\.0+)?", text) for text in sheet.columns[name])]
    if len(names) < 2 or not len(sheet):
        return None
    bits = np.array([[text[0] == "1" for text in sheet.columns[name]] for name in names])
    return (names, bits.argmax(0)) if (bits.sum(0) == 1).all() else None


def _csv(path: Path, file: Iterable[str]) -> Sheet:
    lines = iter(file)
    first = next(lines, "")
    if not first.strip():
        raise InputError(f"{path} is empty: its first line must name its columns. Fill it, or remove it.")
    separator = max(SEPARATORS, key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise must(f"columns of {path}", "each have their own name", twice)
    rows = []
    for row in csv.reader(lines, delimiter=separator, strict=True):
        if row and len(row) != len(header):
            raise must(f"row {len(rows) + 2} of {path}", f"have {len(header)} values, as its first line", len(row))
        rows += [row] if row else []
    return Sheet(path, {name: [row[place].strip() for row in rows] for place, name in enumerate(header)})


def _json(path: Path, file: Iterable[str]) -> Sheet:
    columns: dict[str, list[str]] = {}
    count = 0
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"Line {number} of {path} is no JSON ({in_one_line(error)}). Put one object on each line."
            ) from None
        if not isinstance(row, dict) or (columns and row.keys() != columns.keys()):
            raise must(
                f"line {number} of {path}", f"be an object with {', '.join(columns) or 'columns'}", str(row)[:80]
            )
        for name, value in row.items():
            columns.setdefault(name, []).append("" if value is None else str(value))
        count += 1
    if not count:
        raise InputError(f"{path} is empty. Fill it, or remove it.")
    return Sheet(path, columns)
