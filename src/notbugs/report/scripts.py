"""The page's one script: the files of `templates/scripts`, each a function called at once, in order of their names."""

from __future__ import annotations

from importlib.resources import files

from markupsafe import Markup

_STRICT = '"use strict";\n'


def script() -> Markup:
    """Every script of the page, as one text; the page allows it by its hash."""
    folder = files("notbugs.report") / "templates" / "scripts"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".js")), key=lambda file: file.name)
    return Markup(_STRICT + "".join(file.read_text(encoding="utf-8") for file in found))
