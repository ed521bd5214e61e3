"""The tables of a study for a paper: captions that say everything; in LaTeX (booktabs), Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from notbugs.content import INTERVAL, Cell, Section, Share, Table
from notbugs.formats import NORMS, harmless, number, percent, quoted
from notbugs.measure import AttackUsed, Proportion, Spread
from notbugs.report import core_tables, paper, wording
from notbugs.report.accuracies import StudyAccuracies, study_accuracies
from notbugs.report.wording import class_names
from notbugs.study.instruments import INSTRUMENTS
from notbugs.study.results import Results, Row, SetProperties
from notbugs.study.sets import BY_NAME, RELABELLED

LETTER, BETWEEN, ROOM = 4.5, 8.0, 397.0
"""Points: a letter of `small` text, about; the space between columns; and the width of the text.

A table that is wider is scaled down to it.
"""
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": "{`}", "--": "-{}-", "\u00a0": "~",
    "\u2013": "--", "\u2014": "---", "\u2019": "'", "\u201c": "``", "\u201d": "''",
    "\u03c1": r"$\rho$", "\u03b3": r"$\gamma$",
    "l2": r"$\ell_2$", "l-inf": r"$\ell_\infty$", "linf": r"$\ell_\infty$",
}  # fmt: skip
_NORM = r"\b(?:l2|l-inf|linf)\b"
_TEX_PARTS = f"{wording.NAMES}|{_NORM}|--|[{re.escape(''.join(part for part in _TEX if len(part) == 1))}]"
_MARKDOWN_PARTS = re.compile(wording.NAMES + r"|[\\`*_{}\[\]<>&|~$]")


def latex(table: Table, name: str, note: str = "") -> str:
    """A `table` environment for booktabs, with the label `tab:NAME`; its caption stands above, as NeurIPS has it.

    A table that is wider than the text is scaled to it, which needs graphicx. A `note` becomes a comment.
    """
    columns = "".join("l" if _has_words(table, place) else "r" for place in range(len(table.columns)))
    rows = [" & ".join([_tex_ours(_shown(row[0])), *map(_tex_cell, row[1:])]) for row in table.rows]
    tabular = [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        rf"{' & '.join(map(tex, table.columns))} \\",
        r"\midrule",
        *(rf"{{}}{row} \\" for row in rows),  # {}: a row that began with [ or * would be read as part of \\
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if _is_wide(table):
        tabular = [r"\resizebox{\linewidth}{!}{%", *tabular[:-1], rf"{tabular[-1]}}}"]
    lines = [
        *([f"% {_line(note)}"] if note else []),
        r"\begin{table}[t]",
        rf"\caption{{{_tex_ours(_sentence(table.caption))}}}",
        rf"\label{{tab:{name}}}",
        r"\centering",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        *tabular,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown(table: Table, note: str = "") -> str:
    """A table for GitHub and pandoc, below its caption and above its note."""
    sides = ["---" if _has_words(table, place) else "---:" for place in range(len(table.columns))]
    lines = [map(md, table.columns), sides, *([md(_shown(cell)) for cell in row] for row in table.rows)]
    parts = [md(_sentence(table.caption)), "\n".join(f"| {' | '.join(line)} |" for line in lines), md(note)]
    return "\n\n".join(part for part in parts if part) + "\n"


TidyRow = dict[str, Cell]
"""One number, or a few, with everything that it depends on, by name: a line of a CSV file."""


def comma_separated(rows: Sequence[TidyRow]) -> str:
    """Tidy rows under the names of the first one's fields; None is left empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(rows[0]) if rows else []
    writer.writerows([_no_formula(cell) for cell in row] for row in [names, *(map(row.get, names) for row in rows)])
    return file.getvalue()


def _no_formula(cell: object) -> object:
    """A name that a spreadsheet would calculate, behind the apostrophe that makes it text; all names on one line."""
    if not isinstance(cell, str):
        return cell
    text = harmless(cell.replace("\r", " "))
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", " ")) else text


def fields(table: Table) -> list[TidyRow]:
    """The rows of a table under the names of its columns; a share also has its interval and its n."""
    shares = {
        column for place, column in enumerate(table.columns) if any(isinstance(row[place], Share) for row in table.rows)
    }
    rows = []
    for row in table.rows:
        named: TidyRow = {}
        for column, cell in zip(table.columns, row, strict=True):
            named[column or "row"] = cell.value if isinstance(cell, Share) else cell
            if column in shares:
                share = cell.model_dump() if isinstance(cell, Share) else {}
                named |= {f"{column} {name}": share.get(name) for name in ("low", "high", "n")}
        rows.append(named)
    return rows


