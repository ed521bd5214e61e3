"""The tables that every study has, as data: the page draws them, and a paper's have longer captions."""

from __future__ import annotations

from collections.abc import Sequence

from notbugs.content import Cell, Table
from notbugs.formats import NORMS, percent
from notbugs.report import paper
from notbugs.report.lineup import Lineup
from notbugs.report.measures import measures
from notbugs.study.results import Proportion, Row, SetProperties, TheoryCheck
from notbugs.study.sets import RELABELLED, aimed_at


def accuracy(lineup: Lineup) -> Table:
    """A row a classifier, a column a radius."""
    norm = NORMS[lineup.norm or "l2"]
    rows: list[list[Cell]] = [
        [
            member.train_set,
            f"{member.training}{', independent' if member.name == 'independent' else ''}",
            _share(member.clean),
            *(_share(member.robust.get(radius)) for radius in lineup.radii),
        ]
        for member in lineup.members
    ]
    columns = ("training set", "training", "clean", *(f"{norm} {radius:g}" for radius in lineup.radii))
    caption = f"Accuracy in per cent, with its 95\u00a0% interval, clean and by {norm} radius in pixel units"
    return Table(caption, columns, rows, words=("training",))


def relabelled(lineup: Lineup) -> Table | None:
    """What the relabelled sets teach, beside the paper's Table 1; None where there is none of them."""
    found = {name: member.clean for name in ("D", *RELABELLED) if (member := lineup.get(name)) and member.clean}
    if not found:
        return None
    rows = [
        [name, aimed_at(name), row.share, percent(paper.TABLE_1[name]) if name in paper.TABLE_1 else None]
        for name, row in found.items()
    ]
    caption = f"Clean accuracy in per cent; the paper: Table 1, {paper.SETTING}"
    return Table(caption, ("training set", "targets", "this run", "the paper"), rows, words=("targets",))


def sets(made: Sequence[SetProperties]) -> Table:
    """A row a measured property, a column a constructed set."""
    found = measures(list(made))
    return Table(
        "Shares in per cent with 95\u00a0% intervals; distances by their median over images",
        ("measure", *(one.name for one in made)),
        [[row.name, *row.values] for row in found],
        says={row.name: row.says for row in found if row.says},
        kind="measures",
    )


def theory(checks: Sequence[TheoryCheck]) -> Table:
    """What two Gaussians predict beside what the search found: a row a classifier and radius."""
    rows: list[list[Cell]] = []
    for check in checks:
        about = (", ".join(check.pair), NORMS[check.norm])
        for radius, moved, said, found in zip(check.radii, check.moved, check.predicted, check.measured, strict=True):
            rows.append([check.classifier, *about, f"{radius:g}", f"{moved:.3g}", percent(said), found, found.n])
    caption = (
        "Accuracy of the rule between the two classes, in per cent: predicted by the theory, and measured with its "
        "95\u00a0% interval"
    )
    columns = ("classifier", "classes", "norm", "radius", "features moved", "predicted", "measured", "n")
    return Table(caption, columns, rows, words=("classes", "norm"))


def every_accuracy(rows: Sequence[Row]) -> Table:
    """A row a measured accuracy, with all that it depends on."""
    words = ("training", "classifier", "attack", "norm", "test set", "architecture")
    columns = (
        *("training set", "training", "classifier", "attack", "norm", "radius", "accuracy (%)", "n"),
        *("steps", "step size", "restarts", "test set", "architecture", "seed"),
    )
    caption = f"{len(rows)} measured accuracies. Radii and step sizes in pixel units, pixels in [0, 1]"
    return Table(caption, columns, [_all_of(row) for row in rows], words=words, kind="dense")


def _share(row: Row | None) -> Proportion | None:
    return row.share if row else None


def _all_of(row: Row) -> list[Cell]:
    used = row.attack
    attack = (used.name.upper(), NORMS[used.norm], f"{used.eps:g}") if used else ("none", None, None)
    how = (
        (used.steps, None if used.step_size is None else f"{used.step_size:g}", used.restarts)
        if used
        else (None, None, None)
    )
    about = (row.test_set, row.architecture, str(row.seed))
    return [row.train_set, row.training, row.classifier, *attack, row.share, row.n, *how, *about]
