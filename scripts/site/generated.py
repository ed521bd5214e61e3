"""The pages of the reference that are made from the code: commands, keys of files, recipes, names of the API."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import file_keys
import griffe
from command_pages import command_page
from pydantic import BaseModel, TypeAdapter
from recipe_page import recipe_page

import notbugs

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


FIRST_LINES = """import torch

import notbugs as nb

data = nb.load("digits")
classifier = nb.new_classifier(data, width=4, features=8)
images = data.test.sample(20, 0, "examples")
inputs, labels = images.batch(slice(20))
"""
"""What the examples of the reference start from."""


def pages() -> Iterator[tuple[str, str]]:
    """Every generated page, by path from docs/."""
    yield "reference/commands.md", command_page()
    yield "reference/recipes.md", recipe_page()
    yield from file_keys.pages()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    yield "reference/changelog.md", changes.replace("](docs/", "](../")
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
            return sorted(ast.literal_eval(node.value), key=lambda one: (one.lower(), one))
    again = [
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names if alias.asname
    ]
    own = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return sorted((one for one in {*again, *own} if not one.startswith("_")), key=lambda one: (one.lower(), one))


def documented(name: str) -> list[str]:
    """The public names of a module that say what they are; constants and types that only list values do not."""
    return [one for one in public_names(name) if target_of(name, one).docstring]


def target_of(module: str, name: str) -> griffe.Object:
    """What a public name is; not the file of that name, where there is one."""
    found = library()[module][name]
    found = found.final_target if found.is_alias else found
    return found[name] if found.is_module else found


@cache
def library() -> griffe.Module:
    """The source of notbugs, read and not imported."""
    return cast("griffe.Module", griffe.load("notbugs", search_paths=[str(PACKAGE.parent)], docstring_parser="numpy"))


def _namespace(name: str, about: str) -> str:
    listed = "\n\n".join(f"::: {_path(name, one)}{_fields(name, one)}" for one in documented(name))
    start = f"Examples on this page start with:\n\n```python\n{FIRST_LINES}```"
    return f"# notbugs.{name}\n\n{about}\n\n{start}\n\n{listed}\n"


def _fields(module: str, name: str) -> str:
    """A table of what a class of settings or results holds, those that it inherits included; "" for all else."""
    public = getattr(import_module(f"notbugs.{module}"), name)
    if not (isinstance(public, type) and issubclass(public, BaseModel) and public.model_fields):
        return ""
    schema = TypeAdapter(public).json_schema(by_alias=False)
    return f"\n\n{file_keys.table(schema, f'field of {name}', _linked)}"


def _linked(name: str) -> str:
    """A type's name, with a link to where it is explained, if it is."""
    module = next((one for one in NAMESPACES if name in documented(one)), None)
    return f"`{name}`" if module is None else f"[{name}][{_path(module, name)}]"


def _path(module: str, name: str) -> str:
    """The identifier under which a page has a public name."""
    return f"notbugs.{module}.{name}{f'.{name}' if library()[module][name].is_module else ''}"


def _top_level() -> str:
    """The names of `import notbugs` by family, with what is on no page of a module."""
    parts = ["# notbugs", "`import notbugs as nb` has the names that an experiment needs. All others are in modules."]
    here = []
    for title, family in notbugs.FAMILIES.items():
        rows = [f"| {title} | |", "|---|---|"]
        for module, names in family.items():
            for one in names:
                target = target_of(module, one)
                where = _path(module, one) if module in NAMESPACES else f"notbugs.{module}.{one}"
                if module not in NAMESPACES:
                    here.append(f"::: {where}")
                about = target.docstring.value.strip().split("\n", 1)[0] if target.docstring else ""
                rows.append(f"| [`nb.{one}`][{where}] | {about} |")
        parts.append("\n".join(rows))
    modules = "\n".join(f"- [`notbugs.{name}`]({name}.md): {about}" for name, about in NAMESPACES.items())
    return "\n\n".join([*parts, "## Modules", modules, "## Names that are in no module above", *here]) + "\n"
