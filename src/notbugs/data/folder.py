"""A folder of images, one sub-folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from notbugs.data.cifar import recognised
from notbugs.data.classes import check_known, in_order
from notbugs.data.decode import decode_all
from notbugs.data.rows import Found, Piece, Rows, list_files
from notbugs.errors import InputError, must

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
OTHERS = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".dcm", ".nii", ".npy")
TESTS = ("test", "val", "valid", "validation")


Groups = Mapping[str, str]
"""New classes by name: class folders and ranges of them, as `n02123045..n02124075, lion`."""


def image_folder(folder: Path, size: int | None, groups: Groups | None = None) -> Found:
    """Find `FOLDER/CLASS/*.png`, or `FOLDER/train/CLASS/*.png` and `FOLDER/test/CLASS/*.png`.

    The test folder may be named `val`, `valid` or `validation`, and `Data.test_name` says so. Images may lie deeper
    below their class. Classes are in the order of their names, by number where all are numbers. Files that are no
    images are passed over. With `groups`, these are the classes, in their order, and other folders are passed over.

    Raises
    ------
    InputError
        If Pillow is missing, there are no images or no classes, an image is of a format that is not read, or a class of
        the test images has no training images.
    """
    below = _subfolders(folder)
    test_name = next((name for name in TESTS if name in below), None)
    if "train" not in below:
        if test_name:
            raise InputError(f"{folder} has a folder {test_name!r} and none named 'train'. Name it so, or add it.")
        return _found(folder, _classes(folder, groups), None, "heldout", size, groups)
    test = _classes(folder / test_name, groups) if test_name else None
    return _found(folder, _classes(folder / "train", groups), test, test_name or "heldout", size, groups)


def holds_images(folder: Path) -> bool:
    """Whether there is an image below `folder`."""
    return next(_images(folder), None) is not None


def _found(
    folder: Path,
    train: dict[str, list[Path]],
    test: dict[str, list[Path]] | None,
    test_name: str,
    size: int | None,
    groups: Groups | None,
) -> Found:
    classes = tuple(groups or in_order(train))
    if len(classes) < 2:
        raise InputError(
            f"{folder} must have a folder with images for each of two or more classes. Got {list(classes)} instead. "
            "Name the folder that holds the classes, or train and test."
        )
    check_known(test or (), classes)
    files = [file for split in (train, test or {}) for paths in split.values() for file in paths]
    rows = _rows(train, classes, size), None if test is None else _rows(test, classes, size)
    variant = f"{len(classes)} groups of classes" if groups else ""
    found = Found(folder.resolve().name, *rows, classes, list_files(files), test_name, variant)
    return found if size else recognised(found, files)


def _rows(split: dict[str, list[Path]], classes: tuple[str, ...], size: int | None) -> Rows:
    files = [file for name in classes for file in split.get(name, ())]
    labels = [label for label, name in enumerate(classes) for _ in split.get(name, ())]

    def read(first: int) -> Iterator[Piece]:
        return decode_all(((file, str(file)) for file in files[first:]), size)

    return Rows(torch.tensor(labels, dtype=torch.int64), read, lambda row: str(files[row]))


def _classes(folder: Path, groups: Groups | None) -> dict[str, list[Path]]:
    """The images of each class."""
    if groups:
        return _grouped(folder, groups)
    found = {name: sorted(_images(folder / name)) for name in _subfolders(folder)}
    if not any(found.values()):
        raise InputError(
            f"There are no images in the folders below {folder}. It must hold a folder for each class, "
            f"with files {', '.join(SUFFIXES)}."
        )
    if empty := [name for name, files in found.items() if not files]:
        raise InputError(f"{folder / empty[0]} has no images. Remove it, or add images of this class.")
    return found


def _grouped(folder: Path, groups: Groups) -> dict[str, list[Path]]:
    """The images of each group, in the order of the groups."""
    names, found = _subfolders(folder), {}
    members = {group: [name for name in names if _lies_in(name, text)] for group, text in groups.items()}
    for group, inside in members.items():
        found[group] = [file for name in inside for file in sorted(_images(folder / name))]
        if not found[group]:
            remedy = f"Name class folders below {folder}, or ranges FIRST..LAST of them."
            raise must("groups", "each have images", f"{group} = {groups[group]!r} with none", remedy)
    once: set[str] = set()
    for name in (name for inside in members.values() for name in inside):
        if name in once:
            raise must("groups", "have no class in common", name)
        once.add(name)
    return found


def _lies_in(name: str, text: str) -> bool:
    """Whether a class is one of `text`: names and ranges, both ends included, with commas between them."""
    for part in text.split(","):
        first, dots, last = (piece.strip() for piece in part.partition(".."))
        if name == first or (dots and first <= name <= last):
            return True
    return False


def _images(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in OTHERS:
                raise InputError(f"{os.path.join(parent, name)} is of a format that is not read. Save it as PNG.")
            if suffix in SUFFIXES and not name.startswith("."):
                yield Path(parent, name)


def _subfolders(folder: Path) -> list[str]:
    found = (entry for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith((".", "__")))
    return sorted(entry.name for entry in found)
