"""A folder of images, one sub-folder for each class."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

import torch

from notbugs.data.classes import check_known, in_order
from notbugs.data.decode import Decoder, decode_all
from notbugs.data.grouping import grouped_by_name
from notbugs.data.published import recognised
from notbugs.data.rows import Broken, Found, Groups, Piece, Reading, Rows, Split, choose, list_files, split_of
from notbugs.data.walk import SUFFIXES, Node, Passed
from notbugs.errors import InputError, must

MOST_NAMES = 20
"""Of classes, that an error lists for people to type."""
MASKS = re.compile(r"(seg(mentation)?[ _-]?)?masks?|seg(mentation)?s?|ground[ _-]?truths?|gts?|annotations?|labels?")
PICTURES = re.compile(r"images?|imgs?|pictures?|pics|photos?|scans?|frames?|jpegimages|originals?|inputs?")
MASK_OF = re.compile(r"(.+?)[ _-](?:mask|seg|segmentation|gt|ground_?truth)s?(?:[ _-]?\d+)?", re.IGNORECASE)
"""A file that is named so is a segmentation of the image whose name comes before."""


def image_folder(node: Node, passed: Passed, reading: Reading) -> Found:
    """Find `FOLDER/CLASS/*.png`, or `FOLDER/train/CLASS/*.png` and `FOLDER/test/CLASS/*.png`.

    `splits` has the rule for the names of the splits. A split holds class folders, and no images beside them; a folder
    whose only content is another is gone through. Images may lie deeper below their class. Classes are in the order of
    their names as text, or in that of `reading.classes`. Files that are no images are passed over, and counted;
    so are masks beside their images (`1_mask.png` beside `1.png`). With `reading.groups`, these are the classes, in
    their order, and other folders are passed over.

    Raises
    ------
    InputError
        If Pillow is missing, there are no images or no classes, it is not clear which folders are splits and which
        classes, an image is of a format that is not read, or a class of the test images has no training images.
    """
    root = through(node)
    _pass_over_masks(root, passed)
    splits = _splits(root, reading, passed)
    if splits is None:
        _refuse_doubt(root, reading)
        return _folder_listing(node, root, None, "heldout", passed, reading)
    train, test, test_name = splits
    return _folder_listing(node, train, test, test_name, passed, reading)


def _splits(root: Node, reading: Reading, passed: Passed) -> tuple[Node, Node | None, str] | None:
    """The folders of the training and the test split, and the latter's name; None where the folders are classes."""
    folders = root.with_images()
    if reading.names and not reading.splits and set(folders) <= set(reading.names.places):
        return None
    named = {name: split for name in folders if (split := split_of(name))}
    outer = [name for name in folders if name in named and not folders[name].images]
    if reading.splits:
        chosen = choose(folders, reading.splits, root.path)
    elif not outer:
        _refuse_flat(root, named)
        return None
    elif not any(named[name].kind == "train" for name in outer):
        if len(outer) < len(folders) and not any(named[name].exact for name in outer):
            return None  # classes, of which one has such a word in its name
        first = outer[0]
        raise InputError(
            f"{root.path} has a folder {first!r} and none named 'train'. Name it so, or add it; if {first!r} "
            "is a class, "
            f"name all classes: {_as_classes(folders)}."
        )
    else:
        chosen = choose(outer, {}, root.path)
        _check_others(root, folders, named, outer, chosen.train)
    test_name = next(iter(chosen.tests), "heldout")
    test = chosen.tests.get(test_name)
    for name in folders:
        if name not in (chosen.train, test):
            what = (
                "validation splits beside the test split"
                if name in chosen.tests.values()
                else "folders that are no split"
            )
            passed.add(what, f"{name}, {folders[name].count} images")
    within = {name: through(folders[name], _kind(name)) for name in (chosen.train, test) if name}
    return within[chosen.train], within[test] if test else None, test_name


def _pass_over_masks(root: Node, passed: Passed) -> None:
    """Leave out segmentations beside the image that they are of, as `1_mask.png` beside `1.png`."""
    for node in root.nodes():
        stems = {Path(name).stem for name in node.images}
        for name in list(node.images):
            of = MASK_OF.fullmatch(Path(name).stem)
            if of and of[1] in stems:
                node.images.remove(name)
                passed.add("masks beside their images", str((node.path / name).relative_to(root.path)))


