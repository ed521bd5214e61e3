"""From what a reader found to a `Data`: images held out, in memory or decoded once to files, tests of another set."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from notbugs.data.classes import check_known, class_names, match_classes, renumbered
from notbugs.data.decode import likely_white
from notbugs.data.download import available_memory, cache_folder, check_disk
from notbugs.data.images import Data, Images, Mapped
from notbugs.data.jpeg import JPEG, compressed
from notbugs.data.rows import Broken, Form, Found, Piece, Reading, Rows, Wider, blocks, unreadable
from notbugs.errors import InputError, must
from notbugs.files import only_writer, write_tensors
from notbugs.progress import Progress
from notbugs.seeds import generator

HELD_OUT = 0.2


def held_out(labels: Tensor, share: float = HELD_OUT, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices of training and of test images: of every class with two images or more, `share` and at least one each.

    With `groups`, int64 of the labels' shape, images of one group stay together: of every class about `share`, but
    never all of its groups. Several labels, shape (image, label), are drawn without regard to them.

    Raises
    ------
    InputError
        If no class has two images, or no group can be spared.
    """
    labels = labels if labels.ndim == 1 else torch.zeros(len(labels), dtype=torch.int64)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    if groups is None:
        for label in labels.unique().tolist():
            where = (labels == label).nonzero().flatten()
            count = min(max(1, round(share * len(where))), len(where) - 1)
            chosen[where[torch.randperm(len(where), generator=generator(0, "held out", label))[:count]]] = True
        if not chosen.any():
            raise InputError(
                "No test images: there is no test split, and no class has two images to hold one out. Add images."
            )
    else:
        _choose_groups(labels, groups, share, chosen)
        if not chosen.any():
            raise InputError(
                "No test images: there is no test split, and every group is the only one of a class. "
                "Add images of other groups, or a test split."
            )
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def _choose_groups(labels: Tensor, groups: Tensor, share: float, chosen: Tensor) -> None:
    """Mark images of whole groups, class by class."""
    for label in labels.unique().tolist():
        here = labels == label
        wanted = max(1, round(share * int(here.sum())))
        of_class = groups[here].unique()
        for group in of_class[torch.randperm(len(of_class), generator=generator(0, "held out", label))].tolist():
            if int((chosen & here).sum()) >= wanted:
                break
            members = groups == group
            left = ~chosen & ~members
            if all(bool((left & (labels == other)).any()) for other in labels[members].unique().tolist()):
                chosen |= members


def row_hashes(images: np.ndarray) -> np.ndarray:
    """One uint64 for each image: equal images have equal ones, and others very rarely.

    The bytes, as whole numbers of 64 bits, times fixed random odd factors, summed modulo 2^64: as fast as memory.
    """
    rows = np.ascontiguousarray(images).reshape(len(images), -1).view(np.uint8)
    if short := -rows.shape[1] % 8:
        rows = np.pad(rows, ((0, 0), (0, short)))
    words = rows.view(np.uint64)
    return words @ _factors(words.shape[1])


def duplicates(train: Images, test: Images, train_hashes: np.ndarray, test_hashes: np.ndarray) -> tuple[str, ...]:
    """A note on how many test images are also training images; nothing if none is."""
    order = np.argsort(train_hashes, kind="stable")
    place = np.searchsorted(train_hashes[order], test_hashes)
    place[place == len(order)] = 0
    candidates = np.flatnonzero(train_hashes[order[place]] == test_hashes)
    same = other = 0
    for first in range(0, len(candidates), 256):
        mine = torch.from_numpy(candidates[first : first + 256])
        theirs = torch.from_numpy(order[place[mine.numpy()]])
        equal = (test.pixels[mine] == train.pixels[theirs]).flatten(1).all(1)
        same += int(equal.sum())
        differ = test.labels[mine] != train.labels[theirs]
        other += int((equal & (differ.flatten(1).any(1) if differ.ndim > 1 else differ)).sum())
    if not same:
        return ()
    labels = f", {other} of them with another label" if other else ""
    return (f"exact duplicates: {same} of {len(test)} test images are training images too{labels}",)


