"""A whole study that several workers share is the study of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notbugs import study
from notbugs.console import TerminalConsole
from notbugs.construct import ConstructedSet
from notbugs.study import Results

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parent.parent
TINY = """
data = "digits"
train_images = 120
test_images = 40
precision = "fp32"
architecture = {width = 8, features = 16}
standard = {epochs = 2, lr = 0.05, batch = 30}
robust = {epochs = 2, lr = 0.05, batch = 30, adversary = {eps = 0.5, steps = 1}}
constructed = {epochs = 2, lr = 0.05, batch = 30}
matching = {steps = 5}
relabelling = {steps = 5}
storage = {batch = 50}
evaluation = {attack = {steps = 1, queries = 0}, pgd = {steps = 3}, radii = [0.5]}

[instruments.corruptions]
on = true
names = ["brightness"]
severities = [1]
cutoffs = [4]
images = 20

"""


def command(recipe: Path, out: Path, count: int) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    return [sys.executable, *launch, "-m", "notbugs", "run", str(recipe), "--out", str(out)]


def begin(recipe: Path, out: Path, count: int) -> subprocess.Popen[str]:
    out.mkdir(exist_ok=True)
    (out / "theory.html").touch()  # which costs more than the whole study
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command(recipe, out, count), cwd=ROOT, env=environment, **pipes)


def run(recipe: Path, out: Path, count: int, status: int = 0) -> tuple[str, str]:
    process = begin(recipe, out, count)
    printed, told = process.communicate(timeout=300)
    assert (process.returncode == 0) == (status == 0), told[-3000:]
    return printed, told


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory) -> Results:
    return study.run(study.read_recipe(recipe), tmp_path_factory.mktemp("alone"), TerminalConsole(quiet=True))


def read(out: Path) -> Results:
    return Results.model_validate_json((out / "results.json").read_text())


def assert_same(shared: Results, alone: Results) -> None:
    """But for rounding, which moves few images across a boundary, and grows from set to classifier."""
    assert {stage.name for stage in shared.study.stages} == {stage.name for stage in alone.study.stages}
    for one, other in zip(shared.rows, alone.rows, strict=True):
        assert (one.classifier, one.attack, one.n) == (other.classifier, other.attack, other.n)
        room = 1.5 / one.n if one.train_set == "D" else 0.12
        assert abs(one.accuracy - other.accuracy) <= room, one.classifier
    for one, other in zip(shared.sets, alone.sets, strict=True):
        assert (one.name, one.n, one.settings) == (other.name, other.n, other.settings)
        assert one.l2.median == pytest.approx(other.l2.median, rel=0.05)
    rows, others = (each.instruments.corruptions.rows for each in (shared, alone))
    assert [(row.classifier, row.clean.n) for row in rows] == [(row.classifier, row.clean.n) for row in others]


def test_two_workers_run_the_study_of_one(recipe, alone, tmp_path):
    out = tmp_path / "study"
    printed, told = run(recipe, out, 2)
    assert printed.split() == [str(out / "report.html")]
    assert (out / "report.html").exists()
    assert told.count("train standard classifier: done") == 1
    assert_same(read(out), alone)
    assert len(ConstructedSet(out / "sets" / "D_R")) == 120


@pytest.mark.slow
def test_killed_workers_go_on_as_one_or_as_three(recipe, alone, tmp_path):
    out = tmp_path / "study"
    for count, stage in ((2, "build-D_R.json"), (1, "train-D_rand.json")):
        process = begin(recipe, out, count)
        while not (out / "stages" / stage).exists():
            assert process.poll() is None, process.communicate()[1][-3000:]
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(recipe, out, 3)
    assert_same(read(out), alone)


def test_a_mistake_is_told_once(recipe, tmp_path):
    out, other = tmp_path / "study", tmp_path / "other.toml"
    out.mkdir()
    (out / "recipe.toml").write_text(f'name = "study"\n{TINY}')
    other.write_text(TINY.replace("images = 20", "images = 21"))
    _, told = run(other, out, 2, status=2)
    assert told.count("notbugs: ") == told.count("holds a study with other settings") == 1
    assert "Traceback (most recent call last)" not in told.split("holds a study")[0]