def _kind(name: str) -> str:
    return split.kind if (split := split_of(name)) else ""


def _check_others(root: Node, folders: dict[str, Node], named: dict[str, Split], outer: list[str], train: str) -> None:
    """Refuse what may be a class beside something named as a split, or a split whose name is not understood."""
    classes = set(through(folders[train], "train").with_images())
    others = [name for name in folders if name not in outer]
    if others and all(named[name].kind == "train" for name in outer) and not any(name in named for name in others):
        raise InputError(
            f"{root.path} has a folder {train!r} beside {', '.join(map(repr, others[:5]))}. If all are "
            "classes, name them: "
            f"{_as_classes(folders)}. If {train!r} is the training split, move the others "
            "away, or give "
            f"--splits.train {train}."
        )
    for name in others:
        if classes & set(through(folders[name]).with_images()):
            raise InputError(
                f"{root.path} has the folder {name!r}, with class folders as in {train!r}, and its name is "
                "that of no split. "
                f"Name it 'test' or 'val', give --splits.test {name}, or move it away."
            )


def _refuse_flat(root: Node, named: dict[str, Split]) -> None:
    """Splits that hold images without class folders are no classes."""
    exact = {split.kind for split in named.values() if split.exact}
    if {"train", "test"} <= exact or len(named) == len(root.with_images()) > 1:
        raise InputError(
            f"{root.path} has {', '.join(map(repr, named))} with images and no class folders in them: what are their "
            "labels? Put the images of each class into a folder of its name, as train/cat/1.png, or add a table: "
            "metadata.csv with the columns file_name and label. If these are classes, name them: "
            f"{_as_classes(root.with_images())}."
        )


def _as_classes(names: Iterable[str]) -> str:
    """How all of them are named as classes, in the order of the labels."""
    names = list(names)
    if len(names) > MOST_NAMES:
        return "--classes FILE, with the name of each on a line"
    return f"--classes {shlex.join(names)}"


def _refuse_doubt(root: Node, reading: Reading) -> None:
    """Refuse splits within classes, and folders that look like splits of other names."""
    folders = root.with_images()
    if reading.names or reading.groups or len(folders) < 2:
        return
    for name, node in folders.items():
        inside = {split.kind for below in node.with_images() if (split := split_of(below))}
        if {"train", "test"} <= inside or {"train", "val"} <= inside:
            raise InputError(
                f"{node.path} has folders for splits in it: {', '.join(map(repr, node.with_images()))}. "
                "Splits are read "
                f"outside classes: move it to train/{name} and test/{name}."
            )
    below = [set(node.with_images()) for node in folders.values() if not node.images]
    if len(below) == len(folders) and len(below[0]) > 1 and all(names == below[0] for names in below):
        first, second = list(folders)[:2]
        raise InputError(
            f"{root.path} has {', '.join(map(repr, list(folders)[:5]))}, with the same folders in each: "
            f"{', '.join(map(repr, sorted(below[0])[:5]))}. If the outer ones are splits, give --splits.train {first} "
            f"--splits.test {second}; if they are classes, {_as_classes(folders)}."
        )


def through(node: Node, kind: str = "") -> Node:
    """The folder that a chain of folders with nothing else in them leads to, within a split of this kind if any."""
    while not node.images and len(node.with_images()) == 1:
        (name, only), *_ = node.with_images().items()
        split = split_of(name)
        if only.images or (split and split.kind != kind):
            break
        node = only
    return node


