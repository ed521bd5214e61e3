"""Killed with SIGKILL at random moments, a build continues where it stopped, and ends in the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notbugs.construct import storage, verify
from notbugs.construct.manifest import known_entries, read_manifest
from notbugs.files import sha256
from tests.build_small import build

ROOT = Path(__file__).parents[1]
ALONE = [sys.executable, "-m", "tests.build_small"]
TOGETHER = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node=2",
    "-m",
    "tests.build_small",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, float]:
    """The set of one worker that nothing disturbed, and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "SHARD_IMAGES", 10)
        began = time.monotonic()
        build(str(folder))
    return folder, time.monotonic() - began


def content(folder: Path) -> dict:
    """All files of a set, and its manifest without the times."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["seconds"], manifest["checksum"]  # the checksum is of the seconds, too
    for entry in manifest["shards"]:
        del entry["seconds"]
    # safetensors' own temporary file stays where a process is killed in the middle of a write.
    names = (path for path in folder.iterdir() if path.name != "manifest.json" and not path.name.startswith(".tmp"))
    files = {path.name: sha256(path) for path in names}
    return {"manifest.json": manifest, **files}


def start(command: list[str], folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*command, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def begun(process: subprocess.Popen, workers: int) -> list[int]:
    """The process numbers of the workers, as soon as they begin to build."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(workers)]


def kill(workers: list[int]) -> None:
    for worker in workers:
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:  # it had finished
            continue


def check_still_valid(folder: Path) -> int:
    """Nothing is wrong but that the set is not finished; returns the number of finished shards."""
    if not (folder / "manifest.json").exists():
        return 0
    for finding in verify(folder):
        left = "is left over from a build that was killed" in finding.found
        assert left or finding.rule == "be of a finished set", finding
    return len(list(folder.glob("shard-*.safetensors")))


def disturb(command: list[str], workers: int, folder: Path, draw: random.Random, seconds: float) -> int:
    """Start a build, kill some of its workers after a while, and look at what is left."""
    with start(command, folder) as process:
        found = begun(process, workers)
        time.sleep(draw.uniform(0, seconds))
        kill(draw.choice([found, found[:1], found[-1:]]))
        process.wait(timeout=60)
    return check_still_valid(folder)


def finish(command: list[str], folder: Path) -> None:
    with start(command, folder) as process:
        assert process.wait(timeout=120) == 0


def test_killed_at_random_moments(undisturbed, tmp_path, monkeypatch):
    whole, seconds = undisturbed
    draw = random.Random(0)
    done = [disturb(ALONE, 1, tmp_path / "set", draw, seconds / 2) for _ in range(2)]
    assert done == sorted(done)
    monkeypatch.setattr(storage, "SHARD_IMAGES", 10)
    build(str(tmp_path / "set"))
    assert content(tmp_path / "set") == content(whole)


def test_two_workers_build_the_same_bits_and_keep_what_one_has_finished(undisturbed, tmp_path):
    whole, seconds = undisturbed
    folder = tmp_path / "set"
    done = disturb(ALONE, 1, folder, random.Random(1), seconds)
    # Finished is a shard with its entry: one that was killed between the two is built again.
    manifest = read_manifest(folder)
    finished = known_entries(folder, manifest) if manifest else {}
    before = {name: (folder / name).stat().st_mtime_ns for name in finished}
    finish(TOGETHER, folder)
    assert content(folder) == content(whole)
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before
    assert done - 1 <= len(before) <= done


def kill_many_times(command: list[str], workers: int, folder: Path, whole: Path, seconds: float) -> None:
    draw, kills = random.Random(2), 0
    while kills < 20:
        target = folder / str(kills // 5)  # a fresh set now and then: else the last kills meet a finished one
        for _ in range(5):
            disturb(command, workers, target, draw, seconds / 3)
            kills += 1
        finish(command, target)
        assert content(target) == content(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_worker_killed_twenty_times(undisturbed, tmp_path):
    kill_many_times(ALONE, 1, tmp_path, *undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_workers_killed_twenty_times(undisturbed, tmp_path):
    kill_many_times(TOGETHER, 2, tmp_path, *undisturbed)
