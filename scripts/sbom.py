"""The software bill of materials of this environment, in CycloneDX 1.5 (JSON): python scripts/sbom.py > sbom.json

Every installed distribution is a component, with its version, its licence as it says itself, and what it needs of the
others. The same environment gives the same bytes: there is no time in it.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def normal(name: str) -> str:
    """A name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def purl(one: Distribution) -> str:
    """The package URL of a distribution."""
    return f"pkg:pypi/{normal(one.metadata['Name'])}@{one.version.replace('+', '%2B')}"


def licences(one: Distribution) -> list[dict[str, Any]]:
    """By its SPDX expression, or else by the name it gives; a whole text is no name."""
    if expression := one.metadata.get("License-Expression"):
        return [{"expression": expression}]
    name = one.metadata.get("License", "").strip()
    if name and "\n" not in name and len(name) < 80:
        return [{"license": {"name": name}}]
    marks = [mark for mark in one.metadata.get_all("Classifier", []) if mark.startswith("License ::")]
    return [{"license": {"name": mark.rpartition(" :: ")[2]}} for mark in marks]


def needed(one: Distribution) -> set[str]:
    """The names of what it needs, without what only its extras need."""
    found = (text for text in one.requires or () if not re.search(r";.*\bextra\s*==", text))
    return {normal(match.group()) for text in found if (match := NAME.match(text))}


def bill(found: Iterable[Distribution]) -> dict[str, Any]:
    """The bill of some distributions; of two of one name, the first is what Python imports."""
    known: dict[str, Distribution] = {}
    for one in found:
        known.setdefault(normal(one.metadata["Name"]), one)
    own = known.pop("notbugs", None)
    components = [
        {"type": "library", "bom-ref": purl(one), "name": name, "version": one.version, "purl": purl(one)}
        | ({"licenses": licences(one)} if licences(one) else {})
        for name, one in sorted(known.items())
    ]
    every = known | ({"notbugs": own} if own else {})
    made: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "library", "bom-ref": purl(own), "name": "notbugs", "version": own.version}}
        if own
        else {},
        "components": components,
        "dependencies": [
            {"ref": purl(one), "dependsOn": sorted(purl(every[other]) for other in needed(one) & every.keys())}
            for _, one in sorted(every.items())
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(made, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}"} | made


if __name__ == "__main__":
    json.dump(bill(distributions()), sys.stdout, indent=2)
    print()