def _folder_listing(
    named: Node, train: Node, test: Node | None, test_name: str, passed: Passed, reading: Reading
) -> Found:
    parts = [_classes(part, reading.groups) for part in ((train, test) if test else (train,))]
    for part in (train, test) if test else (train,):
        for name in part.images:
            passed.add("images beside the class folders", name)
    names = classes = tuple(reading.groups or in_order(parts[0]))
    if len(classes) < 2:
        seen = "".join(f" {note[0].upper()}{note[1:]}." for note in passed.notes())
        raise InputError(
            f"{train.path} must have a folder with images for each of two or more classes. Got "
            f"{list(classes)} instead. Name the folder that holds the classes, or train and test; or add a table with "
            f"labels: labels.csv with the columns file_name and label.{seen}"
        )
    for part in parts[1:]:
        check_known(part, classes)
    if not (reading.names or reading.groups):
        _refuse_masks(train, names)
    order = list(names)
    if reading.names:
        classes, places = reading.names.order(names, train.path)
        order = [name for _, name in sorted(zip(places, names, strict=True))]
    files = [file for split in parts for nodes in split.values() for node in nodes for file in node.files()]
    rows = [_rows(part, order, reading) for part in parts]
    variant = f"{len(classes)} groups of classes" if reading.groups else ""
    name = named.path.resolve().name
    test_rows = rows[1] if test else None
    real = [file for file in files if not _is_gone(file)]
    listing = Found(name, rows[0], test_rows, classes, list_files(real), test_name, variant, passed.notes())
    if reading.group_pattern:
        names = [[Path(part.name(row)).relative_to(named.path) for row in range(len(part))] for part in rows]
        listing = grouped_by_name(listing, names, reading.group_pattern)
    return listing if reading.size else recognised(listing, real)


def _refuse_masks(train: Node, names: Sequence[str]) -> None:
    """Refuse the folders of a data set for segmentation, which are no classes."""
    masks = [name for name in names if MASKS.fullmatch(name.lower())]
    images = [name for name in names if PICTURES.fullmatch(name.lower())]
    if masks and images:
        raise InputError(
            f"{train.path} has the folders {images[0]!r} and {masks[0]!r}, as data for segmentation have, and a "
            f"folder for each class is wanted. Give a table with a label for each image, and move {masks[0]!r} away. "
            f"If they are classes, name them: {_as_classes(names)}."
        )


def _is_gone(file: Path) -> bool:
    return file.is_symlink() and not file.exists()


def _rows(split: dict[str, list[Node]], order: list[str], reading: Reading) -> Rows:
    files: list[Path] = []
    labels: list[int] = []
    broken: dict[Path, Broken] = {}
    for label, name in enumerate(order):
        for node in split.get(name, ()):
            mine = list(node.files())
            files += mine
            labels += [label] * len(mine)
            broken |= {
                below.path / image: Broken(str(below.path / image), why, "Restore it, or remove it from the data.")
                for below in node.nodes()
                for image, why in below.broken.items()
            }

    def read(first: int) -> Iterator[Piece]:
        items = ((broken.get(file, file), str(file), None) for file in files[first:])
        return decode_all(items, Decoder(reading.size, reading.white_level))

    return Rows(torch.tensor(labels, dtype=torch.int64), read, lambda row: str(files[row]))


def _classes(folder: Node, groups: Groups) -> dict[str, list[Node]]:
    """The folders of each class."""
    if groups:
        return _grouped(folder, groups)
    if not folder.with_images():
        raise InputError(
            f"There are no images in the folders below {folder.path}. It must hold a folder for each class, "
            f"with files {', '.join(SUFFIXES)}, or of any name; or a table beside the images (metadata.csv)."
        )
    if empty := [name for name, node in folder.folders.items() if not node.count]:
        raise InputError(f"{folder.path / empty[0]} has no images. Remove it, or add images of this class.")
    return {normalize("NFC", name): [node] for name, node in folder.folders.items()}  # macOS has é as e and an accent


def _grouped(folder: Node, groups: Groups) -> dict[str, list[Node]]:
    """The folders of each group, in the order of the groups."""
    folders = {}
    members = {group: [name for name in folder.folders if _lies_in(name, text)] for group, text in groups.items()}
    for group, inside in members.items():
        folders[group] = [folder.folders[name] for name in inside if folder.folders[name].count]
        if not folders[group]:
            remedy = f"Name class folders below {folder.path}, or ranges FIRST..LAST of them."
            raise must("groups", "each have images", f"{group} = {groups[group]!r} with none", remedy)
    once: set[str] = set()
    for name in (name for inside in members.values() for name in inside):
        if name in once:
            raise must("groups", "have no class in common", name)
        once.add(name)
    return folders


def _lies_in(name: str, text: str) -> bool:
    """Whether a class is one of `text`: names and ranges, both ends included, with commas between them."""
    for part in text.split(","):
        first, dots, last = (piece.strip() for piece in part.partition(".."))
        if name == first or (dots and first <= name <= last):
            return True
    return False
