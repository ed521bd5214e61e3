"""Adding a thing touches as few files as CONTRIBUTING says: a set, an instrument, an attack, a setting of an attack."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parent.parent

TOY_SET = """    SetDeclaration(
        name="D_toy",
        subscript="toy",
        command="toy",
        source="robust",
        targets="other",
        smallest=True,
        says="pushed as little as possible",
        colour="#123456",
        dark="#abcdef",
        mark="cross",
    ),
)
\"\"\"In the order in which"""
USE_SET = """
from notbugs.report.page import render
from notbugs.report.tables import tables
from notbugs.report.tables import latex, markdown
from notbugs.search import FMN
from notbugs.study import json_schema, read_recipe
from notbugs.study.sets import stage_names
from notbugs.study.results import Results
from notbugs.study.sets import BY_NAME
from tests import fakes

toy = BY_NAME["D_toy"]
asked = {"trained_on": {"D_toy": {"epochs": 3}}, "instruments": {"controls": {"on": True, "leakage": ["D_toy"]}}}
recipe = read_recipe("digits", asked)
assert recipe.training("D_toy").epochs == 3
assert isinstance(toy.relabelling(recipe.relabelling).schedule, FMN)
assert {"build-D_toy", "measure-D_toy", "train-D_toy", "evaluate-D_toy"} <= set(stage_names(judge=False))
assert '"D_toy"' in str(json_schema()).replace("'", '"')
rows = [fakes.row(name, share, eps=eps) for eps in (None, 0.25) for name, share in (("D", 0.9), ("D_toy", 0.4))]
made = Results(study=fakes.study(), rows=rows, sets=[fakes.properties("D_toy", targets="other")])
page = render(made, None)
assert "after training on <span class=set>D<sub>toy</sub></span>" in page
assert "var(--c123456, #123456)" in page and "--c123456: #abcdef" in page
assert "any wrong class" in page
table = next(found.table for found in tables(made) if found.name == "table-1")
assert r"_{\\mathrm{toy}}" in latex(table, "table-1")
assert "D<sub>toy</sub>" in markdown(table)
"""


TOY_INSTRUMENT = """
from pydantic import Field

from notbugs.content import PrintedFigure, Section, Table
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings


class Settings(InstrumentSettings):
    times: int = Field(2, ge=1)


class Result(InstrumentResult):
    counted: int


class Toy(Instrument[Settings, Result]):
    name, Settings, Result = "toy", Settings, Result

    def run(self, runner):
        times = runner.recipe.instruments.toy.times
        return Result(counted=runner.stage("toy", "count", lambda progress: times * len(runner.data.test)))

    def section(self, result, classes):
        table = Table("All of them", ("what", "count"), [["images", result.counted]])
        return Section("toy", "What a toy counts", "Toy", "It counts images.", tables=[table])

    def figures(self, result, seed):
        yield PrintedFigure("toy", f"Of seed {seed}.", lambda width, height: None)
"""
USE_INSTRUMENT = """
import json, sys
from pathlib import Path
from notbugs import study
from notbugs.console import TerminalConsole
from notbugs.errors import InputError
from notbugs.report.figures import figures
from notbugs.report.page import render
from notbugs.report.tables import tables

out = Path(sys.argv[1])
once = {name: {"epochs": 1} for name in ("standard", "robust")}
asked = {
    "train_images": 40, "test_images": 20, "architecture": {"width": 2, "features": 4}, **once,
    "matching": {"steps": 1}, "relabelling": {"steps": 1},
    "evaluation": {"attack": {"steps": 1, "queries": 0}, "pgd": {"steps": 1}, "radii": [0.5]},
    "instruments": {"toy": {"on": True, "times": 3}},
}
found = study.run(study.read_recipe("digits", asked), out, TerminalConsole(quiet=True))
assert json.loads((out / "results.json").read_text())["instruments"]["toy"] == {"counted": 60}
assert "toy" in study.json_schema()["$defs"]["Measured"]["properties"]
page = render(found, None)
assert '<a href="#toy">Toy</a>' in page and "What a toy counts" in page
assert [table.name for table in tables(found)][-1] == "toy"
assert list(figures(found, None))[-1].caption == "Of seed 0."
assert study.status(out).left == ()
try:
    study.read_recipe("digits", {"instruments": {"toy": {"times": 0}}})
except InputError as error:
    assert "instruments.toy.times" in str(error)
else:
    raise AssertionError
"""


TOY_ATTACK = """
from notbugs.search.evaluation import attack_named
from notbugs.search.objectives import away_from
from notbugs.search.steps import PGDSteps


@attack_named("toy", steps=3)
def toy(run, asked):
    for ball in reversed(run.balls):
        run.search("once", away_from, run.standing(ball), ball, PGDSteps(asked.steps), start=None)
"""
USE_ATTACK = """
import torch
import toy_attacks
from notbugs import evaluate
from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.study import read_recipe
from notbugs.threat import L2

classifier = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)))
images = Images(torch.rand(8, 3, 2, 2), torch.arange(8) % 3)
clean, robust = evaluate(classifier, images, [L2(0.5)], attack="toy")
assert (robust.attack.name, robust.attack.steps) == ("toy", 3)
assert read_recipe("digits", {"evaluation": {"attack": {"name": "toy"}}}).evaluation.attack.steps == 3
"""
USE_SETTING = """
from notbugs.measure import AttackUsed
from notbugs.search.evaluation import Attack
from notbugs.study import json_schema, read_recipe
from notbugs.threat import L2

recipe = read_recipe("digits", {"evaluation": {"attack": {"toying": 4}}})
assert recipe.evaluation.attack.toying == 4 and "toying = 4" in recipe.toml()
assert AttackUsed.of(Attack(toying=5), L2(0.5)).toying == 5
assert "toying" in json_schema()["$defs"]["AttackUsed"]["properties"]
from notbugs.cli.helping import print_help
for command in ("run", "evaluate", "audit"):
    print_help([command, "--help-all"])  # "--attack.toying", which the test looks for
"""


@pytest.fixture
def copied(tmp_path):
    """The library as a copy that may be changed."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src"


def run(code: str, *places: Path) -> str:
    """Run `code` with packages from `places`, the last of which it may write to."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*places, ROOT / "src", ROOT)))}
    command = [sys.executable, "-W", "error", "-c", code, str(places[-1] / "out")]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_a_set_is_one_declaration_and_a_setting_of_an_attack_one_field(copied):
    change(copied / "notbugs" / "study" / "sets.py", ')\n"""In the order in which', TOY_SET)
    new = '    toying: int = Field(0, ge=0, description="a toy")\n'
    asked = "    restarts: int = Field(1,"
    change(copied / "notbugs" / "search" / "evaluation.py", asked, new + asked)
    assert run(USE_SET + USE_SETTING, copied).count("--attack.toying") == 3


def test_another_package_adds_an_attack_by_a_function_and_an_instrument_by_a_class(tmp_path):
    """Installed: the package and what its wheel says of its entry points. Nothing of ours knows their names."""
    (tmp_path / "toys.py").write_text(TOY_INSTRUMENT, encoding="utf-8")
    (tmp_path / "toy_attacks.py").write_text(TOY_ATTACK, encoding="utf-8")
    about = tmp_path / "toys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[notbugs.instruments]\ntoy = toys:Toy\n", encoding="utf-8")
    run(USE_INSTRUMENT + USE_ATTACK, tmp_path)
