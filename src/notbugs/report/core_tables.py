"""The tables that every study has, as data: the page draws them, and those of a paper have longer captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from notbugs.content import Cell, Section, Table
from notbugs.formats import NORMS, duration, percent
from notbugs.measure import Proportion
from notbugs.measure.likeness import By
from notbugs.report import paper
from notbugs.report.accuracies import StudyAccuracies
from notbugs.study.results import AgainstExpected, Results, Row, SetProperties, Spread, TheoryCheck
from notbugs.study.sets import FURTHER, RELABELLED, TARGETS, aimed_at

Value = str | int | Proportion | Spread | None


@dataclass(frozen=True)
class Measure:
    """One row: its name, its explanation, and its value for every set."""

    name: str
    says: str
    values: list[Value]


def measures(sets: list[SetProperties]) -> list[Measure]:
    """Every measure that at least one set has."""
    rows = [Measure(name, says, [read(properties) for properties in sets]) for name, says, read in _MEASURES]
    return [row for row in rows if any(value is not None for value in row.values)]


_MEASURES: list[tuple[str, str, Callable[[SetProperties], Value]]] = [
    ("Images", "", lambda s: s.n),
    ("Source", "The classifier the set was built with.", lambda s: s.source),
    ("Target", "What the search moved its images towards.", lambda s: TARGETS[s.targets]),
    (
        "Labels kept",
        "Images that train with the label of the image they started from. They teach the right label whatever the "
        "perturbation.",
        lambda s: s.kept_label,
    ),
    ("Success on the source", "Images that the source gives the label they train with.", lambda s: s.success_source),
    (
        "Success where the label changed",
        "The same, without the images that kept their label: the success of the search itself.",
        lambda s: s.success_source_changed,
    ),
    (
        "Success on an independent classifier",
        "The same on a standard classifier trained independently: how far the features are shared, not one "
        "classifier's own.",
        lambda s: s.success_independent,
    ),
    (
        "Its label rises most: source",
        "Images whose label is, of all outputs of the source, the one that rises most from their start to them, of at "
        "most 2,000 whose start has another label. Chance is one in the number of classes.",
        lambda s: s.rises_source,
    ),
    (
        "Its label rises most: independent",
        "The same on the independent classifier: what the two share, even where its answer stays.",
        lambda s: s.rises_independent,
    ),
    (
        "Success after 8 bits",
        "On the source, after rounding to the 256 levels of an image file.",
        lambda s: s.success_8bit,
    ),
    (
        "Success under augmentation",
        "On the source, after the random changes that images go through in training: what the new classifier sees.",
        lambda s: s.success_augmented,
    ),
    ("l2 distance to the start", "Length of the perturbation; pixels in [0, 1].", lambda s: s.l2),
    ("Largest pixel change", "l-inf distance to the start; pixels in [0, 1].", lambda s: s.linf),
    (
        "Matching loss",
        "Distance of the features to those of the target, relative to the target's: 0 is a perfect match.",
        lambda s: s.matching_loss,
    ),
    (
        "Distance to the target image",
        "What is left of the distance between start and target image: 1 is untouched, 0 is the target image itself, "
        "and then the set is D.",
        lambda s: s.distance_to_target,
    ),
    (
        "Nearer to the target: pixels",
        "Images nearer to their target than to their start, of those whose start has another class; of relabelled sets "
        "the target is the training image of the new class nearest to the start. By l2 distance.",
        lambda s: _nearer(s, "pixels"),
    ),
    (
        "Nearer to the target: structure",
        "The same by structural similarity (SSIM), in which no classifier has a hand.",
        lambda s: _nearer(s, "ssim"),
    ),
    (
        "Nearer to the target: robust features",
        "The same by the features of a robust classifier that the set was not built with.",
        lambda s: _nearer(s, "robust features"),
    ),
    (
        "Judged to be its label",
        "Images of those that this robust classifier gives the label they train with.",
        lambda s: s.resemblance.judged_target if s.resemblance else None,
    ),
    (
        "Judged to be its start's",
        "Images of those that it gives the class of their start.",
        lambda s: s.resemblance.judged_start if s.resemblance else None,
    ),
    (
        "Perturbation beside the classes",
        "Its l2 norm over the distance from the start to the nearest training image of the new class. Below 0.5, an "
        "image stays nearer to its start than to every training image of that class.",
        lambda s: s.perturbation.to_nearest if s.perturbation else None,
    ),
    (
        "Pixels that change noticeably",
        "Share of the pixels whose grey level changes by more than is just noticed on their background (Chou and Li, "
        "1995: 3 of 255 levels on middle grey, 20 on black).",
        lambda s: s.perturbation.noticed if s.perturbation else None,
    ),
    (
        "Energy outside the band",
        "Share of a perturbation's energy at frequencies that its search was to leave alone: what clipping adds.",
        lambda s: s.outside_band,
    ),
    ("Time to build", "", lambda s: duration(s.seconds)),
]


def _nearer(properties: SetProperties, by: By) -> Proportion | None:
    measure = properties.resemblance.by(by) if properties.resemblance else None
    return measure.nearer_target if measure else None


TEXT = (
    "The largest class has over half of the test images, at least five times as many as the smallest, or clearly more "
    "than 1.2 times an even share. Accuracy says most about large classes then, and naming the largest everywhere may "
    "be worth much. Here every class counts the same: balanced accuracy is the mean over classes of the share that is "
    "right, and naming one class everywhere is worth one over their number. "
)
AREA = (
    "One of the two classes has less than a fifth of the images. The area under the ROC curve asks for no threshold: "
    "how often does an image of class 1 get a larger logit than one of class 0? Under attack every image has the worst "
    "logit that the search found, so it is the area when all images are attacked. Guessing is worth 50. "
)


def unbalanced_section(accuracies: StudyAccuracies) -> Iterator[Section]:
    """The section, where there is something to show."""
    rows = [(member, [member.clean, *map(member.robust.get, accuracies.radii)]) for member in accuracies.members]
    names = [f"{member.train_set}, {member.training}, {member.name}" for member, _ in rows]
    columns = ["training set, training, classifier", "clean"]
    columns += [f"{NORMS[accuracies.norm or 'l2']} {radius:g}" for radius in accuracies.radii]
    tables = []
    kinds = (("Balanced accuracy", _balanced, TEXT), ("Area under the ROC curve", _area, AREA))
    for title, read, _ in kinds:
        cells = [[read(row) for row in measured] for _, measured in rows]
        if any(cell is not None for line in cells for cell in line):
            caption = f"{title} in per cent, with 95 % intervals; radii in pixel units, pixels in [0, 1]"
            tables.append(Table(caption, columns, [[name, *line] for name, line in zip(names, cells, strict=True)]))
    if tables:
        text = TEXT + (AREA if len(tables) == len(kinds) else "")
        yield Section("unbalanced", "Where classes differ in size", "Balanced accuracy", text.strip(), tables=tables)


def _balanced(row: Row | None) -> Cell:
    return row.balanced if row else None


def _area(row: Row | None) -> Cell:
    return row.area.share if row and row.area else None


VERDICTS = {"inside": "inside", "overlaps": "interval overlaps", "outside": "outside"}


def expected_section(results: Results) -> Section | None:
    """Every accuracy that the recipe expects, inside or outside; None where it expects nothing."""
    if not (expected := results.expected):
        return None
    text = "A recipe that comes with notbugs says what it gives and where that was seen. "
    if expected.departures:
        text += f"Nothing is compared here, for this run has other settings: {', '.join(expected.departures)}."
    else:
        text += (
            "A range is about where another seed and machine should be; an accuracy outside it whose 95 % interval "
            "reaches into it is marked as such."
        )
    took = f"The stages of this run took {duration(sum(stage.seconds for stage in results.study.stages))}."
    reading = [f"The recipe expects {expected.time}. {took}"] if expected.time else []
    tables = [_table(expected.compared)] if expected.compared else []
    return Section("expected", "As expected?", "Expected", text, reading, tables=tables)


def _table(compared: list[AgainstExpected]) -> Table:
    columns = ("classifier", "radius", "expected (%)", "this run (%)", "verdict", "source")
    rows = [
        (
            item.classifier,
            item.radius or "clean",
            f"{percent(item.low)}–{percent(item.high)}",
            item.found,
            VERDICTS[item.verdict],
            item.source,
        )
        for item in compared
    ]
    return Table("Accuracies in per cent that the recipe expects, and those of this run", columns, rows)


def accuracy(accuracies: StudyAccuracies) -> Table:
    """A row a classifier, a column a radius."""
    norm = NORMS[accuracies.norm or "l2"]
    rows: list[list[Cell]] = [
        [
            member.train_set,
            f"{member.training}{', independent' if member.name == 'independent' else ''}",
            _share(member.clean),
            *(_share(member.robust.get(radius)) for radius in accuracies.radii),
        ]
        for member in accuracies.members
    ]
    columns = ("training set", "training", "clean", *(f"{norm} {radius:g}" for radius in accuracies.radii))
    caption = f"Accuracy in per cent, with its 95\u00a0% interval, clean and by {norm} radius in pixel units"
    return Table(caption, columns, rows, words=("training",))


def relabelled(accuracies: StudyAccuracies) -> Table | None:
    """What the relabelled sets teach, beside the paper's Table 1; None where there is none of them."""
    clean = {name: member.clean for name in ("D", *RELABELLED) if (member := accuracies.get(name)) and member.clean}
    if not clean:
        return None
    rows = [
        [name, aimed_at(name), row.share, percent(paper.TABLE_1[name]) if name in paper.TABLE_1 else None]
        for name, row in clean.items()
    ]
    caption = f"Clean accuracy in per cent; the paper: Table 1, {paper.SETTING}"
    return Table(caption, ("training set", "targets", "this run", "the paper"), rows, words=("targets",))


