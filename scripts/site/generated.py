"""The pages of the reference that are made from the code: commands, keys of files, recipes, names of the API."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import file_keys
import griffe
from command_pages import command_page
from recipe_page import recipe_page

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "notbugs"
NAMESPACES = {
    "data": "Images in: readers, planted features, corruptions.",
    "models": "Architectures by name, weights and classifiers in files.",
    "training": "Standard and adversarial training.",
    "search": "The search over inputs: attacks, feature matching, step rules.",
    "construct": "Constructed sets: builders, controls, the store, its checks and exporters.",
    "measure": "Accuracy, usefulness, leakage, shares, transfer, statistics.",
    "theory": "Two Gaussians: formulas and simulations of the paper's theorems.",
    "study": "Whole studies: recipes, runs, results.",
    "instrument": "What an instrument of your own is made of.",
    "content": "Sections, tables and figures as plain values.",
}
"""The modules whose public names are part of the API, and what is in them."""


def pages() -> Iterator[tuple[str, str]]:
    """Every generated page, by path from docs/."""
    yield "reference/commands.md", command_page()
    yield "reference/recipes.md", recipe_page()
    yield from file_keys.pages()
    yield "reference/changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    yield "reference/api/index.md", _top_level()
    for name, about in NAMESPACES.items():
        yield f"reference/api/{name}.md", _namespace(name, about)


def api_navigation() -> list[Any]:
    """Of the pages of the Python reference."""
    return [
        "reference/api/index.md",
        *({f"notbugs.{name}": f"reference/api/{name}.md"} for name in NAMESPACES),
    ]


def public_names(name: str) -> list[str]:
    """`__all__` of a module, read and not imported, or else what it defines or imports under its own name."""
    path = PACKAGE / name / "__init__.py" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets):
            return sorted(ast.literal_eval(node.value), key=str.lower)
    again = [
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names if alias.asname
    ]
    own = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return sorted((one for one in {*again, *own} if not one.startswith("_")), key=str.lower)


def documented(name: str) -> list[str]:
    """The public names of a module that say what they are; constants and types that only list values do not."""
    module = library()[name]
    found = []
    for one in public_names(name):
        target = module[one].final_target if module[one].is_alias else module[one]
        if target.docstring:
            found.append(one)
    return found


@cache
def library() -> griffe.Module:
    """The source of notbugs, read and not imported."""
    return cast("griffe.Module", griffe.load("notbugs", search_paths=[str(PACKAGE.parent)], docstring_parser="numpy"))


def _namespace(name: str, about: str) -> str:
    listed = "\n\n".join(f"::: notbugs.{name}.{one}" for one in documented(name))
    return f"# notbugs.{name}\n\n{about}\n\n{listed}\n"


def _top_level() -> str:
    """The names of `import notbugs`, with what is on no page of a module."""
    rows, here = ["| name | what it is |", "|---|---|"], []
    for one in public_names("__init__"):
        if not one[0].isalpha() or not library()[one].is_alias:
            continue
        target = library()[one].final_target
        if not target.docstring:
            continue
        where = _where(target)
        if where is None:
            here.append(f"::: notbugs.{one}")
            where = f"notbugs.{one}"
        about = target.docstring.value.strip().split("\n", 1)[0]
        rows.append(f"| [`notbugs.{one}`][{where}] | {about} |")
    return "\n\n".join(["# notbugs", "\n".join(rows), *here]) + "\n"


def _where(target: griffe.Object | griffe.Alias) -> str | None:
    """The heading of a module's page under which an object is."""
    for space in NAMESPACES:
        for one in documented(space):
            if library()[space][one].canonical_path == target.canonical_path:
                return f"notbugs.{space}.{one}"
    return None
