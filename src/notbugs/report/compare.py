"""The page of a comparison: `compare.html`, made from `compare.json` alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from notbugs.content import Cell, Figure, Section, Table
from notbugs.formats import counted, percent, signed
from notbugs.measure import PairedTest, SeedDifference
from notbugs.report.compare_findings import (
    ALPHA,
    EQUAL,
    between,
    dots,
    findings,
    label,
    listed_pairs,
    middle,
    numbered,
    unders,
)
from notbugs.report.shell import environment, shown
from notbugs.report.wording import date

if TYPE_CHECKING:
    from notbugs.study.jobs.compare import (
        BeyondOverSeeds,
        Comparison,
        Contrast,
        Of,
        OverSeedsRow,
        PairRow,
        SeedGroup,
        Setting,
        StudyPair,
    )

WIDTHS = (560, 200)
LONGEST = 60
"""Characters of a setting that the page shows; `compare.json` has it whole."""
PARTS = {"recipe": "Settings of the recipes", "data": "The data", "machine": "Machines and versions"}
DRAWN = {"train_images": "training images", "test_images": "test images", "heldout": "images held out for measuring"}
SEEDS = (
    "The seed decides initial weights, order and augmentation of batches, where the searches of training and of the "
    "measuring attack start, and start and target of every image of the constructed sets. Mean, t interval and "
    "standard deviation are over seeds, so they hold the chance of training; intervals of single studies hold the "
    "chance of the test images. The t interval takes seeds as independent and about normal. It is wide with few seeds, "
    "and cut off at 0 and 100\u00a0%. Where all seeds agree there is none: they say nothing of how much seeds differ."
)
TESTS = (
    "Of two classifiers on the same test images, only images that one alone gets right say which is better. "
    "Differences are in points, the first study’s accuracy minus the second’s, with Newcombe’s 95\u00a0% interval for "
    f"paired shares and the two-sided p of McNemar’s exact test; * where p is below {ALPHA:g} also when adjusted for "
    "all tests in compare.json (Holm). A test is about these two trained classifiers: whether one recipe is better "
    "than another takes several seeds of each."
)


def render_comparison(comparison: Comparison) -> str:
    """The whole page as HTML."""
    sections = (
        _seeds(comparison),
        _accuracy(comparison),
        _contrasts(comparison),
        _pairs(comparison),
        _settings(comparison),
        _studies(comparison),
    )
    return environment().get_template("compare.html.j2").render(
        title=_title(comparison),
        count=len(comparison.studies),
        findings=list(findings(comparison)),
        sections=[section for section in sections if section],
        reports=list(_reports(comparison)),
    )  # fmt: skip


def _title(comparison: Comparison) -> str:
    if len(comparison.groups) == 1 and len(comparison.groups[0].studies) == len(comparison.studies):
        return f"{comparison.studies[0].recipe} with {len(comparison.studies)} seeds"
    return f"{len(comparison.studies)} studies compared"


def _reports(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Name and address of the report of every study below this page."""
    for study in comparison.studies:
        path = PurePath(study.folder)
        if study.has_report and not path.is_absolute() and ".." not in path.parts:
            yield study.label, quote((path / "report.html").as_posix())


def _seeds(comparison: Comparison) -> Section | None:
    if not comparison.groups:
        return None
    return Section(
        name="seeds",
        title="Over seeds",
        short="Seeds",
        text=SEEDS,
        reading=[_images(comparison, group) for group in comparison.groups],
        tables=[
            *(_seed_table(comparison, group, under) for group in comparison.groups for under in unders(group.rows)),
            *(_beyond_table(comparison, group) for group in comparison.groups if group.beyond),
        ],
    )


def _images(comparison: Comparison, group: SeedGroup) -> str:
    names = f"Studies {numbered(comparison, group.studies)}, seeds {', '.join(map(str, group.seeds))}"
    if group.same_images:
        return f"{names}: training and test images are the same with every seed."
    drawn = ", ".join(DRAWN[name] for name in group.drawn if name in DRAWN) or "images"
    return f"{names}: the seed draws {drawn} too, so that the spread holds the chance of this as well."


