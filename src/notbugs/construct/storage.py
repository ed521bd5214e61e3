"""How images are stored in the shards of a set, and what storing does to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from notbugs.construct.manifest import Dtype, Request, ShardFile, Sizes, Span, Storage, mark, shard_file
from notbugs.data import Images, round_to_8_bits
from notbugs.errors import InputError, check_choice, check_count, in_one_line
from notbugs.files import sha256, write_tensors
from notbugs.shapes import Batch
from notbugs.threat import l2_norm

DTYPES = ("float32", "float16", "uint8")
HALF_STEP = {"float32": 2.0**-25, "float16": 2.0**-12, "uint8": 0.5 / 255}
"""The most that storing changes a pixel: half the distance of neighbouring values in [0.5, 1]."""

BATCH_IMAGES, BATCH_BYTES = 250, 16 * 2**20
SHARD_IMAGES, SHARD_BYTES = 2000, 64 * 2**20


def encode(images: Batch, dtype: str) -> Tensor:
    """Images in [0, 1] as they are stored; `uint8` rounds to the nearest of 256 levels."""
    return images.mul(255).round().to(torch.uint8) if dtype == "uint8" else images.to(getattr(torch, dtype))


def decode(pixels: Tensor) -> Batch:
    """What a reader gets back: float32 images in [0, 1]."""
    images, _ = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64)).batch(slice(None))
    return images


def sizes(shape: Sequence[int], dtype: Dtype, batch: int | None) -> Sizes:
    """How images of `shape` are built and stored: the type, images in a batch and images in a shard.

    A batch is 250 images or 16 MiB of float32, whichever is less; a shard 2000 images or 64 MiB of float32, whichever
    is less, and whole batches, so that batches are the same after a resume.

    Raises
    ------
    InputError
        If `dtype` is unknown or `batch` is below 1.
    """
    check_choice("dtype", dtype, DTYPES)
    size = 4 * math.prod(shape)
    batch = check_count("batch", batch) if batch is not None else max(1, min(BATCH_IMAGES, BATCH_BYTES // size))
    batches = max(1, min(SHARD_IMAGES, SHARD_BYTES // size) // batch)
    return {"dtype": dtype, "batch": batch, "shard_images": batches * batch}


def distances(images: Batch, stored: Batch, start: Batch) -> dict[str, Tensor]:
    """Per image: how far storing moved it, and how far from its start it is as stored and as an 8-bit file."""
    moves = {"error": stored - images, "norm": stored - start, "norm_8bit": round_to_8_bits(stored) - start}
    values = {f"l2_{name}": l2_norm(move) for name, move in moves.items()}
    return values | {f"linf_{name}": move.flatten(1).abs().amax(1) for name, move in moves.items()}


def summary(moved: dict[str, Tensor], judged: dict[str, Tensor]) -> Storage:
    """Mean and maximum of every distance, and the mean of all else: None where a loss is infinite."""

    def span(name: str) -> Span:
        return {"mean": _mean(moved[name]), "max": float(moved[name].max())}

    def loss(name: str) -> float | None:
        mean = _mean(judged[name])
        return mean if math.isfinite(mean) else None

    return {
        "l2_error": span("l2_error"),
        "l2_norm": span("l2_norm"),
        "l2_norm_8bit": span("l2_norm_8bit"),
        "linf_error": span("linf_error"),
        "linf_norm": span("linf_norm"),
        "linf_norm_8bit": span("linf_norm_8bit"),
        "success_found": _mean(judged["success_found"]),
        "loss_found": loss("loss_found"),
        "success_stored": _mean(judged["success_stored"]),
        "loss_stored": loss("loss_stored"),
    }


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def write_shard(folder: Path, request: Request, number: int, columns: dict[str, Tensor]) -> ShardFile:
    """Write shard `number`, and return its name, size and hash."""
    path = folder / shard_file(number)
    write_tensors(path, columns, {"notbugs": mark(request, number)}, checksum=False)  # the manifest has the hash
    return {
        "file": path.name,
        "images": len(columns["images"]),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Some columns of a shard, in memory.

    Raises
    ------
    InputError
        If the file cannot be read, or misses one.
    """
    try:
        with safe_open(path, "np") as file:  # "pt" would keep the whole file mapped as memory of our own
            return {name: torch.from_numpy(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read ({in_one_line(error)}). Build the set again.") from error
