"""What a job takes from one machine to the next, in files of at most 15 MB: `pack WORK OUT` and `unpack STATE WORK`.

Of a study: its recipe and data, and of its classifiers those that fit, the sources of sets first, each with the two
stages that trained and measured it. Everything else is made again. Of other jobs: the finished weights.
"""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

LIMIT, PART = 60 * 10**6, 15 * 10**6
FIRST = ("robust", "standard", "independent")


def chosen(work: Path) -> list[Path]:
    """The files that go along, within the limit."""
    found = [file for name in ("recipe.toml", "study.json") if (file := work / name).exists()]
    found += [file for file in work.glob("[!.]*.safetensors") if file.name != "gallery.safetensors"]
    room = LIMIT - sum(file.stat().st_size for file in found)
    done = [file for file in (work / "classifiers").glob("*.safetensors") if ".unfinished" not in file.name]
    order = {name: number for number, name in enumerate(FIRST)}
    for weights in sorted(done, key=lambda file: (order.get(file.stem, len(order)), file.name)):
        stages = [work / "stages" / f"{stage}-{weights.stem}.json" for stage in ("train", "evaluate")]
        group = [weights, *(file for file in stages if file.exists())]
        size = sum(file.stat().st_size for file in group)
        if size <= room and stages[0].exists():
            found, room = found + group, room - size
    return found


def pack(work: Path, out: Path) -> None:
    """Write `out/state.0`, `state.1`, ..., one archive cut into parts."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in chosen(work):
            tar.add(file, file.relative_to(work))
    packed = archive.getvalue()
    for number, first in enumerate(range(0, len(packed), PART)):
        (out / f"state.{number}").write_bytes(packed[first : first + PART])
    print(f"{len(packed) / 1e6:.0f} MB of state in {out}")


def unpack(state: Path, work: Path) -> None:
    """Read the parts back into `work`."""
    parts = sorted(state.glob("state.*"), key=lambda part: int(part.suffix[1:]))
    archive = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(work, filter="data")


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
