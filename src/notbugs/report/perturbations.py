"""Rotations and shifts, common corruptions, and filters: one table each."""

from __future__ import annotations

from notbugs.formats import number
from notbugs.measure import FilterAccuracy
from notbugs.report.sections import Cell, Section, Table
from notbugs.report.wording import quoted
from notbugs.study.instruments.corruptions import CorruptionResult
from notbugs.study.instruments.spatial import SpatialResult

SPATIAL_TEXT = (
    "An image that is turned a little or moved by a few pixels shows the same thing. Each classifier is under the "
    "worst of a grid of such changes, of random ones, and of a search along the gradient; the last column counts "
    "images that none of them broke. Robustness to small changes of pixels need not bring "
    "this one (Engstrom et al., 2019)."
)
CORRUPTIONS_TEXT = (
    "Common corruptions in the manner of CIFAR-10-C (Hendrycks and Dietterich, 2019), in strengths of our own for "
    "images of this size, and what is left of an image below or above a spatial frequency. Robust training often helps "
    "where a change is fine-grained and hurts where it is coarse, as fog or contrast are."
)


def spatial_section(measured: SpatialResult) -> Section:
    """Every classifier under the three searches and the worst of them."""
    asked = measured.rows[0].accuracy
    caption = (
        f"Accuracy in per cent under rotations of at most {number(asked.degrees)} degrees and shifts of at most "
        f"{number(asked.pixels)} pixels: grid of {asked.shifts} x {asked.shifts} x {asked.angles}, {asked.tries} "
        f"random ones, gradient search of {asked.steps} steps from {asked.restarts} starts; {measured.n} test images, "
        f"seed {asked.seed}."
    )
    columns = ("classifier", "clean", "grid", "random", "gradient", "worst")
    rows: list[list[Cell]] = [
        [row.classifier, *(getattr(row.accuracy, name) for name in columns[1:])] for row in measured.rows
    ]
    reading = []
    if measured.training:
        trained = next(row.accuracy.worst for row in measured.rows if row.classifier == "spatial")
        reading.append(
            f"The classifier “spatial” was trained on the worst of {measured.training.tries} random changes of each "
            f"image: it keeps {quoted(trained)}."
        )
    tables = [Table(caption, columns, rows)]
    return Section("spatial", "Rotations and shifts", "Rotations", SPATIAL_TEXT, reading, tables=tables)


def corruptions_section(measured: CorruptionResult) -> Section:
    """A row a corruption or filter, a column a classifier."""
    columns = ("images", *(row.classifier for row in measured.rows))
    clean: list[Cell] = ["none", *(row.clean for row in measured.rows)]
    first = measured.rows[0]
    corrupted: list[list[Cell]] = [
        [
            f"{item.corruption.replace('_', ' ')}, severity {item.severity}",
            *(row.corruptions[index].share for row in measured.rows),
        ]
        for index, item in enumerate(first.corruptions)
    ]
    filtered: list[list[Cell]] = [
        [_filter(item), *(row.filters[index].share for row in measured.rows)]
        for index, item in enumerate(first.filters)
    ]
    caption = f"Accuracy in per cent, {measured.n} test images"
    tables = [
        Table(f"{caption}, by corruption; severities from 1 to 5", columns, [clean, *corrupted]),
        Table(f"{caption}, by filter; cutoffs in cycles per image", columns, [clean, *filtered]),
    ]
    return Section("corruptions", "Corruptions and filters", "Corruptions", CORRUPTIONS_TEXT, tables=tables)


def _filter(item: FilterAccuracy) -> str:
    return f"{item.passes} pass, {'up to' if item.passes == 'low' else 'above'} {number(item.cutoff)}"