def _seed_table(comparison: Comparison, group: SeedGroup, under: str) -> Table:
    rows = [[label(row), *_over(row)] for row in group.rows if row.under == under]
    caption = f"Studies {numbered(comparison, group.studies)}, {_accuracy_under(under)}"
    return Table(caption, ("trained on", *_columns(group)), rows)


def _beyond_table(comparison: Comparison, group: SeedGroup) -> Table:
    rows = [[row.of, _control(row), *_over(row)] for row in group.beyond]
    scores = ", ".join(dict.fromkeys(row.score for row in group.beyond))
    caption = (
        f"Studies {numbered(comparison, group.studies)}, what each set teaches beyond its control, on images as they "
        f"are: {scores} of the set less that of its control, in points"
    )
    return Table(caption, ("set", "control", *_columns(group)), rows)


def _control(row: BeyondOverSeeds) -> str:
    epochs = row.weak_epochs
    return f"{row.control}, weak classifier of {counted(epochs, 'epoch')}" if epochs else row.control


def _columns(group: SeedGroup) -> list[str]:
    return ["mean", "95\u00a0% t interval", "standard deviation", *(f"seed {seed}" for seed in group.seeds)]


def _over(row: OverSeedsRow | BeyondOverSeeds) -> list[str]:
    return [
        percent(row.over.mean),
        between(row.over),
        f"{100 * (row.over.deviation or 0):.2f}",
        *map(percent, row.values),
    ]


def _accuracy_under(under: str) -> str:
    return "clean accuracy in per cent" if under == "clean" else f"accuracy in per cent, {under} attack"


def _accuracy(comparison: Comparison) -> Section:
    shared = [measure for measure in comparison.measures if sum(share is not None for share in measure.shares) > 1]
    figures = []
    for under in dict.fromkeys(("clean", middle(shared or comparison.measures))):
        drawings = [drawn for width in WIDTHS if under and (drawn := dots(comparison, under, width=width))]
        if drawings:
            figures.append(Figure(_figure_caption(comparison, under or ""), drawings))
    return Section(
        name="accuracy",
        title="Accuracy, side by side",
        short="Accuracy",
        text="Every accuracy with its 95\u00a0% Wilson interval over test images, in per cent. Radii are in pixel "
        "units, pixels in [0, 1]. " + _attacks(comparison),
        figures=figures,
        tables=[_accuracy_table(comparison, under) for under in unders(comparison.measures)],
    )


def _figure_caption(comparison: Comparison, under: str) -> str:
    names = "; ".join(f"{number}: {study.label}" for number, study in enumerate(comparison.studies, 1))
    means = " Hollow diamonds are means over seeds, with their t intervals." if comparison.groups else ""
    what = "Clean accuracy" if under == "clean" else f"Accuracy under the {under} attack"
    return f"{what}, a dot for each study and classifier, with its 95\u00a0% interval. The studies: {names}.{means}"


def _attacks(comparison: Comparison) -> str:
    used = ([attack for attack in measure.attacks if attack] for measure in comparison.measures)
    if any(attack != attacks[0] for attacks in used for attack in attacks):
        return "The studies attacked in other ways at the same radius: such robust accuracies do not compare."
    return "Where two studies have a radius, they attacked there in the same way."


def _accuracy_table(comparison: Comparison, under: str) -> Table:
    columns = ("trained on", *(numbered(comparison, [place]) for place in range(len(comparison.studies))))
    rows: list[list[Cell]] = [[label(row), *row.shares] for row in comparison.measures if row.under == under]
    return Table(_accuracy_under(under).capitalize(), columns, rows)


def _contrasts(comparison: Comparison) -> Section | None:
    if not comparison.contrasts:
        return None
    return Section(
        name="recipes",
        title="Recipes against each other, over seeds",
        short="Recipes",
        text="Mean over the seeds of one recipe minus mean over those of another, in points, with Welch’s 95\u00a0% t "
        "interval: the chance of training is in it, and no adjustment for their number.",
        tables=[_contrast_table(comparison, contrast) for contrast in comparison.contrasts],
    )


