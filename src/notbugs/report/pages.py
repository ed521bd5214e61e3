"""Every page that there is: which files of a folder it is made from, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from notbugs.records import read_model
from notbugs.report.audit import render_audit
from notbugs.report.compare import render_comparison
from notbugs.report.labels import labels_in, labels_section
from notbugs.report.page import render, render_section
from notbugs.report.pictures import read_gallery, read_pictures
from notbugs.report.tune import tune_section
from notbugs.study.auditing import AuditFile
from notbugs.study.compared import Comparison
from notbugs.study.instruments.transfer import TransferFound, transfer_section
from notbugs.study.results import read_results
from notbugs.study.tuning import Tuned


def _report(folder: Path) -> str:
    return render(read_results(folder / "results.json"), read_gallery(folder / "gallery.safetensors"))


def _transfer(folder: Path) -> str:
    found = read_model(folder / "transfer.json", TransferFound, "a transfer", "transfer")
    return render_section(transfer_section(found), "notbugs transfer")


def _tune(folder: Path) -> str:
    found = read_model(folder / "tune.json", Tuned, "a tuning", "tuning")
    return render_section(tune_section(found), "notbugs tune")


def _compare(folder: Path) -> str:
    return render_comparison(read_model(folder / "compare.json", Comparison, "a comparison", "comparison"))


def _audit(folder: Path) -> str:
    labels = labels_in(folder)
    if labels and not (folder / "audit.json").exists():
        audits = {one.name: read_model(one / "audit.json", AuditFile, "an audit", "audit") for one in labels}
        return render_section(labels_section(audits), "notbugs audit")
    found = read_model(folder / "audit.json", AuditFile, "an audit", "audit")
    return render_audit(found, read_pictures(folder / "pictures.safetensors"))


PAGES: dict[str, Callable[[Path], str]] = {
    "report": _report,
    "transfer": _transfer,
    "tune": _tune,
    "compare": _compare,
    "audit": _audit,
}
"""By the name of its file, without `.html`."""
