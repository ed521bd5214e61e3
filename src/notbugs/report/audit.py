"""The page of an audit, and the one over the audits of several labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from notbugs.content import Cell, Section, Table
from notbugs.errors import InputError
from notbugs.formats import duration
from notbugs.measure.accuracy import Accuracy, Score
from notbugs.measure.audit_result import NAMES, Audit, GroupName
from notbugs.measure.feature_visualization import Driver
from notbugs.report.charts import Style, curves
from notbugs.report.pictures import SIDE, Arrays, png
from notbugs.report.section_charts import spectrum
from notbugs.report.shell import environment
from notbugs.report.wording import class_names
from notbugs.study.recipe import flat

if TYPE_CHECKING:
    from notbugs.study.jobs.audit import AuditFile


def labels_section(audits: Mapping[str, AuditFile]) -> Section:
    """Every label of one classifier.

    Parameters
    ----------
    audits : mapping of str to AuditFile
        The audits by the names of their folders.
    """
    one = next(iter(audits.values()))
    audit = one.audit
    score = "balanced accuracy"
    data = one.data["name"].removesuffix(f", {one.data['classes'][1]}")
    columns = ["label", f"{score}, clean", f"at {audit.threat_name}", "AUC, clean", "at the same"]
    columns += ["robust alone", "non-robust alone", "it rests on"]
    names = {"robust": "robust features", "nonrobust": "non-robust features", "open": "not decided"}
    names["unused"] = "others than its robust features"
    rows: list[list[Cell]] = []
    for folder, each in audits.items():
        clean, attacked = _at(each.audit.model, 0.0), _at(each.audit.model, audit.eps)
        alone = [_at(each.audit.group(name).accuracies, 0.0) for name in ("robust", "nonrobust")]
        link = Markup('<a href="{}">{}</a>').format(f"{folder}/audit.html", each.data["classes"][1])
        cells: list[Cell] = [item.by(score) for item in (clean, attacked)]
        cells += [item.area.share if item.area else None for item in (clean, attacked)]
        cells += [item.by(score) for item in alone]
        rows.append([link, *cells, names.get(each.audit.verdict.basis, each.audit.verdict.basis)])
    caption = (
        f"Accuracies in per cent with 95\u00a0% intervals; {score} where one side has over half of the images, else "
        "accuracy, and the area under ROC where one has under a fifth. Alone: a head refitted on these features, clean"
    )
    return Section(
        name="audit",
        title=f"What {one.model} rests on, label by label",
        short="Labels",
        text=f"A classifier of {len(audits)} labels is as many binary classifiers that share a network. Each was "
        f"audited on its own, on {data}, for changes of an image up to {audit.threat_name}. Every label has a page "
        "of its own, with its verdict.",
        tables=[Table(caption, columns, rows, words=("it rests on",), kind="measures")],
    )


def _at(accuracies: list[Accuracy], eps: float) -> Accuracy:
    return next(item for item in accuracies if (item.attack.eps if item.attack else 0.0) == eps)


def labels_in(folder: Path) -> list[Path]:
    """The folders of the labels that were audited in a folder."""
    return sorted(file.parent for file in folder.glob("label-*/audit.json"))


LISTED = 200
"""Features in the table of the page, at most; half the most robust, half the least."""


MODEL: Style = ("the model", "#3a3a38", "circle", [])
GROUPS: dict[GroupName, Style] = {
    "all": ("all features", "#8a8984", "cross", [4, 3]),
    "robust": ("robust alone", "#0072b2", "square", []),
    "nonrobust": ("non-robust alone", "#d55e00", "diamond", []),
}


@dataclass(frozen=True)
class Row:
    """One feature with its pictures, as data URIs."""

    driver: Driver
    top: list[str]
    start: str
    near: str
    far: str
    difference: str
    gain: float


def render_audit(audited: AuditFile, pictures: Arrays | None) -> str:
    """The whole page as HTML."""
    audit = audited.audit
    rows = _rows(audited, pictures) if pictures else []
    kinds = {row.feature: row for row in audit.spectrum}
    half = LISTED // 2
    listed = audit.spectrum if len(audit.spectrum) <= LISTED else audit.spectrum[:half] + audit.spectrum[-half:]
    side = audited.data["shape"][2]
    return environment().get_template("audit.html.j2").render(
        audited=audited,
        audit=audit,
        classes=class_names(audited.data["classes"]),
        radii=[item.attack.eps for item in audit.model if item.attack],
        curve=against_radius(audit),
        beside=_beside(audit),
        spectrum=spectrum(audit.spectrum, audit.threat_name, classes=class_names(audited.data["classes"])),
        drivers=[
            (kind, chosen)
            for kind in ("robust", "nonrobust")
            if (chosen := [row for row in rows if kinds[row.driver.feature].kind == kind])
        ],
        kinds=kinds,
        listed=listed,
        side=max(1, round(SIDE / side)) * side if side <= SIDE else SIDE,
        pixelated=side <= SIDE,
        settings=_tables(audited),
    )  # fmt: skip


def _beside(audit: Audit) -> list[Table]:
    """Accuracy where the verdict is of balanced ones, and the area under ROC where one of two classes is rare."""
    columns = ["features used", "clean", *(f"{item.attack.eps:g}" for item in audit.model if item.attack)]
    rows = [("the model", audit.model), *((NAMES[group.name], group.accuracies) for group in audit.groups)]
    kinds: list[tuple[str, Callable[[Accuracy], Cell]]] = []
    if audit.score != "accuracy":
        kinds.append(("Accuracy, in which the largest class counts most,", lambda item: item.share))
    if any(item.area for item in audit.model):
        kinds.append(("Area under the ROC curve", lambda item: item.area.share if item.area else None))
    caption = f"in per cent, with its 95\u00a0% interval, by {audit.norm} radius"
    return [
        Table(f"{title} {caption}", columns, [[name, *map(read, cells)] for name, cells in rows], kind="measures")
        for title, read in kinds
    ]


def against_radius(audit: Audit) -> Markup:
    """Accuracy against radius: the model as it is, and heads refitted on each group of features."""
    series = [(MODEL, _points(audit.model, audit.score))]
    series += [(GROUPS[group.name], _points(group.accuracies, audit.score)) for group in audit.groups]
    radii = [row.attack.eps for row in audit.model if row.attack]
    return curves(series, audit.norm, radii, f"Lines of {audit.score} against radius.")


def _points(accuracies: list[Accuracy], score: Score) -> list[dict[str, float]]:
    return [
        {
            "radius": item.attack.eps if item.attack else 0.0,
            "accuracy": 100 * item.by(score).value,
            "low": 100 * item.by(score).low,
            "high": 100 * item.by(score).high,
        }
        for item in accuracies
    ]


def _rows(audited: AuditFile, pictures: Arrays) -> list[Row]:
    drivers = audited.audit.drivers
    wanted = {"start", "near", "far", "top"}
    if set(pictures) != wanted or any(len(array) != len(drivers) for array in pictures.values()):
        raise InputError("pictures.safetensors does not belong to audit.json. Delete it and audit again.")
    floats = {name: array.astype(np.float64) for name, array in pictures.items()}
    return [_row(driver, {name: array[row] for name, array in floats.items()}) for row, driver in enumerate(drivers)]


def _row(driver: Driver, pictures: dict[str, NDArray[np.float64]]) -> Row:
    change = pictures["near"] - pictures["start"]
    gain = 0.5 / max(float(np.abs(change).max()), 1e-12)
    return Row(
        driver,
        top=[_shown(image) for image in pictures["top"]],
        start=_shown(pictures["start"]),
        near=_shown(pictures["near"]),
        far=_shown(pictures["far"]),
        difference=_shown(0.5 + gain * change),
        gain=gain,
    )


def _shown(image: NDArray[np.float64]) -> str:
    """Grey or RGB as it is, of other numbers of channels the mean; as a data URI."""
    return png(image if len(image) in (1, 3) else image.mean(0, keepdims=True))


def _tables(audited: AuditFile) -> list[tuple[str, Mapping[str, object]]]:
    """Everything that made the numbers, as named tables of settings."""
    return [
        ("Options", flat(audited.settings)),
        ("Data", flat(audited.data)),
        ("Model", {"file": audited.model, "SHA-256": audited.sha256, "outputs": audited.outputs}),
        ("Images", audited.audit.sizes.model_dump()),
        ("Machine", {"created": audited.created, "device": audited.device, "threads": audited.threads}),
        ("Versions", dict(audited.versions)),
        ("Parts", {name: duration(seconds) for name, seconds in audited.seconds.items()}),
    ]
