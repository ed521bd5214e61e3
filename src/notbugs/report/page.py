"""The page: everything the templates need, put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from notbugs import formats
from notbugs._version import __version__
from notbugs.report import core_tables, paper
from notbugs.report.accuracies import against_radius, diamonds, figure_2b, study_accuracies
from notbugs.report.cautions import cautions, meaning
from notbugs.report.claims import claims
from notbugs.report.core_tables import expected_section, unbalanced_section
from notbugs.report.gallery import idea, play
from notbugs.report.pictures import Arrays, read_gallery, sample_grid
from notbugs.report.shell import environment, text_of
from notbugs.report.tables import instrument_sections
from notbugs.report.wording import class_names
from notbugs.study.recipe import flat
from notbugs.study.results import Results, Stage, read_results

BIBTEX = f"""\
@software{{notbugs,
  title   = {{notbugs: a laboratory for robust and non-robust features}},
  author  = {{{{The notbugs founders}}}},
  version = {{{__version__}}}
}}"""


def render(results: Results, gallery: Arrays | None, further: Arrays | None = None) -> str:
    """The whole page as HTML, without what the run does not have; `further` is the gallery of the further sets."""
    accuracies = study_accuracies(results)
    classes = class_names(results.study.data.get("classes"))
    return environment().get_template("report.html.j2").render(
        results=results,
        study=results.study,
        accuracies=accuracies,
        claims=claims(accuracies, results, len(classes)) if classes else [],
        meaning=meaning(accuracies, results.study.data["name"]),
        cautions=cautions(results, accuracies),
        bars=[figure for width in (620, 270) if (figure := figure_2b(accuracies, width=width))],
        diamonds=diamonds(accuracies),
        curves=[figure for number in (1, 2) if (figure := against_radius(accuracies, number))],
        tables=core_tables,
        table_1=core_tables.relabelled(accuracies),
        further=core_tables.further(accuracies, results.sets),
        uneven=any(member.clean and member.clean.balanced for member in accuracies.members),
        further_grid=sample_grid(further, classes) if further else None,
        idea=idea(gallery, accuracies, classes) if gallery else None,
        grid=sample_grid(gallery, classes) if gallery else None,
        play=play(gallery, classes) if gallery else None,
        instruments=[*unbalanced_section(accuracies), *instrument_sections(results)],
        expected=expected_section(results),
        settings=_tables(results),
        paper=paper,
        bibtex=BIBTEX,
        script=Markup(text_of("gallery.js")),
    )  # fmt: skip


def _tables(results: Results) -> list[tuple[str, Mapping[str, object]]]:
    """Everything that made the numbers, as named tables of settings."""
    study = results.study
    recipe = {key: value for key, value in study.recipe.items() if not isinstance(value, Mapping)}
    tables = [("Recipe", recipe)] if recipe else []
    tables += [(f"Recipe: {key}", flat(value)) for key, value in study.recipe.items() if isinstance(value, Mapping)]
    tables += [(f"{properties.name}: search", flat(properties.settings)) for properties in results.sets]
    machine = {"created": study.created, "device": study.device, "threads": study.threads, "seeds": study.seeds}
    return [
        *tables,
        ("Data", flat(study.data)),
        ("Architecture", flat(study.architecture)),
        ("Machine and time", machine),
        ("Versions", dict(study.versions)),
        *((f"Continued {more.at} with", flat(more.model_dump(exclude={"at"}))) for more in study.continued),
        ("Stages", {stage.name: _took(stage) for stage in study.stages}),
        ("Checkpoints (SHA-256)", dict(study.classifiers)),
    ]


def _took(stage: Stage) -> str:
    return formats.duration(stage.seconds) + (f", {formats.speed(stage.speed)} images/s" if stage.speed else "")


def page(folder: Path) -> str:
    """`report.html`, from `results.json` and, where there are such, `gallery.safetensors` and that of further sets."""
    galleries = (read_gallery(folder / name) for name in ("gallery.safetensors", "gallery-further.safetensors"))
    return render(read_results(folder / "results.json"), *galleries)
