"""Every example of a docstring runs as the reference shows it."""

from __future__ import annotations

import doctest
import importlib
import inspect
import sys
from pathlib import Path

import pytest
import torch

import notbugs as nb

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "site"))

import generated  # noqa: E402

PUBLIC = [
    *(f"{module}.{name}" for module in generated.NAMESPACES for name in generated.documented(module)),
    *(f"{nb._HOME[name]}.{name}" for name in ("Classifier", "L2", "Linf", "Spatial", "InputError")),
]
SOURCE = {name: generated.target_of(*name.split(".")) for name in PUBLIC}
WITH = [name for name in PUBLIC if ">>> " in (SOURCE[name].docstring.value if SOURCE[name].docstring else "")]


@pytest.fixture(scope="module")
def first_lines(tmp_path_factory) -> dict[str, object]:
    """What every page of the reference says before its examples."""
    names: dict[str, object] = {}
    exec(generated.FIRST_LINES, names)  # noqa: S102
    return names


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    monkeypatch.setattr("notbugs.search.evaluation.ATTACKS", dict(nb.search.ATTACKS))


@pytest.mark.parametrize("name", WITH)
def test_the_example_runs(name, first_lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.cleandoc(SOURCE[name].docstring.value).partition("Examples\n--------\n")[2]
    assert text.count(">>> ") >= 1
    example = doctest.DocTestParser().get_doctest(text + "\n", dict(first_lines), name, None, 0)
    said: list[str] = []
    with torch.random.fork_rng():
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not result.failed, "".join(said)


def test_every_name_of_the_top_level_and_every_function_has_one():
    for family in nb.FAMILIES.values():
        for module, names in family.items():
            for name in names:
                found = getattr(importlib.import_module(f"notbugs.{module}"), name)
                assert ">>> " in (found.__doc__ or ""), name
    functions = [name for name in PUBLIC if SOURCE[name].is_function and name.split(".")[0] not in LARGE]
    assert set(functions) - set(WITH) <= MISSING


LARGE = {"study", "content", "instrument"}
"""Modules for whole studies: the tutorials and the how-to pages have their examples."""
MISSING = {"measure.certified_linear", "measure.ensemble", "theory.minimise_exact"}
"""Functions whose shortest example takes seconds."""
