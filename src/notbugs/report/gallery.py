"""The gallery to play with: every image on sheets, one for each set, and what is known of it, for the page's script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from notbugs.report.pictures import SAYS, SIDE, Arrays, magnified, sheet

BUDGET = 9_000_000
"""Characters of pictures."""
LARGE = 224
"""CSS pixels of a picture taken apart, about."""

_PARTS = ("", ".labels", ".start", ".start_labels")

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Play:
    """What the template draws, and `data`, which the script reads.

    Attributes
    ----------
    sets : list of str
        Names.
    has_success : bool
        Whether it is known of every set which searches reached their goal.
    has_sizes : bool
        Whether it is known of a set how large its perturbations are, or whom its images are like.
    """

    sets: list[str]
    classes: list[str]
    count: int
    has_success: bool
    has_sizes: bool
    side: int
    data: dict[str, Any]


def play(arrays: Arrays, classes: Sequence[str]) -> Play | None:
    """As many images of a gallery as fit in `BUDGET`; None where none does, or there is no constructed set."""
    names = [name for name in SAYS if name != "D" and {f"{name}{part}" for part in _PARTS} <= set(arrays)]
    if not names:
        return None
    count = min(len(arrays["D"]), BUDGET // _size(_sets(arrays, names, 1)))  # as far as the first image tells
    while count and _size(made := _sets(arrays, names, count)) > BUDGET:
        count = count * 9 // 10
    return _play(arrays, classes, made) if count else None


def differences(moved: Floats) -> tuple[Floats, list[float]]:
    """Perturbations as pictures, and how many times each image's were amplified.

    Parameters
    ----------
    moved : array
        How far each frame is from its start, shape (image, frame, channel, height, width).

    Returns
    -------
    tuple of array and list of float
        0.5 + gain x moved, cut off at 0 and 1. The gain of an image lets its last frame just fit in, rounded down to
        two digits; 1 where nothing moved.
    """
    largest = np.abs(moved[:, -1]).reshape(len(moved), -1).max(1)
    gains = [_rounded_down(0.5 / value) if value > 0 else 1.0 for value in largest.tolist()]
    return np.clip(0.5 + np.asarray(gains)[:, None, None, None, None] * moved, 0, 1), gains


def _rounded_down(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit) * unit:.2g}")


def _sets(arrays: Arrays, names: Sequence[str], count: int) -> list[dict[str, Any]]:
    return [_set(arrays, name, count) for name in names]


def _size(made: Sequence[dict[str, Any]]) -> int:
    return sum(len(item["sheet"]) for item in made)


def _set(arrays: Arrays, name: str, count: int) -> dict[str, Any]:
    """One set: its sheet, and what is known of each image.

    A row of the sheet is an image: start and frames, the differences of the frames, and the target if it was matched.
    """
    some = {key.partition(".")[2]: array for key, array in arrays.items() if key.partition(".")[0] == name}
    image = some[""][:count].astype(np.float64)
    start = some["start"][:count].astype(np.float64)
    moved = (image - start)[:, None]
    if "moved" in some:
        moved = np.concatenate([some["moved"][:count, :-1].astype(np.float64), moved], 1)
    shown, gains = differences(moved)
    columns = [start[:, None], start[:, None] + moved, shown]
    columns += [some["target"][:count, None].astype(np.float64)] if "target" in some else []
    known = {key: some[key][:count].tolist() for key in ("labels", "start_labels", "success", "scores") if key in some}
    known |= {key: _numbers(some[key][:count]) for key in ("size", "alike") if key in some}
    return {
        "name": name,
        "matched": "target" in some,
        "sheet": sheet(np.concatenate(columns, 1)),
        "steps": [0, *(some["steps"].tolist() if "steps" in some else [])],
        "frames": 1 + moved.shape[1],
        "gains": gains,
        "l2": np.sqrt(np.square(image - start).reshape(count, -1).sum(1)).tolist(),
        "linf": np.abs(image - start).reshape(count, -1).max(1).tolist(),
        **known,
    }


def _numbers(values: NDArray[Any]) -> list[list[float | None]]:
    """As JSON, which has no numbers that are not finite."""
    return [[float(value) if np.isfinite(value) else None for value in row] for row in values]


def _play(arrays: Arrays, classes: Sequence[str], made: list[dict[str, Any]]) -> Play:
    count, (height, width) = len(made[0]["labels"]), arrays["D"].shape[2:]
    last = max(int(array.max()) for name, array in arrays.items() if name.endswith("labels"))
    known = [*classes, *map(str, range(len(classes), last + 1))]
    side = magnified(width, LARGE)
    thumb = magnified(width, SIDE // 2)
    data = {"width": width, "height": height, "classes": known, "sets": made, "count": count}
    pictures = {"side": side, "thumb": thumb}
    return Play(
        sets=[item["name"] for item in made],
        classes=known,
        count=count,
        has_success=all("success" in item for item in made),
        has_sizes=any({"size", "alike"} & set(item) for item in made),
        side=side,
        data=data | pictures,
    )
