"""Random damage and random input: one line, or a right answer, never a traceback; longer with `-m slow`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notbugs.__main__ import main
from notbugs.errors import InputError
from notbugs.study import read_recipe

SCRIPT = Path(__file__).parent.parent / "scripts" / "mutate.py"
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

spec = importlib.util.spec_from_file_location("mutate", SCRIPT)
assert spec
assert spec.loader
mutate = importlib.util.module_from_spec(spec)
sys.modules["mutate"] = mutate
spec.loader.exec_module(mutate)


def check(kind, count: int, seed: int) -> None:
    found, faults = mutate.counted(kind, count, seed)
    assert not faults
    assert not found["hang"]
    assert not (kind.guarded and found["other"])
    assert sum(found.values()) == count


@pytest.mark.parametrize("kind", mutate.KINDS, ids=lambda kind: kind.name)
def test_damaged_files_end_in_one_line_or_a_right_answer(kind):
    check(kind, 8, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutate.KINDS, ids=lambda kind: kind.name)
def test_a_thousand_damaged_files_of_each_kind(kind):
    check(kind, 1000, seed=0)


def test_the_script_notices_a_reader_that_takes_anything(tmp_path):
    def make(folder: Path) -> Path:
        (folder / "x").write_bytes(bytes(range(256)))
        return folder / "x"

    lax = mutate.Kind("lax", make, lambda path: 1 // (len(path.read_bytes()) == 256) and path.read_bytes(), True)
    found, faults = mutate.counted(lax, 50, 0)
    assert found["other"]
    assert found["traceback"]
    assert faults == {"ZeroDivisionError: integer division or modulo by zero"}


def refusal(source: str | Path, overrides: dict[str, Any]) -> str:
    """What is said of a recipe that is refused; the source, if it is read."""
    try:
        read_recipe(source, overrides)
    except InputError as error:
        return str(error)
    return str(source)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["data", "size", "seed", "device", "name", "architecture", "standard", "robust", "matching", "storage", "pair",
     "trained_on", "relabelling", "evaluation", "instruments", "groups", "small", "expected", "heldout", "nonsense"]
)  # fmt: skip


@FEW
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_settings_make_a_recipe_or_one_line(overrides):
    said = refusal("digits", overrides)
    assert "errors.pydantic.dev" not in said


@FEW
@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_one_line(tmp_path, text):
    file = tmp_path / "any.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert str(file) in refusal(file, {})


WORDS = st.sampled_from(
    ["run", "info", "status", "export", "report", "figures", "verify", "recipes", "--to", "npz", "--help"]
)


@FEW
@given(st.lists(WORDS | st.text(max_size=12).filter(lambda text: "/" not in text), min_size=1, max_size=4))
def test_any_command_line_ends_in_a_line_and_a_status(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    if words[0] == "run" or "digits" in words or any(word in ("theory", "train") for word in words):
        words = ["info", *words[1:]]
    status = main(words)
    said = capsys.readouterr().err
    assert status in (0, 1, 2)
    assert "Traceback" not in said
    assert "went wrong where it should not" not in said
