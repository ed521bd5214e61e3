"""Damage each kind of file that notbugs reads at random, read it, and count what becomes of it.

    python scripts/mutate.py [--count 1000] [--seed 0] [KIND ...]

Each mutation flips bits, cuts, repeats, zeroes or overwrites a part. Counted are: *line*, refused in one line; *right*,
read as it was written; *other*, read as something else and not noticed, which only files without a checksum may be;
*traceback*, any other error; *hang*, longer than 30 seconds. Exit status 1 if there is a traceback or a hang, or
an *other* of a file that has a checksum.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from notbugs import data as data_room
from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet
from notbugs.construct.manifest import read_manifest
from notbugs.errors import InputError
from notbugs.files import read_tensors, write_json, write_tensors
from notbugs.measure import Outcome
from notbugs.models import Blueprint, build, load_classifier, save_classifier
from notbugs.records import write_model
from notbugs.report.pictures import read_gallery
from notbugs.study import read_recipe
from notbugs.study.results import Results, outcomes_file, read_outcomes, read_results, write_outcomes
from notbugs.study.written import (
    check_recipe,
    copy_of,
    read_info,
    read_own_recipe,
    read_stage,
    write_info,
    write_recipe,
)

SECONDS = 30
OUTCOMES = ("line", "right", "other", "traceback", "hang")


class Hung(BaseException):
    """Reading took too long."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: how one is made, how it is read, and whether a checksum guards it."""

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    guarded: bool


def mutated(whole: bytes, draw: random.Random) -> bytes:
    """`whole` with one accident."""
    data = bytearray(whole)
    first = draw.randrange(len(data))
    last = min(len(data), first + draw.choice((1, 4, 64, 4096)))
    match draw.randrange(6):
        case 0:
            for _ in range(draw.choice((1, 1, 1, 8))):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        case 1:
            del data[first:]
        case 2:
            data[first:last] = bytes(last - first)
        case 3:
            data[first:last] = draw.randbytes(last - first)
        case 4:
            data[first:first] = data[first:last]
        case _:
            del data[first:last]
    return bytes(data)


def images(folder: Path) -> dict[str, np.ndarray]:
    """Small images and labels."""
    draw = np.random.default_rng(0)
    return {"images": draw.integers(0, 256, (40, 8, 8), dtype=np.uint8), "labels": np.arange(40) % 4}


def make_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "x.npz", **images(folder))
    return folder / "x.npz"


def make_parquet(folder: Path) -> Path:
    import io

    import pyarrow as pa
    from PIL import Image
    from pyarrow import parquet

    found, encoded = images(folder), []
    for image in found["images"]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        encoded.append({"bytes": file.getvalue(), "path": None})
    parquet.write_table(
        pa.table({"image": encoded, "label": found["labels"]}), folder / "x.parquet", write_page_checksum=True
    )
    return folder / "x.parquet"


def read_data(path: Path) -> Any:
    return seen(data_room.load(path))


def seen(found: data_room.Data) -> Any:
    return found.fingerprint, found.classes, found.test.labels.tolist()


def make_stack(folder: Path) -> Path:
    found = images(folder)
    np.save(folder / "labels.npy", found["labels"])
    np.save(folder / "images.npy", found["images"])
    return folder / "images.npy"


def make_matlab(folder: Path) -> Path:
    from scipy.io import savemat

    found = images(folder)
    savemat(folder / "train_8x8.mat", {"X": found["images"][:, :, :, None].transpose(1, 2, 3, 0), "y": found["labels"]})
    return folder / "train_8x8.mat"


def make_idx(folder: Path) -> Path:
    for name, values in images(folder).items():
        head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
        path = folder / f"train-{name}-idx{values.ndim}-ubyte"
        path.write_bytes(head + values.astype(np.uint8).tobytes())
    return folder / "train-images-idx3-ubyte"


def make_labels(folder: Path) -> Path:
    return make_stack(folder).with_name("labels.npy")