def tex(text: str) -> str:
    """`text` with what is special to LaTeX escaped, and the names of sets and norms as the paper sets them."""
    return re.sub(_TEX_PARTS, _tex_part, _line(text))


def _tex_ours(text: str) -> str:
    """The same of a text of our own, in which a D that stands alone is the original set."""
    return re.sub(rf"\bD\b|{_TEX_PARTS}", _tex_part, _line(text))


def md(text: str) -> str:
    """`text` with what is special to Markdown escaped, and the names of sets with subscripts."""
    return _MARKDOWN_PARTS.sub(_markdown_part, _line(text))


def _tex_part(match: re.Match[str]) -> str:
    if match[0] == "D":
        return r"$\mathcal{D}$"
    return wording.tex(match[0]) if match[0] in BY_NAME else _TEX[match[0]]


def _markdown_part(match: re.Match[str]) -> str:
    if match[0] in BY_NAME:
        return wording.markdown(match[0])
    return escape(match[0]) if match[0] in "<>&" else f"\\{match[0]}"


def _line(text: str) -> str:
    """One line without control characters; spaces that do not break stay."""
    breaks = ("Cc", "Zl", "Zp")
    line = "".join(" " if unicodedata.category(letter) in breaks else letter for letter in text)
    return re.sub(" +", " ", harmless(line)).strip(" ")


def _sentence(caption: str) -> str:
    return caption if caption.endswith(".") else f"{caption}."


def _tex_cell(cell: Cell) -> str:
    if isinstance(cell, Share):
        return rf"{percent(cell.value)} {{\scriptsize {percent(cell.low)}--{percent(cell.high)}}}"
    return tex(_shown(cell))


def _shown(cell: Cell) -> str:
    if isinstance(cell, Share):
        return quoted(cell, "")
    if cell is None:
        return ""
    if isinstance(cell, Spread):
        return number(cell.median)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return number(cell) if isinstance(cell, int | float) else cell


def _has_words(table: Table, place: int) -> bool:
    """Whether a column is set flush left: it names its rows, or most of it is words."""
    column = [row[place] for row in table.rows if row[place] is not None]
    words = [cell for cell in column if isinstance(cell, str) and not cell.lstrip("-")[:1].isdigit()]
    return place == 0 or 2 * len(words) > len(column)


def _is_wide(table: Table) -> bool:
    columns = list(zip(*(table.columns, *table.rows), strict=True))
    letters = sum(max(map(_letters, column)) for column in columns)
    return LETTER * letters + BETWEEN * (len(columns) - 1) > ROOM


def _letters(cell: Cell) -> int:
    return 12 if isinstance(cell, Share) else len(_shown(cell))  # its interval is smaller


PIXELS = "pixel units, pixels in [0, 1]"


@dataclass(frozen=True)
class NamedTable:
    """A table, the name of its files, its numbers as rows, and what its caption has no room for."""

    name: str
    table: Table
    rows: list[TidyRow]
    note: str = ""


def tables(results: Results) -> Iterator[NamedTable]:
    """Every table that the study has."""
    accuracies = study_accuracies(results)
    if accuracies.members:
        yield NamedTable("accuracy", _accuracy(results, accuracies), [_tidy(results, row) for row in results.rows])
    if any(accuracies.get(name) for name in RELABELLED) and (table := core_tables.relabelled(accuracies)):
        yield _table_1(results, accuracies, table)
    if results.sets:
        rows = [row for properties in results.sets for row in _tidy_set(results, properties)]
        yield NamedTable("sets", _sets(results), rows)
    if results.theory:
        yield _theory(results)
    for section in instrument_sections(results):
        shown = [table for table in section.tables if not table.folded]
        for count, table in enumerate(shown, 1):
            name = section.name if len(shown) == 1 else f"{section.name}-{count}"
            yield NamedTable(name, _said_all(table, results), fields(table), section.text)


def instrument_sections(results: Results) -> list[Section]:
    """A section for each instrument that the run has."""
    classes = class_names(results.study.data.get("classes"))
    pairs = ((instrument, getattr(results.instruments, instrument.name)) for instrument in INSTRUMENTS)
    return [instrument.section(result, classes) for instrument, result in pairs if result is not None]


