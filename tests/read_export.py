"""Reads exports as others do, in a process of its own, and prints what it found as JSON.

python -m tests.read_export FOLDER FORMAT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def image_folder(folder: Path) -> dict:
    import torch

    try:
        import torchvision
    except RuntimeError:  # CPU torch beside torchvision's CUDA build: two operators must be known by name
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    data = torchvision.datasets.ImageFolder(folder / "train")
    rows = sorted(range(len(data)), key=lambda row: Path(data.samples[row][0]).name)
    pixels = np.stack([np.asarray(data[row][0]) for row in rows])
    return {"labels": [data.targets[row] for row in rows], "classes": data.classes, "sum": int(pixels.sum())}


def hub(folder: Path, *source: str, **options: str) -> dict:
    from datasets import load_dataset

    data = load_dataset(*source, split="train", cache_dir=str(folder.parent / "cache"), **options)
    names = data.features["label"].names
    found = {"labels": data["label"][:], "classes": names, "features": {k: repr(v) for k, v in data.features.items()}}
    if "image" in data.features:
        pixels = [np.asarray(image) for image in data["image"]]
        found["sum"] = int(np.stack(pixels).sum())
    if "pixels" in data.features:
        exact = np.asarray(data.with_format("numpy")["pixels"][:])
        found["pixels"] = [float(exact.astype(np.float64).sum()), list(exact.shape)]
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    if sys.argv[2] == "imagefolder":
        answer = {
            "torchvision": image_folder(where),
            "folder": hub(where, str(where)),
            "builder": hub(where, "imagefolder", data_dir=str(where)),
        }
    else:
        files = sorted(map(str, (where / "data").glob("*.parquet")))
        answer = {"folder": hub(where, str(where)), "builder": hub(where, "parquet", data_files={"train": files})}
    print(json.dumps(answer))
