"""What mkdocs asks for while it builds the site: generated pages, tutorials, mathematics."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generated  # noqa: E402
import notebooks  # noqa: E402

ROOT = HERE.parents[1]
IN_REPOSITORY = {
    "results/cifar10-cnn/tune/tune.html": "example/tune.html",
    "results/cifar10-cnn": "example/cnn/report.html",
    "results/cifar10-small": "example/report.html",
    "results/cifar10-whitened": "example/whitened/report.html",
    "results/gtsrb": "example/gtsrb/report.html",
    "src/notbugs/data/shipped/pneumonia.md": "reference/pneumonia-data.md",
}
"""What pages link to outside of docs/, and where the site has it."""
SHOWN = {
    "example/report.html": "cifar10-small/report.html",
    "example/theory.html": "cifar10-small/theory.html",
    "example/cnn/report.html": "cifar10-cnn/report.html",
    "example/cnn/theory.html": "cifar10-cnn/theory.html",
    "example/whitened/report.html": "cifar10-whitened/report.html",
    "example/whitened/theory.html": "cifar10-whitened/theory.html",
    "example/gtsrb/report.html": "gtsrb/report.html",
    "example/gtsrb/theory.html": "gtsrb/theory.html",
    "example/tune.html": "cifar10-cnn/tune/tune.html",
}
"""A run's own pages, to look at: where the site has them, and where they are in results/."""
FETCHED, SHIPPED = "https://unpkg.com/iframe-worker/shim", "javascripts/iframe-worker.js"
MATH = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages of the Python reference into the navigation, where the list of them stands."""
    pages = generated.api_navigation()
    reference: list[Any] = next(entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    next(entry["Python"] for entry in reference if "Python" in entry)[1:] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that nobody writes: of the commands, of every key of a file, of recipes and of the API."""
    for path, text in generated.pages():
        files.append(File.generated(config, path, content=text))
    for path, content in notebooks.pages(ROOT / "docs" / "tutorials"):
        files.append(File.generated(config, path, content=content))
    data = (ROOT / "src/notbugs/data/shipped/pneumonia.md").read_text(encoding="utf-8")
    files.append(
        File.generated(config, "reference/pneumonia-data.md", content=data, inclusion=InclusionLevel.NOT_IN_NAV)
    )
    for path, source in SHOWN.items():
        file = File.generated(
            config, path, abs_src_path=str(ROOT / "results" / source), inclusion=InclusionLevel.NOT_IN_NAV
        )
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links to other parts of the repository, and to notebooks, into links within the site."""
    up = "../" * page.file.src_uri.count("/")
    for path, here in IN_REPOSITORY.items():
        markdown = markdown.replace(f"](../{up}{path})", f"]({up}{here})")
    return re.sub(r"\]\(([\w./-]+)\.ipynb\)(?!\{)", r"](\1.md)", markdown)


def on_page_content(page_html: str, page: Page, **_: object) -> str:
    """Set mathematics as MathML, which browsers draw themselves: no script, no fonts."""

    def mathml(match: re.Match[str]) -> str:
        text = html.unescape(match[2])
        inner = re.sub(r"^\s*\\[(\[]|\\[)\]]\s*$", "", text)
        shown = "block" if match[1] == "div" else "inline"
        return latex2mathml.converter.convert(inner, display=shown)

    return MATH.sub(mathml, page_html)


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Take from the site what the theme would fetch for search on pages opened from a disk."""
    return output.replace(FETCHED, f"{'../' * page.file.src_uri.count('/')}{SHIPPED}")


def on_post_template(output: str, **_: object) -> str:
    """The same for pages that are not written in Markdown."""
    return output.replace(FETCHED, SHIPPED)
