"""Every kind of data there is, in one table, and `load`, which chooses from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from notbugs.data.assemble import as_found, assemble, tested_on, through_jpeg
from notbugs.data.built_in import digits, planted, pneumonia
from notbugs.data.classes import check_spelling
from notbugs.data.decode import file_format, in_words
from notbugs.data.folder import image_folder
from notbugs.data.images import Data
from notbugs.data.jpeg import JPEG
from notbugs.data.listed import listed
from notbugs.data.npz import npz_file
from notbugs.data.parquet import PREFIX, hub, parquet_file, parquet_files
from notbugs.data.published import MD5, cifar, digits_of, medmnist
from notbugs.data.rows import Found, Groups, Reading
from notbugs.data.stacks import array_file, array_files, mat_files
from notbugs.data.walk import TABLES, Node, Passed, walk
from notbugs.errors import InputError, at_home, check_count, must, nearest_path
from notbugs.progress import Progress, silent
from notbugs.shapes import READ_AS

log = logging.getLogger("notbugs")

BUILT_IN = "builtin:"


@dataclass(frozen=True)
class Place:
    """A source as it was given, and what is there."""

    source: str
    follow_links: bool = False

    @property
    def path(self) -> Path:
        """As a path."""
        return at_home(self.source)

    @cached_property
    def walked(self) -> tuple[Node, Passed] | None:
        """The folder there, if there is one, and what was passed over in it."""
        return walk(self.path, follow_links=self.follow_links) if self.path.is_dir() else None

    @cached_property
    def format(self) -> str:
        """Of the file there, by its first bytes; "" where there is none, or it is of no known format."""
        try:
            return file_format(self.path) if self.path.is_file() else ""
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}).") from None

    def formats(self) -> set[str]:
        """Of the files in the folder there."""
        node = self.walked[0] if self.walked else None
        return {kind for below in node.nodes() for kind in below.arrays.values()} if node else set()


Read = Callable[[Place, Reading, Progress], Found | Data]
"""Reads a source, told of progress."""


@dataclass(frozen=True)
class Kind:
    """One kind of data: how users write it, what it is, which options it takes, and its reader."""

    form: str
    about: str
    takes: frozenset[str]
    """Fields of `Reading` that it has a use for."""
    fits: Callable[[Place], bool]
    read: Read


MADE = frozenset({"channels", "jpeg", "skip_broken", "follow_links"})
"""Options of any data: the last two say what to do with what is found, if it is."""
PUBLISHED = MADE | {"size", "classes"}
ARRAYS = PUBLISHED | {"label_offset", "white_level"}
IN_COLUMNS = ARRAYS | {"image_column", "label_column", "group_column", "group_pattern", "uncertain", "blank"}


def _named(name: str, about: str, read: Read, takes: frozenset[str] = PUBLISHED) -> Kind:
    return Kind(name, about, takes, lambda place: place.source == name, read)


def _made(name: str, about: str, make: Callable[[], Data]) -> Kind:
    return _named(name, about, lambda place, reading, progress: make(), MADE)


def _cifar(place: Place, reading: Reading, progress: Progress) -> Found:
    return cifar(place.source, reading, progress)


def _file(name: str, read: Callable[[Path, Reading], Found]) -> tuple[Callable[[Place], bool], Read]:
    return lambda place: place.format == name, lambda place, reading, _: read(place.path, reading)


def _folder(
    fits: Callable[[Place, Node], bool], read: Callable[[Node, Passed, Reading], Found]
) -> tuple[Callable[[Place], bool], Read]:
    def read_it(place: Place, reading: Reading, progress: Progress) -> Found:
        node, passed = place.walked or walk(place.path)
        return read(node, passed, reading)

    return lambda place: place.walked is not None and fits(place, place.walked[0]), read_it


def _lists_images(place: Place, node: Node) -> bool:
    return node.count > 0 and any(below.tables for below in node.nodes())


def _listed(node: Node, passed: Passed, reading: Reading) -> Found:
    listing = None if reading.groups else listed(node, passed, reading)
    if listing is None and (column := reading.columns):
        raise InputError(
            f"No table below {node.path} lists its images, so there is no {column}. Add one, or leave it out."
        )
    return listing or image_folder(node, passed, reading)


def _one_table(place: Place, reading: Reading, progress: Progress) -> Found:
    node, passed = walk(place.path.parent, follow_links=reading.follow_links)
    listing = listed(node, passed, reading, place.path)
    return replace(listing, name=place.path.stem) if listing else image_folder(node, passed, reading)


def _digits_of(place: Place, reading: Reading, progress: Progress) -> Found:
    return digits_of(place.source, reading, progress)


def _holds_arrays(place: Place, node: Node) -> bool:
    return node.count == 0 and bool(place.formats() & {"npy", "idx", "mat", "HDF5", "gzip"})


def _arrays(node: Node, passed: Passed, reading: Reading) -> Found:
    kinds = {kind for below in node.nodes() for kind in below.arrays.values()}
    return (mat_files if kinds & {"mat", "HDF5"} else array_files)(node, passed, reading)


KINDS = (
    _made("digits", "1,797 handwritten digits of 8x8 pixels, no download", digits),
    _made("pneumonia", "2,624 chest x-rays of 28x28 pixels, with or without pneumonia, no download", pneumonia),
    _made("planted", "made images whose robust and non-robust features are known", lambda: planted().data),
    _named("cifar10", "CIFAR-10 from its authors, 170 MB", _cifar),
    _named("cifar100", "CIFAR-100 from its authors, 169 MB", _cifar),
    _named("mnist", "MNIST, 70,000 digits of 28x28 pixels, 12 MB", _digits_of),
    _named("fashion-mnist", "Fashion-MNIST, 70,000 articles of clothing of 28x28 pixels, 31 MB", _digits_of),
    _named("svhn", "Street View House Numbers, cropped digits of 32x32 pixels, 246 MB", _digits_of),
    Kind(
        "pathmnist, bloodmnist ...",
        "any of MedMNIST's twelve flat sets, of 28x28 pixels; pathmnist_64, _128 and _224 are larger",
        PUBLISHED,
        lambda place: place.source in MD5,
        lambda place, reading, progress: medmnist(place.source, reading, progress),
    ),
    Kind(
        "hub:OWNER/NAME",
        "a data set of the Hugging Face Hub; hub:OWNER/NAME/CONFIG for one of its configurations",
        IN_COLUMNS | {"splits"},
        lambda place: place.source.startswith(PREFIX),
        lambda place, reading, progress: hub(place.source, reading),
    ),
    Kind("FILE.npz", "a NumPy archive in the layout of MedMNIST or Keras", ARRAYS, *_file("npz", npz_file)),
    Kind("FILE.parquet", "one parquet file with images and labels", IN_COLUMNS, *_file("parquet", parquet_file)),
    Kind(
        "FOLDER of parquet files",
        "train*.parquet, test*.parquet, as the Hub has them",
        IN_COLUMNS | {"splits"},
        *_folder(lambda place, node: "parquet" in place.formats(), parquet_files),
    ),
    Kind(
        "FILE.npy",
        "images, with their labels in a file beside it, as CIFAR-10.1 and CIFAR-10-C have them; or one file "
        "of MNIST's idx",
        ARRAYS | {"severity"},
        lambda place: place.format in ("npy", "idx") or (place.format == "gzip" and "idx" in place.path.name),
        lambda place, reading, _: array_file(place.path, reading),
    ),
    Kind(
        "FOLDER of npy, idx or mat files",
        "pairs as train_images.npy and train_labels.npy; MNIST's idx files, also .gz; SVHN's train_32x32.mat",
        ARRAYS | {"severity", "splits"},
        *_folder(_holds_arrays, _arrays),
    ),
    Kind(
        "FOLDER with a table",
        "images, and metadata.csv, train.csv or another csv, tsv or jsonl table with their labels",
        IN_COLUMNS | {"splits", "groups"},
        *_folder(_lists_images, _listed),
    ),
    Kind(
        "TABLE.csv",
        "one such table, with its images beside or below it",
        IN_COLUMNS | {"splits"},
        lambda place: place.path.suffix.lower() in TABLES and place.path.is_file(),
        _one_table,
    ),
    Kind(
        "FOLDER of images",
        "FOLDER/CLASS/*.png, or FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png",
        PUBLISHED | {"white_level", "group_pattern", "splits", "groups"},
        *_folder(lambda place, node: node.count > 0, image_folder),
    ),
)


def load(
    source: str | Path,
    *,
    test_data: str | Path | None = None,
    size: int | None = None,
    channels: int | None = None,
    groups: Groups | None = None,
    classes: Sequence[str] | str | Path = (),
    splits: Mapping[str, str] | None = None,
    image_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    label_offset: int = 0,
    white_level: float | None = None,
    severity: int | None = None,
    uncertain: int | None = None,
    blank: int | None = None,
    jpeg: JPEG | None = None,
    skip_broken: bool = False,
    follow_links: bool = False,
    memory: int | None = None,
    progress: Progress = silent,
) -> Data:
    """Read a data set by name or path.

    What was passed over, and whatever else a reader of results must know, is in `Data.notes`, and logged.

    Parameters
    ----------
    source : str or Path
        `digits`, `pneumonia`, `planted`, `cifar10`, `cifar100`, `hub:OWNER/NAME`, an npz or parquet file, or a folder
        of parquet files or images; docs/how-to/your-data.md has the rules of each.
    test_data : str or Path, optional
        Another source, whose test images, or all of whose images if it has no test split, are measured on in place
        of this one's: a set that was made to test classifiers, as CIFAR-10.1. Classes are matched by name.
    size : int, optional
        Height and width to which the square in the middle of every image is resized, with antialiasing; images keep
        their size by default, which must then be one.
    channels : {1, 3}, optional
        3 gives grey images three equal channels, for a network made for colour, and radii are then of three channels;
        1 takes the luminance of colour (ITU-R 601-2). By default images keep theirs.
    groups : mapping of str to str, optional
        Of a folder of images: new classes by name, each made of the class folders and ranges of them that its text
        names, as `{"cat": "n02123045..n02124075", "pet": "dog, canary"}`. Other folders are passed over.
    classes : sequence of str, or Path
        The names of the classes in the order of their labels, or a file with them; see `data.classes.class_list`. By
        default names are sorted as text, as torchvision's ImageFolder does, and labels that are numbers stay as they
        are.
    splits : mapping of str to str, optional
        Which folder, file or split is `train` and which `test`, where their names do not say so.
    image_column, label_column, group_column : str, optional
        Of a table. Images of one group, of one patient say, are never on two sides of a split. Several label columns
        of 0 and 1 are several labels, or one-hot.
    group_pattern : str, optional
        The form of the paths of image files, without their suffix, below the data folder or as parquet files keep
        them: images with the same text in place of `{group}` are a group, `*` stands for anything. `{group}_*` are
        the tracks of GTSRB, whose paths are CLASS/TRACK_FRAME; `*/{group}_*` are patients in the names of files.
    label_offset : int
        The number of the first class, where labels are numbers.
    white_level : float, optional
        The value of white: 4095 for 12 bits in files of 16, 1 for masks of 0 and 1 in files of 8. By default 255 and
        65535 in files, 255 in arrays of whole numbers, 1 in floating point.
    severity : int, optional
        Of CIFAR-10-C's files, each with five blocks of images: which one, 1 to 5.
    uncertain, blank : int, optional
        What -1 and an empty cell count as in columns of 0 and 1, 0 or 1, where there are such (CheXpert's).
    jpeg : JPEG, optional
        Compress every image, training and test images alike, once it has its size; before `channels`. Pixels are
        then of 8 bits. The variant of the data says so, and radii are in [0, 1] units of the compressed pixels.
    skip_broken : bool
        Leave out images that cannot be read; `Data.left_out` names them.
    follow_links : bool
        Follow links that lead out of a folder.
    memory : int, optional
        Bytes that the decoded images may take. With more, they are decoded once to files in the cache folder and read
        from there as they are needed, to the same bits. A quarter of what is available by default.
    progress : Progress
        Told of every few images, or of every piece of a download.

    Raises
    ------
    InputError
        If there is no such data set, it cannot be read, or what it holds breaks a rule of `Data`.

    Examples
    --------
    >>> nb.load("digits").train.shape
    (1, 8, 8)
    """
    if memory is not None:
        check_count("memory", memory)
    reading = Reading(
        size, channels, groups or {}, classes, splits or {}, image_column, label_column, group_column,
        group_pattern, label_offset, white_level, severity, uncertain, blank, jpeg, skip_broken, follow_links,
    )  # fmt: skip
    place = Place(str(source), follow_links)
    kind, place = _kind(place)
    other = None if test_data is None else _kind(Place(str(test_data), follow_links))
    _check_options(reading, [kind, other[0]] if other else [kind])
    listing = kind.read(place, replace(reading, severity=None) if other else reading, progress)
    if other:
        kind, place = other
        of_tests = replace(reading, classes=(), splits={}, groups={}, group_pattern=None)
        listing = tested_on(listing, kind.read(place, of_tests, progress))
    data = _data(listing, reading, memory, progress)
    for note in data.notes:
        log.info("%s: %s", data.name, note)
    return data


def _data(listing: Found | Data, reading: Reading, memory: int | None, progress: Progress) -> Data:
    """What a source lists, read into memory or mapped; what is in memory already is read again if it is to change."""
    if isinstance(listing, Data) and reading.channels is None and reading.jpeg is None:
        return listing
    listing = as_found(listing) if isinstance(listing, Data) else listing
    size, channels = reading.size, reading.channels
    jpeg = reading.jpeg
    changed = (f"resized to {size}x{size}" if size else "", str(jpeg or ""), READ_AS[channels] if channels else "")
    listing = through_jpeg(listing, jpeg) if jpeg else listing
    listing = replace(listing, variant=", ".join(filter(None, (listing.variant, *changed))))
    if not reading.classes:
        check_spelling(listing.classes)
    return assemble(listing, reading, memory, progress)


def _check_options(reading: Reading, kinds: Sequence[Kind]) -> None:
    """Refuse options that these kinds of data have no use for."""
    taken = frozenset[str]().union(*(kind.takes for kind in kinds))
    for option in fields(reading):
        value = getattr(reading, option.name)
        is_given = value != getattr(Reading(), option.name) and value not in ([], "")
        if option.name not in taken and is_given:
            takers = [kind.form for kind in KINDS if option.name in kind.takes]
            rule = f"be left out for {' and '.join(kind.form for kind in kinds)}: it is of {', '.join(takers)}"
            raise must(option.name, rule, value)


def _kind(place: Place) -> tuple[Kind, Place]:
    """What a source is, and where: a built-in set must not be mistaken for a file or folder of its name."""
    built_in = _built_in()
    name = place.source.removeprefix(BUILT_IN)
    if place.source.startswith(BUILT_IN) and name in built_in:
        return built_in[name], Place(name)
    if name in built_in:
        if place.path.exists() and not _written_by_us(place.path):
            raise InputError(
                f"{name!r} is a built-in data set, and there is a file or folder of this name here. Give "
                f"./{name} to read "
                f"that, or {BUILT_IN}{name} for the built-in set."
            )
        return built_in[name], place
    for kind in KINDS if place.source.strip() else ():
        if kind.fits(place):
            return kind, place
    raise InputError(f"{_trouble(place)} Data can be given as {', '.join(kind.form for kind in KINDS)}.")


OURS = {"study.json": "a study", "*/study.json": "studies", "manifest.json": "a constructed set"}
"""What a folder that notbugs wrote holds, by what is found in it."""


def _written_by_us(path: Path) -> str | None:
    """What a folder holds that notbugs wrote there, if it did: `--out digits` makes no data of that name."""
    return next((what for name, what in OURS.items() if next(path.glob(name), None)), None)


def _built_in() -> dict[str, Kind]:
    """The kinds of all sets that have names of their own."""
    medical = next(kind for kind in KINDS if kind.fits(Place("pathmnist")))
    named = {kind.form: kind for kind in KINDS if kind.form.replace("-", "").isalnum() and kind.form.islower()}
    return named | dict.fromkeys(MD5, medical)


def _trouble(place: Place) -> str:
    """Why no kind fits."""
    source, path = place.source, place.path
    if not source.strip():
        return "The 'data' must be named. Give it with --data."
    ours = _written_by_us(path)
    if ours == "a constructed set" and next(path.glob("shard-*.safetensors"), None):
        return (
            f"The 'data' cannot be {source!r}: it is a constructed set. `notbugs train` takes one as its 'on', beside "
            "the 'data' that it was made of; `notbugs export` writes one as parquet, which is data."
        )
    if ours and ours != "a constructed set":
        return f"The 'data' cannot be {source!r}: it is the folder of {ours}. Give the data that it was made with."
    if place.walked:
        passed = "; ".join(place.walked[1].notes())
        seen = f" ({passed})" if passed else ""
        single = [str(below.path / name) for below in place.walked[0].nodes() for name in below.arrays]
        if single:
            return f"The data folder {source!r} holds {', '.join(single[:4])}. Give one of them, as --data {single[0]}."
        return f"The data folder {source!r} is empty: it holds no image and no parquet file{seen}."
    if path.is_file():
        what = in_words(place.format) or "begins as none of the formats that are read"
        if (kind := path.suffix.lower().removeprefix(".")) in ("npz", "parquet"):
            return f"{path} is not a readable {kind} file: it {what}."
        return f"The 'data' cannot be {source!r}: it {what}."
    if path.exists():
        return f"The 'data' cannot be {source!r}: it is neither a file nor a folder."
    near = get_close_matches(source, list(_built_in()), n=1)
    guess = f" Did you mean {near[0]!r}?" if near else nearest_path(path)
    return f"There is no {source!r}: no data set, file or folder has this name.{guess}"
