"""Every kind of data there is, in one table, and `load`, which chooses from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from notbugs.data.assemble import assemble
from notbugs.data.cifar import cifar
from notbugs.data.digits import digits
from notbugs.data.folder import Groups, holds_images, image_folder
from notbugs.data.hub import PREFIX, hub
from notbugs.data.images import Data
from notbugs.data.npz import npz_file
from notbugs.data.parquet import parquet_files
from notbugs.data.planted import planted
from notbugs.data.pneumonia import pneumonia
from notbugs.data.rows import Found
from notbugs.errors import InputError, check_count, must
from notbugs.progress import Progress, silent

Read = Callable[[str, int | None, Progress], Found | Data]
"""Reads a source, its images resized to a size, told of progress."""


@dataclass(frozen=True)
class Kind:
    """One kind of data: how users write it, what it is, whether a source is of it, and its reader."""

    form: str
    about: str
    fits: Callable[[str], bool]
    read: Read


def _named(name: str, about: str, read: Read) -> Kind:
    return Kind(name, about, lambda source: source == name, read)


def _made(make: Callable[[], Data]) -> Read:
    def read(source: str, size: int | None, progress: Progress) -> Data:
        if size is not None:
            raise must("size", f"not be given with {source}, which is made in one size", size)
        return make()

    return read


def _at(reader: Callable[[Path, int | None], Found]) -> Read:
    return lambda source, size, progress: reader(Path(source).expanduser(), size)


def _file(suffix: str) -> Callable[[str], bool]:
    return lambda source: Path(source).suffix == suffix and Path(source).expanduser().is_file()


def _folder_with(content: Callable[[Path], bool]) -> Callable[[str], bool]:
    def fits(source: str) -> bool:
        return (folder := Path(source).expanduser()).is_dir() and content(folder)

    return fits


KINDS = (
    _named("digits", "1,797 handwritten digits of 8x8 pixels, no download", _made(digits)),
    _named("pneumonia", "2,624 chest x-rays of 28x28 pixels, with or without pneumonia, no download", _made(pneumonia)),
    _named("planted", "made images whose robust and non-robust features are known", _made(lambda: planted().data)),
    _named("cifar10", "CIFAR-10 from its authors, 170 MB", cifar),
    _named("cifar100", "CIFAR-100 from its authors, 169 MB", cifar),
    Kind(
        "hub:OWNER/NAME",
        "a data set of the Hugging Face Hub; hub:OWNER/NAME/CONFIG for one of its configurations",
        lambda source: source.startswith(PREFIX),
        lambda source, size, progress: hub(source, size),
    ),
    Kind("FILE.npz", "a NumPy archive in the layout of MedMNIST or Keras", _file(".npz"), _at(npz_file)),
    Kind("FILE.parquet", "one parquet file with images and labels", _file(".parquet"), _at(parquet_files)),
    Kind(
        "FOLDER of parquet files",
        "train*.parquet, test*.parquet, as the Hub has them",
        _folder_with(lambda folder: next(folder.rglob("*.parquet"), None) is not None),
        _at(parquet_files),
    ),
    Kind(
        "FOLDER of images",
        "FOLDER/CLASS/*.png, or FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png",
        _folder_with(holds_images),
        _at(image_folder),
    ),
)


def load(
    source: str | Path,
    *,
    size: int | None = None,
    groups: Groups | None = None,
    memory: int | None = None,
    progress: Progress = silent,
) -> Data:
    """Read a data set by name or path.

    Parameters
    ----------
    source : str or Path
        `digits`, `pneumonia`, `planted`, `cifar10`, `cifar100`, `hub:OWNER/NAME`, an npz or parquet file, or a folder
        of parquet files or images; docs/your-data.md has the rules of each.
    size : int, optional
        Height and width to which the square in the middle of every image is resized, with antialiasing; images keep
        their size by default, which must then be one.
    groups : mapping of str to str, optional
        Of a folder of images: new classes by name, each made of the class folders and ranges of them that its text
        names, as `{"cat": "n02123045..n02124075", "pet": "dog, canary"}`. Other folders are passed over.
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
    >>> load("digits").train.shape
    (1, 8, 8)
    """
    if size is not None:
        check_count("size", size)
    if memory is not None:
        check_count("memory", memory)
    kind = _kind(str(source))
    if groups and kind is not KINDS[-1]:
        raise must("groups", "be given with a folder of images", str(source))
    read = (lambda source, size, _: image_folder(Path(source).expanduser(), size, groups)) if groups else kind.read
    found = read(str(source), size, progress)
    if isinstance(found, Data):
        return found
    if size is not None:
        found = replace(found, variant=", ".join(filter(None, (found.variant, f"resized to {size}x{size}"))))
    return assemble(found, size, memory, progress)


def _kind(source: str) -> Kind:
    for kind in KINDS if source.strip() else ():
        if kind.fits(source):
            return kind
    raise InputError(f"{_trouble(source)} Data can be given as {', '.join(kind.form for kind in KINDS)}.")


def _trouble(source: str) -> str:
    """Why no kind fits."""
    path = Path(source).expanduser()
    if not source.strip():
        return "The 'data' must be named. Give it with --data."
    if path.is_dir():
        return f"The data folder {source!r} is empty: it holds no image and no parquet file."
    if path.exists():
        return f"The 'data' cannot be {source!r}: a file must end in .npz or .parquet. Or name its folder."
    names = [kind.form for kind in KINDS if kind.form.islower() and kind.form.isalnum()]
    near = get_close_matches(source, names, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no {source!r}: no data set, file or folder has this name.{guess}"
