"""One call for every format: a folder that appears whole, with a card and the manifest."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from notbugs.construct.exporters.card import card
from notbugs.construct.exporters.imagefolder import write_image_folder
from notbugs.construct.exporters.npz import write_npz
from notbugs.construct.exporters.parquet import write_parquet
from notbugs.construct.manifest import read_manifest
from notbugs.construct.store import ConstructedSet
from notbugs.errors import check_choice, must
from notbugs.files import LOG, DiskFull, check_writable, is_disk_full, only_writer
from notbugs.progress import Progress, silent

Format = Literal["imagefolder", "parquet", "npz"]
FORMATS = ("imagefolder", "parquet", "npz")
LEAVES = {"imagefolder": ("train", "rows.csv"), "parquet": ("data",), "npz": ("data.npz",)}
"""Beside the card and the manifest."""
_WRITE = {"imagefolder": write_image_folder, "parquet": write_parquet, "npz": write_npz}


def export(folder: str | Path, to: str | Path, format: Format = "parquet", *, progress: Progress = silent) -> Path:
    """Write a constructed set as other tools read it, with a dataset card (`README.md`) and its manifest.

    Images keep their order and labels. The set is read a few megabytes at a time. An export of the same set that is
    there already is left as it is.

    Parameters
    ----------
    folder : Path
        A finished set.
    to : Path
        The folder to make; it appears when it is whole.
    format : {"imagefolder", "parquet", "npz"}
        `imagefolder`: `train/00_airplane/000000.png`, rounded to 8 bits, for `torchvision.datasets.ImageFolder` and
        `datasets.load_dataset`. `parquet`: pictures, class labels and pixels as they are stored, for
        `datasets.load_dataset`. `npz`: numpy arrays with MedMNIST's names, pixels as they are stored.
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
    """
    check_choice("format", format, FORMATS)
    if _is_done(Path(folder), Path(to), format):
        LOG.info(f"{to} is done: the same command wrote it.")
        return Path(to)
    with _appearing(Path(to)) as part:
        built = ConstructedSet(folder)
        features, lost = _WRITE[format](built, part, progress)
        (part / "manifest.json").write_text(_text(built.manifest), encoding="utf-8")
        (part / "README.md").write_text(card(built.manifest, format, features, lost), encoding="utf-8")
    return Path(to)


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _is_done(folder: Path, to: Path, format: str) -> bool:
    """Whether `to` appeared before, from the same set: a command that was killed as it ended is given again."""
    names = {"README.md", "manifest.json", *LEAVES[format]}
    if not to.is_dir() or {path.name for path in to.iterdir()} != names or not (to / "manifest.json").is_file():
        return False
    manifest = read_manifest(folder)
    return manifest is not None and (to / "manifest.json").read_text(encoding="utf-8") == _text(manifest)


@contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """An empty folder to fill: it takes the name `to` when all went well, and goes away otherwise."""
    check_writable(to)
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
