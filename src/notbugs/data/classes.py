"""Labels as readers find them, whole numbers or names, to labels from 0 and class names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor

from notbugs.errors import InputError, at_home, in_one_line, must
from notbugs.files import check_file

LARGEST_LIST = 2**24  # bytes
NAMED = 5
SYNSET = re.compile(r"(n\d{8})\s+\S")


def class_names(count: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """`names`, or the numbers from 0 where there are none."""
    return tuple(names) if names else tuple(map(str, range(count)))


def named_in(array: np.ndarray, what: str) -> list[str]:
    """Class names as an array holds them: texts, bytes or whole numbers, of shape (class,) or (class, 1).

    Raises
    ------
    InputError
        If it holds something else.
    """
    names = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if names.ndim != 1 or names.dtype.kind not in "iuSU":
        remedy = "Save one text for each class, as np.array(['cat', 'dog']), or leave it out."
        raise must(what, "be the names of the classes", f"{array.dtype} of shape {array.shape}", remedy)
    return [str(name) for name in (_text(names, what) if names.dtype.kind == "S" else names).tolist()]


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once, sorted as text: the order of torchvision's ImageFolder."""
    return sorted(set(names))


@dataclass(frozen=True)
class ClassList:
    """Class names in the order of their labels.

    Attributes
    ----------
    names : tuple of str
        One for each class.
    places : dict of str to int
        The label of each name, also of second names (ImageNet's `n01440764` beside `tench`).
    """

    names: tuple[str, ...]
    places: dict[str, int]

    def order(self, names: Sequence[str], what: object) -> tuple[tuple[str, ...], list[int]]:
        """The classes in this order, and for each of those found its label.

        Raises
        ------
        InputError
            If a class that was found is not in the list, or the other way.
        """
        if unknown := [name for name in names if name not in self.places]:
            raise InputError(
                f"The 'classes' must name every class of {what}. {_some(unknown)} is not among {_some(self.names)}. "
                "Correct the list, in the order of the labels. Names of a model's outputs are its 'outputs'."
            )
        labels = [self.places[name] for name in names]
        if missing := [name for label, name in enumerate(self.names) if label not in labels]:
            raise InputError(
                f"The 'classes' must be those of {what}, and no others. {_some(missing)} has no image there. "
                "Leave it out."
            )
        # A number that the list maps to a name is read as this name; of two names, the data's own stays.
        named = {at: self.names[at] if name.isdecimal() else name for at, name in zip(labels, names, strict=True)}
        if len(named) < len(labels):
            twice = next(name for name in names if labels.count(self.places[name]) > 1)
            raise must("classes", f"give every class of {what} its own label", twice)
        return tuple(named[label] for label in range(len(self.names))), labels


def class_list(given: Sequence[str] | str | Path) -> ClassList:
    """Class names in order: as they are, or from a file.

    Parameters
    ----------
    given : sequence of str, or Path
        Names; or one file with a name on each line, or JSON: a list of names, or an object from label to name or from
        name to label. A name may be a list of names that mean the same, as in ImageNet's `imagenet_class_index.json`.

    Raises
    ------
    InputError
        If the file cannot be read, or there are fewer than two names, or one twice.
    """
    words = [given] if isinstance(given, str | Path) else list(given)
    rows = [[str(word)] for word in words]
    if len(words) == 1:
        rows = _read(at_home(words[0]))
    rows = [[normalize("NFC", name) for name in row] for row in rows]
    names = tuple(row[0] for row in rows)
    if len(names) < 2:
        raise must("classes", "be two names or more, or a file with them", names)
    places: dict[str, int] = {}
    for column in range(max(map(len, rows))):  # first names count more than second ones
        for label, row in enumerate(rows):
            if column < len(row) and places.setdefault(row[column], label) != label and column == 0:
                raise must("classes", "name each class once", row[0])
    return ClassList(names, places)


def match_classes(classifier: Sequence[str], data: Sequence[str]) -> list[int]:
    """For each class of the data, which output of a classifier it is: by name, never by number.

    Parameters
    ----------
    classifier, data : sequence of str
        Their class names, in the order of the outputs and of the labels. The classifier may have more.

    Raises
    ------
    InputError
        If a class of the data is not one of the classifier's.
    """
    places = {name: place for place, name in enumerate(classifier)}
    if unknown := [name for name in data if name not in places]:
        raise InputError(
            f"The classifier's classes must have those of the data among them. {_some(unknown)} of the data is not "
            f"among {_some(classifier)}. Name the classes in the data as the classifier does."
        )
    return [places[name] for name in data]


def renumbered(labels: Tensor, places: Sequence[int]) -> Tensor:
    """Labels with class `i` at `places[i]`; of several labels for an image it is columns that move, and not values."""
    if labels.ndim > 1:
        return labels[:, np.argsort(places).tolist()]
    return torch.tensor(places)[labels]


def check_known(names: Iterable[str], classes: Sequence[str]) -> None:
    """Refuse classes of a test split that have no training image."""
    if unknown := in_order(set(names) - set(classes)):
        raise InputError(
            f"Every class of the test images must be among those of the training images; {_some(unknown)} is not. "
            f"They are {_some(classes)}. Rename it, add training images, or remove it from the test images."
        )


