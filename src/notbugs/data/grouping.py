"""Which images belong together, of one patient or one physical sign: by a column, or by what files are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor

from notbugs.data.rows import PART, Found
from notbugs.data.sheets import is_blank
from notbugs.errors import InputError, must

Paths = Sequence[PurePath | str | None]
"""Of the images of a split, below the data folder; None for one that has no file."""


def grouped_by_name(listing: Found, splits: Sequence[Paths], pattern: str) -> Found:
    """The same images; of one group are those whose paths say the same where the pattern has `{group}`.

    Parameters
    ----------
    listing : Found
        By a reader.
    splits : sequence of Paths
        Of the training split, and of the test split where there is one.
    pattern : str
        Of a whole path without its suffix: `{group}` stands for what names a group, `*` for anything.

    Raises
    ------
    InputError
        If the path of a training image, or of some test images and not of all, is not of this form; if there is but
        one group, or one for each image; or if one is in both splits.
    """
    names = [_named(paths, pattern, listing.name, is_train=not number) for number, paths in enumerate(splits)]
    count = len(set(names[0] or ()))
    if not 1 < count < len(listing.train):
        rule = f"put some of the {len(listing.train)} training images of {listing.name} together, and others apart"
        raise must("group_pattern", rule, f"{pattern}, with {count} group{'s' if count > 1 else ''}")
    groups = numbered_groups([None if of is None else np.array(of) for of in names], listing.name)
    note = f"training images are of {count} groups by their names ({pattern}), which are kept together"
    test = listing.test and replace(listing.test, groups=groups[1])
    return replace(listing, train=replace(listing.train, groups=groups[0]), test=test, notes=(*listing.notes, note))


def _named(paths: Paths, pattern: str, where: str, *, is_train: bool) -> list[str] | None:
    """The group of every image; None for test images of which none is named so."""
    form = re.compile(".*".join(re.escape(part).replace(re.escape(PART), "(.+)") for part in pattern.split("*")))
    stems = [None if path is None else PurePath(path).with_suffix("").as_posix() for path in paths]
    matches = [None if stem is None else form.fullmatch(stem) for stem in stems]
    others = [stem for stem, match in zip(stems, matches, strict=True) if stem is not None and match is None]
    if others and not is_train and not any(matches):
        return None
    if others:
        split = "training" if is_train else "test"
        raise InputError(
            f"The 'group_pattern' {pattern!r} must be the form of every {split} image of {where}; that of "
            f"{others[0]!r} and {len(others) - 1} more is another. {PART} stands for what names the group, * for "
            "anything, in the path without its suffix: correct it, or name the files alike."
        )
    return [match[1] if match else f"\0{row}" for row, match in enumerate(matches)]  # a file that is missing: alone


def apart(splits: Sequence[Sequence[str] | None], column: str) -> tuple[list[np.ndarray | None], tuple[str, ...]]:
    """Groups as a column of a table names them; a row that names none gets a group of its own, and a note tells of it.

    A split whose rows all name none has no groups. Whole numbers are written as one: pandas makes them 7.0 where a
    column has gaps, and the same patient is 7 in another split.
    """
    groups, blanks = [], 0
    for number, names in enumerate(splits):
        plain = [re.sub(r"(\d)\.0+$", r"\1", name) for name in names or ()]
        alone = [is_blank(name) for name in plain]
        blanks += sum(alone)
        named = [f"\0{number} {row}" if alone[row] else name for row, name in enumerate(plain)]
        groups.append(None if all(alone) else np.array(named))
    some = f"{blanks} images name" if blanks > 1 else "1 image names"
    each = "each counts" if blanks > 1 else "counts"
    return groups, (f"{some} no {column}, and {each} as a group of its own",) if blanks else ()


def numbered_groups(splits: Sequence[np.ndarray | None], where: object) -> list[Tensor | None]:
    """Names of patients, or other groups, of each split as numbers.

    Raises
    ------
    InputError
        If one is in two splits.
    """
    known = [names for names in splits if names is not None]
    if not known:
        return [None for _ in splits]
    ids, numbers = np.unique(np.concatenate(known), return_inverse=True)
    parts = np.split(numbers.astype(np.int64), np.cumsum([len(names) for names in known])[:-1])
    for part in parts[1:]:
        if len(shared := np.intersect1d(parts[0], part)):
            raise InputError(
                f"{len(shared)} groups of {where} have images both in the training and in the test split, as "
                f"{ids[shared[0]]}: accuracy would measure memory. Put all images of a group into one split."
            )
    left = iter(parts)
    return [None if names is None else torch.from_numpy(next(left)) for names in splits]
