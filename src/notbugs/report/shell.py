"""What every page is made in: the shell, templates with their filters and tests, and pages of one section."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from notbugs import formats
from notbugs.content import Section, Share, Spread
from notbugs.files import csp_hash
from notbugs.report import wording
from notbugs.study.sets import EVERY_SET


def render_section(section: Section, command: str) -> str:
    """A page of one section, of `command`, as HTML."""
    return environment().get_template("section.html.j2").render(section=section, command=command)


def text_of(name: str) -> str:
    """A script or a style sheet that lies beside the templates."""
    return (files("notbugs.report") / "templates" / name).read_text(encoding="utf-8")


def shown(value: Any) -> str:
    """A setting as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def environment() -> Environment:
    """Templates, with the filters and tests they use."""
    templates = Environment(
        loader=PackageLoader("notbugs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "sets": wording.html,
        "percent": formats.percent,
        "number": formats.number,
        "duration": formats.duration,
        "date": wording.date,
        "hash": csp_hash,
        "place": lambda value: f"{value:.4f}",
        "shown": shown,
        "texts": lambda value: [item for item in value if isinstance(item, str)] if isinstance(value, list) else [],
    }
    # What a page may set: the version that its numbers are of, and a script, which it allows by its hash.
    cast("dict[str, Any]", templates.globals).update(SETS=EVERY_SET, made_by="", script=Markup(""))
    templates.tests |= {
        "proportion": lambda value: isinstance(value, Share),
        "spread": lambda value: isinstance(value, Spread),
    }
    return templates
