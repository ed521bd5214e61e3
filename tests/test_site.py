"""The site builds with every warning an error, fetches nothing, and its reference leaves nothing out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from notbugs import study

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built as the README says, without executing the tutorials, which have a test of their own."""
    folder = tmp_path_factory.mktemp("site")
    finished = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", folder],  # quiet, it would be silent on what is wrong
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"NOTBUGS_SITE_EXECUTE": "0", "NO_MKDOCS_2_WARNING": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    return folder


class Loaded(HTMLParser):
    """What a page loads, and where it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names.add(given.get("id") or "")
        if tag in {"script", "img", "iframe", "source"} and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") != "canonical" and given.get("href"):
            self.loads.append(given["href"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


def pages(site: Path) -> dict[Path, Loaded]:
    return {
        path: Loaded(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.parent.name != "example"
    }


def test_nothing_is_fetched_and_every_link_leads_somewhere(site):
    found = pages(site)
    assert len(found) > 50
    for path, page in found.items():
        assert not [url for url in page.loads if re.match(r"https?:|//", url)], path
        here = [url.partition("?")[0] for url in page.loads if not url.startswith("data:") and path.name != "404.html"]
        assert not [url for url in here if not (path.parent / url).exists()], path
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link) or path.name == "404.html":
                continue
            to = (path.parent / target).resolve() if target else path
            to = to / "index.html" if to.is_dir() else to
            assert to.exists(), (path, link)
            if anchor and to in found:
                assert anchor in found[to].names, (path, link)


def test_search_has_an_index_and_needs_no_server(site):
    assert "robust-feature leakage" in (site / "search" / "search_index.js").read_text(encoding="utf-8").lower()
    assert (site / "javascripts" / "iframe-worker.js").exists()


def test_mathematics_is_set_without_a_script(site):
    page = (site / "how-to" / "compare.html").read_text(encoding="utf-8")
    assert page.count("<math") > 5
    assert "arithmatex" not in page


def test_every_recipe_and_every_key_is_in_the_reference(site):
    recipes = Loaded((site / "reference" / "recipes.html").read_text(encoding="utf-8")).names
    assert set(study.recipe_names()) <= recipes
    schema = study.json_schema()
    page = (site / "reference" / "results-json.html").read_text(encoding="utf-8")
    for one in (schema, *schema["$defs"].values()):
        for key in one.get("properties", {}):
            assert f"<code>{key}</code>" in page, key


def test_every_how_to_page_has_one_question_as_its_title():
    for path in (ROOT / "docs" / "how-to").glob("*.md"):
        title = path.read_text(encoding="utf-8").splitlines()[0]
        assert path.stem == "index" or (title.startswith("# ") and title.endswith("?")), path


def test_the_navigation_has_the_titles_of_the_pages():
    def entries(nav):
        for entry in nav:
            for title, value in entry.items() if isinstance(entry, dict) else ():
                yield from entries(value) if isinstance(value, list) else [(title, value)]

    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for title, value in entries(yaml.safe_load(text)["nav"]):
        page = ROOT / "docs" / value
        if page.exists() and page.parent.name in {"how-to", "explanation"}:
            heading = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
            assert title.rstrip("?").split(",")[0] in heading.replace("<sub>", "_").replace("</sub>", ""), value


def test_every_field_of_a_public_class_says_what_it_is(monkeypatch):
    """Settings and results: the reference lists them from their types, which inherit and are validated."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "site"))
    generated = import_module("generated")
    silent = [
        f"{name}.{field}"
        for module in generated.NAMESPACES
        for name in generated.documented(module)
        if isinstance(public := getattr(import_module(f"notbugs.{module}"), name), type)
        and issubclass(public, BaseModel)
        for field, info in public.model_fields.items()
        if not info.description
    ]
    assert silent == []
    pages = dict(generated.pages())
    assert "| `step_size` | number or null | Of the first step" in pages["reference/api/search.md"]
    for name, page in pages.items():  # keys of files too, where the type does not say it
        assert not re.search(
            r"^\| `[^|]+` \| [^|]+ \| *(Default: `[^`]*`\.|May be absent\.)? *\|$", page, re.MULTILINE
        ), name