def _said_all(table: Table, results: Results) -> Table:
    """The table of an instrument with interval, n and seed in its caption."""
    counts = {cell.n for row in table.rows for cell in row if isinstance(cell, Share)}
    parts = [table.caption.rstrip(".")]
    parts += [f"{INTERVAL}, {_counted(counts)}"] if counts else []
    parts += [f"seed {seed_of(results)}"] if not re.search(r"\bseed \d", table.caption) else []
    return replace(table, caption=of_held_out("; ".join(parts), results))


def of_held_out(caption: str, results: Results) -> str:
    """The caption of an instrument, with what its test images are where they are not the test set."""
    if "test images" not in caption or study_accuracies(results).test_set == "test":
        return caption
    return f"{_sentence(caption)} Test images are those held out of the training split."


def _counted(counts: set[int]) -> str:
    if len(counts) > 3:
        return f"n from {number(min(counts))} to {number(max(counts))}"
    return f"n = {' or '.join(map(number, sorted(counts)))}"


def attacks_said(rows: Iterable[Row]) -> str:
    """The attacks behind robust accuracies, without their radii: `PGD with 40 steps and 2 restarts`."""
    return " or ".join(dict.fromkeys(_attack(row.attack) for row in rows if row.attack))


def measured_on(results: Results, accuracies: StudyAccuracies) -> str:
    """The images and the seed behind accuracies: `n = 360 test images of digits, seed 0`."""
    counts = {row.n for member in accuracies.members for row in (member.clean, *member.robust.values()) if row}
    data = results.study.data
    variant = f" ({data['variant']})" if data.get("variant") else ""
    kind = "test" if accuracies.test_set == "test" else "held-out"
    return f"{_counted(counts)} {kind} images of {data['name']}{variant}, seed {accuracies.seed}"


def _attack(attack: AttackUsed) -> str:
    name = {"pgd": "PGD", "strong": "the strong attack", "autoattack": "AutoAttack"}.get(attack.name, attack.name)
    targeted = f", and {attack.targeted} classes searched for" if attack.targeted else ""
    restarts = "1 restart" if attack.restarts == 1 else f"{attack.restarts} restarts"
    decay = "" if attack.decay == "constant" else f" of {attack.decay} decay"
    return f"{name} with {attack.steps} steps{decay} and {restarts}{targeted}"


def _accuracy(results: Results, accuracies: StudyAccuracies) -> Table:
    norm = NORMS[accuracies.norm or "l2"]
    said = attacks_said(row for member in accuracies.members for row in member.robust.values())
    robust = f", clean and under {said} at {norm} radii in {PIXELS}" if said else ", clean: no attack"
    caption = f"Accuracy in per cent{robust}; {INTERVAL}; {measured_on(results, accuracies)}"
    return replace(core_tables.accuracy(accuracies), caption=caption)


def _table_1(results: Results, accuracies: StudyAccuracies, table: Table) -> NamedTable:
    caption = (
        f"Clean accuracy (no attack) in per cent after training on relabelled images; {INTERVAL}; "
        f"{measured_on(results, accuracies)}. {_searched(results, RELABELLED)}The paper: Table 1, {paper.SETTING}, l2 "
        "radius 0.5"
    )
    members = [accuracies.get(str(row[0])) for row in table.rows]
    numbers = [
        _tidy(results, member.clean) | {"paper": paper.TABLE_1.get(member.train_set)}
        for member in members
        if member and member.clean
    ]
    return NamedTable("table-1", replace(table, caption=caption), numbers)


def _sets(results: Results) -> Table:
    names = [properties.name for properties in results.sets]
    caption = (
        f"Constructed sets: shares in per cent with {INTERVAL}; medians of distances over images, in {PIXELS}. "
        f"{_searched(results, names)}Seed {seed_of(results)}"
    )
    return replace(core_tables.sets(results.sets), caption=caption)


def seed_of(results: Results) -> int:
    """The seed of a study."""
    return results.study.seeds[0] if results.study.seeds else 0


def _searched(results: Results, names: Iterable[str]) -> str:
    """A sentence on how sets were searched for, those that were searched alike together."""
    alike: dict[str, list[str]] = {}
    for properties in results.sets:
        if properties.name in names:
            alike.setdefault(_search(properties), []).append(properties.name)
    said = "; ".join(f"{', '.join(sets)}: {search}" for search, sets in alike.items())
    return f"{said}. " if said else ""


