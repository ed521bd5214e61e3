"""Beside the accuracies, where the largest class has over half of the images: balanced accuracy, area under ROC."""

from __future__ import annotations

from collections.abc import Iterator

from notbugs.content import Cell, Section, Table
from notbugs.formats import NORMS
from notbugs.report.lineup import Lineup
from notbugs.study.results import Row

TEXT = (
    "The largest class has over half of the test images. Naming it everywhere gives a high accuracy and means nothing, "
    "so here every class counts the same: balanced accuracy is the mean over classes of the share that is right, and "
    "naming one class everywhere is worth one over their number. "
)
AREA = (
    "One of the two classes has less than a fifth of the images. The area under the ROC curve asks for no threshold: "
    "how often does an image of class 1 get a larger logit than one of class 0? Under attack every image has the worst "
    "logit that the search found, so it is the area when all images are attacked. Guessing is worth 50. "
)


def unbalanced_section(lineup: Lineup) -> Iterator[Section]:
    """The section, where there is something to show."""
    rows = [(member, [member.clean, *map(member.robust.get, lineup.radii)]) for member in lineup.members]
    names = [f"{member.train_set}, {member.training}, {member.name}" for member, _ in rows]
    columns = ["training set, training, classifier", "clean"]
    columns += [f"{NORMS[lineup.norm or 'l2']} {radius:g}" for radius in lineup.radii]
    tables = []
    kinds = (("Balanced accuracy", _balanced, TEXT), ("Area under the ROC curve", _area, AREA))
    for title, read, _ in kinds:
        cells = [[read(row) for row in found] for _, found in rows]
        if any(cell is not None for line in cells for cell in line):
            caption = f"{title} in per cent, with 95 % intervals; radii in pixel units, pixels in [0, 1]"
            tables.append(Table(caption, columns, [[name, *line] for name, line in zip(names, cells, strict=True)]))
    if tables:
        text = TEXT + (AREA if len(tables) == len(kinds) else "")
        yield Section("unbalanced", "Where one class is rare", "Balanced accuracy", text.strip(), tables=tables)


def _balanced(row: Row | None) -> Cell:
    return row.balanced if row else None


def _area(row: Row | None) -> Cell:
    return row.area.share if row and row.area else None
