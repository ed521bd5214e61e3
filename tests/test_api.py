"""The public names: few on the top level, each in one family; old ones go on with a warning."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import notbugs as nb

SOURCE = Path(nb.__file__).parent


def test_the_top_level_has_at_most_forty_names():
    names = [name for name in dir(nb) if not name.startswith("_")]
    assert sorted(names) == sorted(nb.__all__)
    assert len(names) <= 40
    for name in names:
        assert getattr(nb, name) is not None
    for one in nb.MODULES:
        assert getattr(nb, one).__name__ == f"notbugs.{one}"


def test_a_reader_of_types_sees_the_same_names():
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {alias.asname: node.module for node in block.body for alias in node.names}
    known = {
        name: f"notbugs.{module}" for family in nb.FAMILIES.values() for module, of in family.items() for name in of
    }
    assert declared == known | dict.fromkeys(nb.MODULES, "notbugs")


@pytest.mark.parametrize("name", sorted(nb._OLD))
def test_an_old_name_goes_on_with_a_warning(name):
    module, now = nb._OLD[name].split(".")
    with pytest.warns(DeprecationWarning, match=rf"notbugs\.{module}\.{now},"):
        found = getattr(nb, name)
    assert found is getattr(importlib.import_module(f"notbugs.{module}"), now)
    assert name not in dir(nb)


def test_search_was_a_function():
    with pytest.warns(DeprecationWarning, match=r"notbugs\.search\.search"), pytest.raises(TypeError):
        nb.search()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nb.nothing


def test_importing_notbugs_imports_no_torch():
    code = "import sys, notbugs; assert 'torch' not in sys.modules; notbugs.L2(1.0); assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("module", ["construct", "study"])
def test_every_public_name_of_a_lazy_package_is_found(module):
    package = getattr(nb, module)
    assert {name for name in package.__all__ if getattr(package, name, None) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
