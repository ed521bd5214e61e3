"""Every key of the files that notbugs writes, from the types that check them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import TypeAdapter

from notbugs.construct.manifest import Manifest
from notbugs.study.jobs.audit import AuditFile
from notbugs.study.results import Results, json_schema

FILES = {
    "results-json": (
        "results.json",
        Results,
        "What `notbugs run` measured. This page is made from `notbugs.study.json_schema()`.",
    ),
    "audit-json": ("audit.json", AuditFile, "What `notbugs audit` measured."),
    "manifest-json": (
        "manifest.json",
        Manifest,
        "What a constructed set is, in its folder. [Its files in words](../how-to/the-files.md).",
    ),
}


def pages() -> Iterator[tuple[str, str]]:
    """A page for each file."""
    for slug, (name, kind, about) in FILES.items():
        schema = TypeAdapter(kind).json_schema(by_alias=True)
        if kind is not Manifest:
            schema["properties"]["checksum"] = json_schema()["properties"]["checksum"]
        yield f"reference/{slug}.md", page(name, schema, about)


def page(name: str, schema: dict[str, Any], about: str) -> str:
    """One file's keys: those of the file, then of every object within it."""
    units = "Shares and accuracies are in [0, 1]. Lengths are in pixel units, pixels in [0, 1]. Intervals are of 95 %."
    parts = [f"# {name}", about, units, "## The file", _words(schema), table(schema)]
    for title, one in sorted(schema.get("$defs", {}).items()):
        if "properties" in one:
            parts += [f"## {title}", _words(one), table(one)]
        elif "enum" in one:
            parts += [f"## {title}", "One of " + ", ".join(f"`{value}`" for value in one["enum"]) + "."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(schema: dict[str, Any]) -> str:
    return re.split(r"\n\n\w+\n---", schema.get("description", ""), maxsplit=1)[0]


def _on_this_page(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def table(schema: dict[str, Any], title: str = "key", link: Callable[[str], str] = _on_this_page) -> str:
    """The properties of an object: name, type, meaning; `link` makes the link to an object of another type."""
    rows = [f"| {title} | type | what it is |", "|---|---|---|"]
    required = schema.get("required", [])
    for key, value in schema.get("properties", {}).items():
        about = " ".join(value.get("description", "").split()).replace("|", "\\|")
        optional = "" if key in required or "default" in value else " May be absent."
        if value.get("default") not in (None, [], {}, "") and not isinstance(value.get("default"), dict | list):
            optional = f" Default: `{value['default']}`."
        rows.append(f"| `{key}` | {kind(value, link)} | {about}{optional} |")
    return "\n".join(rows)


def kind(schema: dict[str, Any], link: Callable[[str], str] = _on_this_page) -> str:
    """The type of a value in words, with a link where it is an object of its own."""

    def named(one: dict[str, Any]) -> str:
        return kind(one, link)

    if "$ref" in schema:
        return link(schema["$ref"].rsplit("/", 1)[1])
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(map(named, schema.get("anyOf", schema.get("oneOf", [])))))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    match schema.get("type"):
        case "array":
            within = schema.get("prefixItems") or [schema.get("items", {})]
            return "list of " + ", ".join(dict.fromkeys(map(named, within)))
        case "object":
            extra = schema.get("additionalProperties")
            return f"object of {named(extra)}" if isinstance(extra, dict) and extra else "object"
        case None:
            return "any"
        case other:
            return str(other)
