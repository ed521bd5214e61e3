"""The tables of a study for a paper: with captions that say everything, and as tidy rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from notbugs.content import INTERVAL, Section, Share, Table
from notbugs.formats import NORMS, number
from notbugs.measure import AttackUsed
from notbugs.report import core_tables, paper
from notbugs.report.lineup import Lineup, line_up
from notbugs.report.typeset import fields
from notbugs.report.wording import class_names
from notbugs.study.instruments import INSTRUMENTS
from notbugs.study.results import Proportion, Results, Row, SetProperties, Spread
from notbugs.study.sets import RELABELLED

PIXELS = "pixel units, pixels in [0, 1]"
SHARES = (
    "kept_label", "success_source", "success_source_changed", "success_independent", "success_8bit",
    "success_augmented",
)  # fmt: skip
SPREADS = ("l2", "linf", "matching_loss", "distance_to_target")


@dataclass(frozen=True)
class NamedTable:
    """A table, the name of its files, its numbers as rows, and what its caption has no room for."""

    name: str
    table: Table
    rows: list[dict[str, Any]]
    note: str = ""


def tables(results: Results) -> Iterator[NamedTable]:
    """Every table that the study has."""
    lineup = line_up(results)
    if lineup.members:
        yield NamedTable("accuracy", _accuracy(results, lineup), [_tidy(results, row) for row in results.rows])
    if any(lineup.get(name) for name in RELABELLED) and (table := core_tables.relabelled(lineup)):
        yield _table_1(results, lineup, table)
    if results.sets:
        rows = [row for made in results.sets for row in _tidy_set(results, made)]
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
    found = ((instrument, getattr(results.instruments, instrument.name)) for instrument in INSTRUMENTS)
    return [instrument.section(result, classes) for instrument, result in found if result is not None]


def _said_all(table: Table, results: Results) -> Table:
    """The table of an instrument with interval, n and seed in its caption."""
    counts = {cell.n for row in table.rows for cell in row if isinstance(cell, Share)}
    parts = [table.caption.rstrip(".")]
    parts += [f"{INTERVAL}, {_counted(counts)}"] if counts else []
    parts += [f"seed {seed_of(results)}"] if not re.search(r"\bseed \d", table.caption) else []
    return replace(table, caption="; ".join(parts))


def _counted(counts: set[int]) -> str:
    if len(counts) > 3:
        return f"n from {number(min(counts))} to {number(max(counts))}"
    return f"n = {' or '.join(map(number, sorted(counts)))}"


def attacks_said(rows: Iterable[Row]) -> str:
    """The attacks behind robust accuracies, without their radii: `PGD with 40 steps and 2 restarts`."""
    return " or ".join(dict.fromkeys(_attack(row.attack) for row in rows if row.attack))


def measured_on(results: Results, lineup: Lineup) -> str:
    """The images and the seed behind accuracies: `n = 360 test images of digits, seed 0`."""
    counts = {row.n for member in lineup.members for row in (member.clean, *member.robust.values()) if row}
    data = results.study.data
    variant = f" ({data['variant']})" if data.get("variant") else ""
    kind = "test" if lineup.test_set == "test" else "held-out"
    return f"{_counted(counts)} {kind} images of {data['name']}{variant}, seed {lineup.seed}"


def _attack(attack: AttackUsed) -> str:
    name = {"pgd": "PGD", "strong": "the strong attack", "autoattack": "AutoAttack"}.get(attack.name, attack.name)
    targeted = f", and {attack.targeted} classes searched for" if attack.targeted else ""
    restarts = "1 restart" if attack.restarts == 1 else f"{attack.restarts} restarts"
    decay = "" if attack.decay == "constant" else f" of {attack.decay} decay"
    return f"{name} with {attack.steps} steps{decay} and {restarts}{targeted}"


def _accuracy(results: Results, lineup: Lineup) -> Table:
    norm = NORMS[lineup.norm or "l2"]
    said = attacks_said(row for member in lineup.members for row in member.robust.values())
    robust = f", clean and under {said} at {norm} radii in {PIXELS}" if said else ", clean: no attack"
    caption = f"Accuracy in per cent{robust}; {INTERVAL}; {measured_on(results, lineup)}"
    return replace(core_tables.accuracy(lineup), caption=caption)


def _table_1(results: Results, lineup: Lineup, table: Table) -> NamedTable:
    caption = (
        f"Clean accuracy (no attack) in per cent after training on relabelled images; {INTERVAL}; "
        f"{measured_on(results, lineup)}. {_searched(results, RELABELLED)}The paper: Table 1, {paper.SETTING}, l2 "
        "radius 0.5"
    )
    members = [lineup.get(str(row[0])) for row in table.rows]
    numbers = [
        _tidy(results, member.clean) | {"paper": paper.TABLE_1.get(member.train_set)}
        for member in members
        if member and member.clean
    ]
    return NamedTable("table-1", replace(table, caption=caption), numbers)


def _sets(results: Results) -> Table:
    names = [made.name for made in results.sets]
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
    for made in results.sets:
        if made.name in names:
            alike.setdefault(_search(made), []).append(made.name)
    said = "; ".join(f"{', '.join(sets)}: {search}" for search, sets in alike.items())
    return f"{said}. " if said else ""


def _search(made: SetProperties) -> str:
    ball, schedule = made.settings.get("threat") or {}, made.settings.get("schedule") or {}
    radius = f"{NORMS[ball['norm']]} radius {ball['eps']:g}" if ball.get("eps") is not None else "no radius"
    steps = f", {schedule['steps']} steps" if "steps" in schedule else ""
    return f"{made.settings.get('objective', made.kind)}, {radius}{steps}, n = {number(made.n)} images"


def _theory(results: Results) -> NamedTable:
    numbers: list[dict[str, Any]] = []
    for check in results.theory:
        named: dict[str, Any] = {"classifier": check.classifier, "classes": ", ".join(check.pair), "norm": check.norm}
        for radius, moved, said, found in zip(check.radii, check.moved, check.predicted, check.measured, strict=True):
            places = {"radius": radius, "moved": moved, "predicted": said}
            numbers.append(named | places | found.model_dump() | {"seed": seed_of(results)})
    caption = (
        "Accuracy in per cent of the best linear rule between two classes: predicted by two Gaussians fitted to the "
        f"features, and left by the search; {INTERVAL}, {_counted({row['n'] for row in numbers})}; radii in {PIXELS}; "
        f"seed {seed_of(results)}"
    )
    return NamedTable("theory", replace(core_tables.theory(results.theory), caption=caption), numbers)


def _tidy(results: Results, row: Row) -> dict[str, Any]:
    """One accuracy with everything that it depends on."""
    used = row.attack.model_dump() if row.attack else {}
    how = ("steps", "step_size", "decay", "restarts", "targeted")
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
        **{name: used.get(name) for name in how},
        "seed": row.seed,
    }


def _tidy_set(results: Results, made: SetProperties) -> Iterator[dict[str, Any]]:
    """One row a share or a mean; four a distance: its mean, median, 95th percentile and maximum."""
    ball, schedule = made.settings.get("threat") or {}, made.settings.get("schedule") or {}
    named = {"study": results.study.name, "data": results.study.data["name"], "set": made.name}
    how = {
        "source": made.source, "targets": made.targets, "attack": made.settings.get("objective"),
        "norm": ball.get("norm"), "radius": ball.get("eps"), "steps": schedule.get("steps"), "restarts": 1,
        "seed": made.settings.get("seed"),
    }  # fmt: skip
    for measure, statistic, numbers in _numbers_of(made):
        yield named | {"measure": measure, "statistic": statistic} | numbers | how


def _numbers_of(made: SetProperties) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Measure, statistic, and value with its interval and number of images."""
    shares: dict[str, Proportion | None] = {name: getattr(made, name) for name in SHARES}
    spreads: dict[str, tuple[Spread | None, int]] = {name: (getattr(made, name), made.n) for name in SPREADS}
    if alike := made.resemblance:
        shares |= {f"nearer to the target, {found.by}": found.nearer_target for found in alike.measures}
        shares |= {"judged to be its label": alike.judged_target, "judged to be its start's": alike.judged_start}
    if size := made.perturbation:
        shares["perturbation below half of the way to the new class"] = size.below_half
        spreads["perturbation over the way to the new class"] = size.to_nearest, size.n
        spreads["share of pixels that change noticeably"] = size.noticed, size.n
    for name, share in shares.items():
        if share:
            yield name, "share", share.model_dump()
    for found in alike.measures if alike else ():
        yield f"nearer to the target, {found.by}", "difference", found.difference.model_dump()
    for name, (spread, n) in spreads.items():
        for statistic, value in spread.model_dump().items() if spread else ():
            yield name, statistic, {"value": value, "low": None, "high": None, "n": n}
