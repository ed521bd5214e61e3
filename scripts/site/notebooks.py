"""The tutorials: notebooks, executed and set as pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

LONGEST = 600
"""Seconds that one cell may take."""
WORK = Path(__file__).parents[2] / "build"
"""Where tutorials leave their files while they are executed."""


def pages(folder: Path) -> Iterator[tuple[str, str | bytes]]:
    """Every notebook as a page of Markdown with its pictures, by path from docs/.

    Executed anew, unless NOTBUGS_SITE_EXECUTE is 0: the pages then have the code and no output, which is enough to
    check links and words.
    """
    execute = os.environ.get("NOTBUGS_SITE_EXECUTE", "1") != "0"
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if execute:
            WORK.mkdir(exist_ok=True)
            with TemporaryDirectory(dir=WORK) as work:
                NotebookClient(
                    notebook, timeout=LONGEST, kernel_name="python3", resources={"metadata": {"path": work}}
                ).execute()
        yield from page(notebook, path)


def page(notebook: nbformat.NotebookNode, path: Path) -> Iterator[tuple[str, str | bytes]]:
    """One executed notebook: its pictures, and its page."""
    exporter = MarkdownExporter(config=Config({"NbConvertBase": {"display_data_priority": PRIORITY}}))
    text, resources = exporter.from_notebook_node(notebook, {"output_files_dir": f"{path.stem}_files"})
    for name, content in resources.get("outputs", {}).items():
        yield f"tutorials/{name}", content
    first, rest = text.lstrip().split("\n", 1)
    told = (
        f"This page is a notebook. [Download it]({path.name}){{ download }} and open it in Jupyter; it runs as it is."
    )
    yield f"tutorials/{path.stem}.md", f"{first}\n\n{told}\n{rest}"


PRIORITY = ["image/png", "image/svg+xml", "text/html", "text/markdown", "text/plain"]
