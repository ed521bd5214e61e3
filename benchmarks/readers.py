"""Images a second of each reader beside the plain library call on the same files: `python -m benchmarks.readers`."""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from notbugs.data import load

ROUNDS = 5


def best(*works: Callable[[], object]) -> list[float]:
    """Seconds of each in its fastest round: they take turns, so that a busy machine is so for all of them."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, taken in zip(works, seconds, strict=True):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
    return [min(taken) for taken in seconds]


def write(root: Path, count: int, side: int) -> None:
    """The same images as a folder of PNG files, a parquet file, and npz files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (count, side // 4, side // 4, 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    labels, data = np.arange(count) % 10, []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        data.append(file.getvalue())
        for split in ("train", "test"):
            folder = root / "folder" / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            if split == "train" or number < 10:
                (folder / f"{number:06d}.png").write_bytes(data[-1])
    for split, rows in (("train", count), ("test", 10)):
        (root / "parquet").mkdir(exist_ok=True)
        table = pa.table({"image": data[:rows], "label": labels[:rows]})
        pq.write_table(table, root / "parquet" / f"{split}.parquet", row_group_size=500)
    arrays = {"train_images": images, "train_labels": labels, "test_images": images[:10], "test_labels": labels[:10]}
    np.savez(root / "plain.npz", **arrays)
    np.savez_compressed(root / "compressed.npz", **arrays)


def pillow_folder(folder: Path) -> np.ndarray:
    """A loop over files."""
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.rglob("*.png"))])


def torchvision_folder(folder: Path) -> np.ndarray:
    """A loop over torchvision's ImageFolder of both splits."""
    from torchvision.datasets import ImageFolder

    splits = [ImageFolder(str(folder / split)) for split in ("train", "test")]
    return np.stack([np.asarray(image) for split in splits for image, _ in split])


def pillow_parquet(folder: Path) -> np.ndarray:
    """pyarrow, and a loop over rows."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(folder / f"{split}.parquet") for split in ("train", "test")]
    rows = [data for table in tables for data in table["image"].to_pylist()]
    return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in rows])


def numpy_file(file: Path) -> list[np.ndarray]:
    """np.load, with the channels where torch has them."""
    with np.load(file) as archive:
        return [np.ascontiguousarray(archive[f"{split}_images"].transpose(0, 3, 1, 2)) for split in ("train", "test")]


def measure(root: Path, count: int) -> list[dict[str, object]]:
    """A row for each reader and each plain call."""
    cases: list[tuple[str, str, Path, Callable[[Path], object]]] = [
        ("folder", "Pillow loop", root / "folder", pillow_folder),
        ("folder", "torchvision ImageFolder", root / "folder", torchvision_folder),
        ("parquet", "pyarrow and Pillow loop", root / "parquet", pillow_parquet),
        ("npz", "np.load", root / "plain.npz", numpy_file),
        ("npz, compressed", "np.load", root / "compressed.npz", numpy_file),
    ]
    rows = []
    for reader, plain, path, call in cases:
        try:
            other, ours, mapped = best(
                lambda path=path, call=call: call(path),
                lambda path=path: load(path),
                lambda path=path: load(path, memory=1),
            )
        except (ImportError, RuntimeError) as error:  # torchvision, or one that was built for another torch
            print(f"without {plain}: {error}")
            continue
        total = count + 10
        rows.append(
            {
                "reader": reader,
                "images_per_second": round(total / ours),
                "against": plain,
                "its_images_per_second": round(total / other),
                "ratio": round(other / ours, 2),
                "ratio_once_decoded_to_disk": round(other / mapped, 2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=32, help="height and width, a multiple of 4")
    parser.add_argument("--json", type=Path, help="write the rows here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["NOTBUGS_CACHE"] = str(root / "cache")
        write(root, asked.images, asked.side)
        rows = measure(root, asked.images)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    if asked.json:
        result = {"images": asked.images, "side": asked.side, "cores": os.cpu_count(), "rows": rows}
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