def make_picture(form: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from PIL import Image

        for number, pixels in enumerate(images(folder)["images"]):
            path = folder / "data" / f"class-{number % 4}" / f"{number}.{form}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return folder / "data" / "class-0" / f"0.{form}"

    return make


def make_sheet(lines: Callable[[int], str], name: str, head: str = "") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from PIL import Image

        (folder / "data").mkdir()
        for number, pixels in enumerate(images(folder)["images"]):
            Image.fromarray(pixels).save(folder / "data" / f"{number}.png")
        (folder / "data" / name).write_text(head + "".join(map(lines, range(40))))
        return folder / "data" / name

    return make


def row_of_csv(number: int) -> str:
    return f"{number}.png,class-{number % 4}\n"


def row_of_json(number: int) -> str:
    return json.dumps({"file_name": f"{number}.png", "label": f"class-{number % 4}"}) + "\n"


def read_sheet(path: Path) -> Any:
    return read_data(path.parent)


def make_names(folder: Path) -> Path:
    make_npz(folder)
    (folder / "names.json").write_text('["one", "two", "three", "four"]\n')
    return folder / "names.json"


def make_user_recipe(folder: Path) -> Path:
    (folder / "mine.toml").write_text(read_recipe("digits").toml())
    return folder / "mine.toml"


def make_program(folder: Path) -> Path:
    network = build("cnn", channels=1, classes=4, size=8, width=4, features=6).eval()
    torch.export.save(torch.export.export(network, (torch.rand(2, 1, 8, 8),)), folder / "p.pt2")
    return folder / "p.pt2"


def read_program(path: Path) -> Any:
    found = load_classifier(path, architecture="exported", shape=(1, 8, 8), classes=tuple("abcd"), mean=[0.5], std=[1])
    return listed(found.state_dict())


def make_stage(folder: Path) -> Path:
    value = [{"attack": None, "share": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}}]
    write_json(folder / "evaluate-standard.json", {"name": "evaluate-standard", "seconds": 1.5, "value": value})
    return folder / "evaluate-standard.json"


def make_recipe(folder: Path) -> Path:
    write_json(folder / "study.json", {})
    write_recipe(folder, read_recipe("digits"))
    copy_of(folder / "recipe.toml").unlink()  # else it would be read instead
    return folder / "recipe.toml"