def check_spelling(classes: Sequence[str]) -> None:
    """Refuse two classes that differ in nothing but case, spaces, signs or zeros in front; letters (EMNIST's) may."""
    plain: dict[str, str] = {}
    for name in classes:
        key = re.sub(r"[\W_]", "", name).casefold()
        if name.isdecimal():
            key = f"number {int(name)}"
        if len(key) > 1 and not key.isdigit() and plain.setdefault(key, name) != name:
            both = f"{plain[key]!r} and {name!r}"
            raise InputError(
                f"The classes {both} differ only in how they are written. Make them one, or name all classes as they "
                f"are with --classes (classes=...)."
            )


def is_unlabelled(labels: np.ndarray) -> bool:
    """Whether every label is -1, as in test splits whose labels are kept secret."""
    return labels.size > 0 and labels.dtype.kind in "if" and bool((labels == -1).all())


def coded(
    train: np.ndarray,
    test: np.ndarray | None,
    names: Sequence[str] | None,
    what: str,
    *,
    offset: int = 0,
    listed: ClassList | None = None,
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Labels of both splits from 0, and class names; of several labels for an image 0 or 1 for each, and their names.

    Parameters
    ----------
    train, test : ndarray
        Shape (image,) or (image, 1): whole numbers, which stay as they are but for `offset`, or names. Or one-hot,
        shape (image, class). Or, where some image has no 1 or several, shape (image, label).
    names : sequence of str, optional
        Where the source has them.
    what : str
        What an error calls the labels.
    offset : int
        The number of the first class.
    listed : ClassList, optional
        The order asked for.

    Raises
    ------
    InputError
        If labels are neither, there are several for an image, a number has no image, or a test image has a class
        without training images.
    """
    if not np.ndim(train) or (test is not None and not np.ndim(test)):
        raise must(what, "be one for each image", f"{train if not np.ndim(train) else test} alone")
    if not len(train) or (test is not None and not len(test)):
        raise InputError(f"The {'test' if len(train) else 'training'} split of {what} has no images. Add some.")
    if any(split is not None and are_several(split) for split in (train, test)):
        columns = several(train, test, names or (listed.names if listed else None), what)
        return _in_given_order(*columns, listed, what) if listed and names else columns
    train, test = _column(train, what), None if test is None else _column(test, what)
    if test is not None and (train.dtype.kind == "U") != (test.dtype.kind == "U"):
        raise must(what, "be names in both splits, or numbers in both", "names and numbers")
    if train.dtype.kind == "U":
        if offset:
            raise must("label_offset", "be given with labels that are numbers", offset)
        names = in_order(train.tolist())
        numbers, test_numbers = _numbered(train, names), None if test is None else _numbered(test, names)
    else:
        known = names or (listed.names if listed else None)
        count = _check_numbers(train, test, what, offset, len(known) if known else None)
        numbers = torch.from_numpy(train - offset)
        test_numbers = None if test is None else torch.from_numpy(test - offset)
        if listed and not names:
            return numbers, test_numbers, listed.names
        names = class_names(count, names)
    if not listed:
        return numbers, test_numbers, tuple(names)
    classes, labels = listed.order(names, what)
    return renumbered(numbers, labels), None if test_numbers is None else renumbered(test_numbers, labels), classes


def _check_numbers(train: np.ndarray, test: np.ndarray | None, what: str, offset: int, classes: int | None) -> int:
    """How many classes there are, once labels are known to be 0, 1, 2 and so on after `offset`."""
    numbers = np.unique(train).tolist()
    low, high = numbers[0], numbers[-1]
    if numbers == [-1, 1]:
        remedy = "If these are two classes, number them 0 and 1: labels = (labels + 1) // 2."
        raise must(f"training {what}", f"be {offset} and {offset + 1}", "-1 and 1", remedy)
    if low == -1:
        count = int((train == -1).sum())
        remedy = "-1 usually means that an image has no label: take these images out of the data."
        raise must(f"training {what}", f"be at or above {offset}", f"-1 for {count} images", remedy)
    begins = f"They begin at {low}: give --label-offset {low} (label_offset={low})."
    if low != offset and high - low + 1 == len(numbers) and classes in (None, len(numbers)) and low >= 0:
        raise must(what, f"begin at {offset}", f"{low} to {high}", begins)
    top = offset + (classes or len(train)) - 1
    if low < offset or high > top:
        rule = (
            f"be between {offset} and {top}, as there are {classes or len(train)} {'classes' if classes else 'images'}"
        )
        remedy = "Number the classes from 0 without gaps, or save their names in place of numbers."
        raise must(f"training {what}", rule, low if low < offset else high, remedy)
    count = classes or high - offset + 1
    if classes is None and len(numbers) < count:
        missing = sorted(set(range(offset, high + 1)) - set(numbers))
        remedy = "Number the classes without gaps, or save their names in place of numbers."
        raise must(what, f"be {offset} to {high}, with a training image for each", f"none for {_some(missing)}", remedy)
    if test is not None and count > 1:  # of one class, `Data` has more to say
        low, high = int(test.min()), int(test.max())
        if low < offset or high >= offset + count:
            unlabelled = f"{int((test == -1).sum())} images have -1, no label: take them out." if low == -1 else ""
            rule = f"be between {offset} and {offset + count - 1}, as the training images have {count} classes"
            raise must(f"test {what}", rule, low if low < offset else high, unlabelled)
    return count


def _column(labels: np.ndarray, what: str) -> np.ndarray:
    """Labels of shape (image,): names, or int64."""
    labels = _text(labels, what) if labels.dtype.kind == "S" else labels
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and _is_one_hot(labels):
        return labels.argmax(1)
    if labels.ndim != 1:
        remedy = "Several labels for an image are columns of 0 and 1: decide those that are unsure, missing or graded."
        raise must(what, "have shape (image,) or (image, 1), or be one-hot", labels.shape, remedy)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.round(labels)).all():
        if np.abs(labels).max() >= 2**53:
            raise must(what, "be whole numbers or names", f"{np.abs(labels).max():g}")
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise must(what, "be whole numbers or names", str(labels.dtype))
    if labels.dtype.kind == "u" and labels.max() > np.iinfo(np.int64).max:
        raise must(what, "be below 2**63", int(labels.max()))
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


def _text(labels: np.ndarray, what: str) -> np.ndarray:
    try:
        return np.array([label.decode() for label in labels.ravel().tolist()], np.str_).reshape(labels.shape)
    except UnicodeDecodeError as error:
        raise must(what, "be names in UTF-8", str(error)) from None


def _is_one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


def _numbered(labels: np.ndarray, classes: list[str]) -> Tensor:
    names, index = np.unique(labels, return_inverse=True)
    check_known(names.tolist(), classes)
    places = {name: place for place, name in enumerate(classes)}
    return torch.tensor([places[name] for name in names.tolist()], dtype=torch.int64)[torch.from_numpy(index)]


def _read(file: Path) -> list[list[str]]:
    check_file(file)
    if not file.is_file():
        raise must("classes", "be two names or more, or a file with them", str(file))
    if file.stat().st_size > LARGEST_LIST:
        raise must(
            "classes", f"be a file of at most {LARGEST_LIST // 2**20} MB", f"{file}, {file.stat().st_size} bytes"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
        value = json.loads(text) if text.lstrip()[:1] in "[{" and text.strip() else None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file} is not a list of classes ({in_one_line(error)}). Save one name on each line."
        ) from None
    if value is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return [[line, match[1]] if (match := SYNSET.match(line)) else [line] for line in lines]
    if isinstance(value, dict):
        value = _sorted(file, value)
    rows = [[one] if isinstance(one, str) else one for one in value]
    if not all(isinstance(row, list) and row and all(isinstance(word, str) for word in row) for row in rows):
        raise InputError(f"{file} must hold names, or lists of names that mean the same. Save one name on each line.")
    return rows


def _sorted(file: Path, value: dict[str, object]) -> list[object]:
    """The names of an object from label to name, or from name to label, in the order of the labels."""
    if all(isinstance(label, int) for label in value.values()):
        pairs = {label: name for name, label in value.items() if isinstance(label, int)}
    elif all(key.isdecimal() for key in value):
        pairs = {int(key): [*([name] if isinstance(name, str) else name), key] for key, name in value.items()}  # pyrefly: ignore
    else:
        pairs = {}
    if sorted(pairs) != list(range(len(value))) or not value:
        raise InputError(f"{file} must map the labels from 0 to {len(value) - 1} to names, or names to these labels.")
    return [pairs[label] for label in range(len(pairs))]


def _some(names: Iterable[object]) -> str:
    words = [str(name) for name in names]
    return ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")


def are_several(labels: np.ndarray) -> bool:
    """Whether labels are columns of 0 and 1, and some image has none of them, or more than one."""
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf" or not len(labels):
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(1) != 1).any())


def _in_given_order(
    train: Tensor, test: Tensor | None, names: tuple[str, ...], listed: ClassList, what: str
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Several labels with their columns in the order of the list."""
    classes, places = listed.order(names, what)
    return renumbered(train, places), None if test is None else renumbered(test, places), classes


def several(
    train: np.ndarray, test: np.ndarray | None, names: Sequence[str] | None, what: str
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Labels of both splits, shape (image, label), int64, and the names of the labels: by default their numbers.

    Raises
    ------
    InputError
        If the splits have other numbers of labels, or values other than 0 and 1, or names do not fit.
    """
    count = train.shape[1]
    for split in (train, test):
        if split is not None and (split.shape[1:] != (count,) or not np.isin(split, (0, 1)).all()):
            raise must(what, f"be 0 or 1 in {count} columns, in both splits", split.shape)
    if names is not None and len(names) != count:
        raise must(f"classes of {what}", f"be {count} names, one for each column", len(names))
    tensors = [None if split is None else torch.from_numpy(split.astype(np.int64)) for split in (train, test)]
    assert tensors[0] is not None
    return tensors[0], tensors[1], tuple(names) if names is not None else tuple(map(str, range(count)))