def further(accuracies: StudyAccuracies, properties: Sequence[SetProperties]) -> Table | None:
    """What the sets beyond those of every study teach, and what each tests; None where there is none of them."""
    known, says = {one.name: one for one in properties}, {}
    rows: list[list[Cell]] = []
    for declared in FURTHER:
        member, one, other = accuracies.get(declared.name), known.get(declared.name), accuracies.get(declared.beside)
        if member and member.clean and one:
            reference = [declared.beside, _share(other.clean) if other else None]
            shared = (one.success_source, one.success_independent, one.rises_independent)
            rows.append([declared.name, member.clean.share, *reference, *shared])
            says[declared.name] = f"{declared.says[0].upper()}{declared.says[1:]}. {declared.claim} {declared.origin}."
    caption = (
        "In per cent, with 95\u00a0% intervals: clean accuracy of the classifier trained on a set, and of that trained "
        "on the set beside it; images that get their label from the source, and from a classifier that no search saw; "
        "images whose label is the output of that classifier that rises most"
    )
    columns = ("training set", "accuracy", "beside it", "accuracy there", "source", "independent", "rises most")
    return Table(caption, columns, rows, words=("beside it",), says=says, kind="measures") if rows else None


def sets(properties: Sequence[SetProperties]) -> Table:
    """A row a measured property, a column a constructed set."""
    rows = measures(list(properties))
    return Table(
        "Shares in per cent with 95\u00a0% intervals; distances by their median over images",
        ("measure", *(one.name for one in properties)),
        [[row.name, *row.values] for row in rows],
        says={row.name: row.says for row in rows if row.says},
        kind="measures",
    )


def theory(checks: Sequence[TheoryCheck]) -> Table:
    """What two Gaussians predict beside what the search found: a row a classifier and radius."""
    rows: list[list[Cell]] = []
    for check in checks:
        about = (", ".join(check.pair), NORMS[check.norm])
        for radius, moved, said, share in zip(check.radii, check.moved, check.predicted, check.measured, strict=True):
            rows.append([check.classifier, *about, f"{radius:g}", f"{moved:.3g}", percent(said), share, share.n])
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
    search = (
        (used.steps, None if used.step_size is None else f"{used.step_size:g}", used.restarts)
        if used
        else (None, None, None)
    )
    about = (row.test_set, row.architecture, str(row.seed))
    return [row.train_set, row.training, row.classifier, *attack, row.share, row.n, *search, *about]
