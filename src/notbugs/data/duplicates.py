"""Images of the test split that are in the training split too, to the bit."""

from __future__ import annotations

import numpy as np
import torch

from notbugs.data.images import Images


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


def _factors(count: int) -> np.ndarray:
    return np.random.default_rng(20240607).integers(0, 2**64, count, np.uint64) | np.uint64(1)
