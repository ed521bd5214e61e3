"""The page: everything the templates need, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from notbugs import formats
from notbugs._version import __version__
from notbugs.content import Section, Share
from notbugs.files import csp_hash
from notbugs.report import charts, core_tables, paper, wording
from notbugs.report.accuracies import study_accuracies
from notbugs.report.cautions import cautions, meaning
from notbugs.report.claims import claims
from notbugs.report.core_tables import expected_section, unbalanced_section
from notbugs.report.gallery import idea, play
from notbugs.report.pictures import Arrays, read_gallery, sample_grid
from notbugs.report.tables import instrument_sections
from notbugs.report.wording import class_names, date
from notbugs.study.jobs import audit, compare, transfer, tune
from notbugs.study.recipe import flat
from notbugs.study.results import Results, Spread, read_results
from notbugs.study.sets import SETS

BIBTEX = f"""\
@software{{notbugs,
  title   = {{notbugs: a laboratory for robust and non-robust features}},
  author  = {{{{The notbugs founders}}}},
  version = {{{__version__}}}
}}"""

_STRICT = '"use strict";\n'


def render(results: Results, gallery: Arrays | None) -> str:
    """The whole page as HTML, without what the run does not have."""
    accuracies = study_accuracies(results)
    classes = class_names(results.study.data.get("classes"))
    return environment().get_template("report.html.j2").render(
        results=results,
        study=results.study,
        accuracies=accuracies,
        claims=claims(accuracies, results, len(classes)) if classes else [],
        meaning=meaning(accuracies, results.study.data["name"]),
        cautions=cautions(results, accuracies),
        bars=[figure for width in (620, 270) if (figure := charts.figure_2b(accuracies, width=width))],
        curves=[figure for number in (1, 2) if (figure := charts.against_radius(accuracies, number))],
        tables=core_tables,
        table_1=core_tables.relabelled(accuracies),
        idea=idea(gallery, accuracies, classes) if gallery else None,
        grid=sample_grid(gallery, classes) if gallery else None,
        play=play(gallery, classes) if gallery else None,
        instruments=[*unbalanced_section(accuracies), *instrument_sections(results)],
        expected=expected_section(results),
        settings=_tables(results),
        paper=paper,
        bibtex=BIBTEX,
        script=script(),
        script_hash=csp_hash(script()),
    )  # fmt: skip


def render_section(section: Section, command: str) -> str:
    """A page of one section, of `command`, as HTML."""
    return environment().get_template("section.html.j2").render(section=section, command=command)


def script() -> Markup:
    """Every script of the page, as one text; the page allows it by its hash."""
    folder = files("notbugs.report") / "templates" / "scripts"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".js")), key=lambda file: file.name)
    return Markup(_STRICT + "".join(file.read_text(encoding="utf-8") for file in found))


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
    made = Environment(
        loader=PackageLoader("notbugs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "sets": wording.html,
        "percent": formats.percent,
        "number": formats.number,
        "duration": formats.duration,
        "date": date,
        "shown": shown,
        "texts": lambda given: [item for item in given if isinstance(item, str)] if isinstance(given, list) else [],
    }
    cast("dict[str, Any]", made.globals)["SETS"] = SETS
    made.tests |= {
        "proportion": lambda value: isinstance(value, Share),
        "spread": lambda value: isinstance(value, Spread),
    }
    return made


def _tables(results: Results) -> list[tuple[str, dict[str, Any]]]:
    """Everything that made the numbers, as named tables of settings."""
    study = results.study
    recipe = {key: value for key, value in study.recipe.items() if not isinstance(value, Mapping)}
    tables = [("Recipe", recipe)] if recipe else []
    tables += [(f"Recipe: {key}", flat(value)) for key, value in study.recipe.items() if isinstance(value, Mapping)]
    tables += [(f"{made.name}: search", flat(made.settings)) for made in results.sets]
    machine = {"created": study.created, "device": study.device, "threads": study.threads, "seeds": study.seeds}
    return [
        *tables,
        ("Data", flat(study.data)),
        ("Architecture", flat(study.architecture)),
        ("Machine and time", machine),
        ("Versions", dict(study.versions)),
        *((f"Continued {more.at} with", flat(more.model_dump(exclude={"at"}))) for more in study.continued),
        ("Stages", {stage.name: formats.duration(stage.seconds) for stage in study.stages}),
        ("Checkpoints (SHA-256)", dict(study.classifiers)),
    ]


def _report(folder: Path) -> str:
    return render(read_results(folder / "results.json"), read_gallery(folder / "gallery.safetensors"))


PAGES: dict[str, Callable[[Path], str]] = {
    "report": _report,
    "transfer": transfer.page,
    "tune": tune.page,
    "compare": compare.page,
    "audit": audit.page,
}
"""Every page that there is, from the files of a folder, by the name of its own without `.html`."""
