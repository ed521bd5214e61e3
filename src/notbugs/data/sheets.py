"""Tables of text beside images: csv and tsv with any separator, and one JSON object on each line."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from notbugs.data.rows import Reading, split_of
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
BETWEEN = (",", ";", "/", "+", "&", " ")
"""Signs that stand between several labels elsewhere."""
FEWEST_FLAGS = 3
"""Columns of 0 and 1 that are taken for several labels where nobody named them."""
ASIDE = ("sex", "gender", "male", "female", "fold", "folds", "kfold", "cvfold", "frontal", "lateral", "unnamed0")
"""Names of columns of 0 and 1 that are no labels."""
GAPS = ("nan", "na", "n/a", "<na>", "#n/a", "null")
"""What pandas and spreadsheets write in place of nothing, in small letters."""
FLAGS: dict[str, int | str] = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), 1),
    **dict.fromkeys(("0", "0.0", "false", "no", "f", "n"), 0),
    **dict.fromkeys(("-1", "-1.0"), "uncertain"),
    **dict.fromkeys(("", *GAPS), "blank"),
}
"""What texts in a column of 0 and 1 are, in small letters."""

Names = Sequence[str] | re.Pattern[str]


def is_blank(text: str) -> bool:
    """Whether a cell says nothing, in whichever way that is written."""
    return text.strip().lower() in ("", *GAPS)


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

    def column(self, wanted: str | None, names: Names, flag: str) -> str | None:
        """The column that was asked for, or the only one with one of these names; None where there is none.

        Raises
        ------
        InputError
            If the one that was asked for is not there, or there are several.
        """
        if wanted is not None:
            return wanted if wanted in self.columns else None
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


def split_column(sheet: Sheet, besides: Iterable[str], wanted: Mapping[str, str]) -> str | None:
    """The column that says the split of each row; None where there is none.

    Its name is one of `SPLITS`, or all of its values are names of splits, `train` and others.

    Raises
    ------
    InputError
        If there are two, if only some of its values are names of splits and none were `asked` for, or if splits are
        flags in columns of their own.
    """
    columns = []
    for name in (name for name in sheet.columns if name not in besides):
        values = sorted(set(sheet.columns[name]))
        if len(values) > MOST_SPLITS:
            continue
        kinds = {split.kind if (split := split_of(value)) else "" for value in values}
        is_named = name in sheet.known(SPLITS)
        if wanted:
            is_split = set(wanted.values()) <= set(values)
        else:
            is_split = "" not in kinds and (is_named or len(kinds) > 1)
            looks_so = (len(kinds) > 1 or _are_codes(values)) if is_named else {"train", "test"} <= kinds
            if looks_so and not is_split:
                raise _not_understood(sheet, name, values)
            if split_of(name) and all(isinstance(FLAGS.get(text.lower()), int) for text in values):
                raise InputError(
                    f"{sheet.path} says in the column {name!r}, with the values {', '.join(values)}, which rows are "
                    "of a split. That is read from one column named 'split', with the values train, test and val. "
                    f"Write it so, or rename {name!r} if it is something else."
                )
        columns += [name] if is_split else []
    if len(columns) > 1:
        raise InputError(f"{sheet.path} has the columns {' and '.join(columns)}, and both name splits. Remove one.")
    return columns[0] if columns else None


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


@dataclass(frozen=True)
class Labels:
    """The labels of a table: a text for each row; or columns by name, and bits, shape (row, column)."""

    columns: tuple[str, ...]
    texts: Sequence[str] = ()
    bits: np.ndarray | None = None


def labels_of(sheet: Sheet, image: str, reading: Reading) -> Labels | None:
    """The labels of a table; None where no column holds any.

    They are in the columns that were asked for; else in one with a name of `LABELS`; else in the columns of 0 and 1,
    where each row has a single 1 in them, or there are `FEWEST_FLAGS` or more. Columns named as `ASIDE` are left out.

    Raises
    ------
    InputError
        If it is not clear which columns are meant, or what a value in them is.
    """
    wanted = reading.label_columns
    if len(wanted) < 2:
        name = sheet.column(wanted[0] if wanted else None, LABELS, "label_column")
        if name is not None or wanted:
            return None if name is None else Labels((name,), decided(sheet.path, name, sheet.columns[name], reading))
        names = [one for one in sheet.columns if one != image and _is_flags(sheet, one)]
        if len(names) < 2 or not len(sheet):
            return None
        read = bits(sheet.path, {one: sheet.columns[one] for one in names}, reading)
        if (read.sum(1) == 1).all():
            return Labels(tuple(names), bits=read)
        if len(names) < FEWEST_FLAGS:
            return None
        if almost := [one for place, one in enumerate(names) if (np.delete(read, place, 1).sum(1) == 1).all()]:
            others = [one for one in names if one != almost[0]]
            raise InputError(
                f"{sheet.path} has the columns {', '.join(names)} of 0 and 1, and one 1 in each row but for "
                f"{almost[0]!r}. Say which are the labels: --label-column {' '.join(map(shlex.quote, others))}, say."
            )
        return Labels(tuple(names), bits=read)
    if missing := [name for name in wanted if name not in sheet.columns]:
        if len(missing) == len(wanted):
            return None
        raise must("label_column", f"be columns of {sheet.path}: {', '.join(sheet.columns)}", missing[0])
    return Labels(wanted, bits=bits(sheet.path, {name: sheet.columns[name] for name in wanted}, reading))


def decided(where: object, name: str, texts: Sequence[str], reading: Reading) -> Sequence[str]:
    """The texts of one column of labels; where it is one of 0 and 1, what is unsure in it as it was decided.

    Raises
    ------
    InputError
        If somebody said what an unsure label counts as, and the column holds more than 0, 1 and unsure ones.
    """
    values = {FLAGS.get(text.lower(), text) for text in texts}
    said = {"uncertain": reading.uncertain, "blank": reading.blank}
    asked = [option for option, value in said.items() if value is not None]
    is_binary = values <= {0, 1, "uncertain", "blank"}
    if asked and not is_binary:
        rule = f"be given with labels of 0 and 1, and column {name!r} of {where} has others"
        raise must(asked[0], rule, said[asked[0]], "Leave it out, or name another --label-column.")
    if is_binary and (asked or {0, 1, "uncertain"} <= values):
        return [str(value) for value in bits(where, {name: texts}, reading)[:, 0].tolist()]
    return texts


def check_single(texts: Iterable[str], where: object) -> None:
    """Refuse texts that are several labels each, in a form that is not read as such.

    Raises
    ------
    InputError
        If a text is a list, or is made of others with a sign between them.
    """
    labels = set(texts)
    for text in sorted(labels):
        parts = (part for sign in BETWEEN if sign in text for part in [[one.strip() for one in text.split(sign)]])
        if text[:1] + text[-1:] in ("[]", "{}", "()") or any(set(part) <= labels - {text} for part in parts):
            raise InputError(
                f"{where} has {text!r}: are these several labels of an image? Write them with | between them, as "
                "a|b; or if it is a class of its own, name all classes with --classes."
            )


def bits(where: object, columns: Mapping[str, Sequence[str]], reading: Reading) -> np.ndarray:
    """Columns of 0 and 1 as an array of shape (row, column), int64.

    Raises
    ------
    InputError
        If there is another value, or -1 or empty cells and nobody said what these count as.
    """
    table = np.empty((len(next(iter(columns.values()))), len(columns)), np.int64)
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    said = {"uncertain": reading.uncertain, "blank": reading.blank}
    for place, (name, texts) in enumerate(columns.items()):
        for row, text in enumerate(texts):
            value = FLAGS.get(text.lower())
            if isinstance(value, str):
                counts[value] += 1
                first.setdefault(value, name)
                value = said[value] or 0
            if value is None:
                raise must(f"column {name!r} of {where}", "hold 0 and 1", text, "Name the labels with --label-column.")
            table[row, place] = value
    words = {"uncertain": "-1 (uncertain)", "blank": "an empty cell"}
    if unsaid := [name for name in words if counts[name] and said[name] is None]:
        seen = " and ".join(f"{words[name]} for {counts[name]} labels (as {first[name]!r})" for name in unsaid)
        flags = " ".join(f"--{name} 0" for name in unsaid)
        raise InputError(
            f"{where} has {seen}. Say what these count as, 0 or 1, as {flags}, or decide them in the table."
        )
    return table


def _is_flags(sheet: Sheet, name: str) -> bool:
    values = {FLAGS.get(text.lower(), text) for text in sheet.columns[name]}
    aside = sheet.known(ASIDE) + sheet.known(GROUPS) + sheet.known(SPLITS)
    return name not in aside and values <= {0, 1, "uncertain", "blank"} and bool(values & {0, 1})


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