def make_tensors(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        write_tensors(path, {"D": torch.rand(6, 1, 8, 8), "D.labels": torch.arange(6)}, {"format": "1"})
        return path

    return make


def listed(tensors: Any) -> Any:
    return {name: value.tolist() for name, value in sorted(tensors.items())}


def make_classifier(folder: Path) -> Path:
    torch.manual_seed(0)
    options = {"width": 4, "features": 6}
    network = build("cnn", channels=1, classes=4, size=8, **options)
    made = Classifier(network, mean=[0.5], std=[0.5])
    blueprint = Blueprint(architecture="cnn", shape=(1, 8, 8), classes=tuple("abcd"), options=options)
    save_classifier(folder / "c.safetensors", made, blueprint)
    return folder / "c.safetensors"


def make_weights(folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save(build("cnn", channels=1, classes=4, size=8, width=4, features=6).state_dict(), folder / "w.pt")
    return folder / "w.pt"


def make_results(folder: Path) -> Path:
    share = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    row = {
        "train_set": "D",
        "training": "standard",
        "classifier": "standard",
        "architecture": "cnn",
        "test_set": "test",
    }
    data = {"name": "x", "variant": "", "classes": ["a"], "shape": [1, 8, 8], "train": 9, "test": 9, "fingerprint": "f"}
    study = {"name": "x", "created": "2026-01-01T00:00:00", "recipe": {}, "command": "", "data": data, "seeds": [0]}
    sizes = {"name": "cnn", "parameters": 1, "features": 1, "feature_rank": {}, "input_dimension": 64}
    machine = {"versions": {}, "device": "cpu", "threads": 1, "stages": [], "classifiers": {}, "architecture": sizes}
    found = {"study": study | machine, "rows": [row | share | {"attack": None, "seed": 0}], "sets": []}
    write_model(folder / "results.json", Results.model_validate(found))
    return folder / "results.json"


def make_info(folder: Path) -> Path:
    data = {"name": "x", "variant": "", "classes": ["a"], "shape": [1, 8, 8], "train": 9, "test": 9, "fingerprint": "f"}
    write_info(folder, {"data": data, "created": "2026", "versions": {"torch": "2"}, "device": "cpu", "threads": 1})
    copy_of(folder / "study.json").unlink()  # else it would be read instead
    return folder / "study.json"


def make_outcomes(folder: Path) -> Path:
    pixels = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = [Outcome(None, torch.arange(40) % 3 > 0)]
    write_outcomes(folder, "standard", found, data_room.Images(pixels, torch.arange(40) % 4))
    return outcomes_file(folder, "standard")


def read_survivors(path: Path) -> Any:
    found = read_outcomes(path.parent.parent, path.stem)
    return found and (found.test_images, [one.survived.tolist() for one in found.outcomes])


def make_shard(folder: Path) -> Path:
    return make_manifest(folder).with_name("shard-00000.safetensors")


def read_set(path: Path) -> Any:
    found = ConstructedSet(path.parent)
    return found.images.labels.tolist(), found.images.batch(slice(None))[0].tolist()


def read_weights(path: Path) -> Any:
    how: dict[str, Any] = {"architecture": "cnn", "shape": (1, 8, 8), "classes": tuple("abcd")}
    return listed(load_classifier(path, **how, mean=[0.5], std=[0.5], width=4, features=6).state_dict())


def make_manifest(folder: Path) -> Path:
    from notbugs.construct import robustify

    data = data_room.load(make_npz(folder))
    network = build("cnn", channels=1, classes=4, size=8, width=4, features=6)
    robustify(Classifier(network, mean=[0.5], std=[0.5]).eval(), data, folder / "set")
    return folder / "set" / "manifest.json"


KINDS = (
    Kind("stage.json", make_stage, read_stage, True),
    Kind("recipe.toml", make_recipe, lambda path: (check_recipe(path.parent), read_own_recipe(path.parent)), True),
    Kind("manifest.json", make_manifest, lambda path: read_manifest(path.parent), True),
    Kind("results.json", make_results, lambda path: read_results(path).model_dump_json(), True),
    Kind("study.json", make_info, lambda path: read_info(path.parent), True),
    Kind("outcomes", make_outcomes, read_survivors, True),
    Kind("shard", make_shard, read_set, True),
    Kind("gallery.safetensors", make_tensors("gallery.safetensors"), lambda path: listed(read_gallery(path)), True),
    Kind("tensors", make_tensors("x.safetensors"), lambda path: listed(read_tensors(path)), True),
    Kind("classifier", make_classifier, lambda path: listed(load_classifier(path).state_dict()), True),
    Kind("weights.pt", make_weights, read_weights, False),
    Kind("npz", make_npz, read_data, False),
    Kind("parquet", make_parquet, read_data, False),
    Kind("images.npy", make_stack, lambda path: read_data(path.parent), False),
    Kind("labels.npy", make_labels, lambda path: read_data(path.parent), False),
    Kind("mat", make_matlab, lambda path: read_data(path.parent), False),
    Kind("idx", make_idx, lambda path: read_data(path.parent), False),
    Kind("picture.png", make_picture("png"), lambda path: read_data(path.parent.parent), False),
    Kind("picture.jpg", make_picture("jpg"), lambda path: read_data(path.parent.parent), False),
    Kind("picture.tiff", make_picture("tiff"), lambda path: read_data(path.parent.parent), False),
    Kind("sheet.csv", make_sheet(row_of_csv, "labels.csv", "file_name,label\n"), read_sheet, False),
    Kind("sheet.jsonl", make_sheet(row_of_json, "metadata.jsonl"), read_sheet, False),
    Kind("names", make_names, lambda path: seen(data_room.load(path.with_name("x.npz"), classes=path)), False),
    Kind("recipe of a user", make_user_recipe, lambda path: read_recipe(path).settings(), False),
    Kind("program.pt2", make_program, read_program, False),
)


def outcome(kind: Kind, path: Path, wanted: Any) -> tuple[str, str]:
    """What became of one damaged file, and for a traceback what it said."""
    signal.alarm(SECONDS)
    try:
        return ("right" if kind.read(path) == wanted else "other"), ""
    except InputError:
        return "line", ""
    except Hung:
        return "hang", ""
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"[:200]
    finally:
        signal.alarm(0)


def counted(kind: Kind, count: int, seed: int) -> tuple[Counter[str], set[str]]:
    """The outcomes of `count` mutations of one kind of file."""
    draw, found, faults = random.Random(seed), Counter[str](), set[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = kind.make(Path(folder))
        whole, wanted = path.read_bytes(), kind.read(path)
        for _ in range(count):
            path.write_bytes(mutated(whole, draw))
            what, said = outcome(kind, path, wanted)
            found[what] += 1
            faults |= {said} if said else set()
    return found, faults


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(kind.name for kind in KINDS))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)

    def hung(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, hung)
    failed = False
    print(f"{'kind':20} {' '.join(f'{name:>9}' for name in OUTCOMES)}")
    try:
        for kind in KINDS:
            if given.kinds and kind.name not in given.kinds:
                continue
            found, faults = counted(kind, given.count, given.seed)
            print(f"{kind.name:20} {' '.join(f'{found[name]:9}' for name in OUTCOMES)}", flush=True)
            for fault in sorted(faults):
                print(f"  {fault}")
            failed |= bool(found["traceback"] or found["hang"] or (kind.guarded and found["other"]))
    finally:
        signal.signal(signal.SIGALRM, before)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
