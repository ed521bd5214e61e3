"""Constructed sets as other tools read them: a folder that appears whole, with a card and the manifest."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from notbugs.construct.card import LOADER_TEXT, Features, LabelFeature, card, licence_line
from notbugs.construct.manifest import Manifest, Span, read_manifest
from notbugs.construct.storage import decode, encode
from notbugs.construct.store import ConstructedSet
from notbugs.errors import InputError, check_choice, must
from notbugs.files import LOG, DiskFull, check_writable, is_disk_full, only_writer, sha256
from notbugs.progress import Progress, silent
from notbugs.threat import l2_norm

CHUNK_BYTES = 2**23  # of float32


def chunks(built: ConstructedSet, progress: Progress) -> Iterator[tuple[slice, Tensor]]:
    """Consecutive rows and their pixels as stored, a few megabytes at a time."""
    size = max(1, CHUNK_BYTES // (4 * math.prod(built.images.shape)))
    for low in range(0, len(built), size):
        part = slice(low, min(low + size, len(built)))
        yield part, built.images.pixels[part]
        progress(part.stop, len(built))


class Pictures:
    """Rounds images to 8 bits, and keeps account of what that loses."""

    def __init__(self) -> None:
        self.total, self.largest, self.count = 0.0, 0.0, 0

    def __call__(self, pixels: Tensor) -> np.ndarray:
        """uint8, shape (image, height, width, channel), without the last where there is one channel."""
        images = decode(pixels)
        rounded = encode(images, "uint8")
        error = l2_norm(decode(rounded) - images)
        self.total, self.count = self.total + float(error.double().sum()), self.count + len(error)
        self.largest = max(self.largest, float(error.max()))
        return channels_last(rounded)

    def lost(self) -> Span:
        """Mean and largest l2 distance between a picture and the image as stored."""
        return {"mean": self.total / self.count, "max": self.largest}


def channels_last(pixels: Tensor) -> np.ndarray:
    """Shape (image, height, width, channel), without the last where there is one channel."""
    moved = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    return moved[..., 0] if moved.shape[-1] == 1 else moved


def fits_png(built: ConstructedSet) -> bool:
    """Whether images are grey or of three colours."""
    return built.images.shape[0] in (1, 3)


def class_labels(names: list[str]) -> LabelFeature:
    """The Hub's description of a label column."""
    return {"_type": "ClassLabel", "names": names}


def png(picture: np.ndarray) -> bytes:
    """The picture as a PNG file.

    Raises
    ------
    InputError
        If Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError("Pictures need Pillow: pip install 'notbugs[data]'.") from None
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


LONGEST_NAME = 60  # characters; a file name has at most 255 bytes


def write_image_folder(built: ConstructedSet, to: Path, progress: Progress) -> tuple[Features, Span]:
    """Write `train/00_airplane/000000.png`, and `rows.csv` with the other columns; return features, and what was lost.

    Readers number the classes in the order of the folders' names, so these begin with the class's number. `rows.csv`
    is not inside `train`, where `datasets` would take a table for metadata and drop the labels.

    Raises
    ------
    InputError
        If images have neither 1 nor 3 channels, a class has no image, or Pillow is missing.
    """
    if not fits_png(built):
        raise must("images", "have 1 or 3 channels to be PNG files", built.images.shape[0], "Export as parquet or npz.")
    _refuse_empty_classes(built)
    folders = class_folders(built.manifest["request"]["classes"])
    for folder in folders:
        (to / "train" / folder).mkdir(parents=True)
    pictures, digits = Pictures(), max(6, len(str(len(built) - 1)))
    with (to / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "label", "start", "target", "loss"])
        for part, pixels in chunks(built, progress):
            for row, picture in zip(range(part.start, part.stop), pictures(pixels), strict=True):
                label = int(built.images.labels[row])
                file = f"train/{folders[label]}/{row:0{digits}d}.png"
                (to / file).write_bytes(png(picture))
                rows.writerow([file, label, int(built.start[row]), int(built.target[row]), float(built.loss[row])])
    return {"image": {"_type": "Image"}, "label": class_labels(folders)}, pictures.lost()


def class_folders(classes: list[str]) -> list[str]:
    """A folder name for every class: its number, and of its name what is safe in a path."""
    digits = max(2, len(str(len(classes) - 1)))
    safe = (re.sub(r"[^\w.-]+", "_", name)[:LONGEST_NAME].rstrip(".") for name in classes)
    return [f"{number:0{digits}d}_{name}" for number, name in enumerate(safe)]


def _refuse_empty_classes(built: ConstructedSet) -> None:
    classes = built.manifest["request"]["classes"]
    counts = torch.bincount(built.images.labels, minlength=len(classes))
    empty = [classes[label] for label in (counts == 0).nonzero().flatten().tolist()]
    if empty:
        raise InputError(
            f"An image folder must have an image of every class, as readers count its folders. {empty[0]!r} has none. "
            "Export as parquet or npz."
        )


def write_npz(built: ConstructedSet, to: Path, progress: Progress) -> tuple[Features, None]:
    """Write `data.npz`; return no features, as the Hub reads none, and nothing lost.

    `train_images` is (image, height, width), or (image, height, width, channel) of several channels, in the type it is
    stored in; `train_labels` is (image, 1). `train_start`, `train_target`, `train_loss` are (image,); `classes` names
    the classes.
    """
    count, (channels, height, width) = len(built), built.images.shape
    dtype = np.dtype(built.manifest["request"]["dtype"])
    shape = (count, height, width) + ((channels,) if channels > 1 else ())
    columns = {
        "labels": built.images.labels[:, None].numpy(),
        "start": built.start.numpy(),
        "target": built.target.numpy(),
        "loss": built.loss.numpy(),
    }
    with zipfile.ZipFile(to / "data.npz", "w") as file:
        pixels = (channels_last(part) for _, part in chunks(built, progress))
        _write_array(file, "train_images", dtype, shape, pixels)
        for name, column in columns.items():
            _write_array(file, f"train_{name}", column.dtype, column.shape, [column])
        names = np.array(built.manifest["request"]["classes"])
        _write_array(file, "classes", names.dtype, names.shape, [names])
    return {}, None


def _write_array(
    file: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[np.ndarray]
) -> None:
    """Write an array part by part: `numpy.savez` wants all of it in memory."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_2_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part).tobytes())