def contradictions(train: Images, hashes: np.ndarray) -> tuple[str, ...]:
    """A note on training images that are there twice, with different labels; nothing if there are none."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][:-1] == hashes[order][1:])
    places: set[int] = set()
    for first, second in zip(order[same].tolist(), order[same + 1].tolist(), strict=True):
        if torch.equal(train.labels[first], train.labels[second]):
            continue
        if torch.equal(train.pixels[first : first + 1], train.pixels[second : second + 1]):
            places |= {first, second}
    if not places:
        return ()
    return (f"contradictions: {len(places)} training images are there more than once, with different labels",)


PADDED, LOOKED_AT, AT_ONCE = 0.1, 1000, 10
"""Share of padded images from which a note tells of them; images that are looked at, and so many at a time."""
SMALLEST, FRAME = 20, 0.1
"""Of images with fewer pixels a side nothing is said; of others, the share of the side that a frame has at least."""


def padding(train: Images) -> tuple[str, ...]:
    """A note on images that were set into a frame of one colour, and not resized; nothing if few were.

    A frame is on one side, and not on the other: images with the same margin all around have none.
    """
    if min(train.shape[1:]) < SMALLEST:
        return ()
    seen, ends = train.sample(LOOKED_AT, 0, "padding"), []
    for part in torch.arange(len(seen)).split(AT_ONCE):
        images, _ = seen.batch(part)
        for upright in (images, images.transpose(2, 3)):
            depth = max(1, int(FRAME * upright.shape[2]))
            first, last = _is_plain(upright[:, :, :depth]), _is_plain(upright[:, :, -depth:])
            ends += [first & ~last, last & ~first]
    sides = [torch.cat(ends[side::4]) for side in range(4)]
    if max(float(side.double().mean()) for side in sides) < PADDED:
        return ()
    share = float(torch.stack(sides).any(0).double().mean())
    return (
        f"padding: about {100 * share:.0f} % of the training images end on one side in rows or columns of one colour, "
        "as if they had been set into a frame and not resized: classifiers see the frame, too",
    )


def _is_plain(strips: Tensor) -> Tensor:
    """Of each strip, shape (n, channel, height, width), whether it is of one colour."""
    pixels = strips.flatten(2)
    return (pixels == pixels[:, :, :1]).flatten(1).all(1)


def _factors(count: int) -> np.ndarray:
    return np.random.default_rng(20240607).integers(0, 2**64, count, np.uint64) | np.uint64(1)


DECODER = 3  # part of the cache's key: another number when the same files decode to other pixels
SHARD_BYTES = 2**24
SHARDS = 256  # each keeps a file open
DARKEST = 1 / 255
"""Of white: images that are darker everywhere were divided by another white than theirs."""
DIM = 0.25
"""If no pixel is brighter, white is another value than the one divided by."""


@dataclass
class _Pixels:
    """Of one split: pixels, a hash of each image, the images that cannot be read, the largest value of all."""

    pixels: Tensor | Mapped
    hashes: np.ndarray
    broken: dict[int, Broken] = field(default_factory=dict)
    brightest: dict[str, float] = field(default_factory=dict)


def assemble(listing: Found, reading: Reading, memory: int | None, progress: Progress) -> Data:
    """Decode all images.

    Parameters
    ----------
    listing : Found
        By a reader.
    reading : Reading
        How; what changes pixels is a part of the cache's key.
    memory : int, optional
        Bytes the decoded images may take; a quarter of what is available by default. With more, they are `Mapped`.
    progress : Progress
        Told of every few images.

    Raises
    ------
    InputError
        If labels, classes or images break a rule of `Data`, images cannot be read, all are too dark, or the disk has no
        room.
    """
    memory = available_memory() // 4 if memory is None else memory
    form = listing.train.form
    if reading.channels is not None:
        if form.shape[0] not in (1, 3):
            raise must("channels", "be given with grey or RGB images", f"{form.shape[0]} channels", "Leave it out.")
        form = Form((reading.channels, *form.shape[1:]), form.dtype, fixed=True)
    while True:
        try:
            return _assembled(listing, form, reading, memory, progress)
        except Wider as wider:  # colour among grey, or 16 bits among 8: from the start, with room for it
            form = wider.form


def _assembled(listing: Found, form: Form, reading: Reading, memory: int, progress: Progress) -> Data:
    if 0 in form.shape:
        shape = " x ".join(map(str, form.shape))
        raise InputError(
            f"The images of {listing.name} have no pixels: they are {shape}. Save them again, with pixels."
        )
    splits = {"train": listing.train} | ({"test": listing.test} if listing.test else {})
    blank = {name: Images(_blank(form, len(rows)), rows.labels) for name, rows in splits.items()}
    Data(listing.name, blank["train"], blank.get("test", blank["train"]), listing.classes)  # refuse before the work
    total = sum(map(len, splits.values()))
    copies = 1 if listing.test else 2  # holding out copies
    if copies * total * form.bytes <= memory:
        decoded = _in_memory(splits, form, total, progress)
    else:
        decoded = _on_disk(splits, form, total, _folder(listing, form, reading), progress)
    broken = [one for part in decoded.values() for one in part.broken.values()]
    if broken and not reading.skip_broken:
        raise unreadable(broken)
    _check_white({name: part.brightest for name, part in decoded.items()}, listing.name, reading)
    images = {name: Images(part.pixels, splits[name].labels, splits[name].groups) for name, part in decoded.items()}
    hashes = {name: part.hashes for name, part in decoded.items()}
    for name, part in decoded.items():
        if part.broken:
            good = torch.tensor([row for row in range(len(part.hashes)) if row not in part.broken], dtype=torch.int64)
            images[name], hashes[name] = images[name].subset(good), hashes[name][good.numpy()]
    test_name = listing.test_name
    if not listing.test:
        kept, out = held_out(images["train"].labels, groups=images["train"].groups)
        images = {"train": images["train"].subset(kept), "test": images["train"].subset(out)}
        hashes = {"train": hashes["train"][kept.numpy()], "test": hashes["train"][out.numpy()]}
        test_name = "heldout"
    data = Data(listing.name, images["train"], images["test"], listing.classes, listing.variant, test_name)
    left_out = tuple(f"{one.name} {one.why}" for one in broken)
    skipped = (f"left out: images that cannot be read ({len(broken)}, as {left_out[0]})",) if broken else ()
    _refuse_alpha(data.train, listing.name)
    notes = (*listing.notes, *skipped, *contradictions(data.train, hashes["train"]), *padding(data.train))
    notes += duplicates(data.train, data.test, hashes["train"], hashes["test"])
    return replace(data, notes=notes, left_out=left_out)


def _refuse_alpha(images: Images, name: str) -> None:
    """Refuse a last channel of two or four that is white everywhere: no part of an image, it would be attacked."""
    if images.shape[0] in (2, 4) and bool((images.batch(slice(256))[0][:, -1] == 1).all()):
        rule = "have no alpha channel, and the last of theirs is white everywhere"
        colours = images.shape[0] - 1
        raise must(
            f"images of {name}", rule, images.shape, f"Leave it out: images[..., :{colours}] where channels are last."
        )


def _check_white(brightest: Mapping[str, Mapping[str, float]], name: str, reading: Reading) -> None:
    """Refuse images of which some are likely in other units: by their split, and by their bits."""
    most = {split: max(kinds.values(), default=0.0) for split, kinds in brightest.items()}
    if reading.white_level is None:
        for split, kinds in brightest.items():
            for kind, value in kinds.items():
                bits = "" if len(kinds) == 1 else "8-bit " if kind == "uint8" else "16-bit "
                what = f"{bits}{'training' if split == 'train' else 'test'} images of {name}"
                _check_brightness(value, what, 255 if kind == "uint8" else 65535)
    elif 0 < max(most.values(), default=1.0) < DARKEST:
        raise InputError(
            f"With white at {reading.white_level:g} the brightest pixel of all images of {name} is "
            f"{max(most.values()):.3g} of white, less than one grey level of 255. Give the value that white has in the "
            "file: 1 of floating point, 255 or 65535 of whole numbers."
        )
    elif len(most) == 2 and max(most.values()) > 0 and min(most.values()) <= DIM * max(most.values()):
        dark, bright = sorted(most, key=most.__getitem__)
        raise InputError(
            f"With white at {reading.white_level:g} the brightest pixel of the {dark} images of {name} is "
            f"{most[dark]:.3g}, and that of the {bright} images {most[bright]:.3g} of white: they are likely in other "
            "units. Save both splits in the same ones."
        )


def _check_brightness(brightest: float, what: str, scale: int) -> None:
    """Refuse pixels whose white is likely another than the one they were divided by: every radius would be wrong."""
    if brightest > DIM:
        return
    value = brightest * scale
    whole = abs(value - round(value)) < 0.01 and round(value) > 0
    seen = f"{round(value)} of {scale}" if whole else f"{brightest:.3g} of 1"
    level = likely_white(round(value)) if whole else None
    remedies = [f"--white-level {level} if {level} is white"] if level not in (None, scale) else []
    remedies += [] if whole else ["--white-level with the value of white"]
    remedies.append(f"--white-level {scale if whole else 1} if the images are so dark")
    if whole and scale != 255:  # 8-bit values over 255 are whole numbers of 65535, too
        remedies.append("--white-level 1 if they are floating point in [0, 1] and so dark")
    raise InputError(
        f"The brightest pixel of all {what} is {seen}: white is likely another value, and every radius would be wrong. "
        f"Give {', or '.join(remedies)} (white_level=... in load)."
    )


def _blank(form: Form, count: int) -> Tensor:
    """Pixels of the right shape that take no memory."""
    return torch.zeros((), dtype=torch.uint8).expand(count, *form.shape)


def _in_memory(splits: dict[str, Rows], form: Form, total: int, progress: Progress) -> dict[str, _Pixels]:
    decoded, done = {}, 0
    for name, rows in splits.items():
        array, row = np.empty((len(rows), *form.shape), form.dtype), 0
        pixels = _Pixels(torch.from_numpy(array), np.empty(len(rows), np.uint64))
        for piece in rows.images(form, pixels.broken, pixels.brightest):
            last = row + len(piece)
            array[row:last] = piece
            pixels.hashes[row:last] = row_hashes(array[row:last])
            row = last
            progress(done + row, total)
        decoded[name] = pixels
        done += row
    return decoded


def _on_disk(splits: dict[str, Rows], form: Form, total: int, folder: Path, progress: Progress) -> dict[str, _Pixels]:
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
    return {name: _mapped(files[name]) for name in splits}


def _write(rows: Rows, form: Form, shard: int, files: list[Path], start: int, tell: Callable[[int], object]) -> None:
    """What is found out about a shard is kept in it: to read it again would take as long as to decode it."""
    broken: dict[int, Broken] = {}
    brightest: dict[str, float] = {}  # of all shards so far
    try:
        for number, block in enumerate(blocks(rows.images(form, broken, brightest, start * shard), shard), start):
            first = number * shard
            mine = {row: asdict(broken[row]) for row in broken if first <= row < first + len(block)}
            about = {"broken": json.dumps(mine), "brightest": json.dumps(brightest)}
            tensors = {"pixels": torch.from_numpy(block), "hashes": torch.from_numpy(row_hashes(block).view(np.int64))}
            write_tensors(files[number], tensors, about, checksum=False)
            tell(first + len(block))
    except Wider:
        shutil.rmtree(files[0].parent)  # of a form that these images do not have
        raise


def _mapped(files: list[Path]) -> _Pixels:
    pixels = _Pixels(Mapped(files, "pixels"), np.empty(0, np.uint64))
    hashes = []
    for file in files:
        with safe_open(file, "pt") as shard:
            about = shard.metadata()
            hashes.append(shard.get_tensor("hashes").numpy().view(np.uint64))
        pixels.broken |= {int(row): Broken(**one) for row, one in json.loads(about["broken"]).items()}
        for kind, value in json.loads(about["brightest"]).items():
            pixels.brightest[kind] = max(pixels.brightest.get(kind, 0.0), value)
    pixels.hashes = np.concatenate(hashes)
    return pixels


def _folder(listing: Found, form: Form, reading: Reading) -> Path:
    """Named after everything that decides the decoded bits."""
    splits = [len(listing.train), listing.test and len(listing.test)]
    options = [reading.size, reading.white_level, listing.parts]
    key = json.dumps([DECODER, listing.listing, splits, asdict(form), options])
    return cache_folder() / "decoded" / hashlib.sha256(key.encode()).hexdigest()[:32]


def tested_on(listing: Found | Data, other: Found | Data) -> Found:
    """`listing`, to be measured on the test images of `other`, or on all its images where it has no test split.

    Classes are matched by name; where `other` has numbers in place of names, these are the places of the classes.

    Raises
    ------
    InputError
        If `other` has a class that `listing` has not; or, of several labels for an image, has not all of them.
    """
    here, there = as_found(listing), as_found(other)
    test = there.test or there.train
    note = f"test images are those of {there.name}"
    if here.train.labels.ndim > 1 and test.labels.ndim > 1 and len(there.classes) < len(here.classes):
        rule = f"have every label of {here.name}: {', '.join(here.classes[:12])}"
        remedy = "Add the columns that it lacks, or take them out of the training images."
        raise must("test_data", rule, ", ".join(there.classes[:12]), remedy)
    if there.classes == class_names(len(there.classes)) != here.classes[: len(there.classes)]:
        if len(there.classes) > len(here.classes):
            rule = f"have at most the {len(here.classes)} classes of {here.name}"
            raise must("test_data", rule, len(there.classes), "Take one of these classes alone.")
        note += ", whose labels are numbers and no names"
        labels = test.labels
    else:
        check_known(there.classes, here.classes)
        labels = renumbered(test.labels, match_classes(here.classes, there.classes))
    return replace(
        here,
        test=replace(test, labels=labels),
        listing=[*here.listing, *there.listing],
        test_name=f"{there.name} ({there.variant})" if there.variant else there.name,
        notes=(*here.notes, note, *there.notes),
        parts=" ".join(filter(None, (here.parts, there.parts))),
    )


def as_found(data: Found | Data) -> Found:
    """What is in memory, as if it had yet to be read."""
    if isinstance(data, Found):
        return data
    rows = _rows(data.train, data.name), _rows(data.test, data.name)
    parts = data.fingerprint
    return Found(data.name, *rows, data.classes, [], data.test_name, data.variant, data.notes, parts)


def through_jpeg(listing: Found, jpeg: JPEG) -> Found:
    """The same images, each compressed as it is read."""
    from PIL import __version__ as version

    test = listing.test and _compressed(listing.test, jpeg)
    parts = f"{listing.parts} {jpeg}, Pillow {version}"  # where decoded images are found again
    return replace(listing, train=_compressed(listing.train, jpeg), test=test, parts=parts)


def _compressed(rows: Rows, jpeg: JPEG) -> Rows:
    def one(image: np.ndarray | Broken) -> np.ndarray | Broken:
        return compressed(image, jpeg.quality, jpeg.chroma) if isinstance(image, np.ndarray) else image

    def read(first: int) -> Iterator[Piece]:
        for piece in rows.read(first):
            yield [one(image) for image in piece]

    return replace(rows, read=read)


def _rows(images: Images, name: str) -> Rows:
    def read(first: int) -> Iterator[np.ndarray]:
        yield images.pixels[first:].numpy()

    return Rows(images.labels, read, lambda row: f"image {row} of {name}", images.groups)
