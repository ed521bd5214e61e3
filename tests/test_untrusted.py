"""Files from elsewhere are data: nothing in them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from notbugs.__main__ import main
from notbugs.errors import InputError
from notbugs.study import read_recipe
from tests.test_study import tiny

pytestmark = pytest.mark.whole

LISTS = "instruments.transfer.architectures"


@pytest.fixture
def code(tmp_path, monkeypatch) -> str:
    """A function in the working folder that leaves a file if it is only imported."""
    monkeypatch.chdir(tmp_path)
    module = f"code_{tmp_path.name.replace('-', '_')}"
    Path(f"{module}.py").write_text("open('ran', 'w').close()\ndef make(**options):\n    raise ValueError('called')\n")
    return f"{module}:make"


def recipe(where: str, code: str) -> str:
    """A recipe that names the code."""
    sections = {"architecture.name": {"architecture": {"name": code}}, LISTS: transfer("cnn width=4", code)}
    Path("recipe.toml").write_text(tiny(**sections[where]).toml())
    return "recipe.toml"


def transfer(*architectures: str) -> dict[str, object]:
    return {"instruments": {"transfer": {"on": True, "architectures": list(architectures)}}}


FLAGS = {"architecture.name": "arch", LISTS: LISTS}


@pytest.mark.parametrize("where", FLAGS)
def test_a_recipe_alone_runs_no_code(code, where, capsys):
    file = recipe(where, code)
    assert main(["run", file, "--out", "o"]) == 2
    said = capsys.readouterr().err
    assert f"recipe.toml names code to run, '{code}" in said
    assert f"say so in the command with --{FLAGS[where]} " in said
    assert not Path("ran").exists()
    assert not Path("o").exists()


def test_what_the_command_names_runs(code, capsys):
    file = recipe("architecture.name", code)
    assert main(["run", file, "--out", "o", "--arch", code]) == 2
    assert "could not be made: ValueError: called" in capsys.readouterr().err
    assert Path("ran").exists()
    assert read_recipe(recipe(LISTS, code), transfer(code)).instruments.transfer.architectures == (code,)
    assert read_recipe(recipe(LISTS, code), transfer("cnn"))  # of which nothing runs
    with pytest.raises(InputError, match="names code"):
        read_recipe(recipe(LISTS, code), {"architecture": {"name": code}})


def test_a_study_from_elsewhere_runs_no_code_when_it_is_tuned(code, capsys):
    study = Path("theirs")
    study.mkdir()
    (study / "recipe.toml").write_text(tiny(architecture={"name": code}).toml())
    assert main(["tune", str(study), "--sets", "D_det"]) == 2
    said = capsys.readouterr().err
    assert f"recipe.toml names code to run, '{code}" in said
    assert f"--architectures {code}" in said.replace("'", "")
    assert not Path("ran").exists()


def test_the_command_that_repeats_a_study_names_its_code(code):
    own = tiny(architecture={"name": code})
    assert own.command(Path("a b/recipe.toml")) == (f"notbugs run 'a b/recipe.toml' --arch {code} --out NEW_FOLDER")
    assert tiny().command(Path("r.toml")) == "notbugs run r.toml --out NEW_FOLDER"
