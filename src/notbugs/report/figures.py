"""Figures and tables of a study for a paper: SVG, PDF and PNG; LaTeX, Markdown and CSV.

Widths are those of NeurIPS: the text is 5.5 inches wide. Lengths are in CSS pixels, 96 an inch, so that text of 12
pixels has 9 points.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import vl_convert
from markupsafe import Markup

from notbugs.content import INTERVAL, PrintedFigure
from notbugs.files import write_atomically, write_text
from notbugs.formats import NORMS, harmless
from notbugs.report.accuracies import StudyAccuracies, against_radius, diamonds, figure_2b, study_accuracies
from notbugs.report.pictures import Arrays, printed_grid
from notbugs.report.tables import (
    attacks_said,
    comma_separated,
    latex,
    markdown,
    md,
    measured_on,
    of_held_out,
    seed_of,
    tables,
    tex,
)
from notbugs.report.wording import class_names
from notbugs.study.instruments import INSTRUMENTS
from notbugs.study.results import Results

WIDTHS = {"full": 528.0, "half": 258.0}
"""The width of the text, and of one of two figures beside each other."""
HEIGHTS = {"full": 200, "half": 150}
PPI = 400
_GROUND = re.compile(r'<rect width="[\d.]+" height="[\d.]+" fill="white"')
_BOX = re.compile(r'(<svg[^>]*? viewBox=)"[^"]*"')
_SIZE = re.compile(r'(<svg[^>]*? width=)"([\d.]+)"([^>]*? height=)"([\d.]+)"')
_RESOURCES = re.compile(rb"(?:^ +/[a-z]{2}\d+ \d+ 0 R\n){2,}", re.MULTILINE)
Draw = Callable[..., Markup | None]
"""From the `width` and the `height` of the plot, which axes and legends come on top of, to an SVG."""


def write_all(results: Results, gallery: Arrays | None, out: Path) -> None:
    """Write everything that the study has to a folder.

    full/NAME.svg, .pdf, .png       as wide as the text
    half/NAME.svg, .pdf, .png       for two beside each other
    tables/NAME.tex, .md, .csv
    figures.tex, figures.md         every figure with its caption
    """
    drawn = []
    for figure in figures(results, gallery):
        pictures = {width: picture for width in figure.widths if (picture := fitted(figure, width))}
        for width, picture in pictures.items():
            write_picture(out / width / figure.name, picture)
        drawn += [figure] if pictures else []
    for named in tables(results):
        write_text(out / "tables" / f"{named.name}.tex", latex(named.table, named.name, named.note))
        write_text(out / "tables" / f"{named.name}.md", markdown(named.table, named.note))
        write_text(out / "tables" / f"{named.name}.csv", comma_separated(named.rows))
    write_text(out / "figures.tex", "\n".join(map(_latex, drawn)))
    write_text(out / "figures.md", "\n".join(map(_markdown, drawn)))


def figures(results: Results, gallery: Arrays | None) -> Iterator[PrintedFigure]:
    """Every figure that the study may have; one that lacks its numbers draws nothing."""
    yield from _accuracies(results)
    if gallery:
        classes = class_names(results.study.data.get("classes"))
        draw: Draw = lambda width, height: printed_grid(gallery, classes, width)  # noqa: E731  as high as it must be
        yield PrintedFigure("images", _grid_caption(results), draw, ("full",))
    for instrument in INSTRUMENTS:
        if (result := getattr(results.instruments, instrument.name)) is not None:
            for figure in instrument.figures(result, seed_of(results)):
                yield replace(figure, caption=of_held_out(figure.caption, results))


def _accuracies(results: Results) -> Iterator[PrintedFigure]:
    accuracies = study_accuracies(results)
    draw = partial(figure_2b, accuracies, look="print")
    yield PrintedFigure("figure-2b", _bars_caption(results, accuracies), draw)
    for experiment, sets in ((1, "D, D_R and D_NR"), (2, "relabelled sets, and on D")):
        draw = partial(against_radius, accuracies, experiment, look="print")
        yield PrintedFigure(f"against-radius-{experiment}", _curves_caption(results, accuracies, sets), draw)


def fitted(figure: PrintedFigure, width: str) -> Markup | None:
    """A figure as wide as `WIDTHS` says, with all its axes and names; None where there is nothing to show."""
    wanted, plot = WIDTHS[width], WIDTHS[width]
    for _ in range(3):  # what stands beside the plot is known once it is drawn, and hardly depends on its width
        drawn = figure.draw(width=plot, height=HEIGHTS[width])
        if drawn is None or abs(_size(drawn)[0] - wanted) <= 1:
            break
        plot -= _size(drawn)[0] - wanted
    return drawn and _widened(drawn, wanted)


def _widened(drawn: Markup, wanted: float) -> Markup:
    """A drawing at exactly this width: one that is too narrow gets an edge, one that is too wide is made smaller."""
    width, height = _size(drawn)
    box = max(width, wanted)
    resized = _SIZE.sub(rf'\g<1>"{wanted:g}"\g<3>"{height * wanted / box}"', str(drawn), count=1)
    resized = _GROUND.sub('<rect width="100%" height="100%" fill="white"', resized, count=1)
    return Markup(_BOX.sub(rf'\g<1>"0 0 {box:g} {height:g}"', resized, count=1))


def write_picture(path: Path, drawn: Markup) -> None:
    """Write `path` as .svg, .pdf and .png."""
    svg, (width, height) = harmless(str(drawn)), _size(drawn)  # a substitution in Markup would escape it
    points = _SIZE.sub(rf'\g<1>"{0.75 * width}"\g<3>"{0.75 * height}"', svg, count=1)  # 72 an inch, as PDF has them
    pdf, png = _in_order(vl_convert.svg_to_pdf(points)), vl_convert.svg_to_png(points, ppi=PPI)
    write_text(path.with_suffix(".svg"), svg)
    write_atomically(path.with_suffix(".pdf"), lambda part: part.write_bytes(pdf))
    write_atomically(path.with_suffix(".png"), lambda part: part.write_bytes(png))


def _in_order(pdf: bytes) -> bytes:
    """A PDF with the entries of its resource dictionaries in order, which is a random one as it is drawn."""
    return _RESOURCES.sub(lambda match: b"".join(sorted(match[0].splitlines(keepends=True))), pdf)


def _size(drawn: str) -> tuple[float, float]:
    match = _SIZE.search(drawn)
    assert match  # every drawing has one
    return float(match[2]), float(match[4])


def _bars_caption(results: Results, accuracies: StudyAccuracies) -> str:
    rows = [member.robust[accuracies.radius] for member in accuracies.members if accuracies.radius in member.robust]
    return (
        f"Clean accuracy, and robust accuracy under {attacks_said(rows)} at {NORMS[accuracies.norm or 'l2']} radius "
        f"{accuracies.radius or 0:g} in pixel units, of classifiers trained on D, D_R and D_NR; {INTERVAL}; "
        f"{measured_on(results, accuracies)}. Diamonds: {diamonds(accuracies)}."
    )


def _curves_caption(results: Results, accuracies: StudyAccuracies, sets: str) -> str:
    said = attacks_said(row for member in accuracies.members for row in member.robust.values())
    return (
        f"Accuracy against {NORMS[accuracies.norm or 'l2']} radius in pixel units, under {said}, after training on "
        f"{sets}; bands are {INTERVAL}; {measured_on(results, accuracies)}."
    )


def _grid_caption(results: Results) -> str:
    return (
        f"Training images of {results.study.data['name']} and their versions in the constructed sets, as in the "
        f"paper's Figure 2a; below each image the label that it trains with; seed {seed_of(results)}."
    )


def _latex(figure: PrintedFigure) -> str:
    return "\n".join(
        [
            r"\begin{figure}[t]",
            r"\centering",
            rf"\includegraphics{{{figure.widths[0]}/{figure.name}.pdf}}",
            rf"\caption{{{tex(figure.caption)}}}",
            rf"\label{{fig:{figure.name}}}",
            r"\end{figure}",
            "",
        ]
    )


def _markdown(figure: PrintedFigure) -> str:
    return f"![{figure.name}]({figure.widths[0]}/{figure.name}.svg)\n\n{md(figure.caption)}\n"
