"""The files of a study that the page is made from, checked as they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from notbugs.errors import InputError, in_one_line
from notbugs.files import check_tensors, warn_unchecked

Arrays = dict[str, NDArray[np.generic]]


def read_gallery(path: Path) -> Arrays | None:
    """Read `gallery.safetensors`: a sample of training images and their version in every constructed set.

    Returns None where there is no such file. Images have shape (image, channel, height, width) and lie in [0, 1]; row
    i of every array belongs to the same training image. What else there is, `study.gallery` says; older galleries have
    less.

    Raises
    ------
    InputError
        If the file is damaged, or its arrays do not fit together.
    """
    if not path.is_file():
        return None
    try:
        if not check_tensors(path):
            warn_unchecked(path)
        arrays = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise _unreadable(path, str(error)) from error
    if "D" not in arrays or "D.labels" not in arrays:
        raise _unreadable(path, "it has no images of D")
    count, channels = arrays["D"].shape[0], arrays["D"].shape[1] if arrays["D"].ndim == 4 else 0
    if channels not in (1, 3):
        raise _unreadable(path, f"images of shape {arrays['D'].shape} are neither grey nor RGB")
    for name, array in arrays.items():
        expected = _expected(arrays, name, count)
        if array.shape != expected:
            raise _unreadable(path, f"{name} has shape {array.shape}, not {expected}")
    return arrays


def read_pictures(path: Path) -> Arrays | None:
    """The pictures of an audit; None where there are none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        check_tensors(path)
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({in_one_line(error)}). Delete it and audit again."
        ) from error


def _expected(arrays: Arrays, name: str, count: int) -> tuple[int, ...]:
    made, _, kind = name.partition(".")
    frames = arrays[f"{made}.steps"].size if f"{made}.steps" in arrays else 0
    shapes = {
        "labels": (count,),
        "start_labels": (count,),
        "success": (count,),
        "steps": (frames,),
        "moved": (count, frames, *arrays["D"].shape[1:]),
        "scores": (count, 1 + frames),
        "size": (count, 2),
        "alike": (count, 2),
    }
    return shapes.get(kind, arrays["D"].shape)


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a gallery that notbugs can show: {why.rstrip('.')}. "
        "Give the study's command again: it makes the gallery anew."
    )
