"""The page over the audits of several labels: a row for each, with the verdict and the page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from notbugs.content import Cell, Section, Table
from notbugs.measure.accuracy import Accuracy
from notbugs.study.auditing import AuditFile


def labels_section(found: Mapping[str, AuditFile]) -> Section:
    """Every label of one classifier.

    Parameters
    ----------
    found : mapping of str to AuditFile
        The audits by the names of their folders.
    """
    one = next(iter(found.values()))
    audit = one.audit
    score = "balanced accuracy"
    columns = ["label", f"{score}, clean", f"at {audit.threat_name}", "AUC, clean", "at the same"]
    columns += ["robust alone", "non-robust alone", "it rests on"]
    names = {"robust": "robust features", "nonrobust": "non-robust features", "open": "not decided"}
    names["unused"] = "others than its robust features"
    rows: list[list[Cell]] = []
    for folder, each in found.items():
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
        text=f"A classifier of {len(found)} labels is as many binary classifiers that share a network. Each was "
        f"audited on its own, on {one.data['name'].rpartition(', ')[0]}, for changes of an image up to "
        f"{audit.threat_name}. Every label has a page of its own, with its verdict.",
        tables=[Table(caption, columns, rows, words=("it rests on",), kind="measures")],
    )


def _at(found: list[Accuracy], eps: float) -> Accuracy:
    return next(item for item in found if (item.attack.eps if item.attack else 0.0) == eps)


def labels_in(folder: Path) -> list[Path]:
    """The folders of the labels that were audited in a folder."""
    return sorted(file.parent for file in folder.glob("label-*/audit.json"))
