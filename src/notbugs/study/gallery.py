"""A few images of every set side by side, for the report."""

from __future__ import annotations

from pathlib import Path

import torch

from notbugs.construct import ConstructedSet
from notbugs.data import Data
from notbugs.files import write_tensors
from notbugs.seeds import generator

GALLERY_IMAGES = 12


def write_gallery(path: Path, data: Data, sets: dict[str, Path], seed: int) -> None:
    """Write `gallery.safetensors`: row i of every tensor belongs to the same training image.

    `D` and `D.labels` are that image. `NAME` and `NAME.labels` are its version in a constructed set and the label it
    trains with; `NAME.start` and `NAME.start_labels` the image its search started from; `NAME.target`, in matched
    sets, the image whose features it has.
    """
    if path.exists():
        return
    index = _one_of_each_class(data, seed)
    images, labels = data.train.batch(index)
    tensors = {"D": images, "D.labels": labels}
    for name, folder in sets.items():
        built = ConstructedSet(folder)
        tensors[name], tensors[f"{name}.labels"] = built.images.batch(index)
        tensors[f"{name}.start"], tensors[f"{name}.start_labels"] = data.train.batch(built.start[index])
        if built.is_matched:
            tensors[f"{name}.target"], _ = data.train.batch(built.target[index])
    write_tensors(path, tensors)


def _one_of_each_class(data: Data, seed: int) -> torch.Tensor:
    """Indices of training images, in random order of classes, a second round only after the first is full."""
    labels = data.train.labels
    order = torch.randperm(len(labels), generator=generator(seed, "gallery"))
    rank = torch.stack([(labels[order[:place]] == labels[order[place]]).sum() for place in range(min(len(order), 400))])
    by_class = labels[order[: len(rank)]]
    first = sorted(range(len(rank)), key=lambda place: (int(rank[place]), int(by_class[place])))
    return order[first[:GALLERY_IMAGES]]
