"""`python -m benchmarks.exporters`: images a second, written and read back, beside the plain library call.

The plain call writes, or reads, the same images with nothing around it: no card, no hash, no other column. Each pair is
timed in turns in one run; what counts is the ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn

import notbugs as nb
from notbugs.construct import ConstructedSet, export
from notbugs.files import read_tensors
from notbugs.seeds import generator, seeded

REPEATS = 3


def small_set(folder: Path, count: int, size: int) -> ConstructedSet:
    """A set of random images: its content does not matter here."""
    pixels = torch.rand(count, 3, size, size, generator=generator(0, "exporters")).mul(255).to(torch.uint8)
    images = nb.Images(pixels, torch.arange(count) % 10)
    data = nb.Data("random", images, images.subset(slice(10)), tuple(map(str, range(10))))
    with seeded(0):
        source = nb.Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10)))
    return nb.relabel(source, data, folder, schedule=nb.search.PGDSteps(1), targets="next")


def pictures(built: ConstructedSet) -> np.ndarray:
    return built.images.batch(slice(None))[0].mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def plain_png(built: ConstructedSet, to: Path) -> None:
    to.mkdir()
    for row, picture in enumerate(pictures(built)):
        Image.fromarray(picture).save(to / f"{row:06d}.png")


def plain_npz(built: ConstructedSet, to: Path) -> None:
    np.savez(to, images=built.images.pixels[:].numpy(), labels=built.images.labels.numpy())


def plain_parquet(built: ConstructedSet, to: Path) -> None:
    pixels = built.images.pixels[:].flatten(1).numpy()
    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), pixels.shape[1])
    pq.write_table(pa.table({"pixels": flat, "label": built.images.labels.numpy()}), to)


def read_set(folder: Path) -> None:
    built = ConstructedSet(folder)
    for part in torch.arange(len(built)).split(250):
        built.images.batch(part)


def read_shards(folder: Path) -> None:
    for file in sorted(folder.glob("*.safetensors")):
        for tensor in read_tensors(file).values():
            tensor.clone()  # they are mapped until they are touched


def read_folder(folder: Path) -> None:
    for file in folder.rglob("*.png"):
        with Image.open(file) as image:
            np.asarray(image)


def read_npz(file: Path) -> None:
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays:
            arrays[name]


def read_parquet(folder: Path) -> None:
    pq.read_table(folder)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def compare(ours: Callable[[int], object], plain: Callable[[int], object]) -> tuple[float, float]:
    """Median seconds of both, called in turns."""
    times = [(seconds(lambda: ours(turn)), seconds(lambda: plain(turn))) for turn in range(REPEATS)]  # noqa: B023
    return median(first for first, _ in times), median(second for _, second in times)


def measure(count: int, size: int, folder: Path) -> Table:
    """A row for every way to write and to read."""
    built = small_set(folder / "set", count, size)
    at, where = lambda name, turn: folder / f"{name}-{turn}", built.folder
    rows = {
        "write imagefolder / Pillow": (
            lambda turn: export(where, at("imagefolder", turn), "imagefolder"),
            lambda turn: plain_png(built, at("png", turn)),
        ),
        "write parquet (PNG and pixels) / pyarrow (pixels) and Pillow (PNG)": (
            lambda turn: export(where, at("parquet", turn), "parquet"),
            lambda turn: (plain_parquet(built, at("pq", turn)), plain_png(built, at("png-too", turn))),
        ),
        "write npz / numpy.savez": (
            lambda turn: export(where, at("npz", turn), "npz"),
            lambda turn: plain_npz(built, at("plain.npz", turn).with_suffix(".npz")),
        ),
        "open and read the set / safetensors": (
            lambda _: read_set(where),
            lambda _: read_shards(where),
        ),
        "read imagefolder / Pillow": (
            lambda _: read_folder(at("imagefolder", 0)),
            lambda _: read_folder(at("png", 0)),
        ),
        "read parquet (PNG and pixels) / pyarrow (pixels)": (
            lambda _: read_parquet(at("parquet", 0) / "data"),
            lambda _: read_parquet(at("pq", 0)),
        ),
        "read npz / numpy": (
            lambda _: read_npz(at("npz", 0) / "data.npz"),
            lambda _: read_npz(at("plain.npz", 0).with_suffix(".npz")),
        ),
    }
    table = Table(
        "ours / plain", "ours, images/s", "plain, images/s", "ratio of times", title=f"{count} images, {size}x{size}"
    )
    for name, (ours, plain) in rows.items():
        first, second = compare(ours, plain)
        table.add_row(name, f"{count / first:,.0f}", f"{count / second:,.0f}", f"{first / second:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exporters", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Console(width=120).print(measure(asked.images, asked.size, Path(folder)))


if __name__ == "__main__":
    main()