def _contrast_table(comparison: Comparison, contrast: Contrast) -> Table:
    first, second = (
        numbered(comparison, comparison.groups[place].studies) for place in (contrast.first, contrast.second)
    )
    cells = {(label(row), row.under): _points(row.difference) for row in contrast.rows}
    return _crossed(f"Studies {first} minus studies {second}", contrast.rows, cells)


def _pairs(comparison: Comparison) -> Section | None:
    listed = listed_pairs(comparison)
    left_out = len(comparison.pairs) - len(listed)
    more = f" Pairs without the first study are in compare.json, {left_out} of them." if left_out else ""
    tables = [_pair_table(comparison, pair) for pair in listed if pair.rows]
    return Section("pairs", "Image by image", "Image by image", TESTS + more, tables=tables) if tables else None


def _pair_table(comparison: Comparison, pair: StudyPair) -> Table:
    caption = f"Study {numbered(comparison, [pair.first])} minus study {numbered(comparison, [pair.second])}"
    cells = {(label(row), row.under): _tested(row) for row in pair.rows}
    return _crossed(f"{caption}, {pair.rows[0].test.n} test images", pair.rows, cells)


def _tested(row: PairRow) -> Markup:
    mark = "*" if row.adjusted < ALPHA else ""
    return _points(row.test) + Markup('<br><span class="interval">p {:.2g}{}</span>').format(row.test.p_value, mark)


def _points(difference: PairedTest | SeedDifference) -> Markup:
    low, high = difference.low, difference.high
    interval = EQUAL if low is None or high is None else f"{signed(low)} to {signed(high)}"
    cell = '<data value="{}">{}</data> <span class="interval">{}</span>'
    return Markup(cell).format(difference.difference, signed(difference.difference), interval)


def _crossed(caption: str, rows: Sequence[Of], cells: dict[tuple[str, str], Markup]) -> Table:
    """A row for every classifier, a column for every attack."""
    columns, names = unders(rows), dict.fromkeys(map(label, rows))
    crossed = [[name, *(cells.get((name, at)) for at in columns)] for name in names]
    return Table(caption, ("trained on", *columns), crossed)


def _settings(comparison: Comparison) -> Section:
    tables = [
        Table(title, ("setting", *(numbered(comparison, [place]) for place in range(len(comparison.studies)))), rows)
        for part, title in PARTS.items()
        if (rows := [_setting(setting) for setting in comparison.settings if setting.part == part])
    ]
    text = "Every setting that is not the same in all studies. " if tables else "The studies have the same settings. "
    return Section("settings", "What differs", "What differs", text + "Each report has the others.", tables=tables)


def _setting(setting: Setting) -> list[Cell]:
    return [setting.name, *("not set" if value is None else _short(setting, shown(value)) for value in setting.values)]


def _short(setting: Setting, text: str) -> str:
    longest = 12 if setting.name == "fingerprint" else LONGEST
    return text if len(text) <= longest else f"{text[:longest]}…"


def _studies(comparison: Comparison) -> Section:
    columns = ("study", "recipe", "data", "architecture", "seed", "training and test images", "made on")
    rows = [
        [
            numbered(comparison, [place]),
            *(study.recipe, study.data, study.architecture, str(study.seed)),
            *(f"{study.train:,} and {study.test:,} ({study.test_set})", date(study.created)),
        ]
        for place, study in enumerate(comparison.studies)
    ]
    table = Table("As they were run; compare.json has every number of this page", columns, rows)
    return Section("studies", "The studies", "Studies", _kept(comparison), tables=[table])


def _kept(comparison: Comparison) -> str:
    """Which studies cannot be compared image by image."""
    without = [place for place, study in enumerate(comparison.studies) if not study.has_outcomes]
    if not without:
        return "All of them keep what became of every test image."
    names = ", ".join(numbered(comparison, [place]) for place in without)
    return f"Made before it was kept what became of every test image, and so without paired tests: {names}."
