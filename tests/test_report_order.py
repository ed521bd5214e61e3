"""`report/` is read one way, from a folder to its page: no module imports or calls one that comes after it."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notbugs.report import PAGES, write_report
from tests import fakes

SOURCE = Path(__file__).parent.parent / "src" / "notbugs"
ORDER = [
    *("paper", "wording"),  # what the paper says, and how names are set
    *("charts", "shell"),  # what everything is drawn and set in
    *("pictures", "section_charts"),  # images; what sections draw
    "accuracies",  # from results: the classifiers
    *("claims", "cautions"),  # what follows from them
    *("gallery", "core_tables", "tables"),  # what a page is made of
    *("compare_findings", "compare", "audit", "theory"),  # the pages of jobs
    *("page", "figures"),  # the page of a study, and its figures for a paper
    "__init__",
]
"""The modules of `report/`: what is told stands before who tells it."""


def imported(path: Path) -> Iterator[str]:
    """The modules of notbugs that a file imports, at the top or when it draws; not those for types alone."""
    for node in run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "notbugs":
            for alias in node.names:
                whole = SOURCE.joinpath(*(node.module or "").split(".")[1:], alias.name)
                found = whole if whole.with_suffix(".py").exists() or whole.is_dir() else whole.parent
                yield ".".join(found.relative_to(SOURCE).parts)


def run(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield child
            yield from run(child)


def graph() -> dict[str, set[str]]:
    files = [path for room in ("report", "study") for path in sorted((SOURCE / room).rglob("*.py"))]
    named = {".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    edges = {name: set(imported(path)) & named.keys() - {name} for name, path in named.items()}
    edges["report"] |= {module.removeprefix("notbugs.") for module in PAGES.values()}
    return edges


def test_no_module_of_a_study_or_of_its_pages_leads_back_to_itself():
    """An instrument or a job imports what it draws with; what that imports does not import the instrument."""
    order = list(graphlib.TopologicalSorter(graph()).static_order())
    assert order.index("study.results") < order.index("report.accuracies") < order.index("report.page")
    assert order.index("study.jobs.compare") > order.index("report.compare")


@pytest.mark.parametrize("name", ORDER)
def test_a_module_of_the_report_imports_from_before_it(name):
    found = imported(SOURCE / "report" / f"{name}.py")
    own = {module.partition(".")[2] or "__init__" for module in found if module.split(".")[0] == "report"} - {name}
    assert own <= set(ORDER[: ORDER.index(name)])


def test_the_order_has_every_module():
    assert sorted(ORDER) == sorted(path.stem for path in (SOURCE / "report").glob("*.py"))


def test_a_report_is_made_without_a_call_back(tmp_path):
    """Every call of `write_report` from one module of `report/` into another goes down the order."""
    fakes.write_study(tmp_path)
    calls: set[tuple[str, str]] = set()

    inside = f"{SOURCE / 'report'}/"

    def module(frame) -> str | None:
        file = frame.f_code.co_filename
        return file[len(inside) : -len(".py")] if file.startswith(inside) and file.endswith(".py") else None

    def note(frame, event, _):
        if event == "call" and (called := module(frame)):
            above = frame.f_back
            while above and not module(above):  # a template's in between, or a library's
                above = above.f_back
            if above:
                calls.add((module(above), called))

    sys.setprofile(note)
    try:
        write_report(tmp_path)
    finally:
        sys.setprofile(None)
    assert {("__init__", "page"), ("page", "claims"), ("claims", "accuracies")} <= calls
    assert [(a, b) for a, b in sorted(calls) if ORDER.index(b) > ORDER.index(a)] == []