FILE_CHUNKS = 60  # about 500 MB of float32, the Hub's own size


def write_parquet(built: ConstructedSet, to: Path, progress: Progress) -> tuple[Features, Span | None]:
    """Write `data/train-00000.parquet` and so on; return features, and what the pictures lost.

    `image` is a PNG, left out where there are neither 1 nor 3 channels; `pixels` is exact: what is stored, in its type.

    Raises
    ------
    InputError
        If pyarrow or Pillow is missing.
    """
    pyarrow = _import_pyarrow()
    pictures = Pictures() if fits_png(built) else None
    features = _features(built, with_image=pictures is not None)
    schema = _schema(pyarrow, features, built)
    (to / "data").mkdir()
    parts = chunks(built, progress)
    for number, first in enumerate(parts):  # the first of each file; its others are taken inside
        file = to / "data" / f"train-{number:05d}.parquet"
        with pyarrow.parquet.ParquetWriter(file, schema, write_page_checksum=True) as writer:
            for part, pixels in chain([first], islice(parts, FILE_CHUNKS - 1)):
                columns = _columns(pyarrow, built, part, pixels, pictures)
                writer.write_table(pyarrow.table([columns[name] for name in schema.names], schema=schema))
    return features, pictures.lost() if pictures else None


def _features(built: ConstructedSet, *, with_image: bool) -> Features:
    """The columns as `datasets` describes them."""
    request = built.manifest["request"]
    picture: Features = {"image": {"_type": "Image"}}
    columns: Features = {
        "label": class_labels(request["classes"]),
        "start": {"_type": "Value", "dtype": "int64"},
        "target": {"_type": "Value", "dtype": "int64"},
        "loss": {"_type": "Value", "dtype": "float32"},
        "pixels": {"_type": "Array3D", "shape": list(built.images.shape), "dtype": request["dtype"]},
    }
    return picture | columns if with_image else columns


def _schema(pyarrow: Any, features: Features, built: ConstructedSet) -> Any:
    """The types of the columns, with what `datasets` needs to know them again.

    Without the field's own metadata it would silently read `pixels` as lists of lists.
    """
    shape, dtype = list(built.images.shape), built.manifest["request"]["dtype"]
    nested = pyarrow.from_numpy_dtype(dtype)
    for _ in shape:
        nested = pyarrow.list_(nested)
    extension = {
        "ARROW:extension:name": "datasets.features.features.Array3DExtensionType",
        "ARROW:extension:metadata": json.dumps([shape, dtype]),
    }
    types = {
        "image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}),
        "label": pyarrow.int64(),
        "start": pyarrow.int64(),
        "target": pyarrow.int64(),
        "loss": pyarrow.float32(),
    }
    fields = [pyarrow.field(name, types[name]) for name in features if name != "pixels"]
    fields.append(pyarrow.field("pixels", nested, metadata=extension))
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _columns(
    pyarrow: Any, built: ConstructedSet, part: slice, pixels: Tensor, pictures: Pictures | None
) -> dict[str, Any]:
    """Arrow arrays of some rows, by name."""
    plain = {"label": built.images.labels, "start": built.start, "target": built.target, "loss": built.loss}
    columns = {name: pyarrow.array(column[part].numpy()) for name, column in plain.items()}
    columns["pixels"] = _nested(pyarrow, pixels.numpy())
    if pictures is not None:
        names = [f"{row:06d}.png" for row in range(part.start, part.stop)]
        encoded = [png(picture) for picture in pictures(pixels)]
        columns["image"] = pyarrow.StructArray.from_arrays([encoded, names], ["bytes", "path"])
    return columns


def _nested(pyarrow: Any, values: np.ndarray) -> Any:
    """A list array of list arrays, as many deep as `values` has axes but one, over its values in place."""
    array = pyarrow.array(values.reshape(-1))
    for length in reversed(values.shape[1:]):
        offsets = np.arange(0, len(array) + 1, length, dtype=np.int32)
        array = pyarrow.ListArray.from_arrays(offsets, array)
    return array


