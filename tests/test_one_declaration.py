"""Adding a thing touches as few files as CONTRIBUTING says: shown in a copy of the library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
from notbugs.report.typeset import latex, markdown
from notbugs.search import Shrinking
from notbugs.study import json_schema, read_recipe
from notbugs.study.plan import stage_names
from notbugs.study.results import Results
from notbugs.study.sets import BY_NAME
from tests import fakes

toy = BY_NAME["D_toy"]
asked = {"trained_on": {"D_toy": {"epochs": 3}}, "instruments": {"controls": {"leakage": ["D_toy"]}}}
recipe = read_recipe("digits", asked)
assert recipe.training("D_toy", "constructed").epochs == 3
assert isinstance(toy.relabelling(recipe.relabelling).schedule, Shrinking)
assert {"build-D_toy", "measure-D_toy", "train-D_toy", "evaluate-D_toy"} <= set(stage_names(judge=False))
assert '"D_toy"' in str(json_schema()).replace("'", '"')
rows = [fakes.row(name, share, eps=eps) for eps in (None, 0.25) for name, share in (("D", 0.9), ("D_toy", 0.4))]
made = Results(study=fakes.study(), rows=rows, sets=[fakes.properties("D_toy", targets="other")])
page = render(made, None)
assert "<span class=set>D<sub>toy</sub></span> teaches 40.0" in page
assert "var(--c123456, #123456)" in page and "--c123456: #abcdef" in page
assert "any wrong class" in page
table = next(found.table for found in tables(made) if found.name == "table-1")
assert r"_{\\mathrm{toy}}" in latex(table, "table-1")
assert "D<sub>toy</sub>" in markdown(table)
"""


@pytest.fixture
def copied(tmp_path):
    """The library as a copy that may be changed."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src"


def run(source: Path, code: str) -> None:
    environment = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr


def test_a_set_is_one_declaration(copied):
    file = copied / "notbugs" / "study" / "sets.py"
    before = file.read_text(encoding="utf-8")
    after = before.replace(')\n"""In the order in which', TOY_SET)
    assert after != before
    file.write_text(after, encoding="utf-8")
    run(copied, USE_SET)
