"""A folder as it is on disk: every file once, links not followed twice or out, pipes and devices not opened."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from notbugs.data.decode import FIRST_BYTES, IMAGES, UNREAD, format_of
from notbugs.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
"""Of images. What such a file holds, and whether it can be read, is seen when it is decoded."""
OTHERS = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".dcm", ".nii")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
FOLDERS = ("@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information")
"""Of file servers and systems, with thumbnails and rubbish in them."""
DEEPEST = 64


@dataclass
class Passed:
    """What a walk passed over: how many files of each sort, with an example of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    """Of tables: those that are not used, and the name of a table that has them."""

    def add(self, what: str, example: str) -> None:
        """One more."""
        self.counts[what] += 1
        self.examples.setdefault(what, example)

    def notes(self) -> tuple[str, ...]:
        """A line for each sort."""
        return tuple(
            f"passed over: {what} ({count}{':' if count == 1 else ', as'} {self.examples[what]})"
            for what, count in self.counts.items()
        )


@dataclass
class Node:
    """A folder: its folders, and its files by what they are, all by name and in the order of their names.

    `tables` are csv, tsv and jsonl; `arrays` are npy, idx, mat, npz and parquet files, by name and format.
    """

    path: Path
    folders: dict[str, Node] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    arrays: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Images that are no files, and why: they are decoded to an error."""

    @cached_property
    def count(self) -> int:
        """Of the images in it and below."""
        return len(self.images) + sum(node.count for node in self.folders.values())

    def files(self) -> Iterator[Path]:
        """The images in it and below."""
        for name in sorted([*self.folders, *self.images]) if self.folders else self.images:
            if name in self.folders:
                yield from self.folders[name].files()
            else:
                yield self.path / name

    def nodes(self) -> Iterator[Node]:
        """Itself and all below."""
        yield self
        for node in self.folders.values():
            yield from node.nodes()

    def with_images(self) -> dict[str, Node]:
        """Its folders that have images in them or below."""
        return {name: node for name, node in self.folders.items() if node.count}


def walk(folder: Path, *, follow_links: bool = False) -> tuple[Node, Passed]:
    """Everything below `folder`, and what was passed over.

    Hidden folders and those of file servers, whose names begin with `.` or `__` or are in `FOLDERS`, and hidden
    files are
    passed over; so are links to folders that are here anyway, or that hold this one. A file is an image if its name
    ends in one of `SUFFIXES`, or if it begins as one.

    Parameters
    ----------
    folder : Path
        May be a link itself.
    follow_links : bool
        Whether links to files and folders elsewhere are read; they are refused by default.

    Raises
    ------
    InputError
        If a folder cannot be read, a link leads elsewhere, or there is an image of a format that is not read.
    """
    root = Path(os.path.realpath(folder))
    walker = _Walker(root, Passed(), follow_links, len(folder.parts))
    return walker.node(folder, root), walker.passed


@dataclass
class _Walker:
    root: Path
    passed: Passed
    follow_links: bool
    start: int
    seen: set[tuple[int, int]] = field(default_factory=set)

    def node(self, path: Path, real: Path) -> Node:
        node = Node(path)
        if len(path.parts) - self.start > DEEPEST:
            raise InputError(f"{path} lies more than {DEEPEST} folders below the data folder. Move it, or its images.")
        try:
            state = os.stat(real)
            if (state.st_dev, state.st_ino) in self.seen:
                self.passed.add("folders that are read elsewhere", str(path))
                return node
            self.seen.add((state.st_dev, state.st_ino))
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"The folder {path} cannot be read ({error.strerror}).") from None
        links = []
        for entry in entries:
            name = entry.name
            if name.startswith((".", "__")) or name.lower() in FOLDERS:
                self.passed.add("hidden or system files and folders", self.short(entry))
            elif entry.is_symlink():
                links.append(entry)
            elif entry.is_dir(follow_symlinks=False):
                node.folders[name] = self.node(path / name, real / name)
            else:
                self.file(node, entry)
        for entry in links:  # after what is here itself: a folder is read where it lies
            self.link(node, entry)
        node.folders = dict(sorted(node.folders.items()))
        node.images.sort()
        return node

    def short(self, entry: os.DirEntry[str]) -> str:
        return "/".join(Path(entry.path).parts[self.start :])

    def link(self, node: Node, entry: os.DirEntry[str]) -> None:
        target = Path(os.path.realpath(entry.path))
        try:
            state = os.stat(entry.path)
        except OSError as error:
            if Path(entry.name).suffix.lower() in SUFFIXES:
                node.images.append(entry.name)
                end = "leads back to it" if error.errno == errno.ELOOP else "is not there"
                node.broken[entry.name] = f"is a link to {os.readlink(entry.path)}, which {end}"
            else:
                self.passed.add("links to nothing", self.short(entry))
            return
        inside = target == self.root or self.root in target.parents
        if stat.S_ISDIR(state.st_mode):
            if inside or target in self.root.parents or (state.st_dev, state.st_ino) in self.seen:
                self.passed.add("links to folders that are read where they lie", self.short(entry))
            else:
                self.check_way_out(entry, target)
                node.folders[entry.name] = self.node(Path(entry.path), target)
            return
        if inside:
            self.passed.add("links to files that are read where they lie", self.short(entry))
            return
        self.check_way_out(entry, target)
        self.file(node, entry)

    def check_way_out(self, entry: os.DirEntry[str], target: Path) -> None:
        if not self.follow_links:
            raise InputError(
                f"{entry.path} is a link out of the data folder, to {target}. Links out are read with --follow-links "
                "(follow_links=True); or copy the folder with what they lead to: cp -rL."
            )

    def file(self, node: Node, entry: os.DirEntry[str]) -> None:
        name = entry.name
        suffix = os.path.splitext(name)[1].lower()
        if not stat.S_ISREG(entry.stat().st_mode):
            self.passed.add("pipes, sockets or devices", self.short(entry))
        elif suffix in SUFFIXES:
            node.images.append(name)
        elif suffix in TABLES:
            node.tables.append(name)
        else:
            kind = self.format(entry)
            if kind in IMAGES:
                node.images.append(name)
            elif suffix in OTHERS or kind in UNREAD:
                raise InputError(
                    f"{entry.path} is of a format that is not read{f' ({kind})' if kind in UNREAD else ''}. "
                    "Save it as PNG, with all others of its kind, or take it out of the data folder."
                )
            elif kind in ("npy", "npz", "parquet", "idx", "mat", "gzip", "HDF5") or suffix == ".parquet":
                node.arrays[name] = kind or "parquet"
            else:
                self.passed.add("files that are no images", self.short(entry))

    def format(self, entry: os.DirEntry[str]) -> str:
        try:
            handle = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                return format_of(os.read(handle, FIRST_BYTES))
            finally:
                os.close(handle)
        except OSError as error:
            raise InputError(f"{entry.path} cannot be read ({error.strerror}).") from None
