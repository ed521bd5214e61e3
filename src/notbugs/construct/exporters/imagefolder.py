"""A folder of PNG files for each class."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import torch

from notbugs.construct.exporters.rows import Pictures, chunks, class_labels, fits_png, png
from notbugs.construct.store import ConstructedSet
from notbugs.errors import InputError, must
from notbugs.progress import Progress

LONGEST_NAME = 60  # characters; a file name has at most 255 bytes


def write_image_folder(built: ConstructedSet, to: Path, progress: Progress) -> tuple[dict[str, Any], dict[str, float]]:
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
