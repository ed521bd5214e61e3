"""From what a reader found to a `Data`: in memory where there is room, else decoded once to files that are mapped."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from notbugs.data.cache import available_memory, cache_folder, check_disk
from notbugs.data.images import Data, Images
from notbugs.data.mapped import Mapped
from notbugs.data.rows import Form, Found, Rows, Wider, blocks
from notbugs.errors import InputError
from notbugs.files import only_writer, write_tensors
from notbugs.progress import Progress
from notbugs.seeds import generator

HELD_OUT = 0.2
DECODER = 1  # part of the cache's key: another number when the same files decode to other pixels
SHARD_BYTES = 2**24
SHARDS = 256  # each keeps a file open


def assemble(found: Found, size: int | None, memory: int | None, progress: Progress) -> Data:
    """Decode all images.

    Parameters
    ----------
    found : Found
        By a reader.
    size : int, optional
        To which the reader resizes; a part of the cache's key.
    memory : int, optional
        Bytes the decoded images may take; a quarter of what is available by default. With more, they are `Mapped`.
    progress : Progress
        Told of every few images.

    Raises
    ------
    InputError
        If labels, classes or images break a rule of `Data`, or the disk has no room.
    """
    memory = available_memory() // 4 if memory is None else memory
    form = found.train.form
    while True:
        try:
            return _assembled(found, form, size, memory, progress)
        except Wider as wider:  # colour among grey, or 16 bits among 8: from the start, with room for it
            form = wider.form


def held_out(labels: Tensor, share: float = HELD_OUT) -> tuple[Tensor, Tensor]:
    """Indices of training and of test images: of every class with two images or more, `share` and at least one each.

    Raises
    ------
    InputError
        If no class has two images.
    """
    test = []
    labels = labels if labels.ndim == 1 else torch.zeros(len(labels), dtype=torch.int64)  # several: at random
    for label in labels.unique().tolist():
        where = (labels == label).nonzero().flatten()
        count = min(max(1, round(share * len(where))), len(where) - 1)
        test.append(where[torch.randperm(len(where), generator=generator(0, "held out", label))[:count]])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(test)] = True
    if not chosen.any():
        raise InputError("No test images: there is no test split, and no class has two images to hold one out.")
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def _assembled(found: Found, form: Form, size: int | None, memory: int, progress: Progress) -> Data:
    splits = {"train": found.train} | ({"test": found.test} if found.test else {})
    blank = {name: Images(_blank(form, len(rows)), rows.labels) for name, rows in splits.items()}
    Data(found.name, blank["train"], blank.get("test", blank["train"]), found.classes)  # refuse before the work
    total = sum(map(len, splits.values()))
    copies = 1 if found.test else 2  # holding out copies
    if copies * total * form.bytes <= memory:
        pixels = _in_memory(splits, form, total, progress)
    else:
        pixels = _on_disk(splits, form, total, _folder(found, form, size), progress)
    images = {name: Images(pixels[name], rows.labels) for name, rows in splits.items()}
    if found.test:
        return Data(found.name, images["train"], images["test"], found.classes, found.variant, found.test_name)
    train, test = map(images["train"].subset, held_out(found.train.labels))
    return Data(found.name, train, test, found.classes, found.variant, "heldout")


def _blank(form: Form, count: int) -> Tensor:
    """Pixels of the right shape that take no memory."""
    return torch.zeros((), dtype=torch.uint8).expand(count, *form.shape)


def _in_memory(splits: dict[str, Rows], form: Form, total: int, progress: Progress) -> dict[str, Tensor]:
    pixels, done = {}, 0
    for name, rows in splits.items():
        array, row = np.empty((len(rows), *form.shape), form.dtype), 0
        for piece in rows.images(form):
            array[row : row + len(piece)] = piece
            row += len(piece)
            progress(done + row, total)
        pixels[name] = torch.from_numpy(array)
        done += row
    return pixels


def _on_disk(splits: dict[str, Rows], form: Form, total: int, folder: Path, progress: Progress) -> dict[str, Mapped]:
    """Shards appear by rename, in order; those that are there are kept."""
    shard = max(1, max(SHARD_BYTES, total * form.bytes // SHARDS) // form.bytes)
    files = {
        name: [folder / f"{name}-{first // shard:05d}.safetensors" for first in range(0, len(rows), shard)]
        for name, rows in splits.items()
    }
    missing = {name: [not file.exists() for file in files[name]] for name in splits}
    if left := sum(map(sum, missing.values())):
        check_disk(folder, left * shard * form.bytes)
        with only_writer(folder):
            done = 0
            for name, rows in splits.items():
                if any(missing[name]):
                    start = missing[name].index(True)
                    _write(rows, form, shard, files[name], start, lambda row, done=done: progress(done + row, total))
                done += len(rows)
    return {name: Mapped(files[name], "pixels") for name in splits}


def _write(rows: Rows, form: Form, shard: int, files: list[Path], start: int, tell: Callable[[int], object]) -> None:
    try:
        for number, block in enumerate(blocks(rows.images(form, start * shard), shard), start):
            write_tensors(files[number], {"pixels": torch.from_numpy(block)})
            tell(number * shard + len(block))
    except Wider:
        shutil.rmtree(files[0].parent)  # of a form that these images do not have
        raise


def _folder(found: Found, form: Form, size: int | None) -> Path:
    """Named after everything that decides the decoded bits."""
    splits = [len(found.train), found.test and len(found.test)]
    key = json.dumps([DECODER, found.listing, splits, asdict(form), size])
    return cache_folder() / "decoded" / hashlib.sha256(key.encode()).hexdigest()[:32]
