"""Jobs for a GPU, on the CPU: what they take from one machine to the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.whole

SCRIPTS = Path(__file__).parent.parent / "scripts"
TINY = """--train-images 30 --test-images 10 --pair 0 1 --arch.width 2 --standard.epochs 1 --robust.epochs 1
--robust.adversary.steps 1 --constructed.epochs 1 --matching.steps 2 --relabelling.steps 2
--evaluation.attack.steps 2 --evaluation.attack.queries 0"""


def state(*arguments: object) -> str:
    command = [sys.executable, str(SCRIPTS / "gpu_state.py"), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def work(tmp_path) -> Path:
    """The folder of a study with four classifiers of 26 MB, a fifth one in training, and a set."""
    folder = tmp_path / "work"
    for name in ("classifiers", "stages", "outcomes/autoattack", "sets/D_R"):
        (folder / name).mkdir(parents=True)
    for name in ("D_R", "independent", "robust", "standard"):
        (folder / "classifiers" / f"{name}.safetensors").write_bytes(name.encode() * (26_000_000 // len(name)))
        (folder / "outcomes" / f"{name}.safetensors").write_bytes(b"outcomes")
        for stage in ("train", "evaluate"):
            (folder / "stages" / f"{stage}-{name}.json").write_text("{}", encoding="utf-8")
    (folder / "classifiers" / "D_NR.unfinished.safetensors").write_bytes(b"half")
    (folder / "outcomes" / "autoattack" / "0.safetensors").write_bytes(b"kept")
    (folder / "sets" / "D_R" / "0.safetensors").write_bytes(b"shard")
    (folder / "stages" / "build-D_R.json").write_text("{}", encoding="utf-8")
    (folder / "recipe.toml").write_text("name = 'x'", encoding="utf-8")
    return folder


def test_a_job_takes_the_classifiers_that_fit_to_the_next_machine(work, tmp_path):
    """Those that others are built with first, in parts, each with what was measured of it and nothing unfinished."""
    out, there = tmp_path / "out", tmp_path / "there"
    out.mkdir(), there.mkdir()
    state("pack", work, out, 100)
    assert len(list(out.iterdir())) == 6
    state("pack", work, out, 60)
    assert sorted(part.name for part in out.iterdir()) == ["state.0", "state.1", "state.2", "state.3"]
    assert max(part.stat().st_size for part in out.iterdir()) <= 15_000_000
    state("unpack", out, there)
    found = {str(file.relative_to(there)) for file in there.rglob("*") if file.is_file()}
    taken = {f"stages/{stage}-{name}.json" for stage in ("train", "evaluate") for name in ("robust", "standard")}
    taken |= {
        f"{folder}/{name}.safetensors" for folder in ("classifiers", "outcomes") for name in ("robust", "standard")
    }
    assert found == taken | {"recipe.toml", "outcomes/autoattack/0.safetensors"}
    assert all((there / name).read_bytes() == (work / name).read_bytes() for name in found)


def test_parts_that_do_not_belong_together_are_left_alone(work, tmp_path):
    out, there = tmp_path / "out", tmp_path / "there"
    out.mkdir(), there.mkdir()
    state("pack", work, out, 30)
    (out / "state.1").unlink()
    assert "starts from the beginning" in state("unpack", out, there)
    assert "starts from the beginning" in state("unpack", tmp_path / "sets", there)
    assert not list(there.iterdir())


@pytest.mark.slow
def test_a_killed_job_goes_on_on_another_machine_with_its_state_alone(tmp_path):
    draw, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 40), ("test", 20)):
        arrays[f"{split}_images"] = draw.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(tmp_path / "made.npz", **arrays)

    def start(number: int, **more: str) -> subprocess.Popen[str]:
        bin_folder = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        settings = {"PATH": bin_folder, "DEVICE": "cpu", "MORE": TINY, "WORK": str(tmp_path / f"work{number}")}
        command = [
            "sh",
            str(SCRIPTS / "gpu_job.sh"),
            "cifar10",
            str(tmp_path / "made.npz"),
            str(tmp_path / f"out{number}"),
        ]
        return subprocess.Popen(command, env=os.environ | settings | more, start_new_session=True, text=True)

    first, began = start(1), time.monotonic()
    out = tmp_path / "out1"
    while time.monotonic() - began < 200 and first.poll() is None:
        parts = [part.read_bytes() for part in out.glob("state.*")]
        if any(b"evaluate-robust.json" in part for part in parts):
            break
        time.sleep(0.1)
    assert first.poll() is None, "it was to be killed in the middle"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    second = start(2, STATE=str(out))
    assert second.wait(200) == 0
    assert {file.name for file in (tmp_path / "out2").iterdir()} == {
        "results.json", "recipe.toml", "gallery.safetensors", "cifar10.log",
    }  # fmt: skip
    log = (tmp_path / "out2" / "cifar10.log").read_text(encoding="utf-8")
    assert "build D_R: done" in log, "sets are never taken along"
    assert "train robust classifier" not in log
    robust = [(tmp_path / f"work{n}" / "cifar10" / "classifiers" / "robust.safetensors") for n in (1, 2)]
    assert robust[0].read_bytes() == robust[1].read_bytes()