def _search(properties: SetProperties) -> str:
    ball, schedule = properties.settings.get("threat") or {}, properties.settings.get("schedule") or {}
    radius = f"{NORMS[ball['norm']]} radius {ball['eps']:g}" if ball.get("eps") is not None else "no radius"
    steps = f", {schedule['steps']} steps" if "steps" in schedule else ""
    return (
        f"{properties.settings.get('objective', properties.kind)}, {radius}{steps}, n = {number(properties.n)} images"
    )


def _theory(results: Results) -> NamedTable:
    counts = {share.n for check in results.theory for share in check.measured}
    numbers: list[TidyRow] = []
    for check in results.theory:
        named: TidyRow = {"classifier": check.classifier, "classes": ", ".join(check.pair), "norm": check.norm}
        for radius, moved, said, share in zip(check.radii, check.moved, check.predicted, check.measured, strict=True):
            places = {"radius": radius, "moved": moved, "predicted": said}
            numbers.append(named | places | share.model_dump() | {"seed": seed_of(results)})
    caption = (
        "Accuracy in per cent of the best linear rule between two classes: predicted by two Gaussians fitted to the "
        f"features, and left by the search; {INTERVAL}, {_counted(counts)}; radii in {PIXELS}; "
        f"seed {seed_of(results)}"
    )
    return NamedTable("theory", replace(core_tables.theory(results.theory), caption=caption), numbers)


def _tidy(results: Results, row: Row) -> TidyRow:
    """One accuracy with everything that it depends on."""
    used = row.attack.model_dump() if row.attack else {}
    search = ("steps", "step_size", "decay", "restarts", "targeted")
    return {
        "study": results.study.name,
        "data": results.study.data["name"],
        "test_set": row.test_set,
        "train_set": row.train_set,
        "training": row.training,
        "classifier": row.classifier,
        "architecture": row.architecture,
        "measure": "accuracy",
        "value": row.accuracy,
        "low": row.low,
        "high": row.high,
        "n": row.n,
        "attack": used.get("name"),
        "norm": used.get("norm"),
        "radius": used.get("eps"),
        **{name: used.get(name) for name in search},
        "seed": row.seed,
    }


def _tidy_set(results: Results, properties: SetProperties) -> Iterator[TidyRow]:
    """One row a share or a mean; four a distance: its mean, median, 95th percentile and maximum."""
    ball, schedule = properties.settings.get("threat") or {}, properties.settings.get("schedule") or {}
    named = {"study": results.study.name, "data": results.study.data["name"], "set": properties.name}
    search = {
        "source": properties.source, "targets": properties.targets, "attack": properties.settings.get("objective"),
        "norm": ball.get("norm"), "radius": ball.get("eps"), "steps": schedule.get("steps"), "restarts": 1,
        "seed": properties.settings.get("seed"),
    }  # fmt: skip
    for measure, statistic, numbers in _numbers_of(properties):
        yield named | {"measure": measure, "statistic": statistic} | numbers | search


def _numbers_of(properties: SetProperties) -> Iterator[tuple[str, str, TidyRow]]:
    """Measure, statistic, and value with its interval and number of images."""
    fields = {name: getattr(properties, name) for name in type(properties).model_fields}
    shares = {name: value for name, value in fields.items() if isinstance(value, Proportion)}
    spreads = {name: (value, properties.n) for name, value in fields.items() if isinstance(value, Spread)}
    if alike := properties.resemblance:
        shares |= {f"nearer to the target, {measure.by}": measure.nearer_target for measure in alike.measures}
        shares |= {"judged to be its label": alike.judged_target, "judged to be its start's": alike.judged_start}
    if size := properties.perturbation:
        shares["perturbation below half of the way to the new class"] = size.below_half
        spreads["perturbation over the way to the new class"] = size.to_nearest, size.n
        spreads["share of pixels that change noticeably"] = size.noticed, size.n
    for name, share in shares.items():
        if share:
            yield name, "share", share.model_dump()
    for measure in alike.measures if alike else ():
        yield f"nearer to the target, {measure.by}", "difference", measure.difference.model_dump()
    for name, (spread, n) in spreads.items():
        for statistic, value in spread.model_dump().items():
            yield name, statistic, {"value": value, "low": None, "high": None, "n": n}