def _import_pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet files need pyarrow and Pillow: pip install 'notbugs[data]'.") from None
    return pyarrow


Format = Literal["imagefolder", "parquet", "npz", "hub-folder"]
FORMATS = ("imagefolder", "parquet", "npz", "hub-folder")
LOADER, SUMS = "load_checked.py", "SHA256SUMS"
LEAVES = {
    "imagefolder": ("train", "rows.csv"),
    "parquet": ("data",),
    "npz": ("data.npz",),
    "hub-folder": ("data", LOADER, SUMS),
}
"""Beside the card and the manifest."""
_WRITE = {
    "imagefolder": write_image_folder,
    "parquet": write_parquet,
    "npz": write_npz,
    "hub-folder": write_parquet,
}
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def _seal(folder: Path) -> None:
    """Write the loader, and the hashes that it checks; `sha256sum -c` checks them, too.

    Not of the manifest, which says how long the set took: the same set has the same hashes anywhere.
    """
    (folder / LOADER).write_text(LOADER_TEXT, encoding="utf-8")
    files = [folder / LOADER, folder / "README.md", *sorted((folder / "data").iterdir())]
    lines = (f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def export(
    folder: str | Path,
    to: str | Path,
    format: Format = "parquet",
    *,
    license: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Write a constructed set as other tools read it, with a dataset card (`README.md`) and its manifest.

    Images keep their order and labels. The set is read a few megabytes at a time. An export of the same set that is
    there already is left as it is.

    Parameters
    ----------
    folder : Path
        A finished set.
    to : Path
        The folder to make; it appears when it is whole.
    format : {"imagefolder", "parquet", "npz", "hub-folder"}
        `imagefolder`: `train/00_airplane/000000.png`, rounded to 8 bits, for `torchvision.datasets.ImageFolder` and
        `datasets.load_dataset`. `parquet`: pictures, class labels and pixels as they are stored, for
        `datasets.load_dataset`. `npz`: numpy arrays with MedMNIST's names, pixels as they are stored. `hub-folder`: as
        `parquet`, ready to be a repository of the Hugging Face Hub, with `SHA256SUMS` and a loader that checks them.
    license : str, optional
        Of the source data, which holds for the set, too: by the Hub's name, as `mit` or `cc-by-4.0`. Without it the
        card says "other".
    progress : Progress
        Told how many images are written.

    Returns
    -------
    Path
        `to`.

    Raises
    ------
    InputError
        If `to` exists and is neither an empty folder nor the same export, there is no intact set in `folder`, the
        format cannot hold it, or a package is missing.
    DiskFull
        When the disk is full; nothing is left of the export then.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.robustify(classifier, small, 'exported', schedule=nb.search.LBFGS(2, reach=0.3))
    >>> nb.export('exported', 'exported-npz', 'npz').name
    'exported-npz'
    """
    check_choice("format", format, FORMATS)
    if license is not None and not LICENCE.fullmatch(license):
        raise must("license", "be one of the Hub's names, as mit, cc-by-4.0 or other", license)
    check_writable(Path(to))
    if _is_done(Path(folder), Path(to), format, license):
        LOG.info(f"{to} is done: the same command wrote it.")
        return Path(to)
    with _appearing(Path(to)) as part:
        built = ConstructedSet(folder)
        features, lost = _WRITE[format](built, part, progress)
        (part / "manifest.json").write_text(_text(built.manifest), encoding="utf-8")
        text = card(built.manifest, format, features, lost, license)
        (part / "README.md").write_text(text, encoding="utf-8")
        if format == "hub-folder":
            _seal(part)
    return Path(to)


def _text(manifest: Manifest) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _is_done(folder: Path, to: Path, format: str, license: str | None) -> bool:
    """Whether `to` appeared before, from the same set: a command that was killed as it ended is given again."""
    names = {"README.md", "manifest.json", *LEAVES[format]}
    if not to.is_dir() or {path.name for path in to.iterdir()} != names or not (to / "manifest.json").is_file():
        return False
    if licence_line(license) not in (to / "README.md").read_text(encoding="utf-8").splitlines():
        return False
    manifest = read_manifest(folder)
    return manifest is not None and (to / "manifest.json").read_text(encoding="utf-8") == _text(manifest)


@contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """An empty folder to fill: it takes the name `to` when all went well, and goes away otherwise."""
    to = to.resolve()  # a link to an empty folder is filled where it leads
    if to.name == "" or (to.is_dir() and any(to.iterdir())):
        raise must("out", "not exist yet, or be an empty folder", str(to), "Name another folder.")
    part = to.with_name(f".{to.name}.part")
    with only_writer(part):
        try:
            _empty(part)
            yield part
            (part / ".lock").unlink()
            part.replace(to)
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, Exception) and is_disk_full(error):
                raise DiskFull(
                    errno.ENOSPC, f"No room left to export to {to}. Free some space and try again"
                ) from error
            raise


def _empty(folder: Path) -> None:
    """Remove what a killed export left."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()
