"""The names of training, test and validation splits, by one rule for folders, files and columns.

A name is divided into words: at everything that is no letter or digit, between a small and a capital letter, and
between letters and digits; upper and lower case are one. It is of a split where exactly one word is one of that split's
words below, alone or with an ending such as `set` or `images`; other words do not matter: `train`, `Training`,
`seg_train`, `testImages`, `train-00000-of-00005`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from notbugs.data.classes import is_unlabelled
from notbugs.errors import InputError, must

WORDS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation", "holdout"),
}
ENDINGS = "(?:sets?|data|dataset|images?|imgs?|pics|pictures|splits?|folder|files?|labels?)?"
_SPLITS = {word: kind for kind, words in WORDS.items() for word in words} | {"t10k": "test"}  # MNIST's ten thousand
_WORD = re.compile(rf"({'|'.join(sorted(_SPLITS, key=len, reverse=True))}){ENDINGS}")


@dataclass(frozen=True)
class Split:
    """Which split a name is of.

    Attributes
    ----------
    kind : str
        `train`, `test` or `val`.
    word : str
        That told it.
    exact : bool
        Whether the name is that word and nothing else.
    """

    kind: str
    word: str
    exact: bool


def split_of(name: str) -> Split | None:
    """The split that a name is of; None where it is of none, or of several."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.findall(r"t10k|[^\W\d_]+|\d+", spaced)
    found = [match[1] for word in words if (match := _WORD.fullmatch(word))]
    if len({_SPLITS[word] for word in found}) != 1:
        return None
    return Split(_SPLITS[found[0]], found[0], spaced == found[0])


@dataclass(frozen=True)
class Choice:
    """The names that were chosen.

    Attributes
    ----------
    train : str
        Of the training split.
    tests : dict of str to str
        What results call a split to measure on, to its name: the preferred one first.
    """

    train: str
    tests: dict[str, str]


def choose(names: Iterable[str], asked: Mapping[str, str], where: object) -> Choice:
    """Which of `names` are the splits.

    The test split is preferred to the validation split; without either, images will be held out of training.

    Parameters
    ----------
    names : iterable of str
        Of folders, of files without their numbers, or of values.
    asked : mapping of str to str
        `train` and `test` to names, where they were given; the rule above decides on what was not.
    where : object
        What an error calls the place.

    Raises
    ------
    InputError
        If a name that was asked for is not there, none is of the training split, or two are of one split.
    """
    names = list(names)
    for kind, name in asked.items():
        if kind not in ("train", "test"):
            raise must("splits", "name 'train' or 'test'", kind, "As --splits.train NAME --splits.test NAME.")
        if name not in names:
            raise must(f"splits.{kind}", f"be one of {_listed(names)} in {where}", name)
    found = {kind: [name for name in names if (split := split_of(name)) and split.kind == kind] for kind in WORDS}
    taken = set(asked.values())
    train = asked.get("train") or _one([name for name in found["train"] if name not in taken], "train", where)
    if train is None:
        raise InputError(
            f"{where} has {_listed(names)}, and no training split. Name one of them 'train', or say which it is: "
            f"--splits.train {next((name for name in names if split_of(name) is None), 'NAME')}."
        )
    test = asked.get("test") or _one([name for name in found["test"] if name != train], "test", where)
    vals = [name for name in found["val"] if name not in (train, test)]
    val = None if test and len(vals) > 1 else _one(vals, "test", where)
    return Choice(train, {_called(name): name for name in (test, val) if name is not None})


def labelled(tests: Mapping[str, np.ndarray]) -> tuple[str, tuple[str, ...]]:
    """The first split whose images have labels, and a note on those before it, whose labels are all -1.

    `heldout` where there is none.
    """
    notes = []
    for name, labels in tests.items():
        if not is_unlabelled(labels):
            return name, tuple(notes)
        notes.append(f"not measured on: the split {name}, whose {len(labels)} labels are all -1 (no label)")
    return "heldout", tuple(notes)


def _one(names: list[str], kind: str, where: object) -> str | None:
    if len(names) > 1:
        raise InputError(
            f"{where} has {_listed(names)}: which is the {'training' if kind == 'train' else 'test'} split? Give it "
            f"with --splits.{kind}, as in --splits.{kind} {names[0]}, or keep one of them there."
        )
    return names[0] if names else None


def _called(name: str) -> str:
    """What results call a split: `test`, or the word that told that it is for validation."""
    split = split_of(name)
    return split.word if split and split.kind == "val" else "test"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
