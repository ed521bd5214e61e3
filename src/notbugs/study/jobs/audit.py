"""`notbugs audit`: the audit of one model, in a folder where every part of it is kept."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator
from rich.table import Table

from notbugs.catalogue import model_file
from notbugs.data import Data
from notbugs.errors import must
from notbugs.files import check_links, check_writable
from notbugs.formats import compact
from notbugs.given import checked
from notbugs.measure import Proportion
from notbugs.measure._audit import PARTS, audit
from notbugs.measure.audit_result import NAMES, Audit
from notbugs.models import digest
from notbugs.models.foreign import output_names
from notbugs.networks import code_of
from notbugs.records import WholeFile, read_model, write_model
from notbugs.search import Attack
from notbugs.search.compatibility import check_fits
from notbugs.study.folder import Console, StudyFolder, of_study, read_data
from notbugs.study.machine import surroundings
from notbugs.study.repeated import check_one_label, for_labels
from notbugs.study.sections import Model, Source
from notbugs.study.written import JobClaim
from notbugs.threat import Threat, threat

ARCHITECTURE = {"architecture": "arch", "options": "arch"}
"""Settings that have another name on the command line."""


class AuditJob(Source, Model):
    """Audit one classifier.

    Examples
    --------
    >>> nb.study.AuditJob(threat='linf:0.03').threat
    'linf:0.03'
    """

    threat: str = Field("l2:0.5", description="Norm and radius in pixel units, as l2:0.5 or linf:0.03.")
    images: int = Field(50, ge=2, description="Test images searched to sort the features; most of the time goes here.")
    measured: int = Field(1000, ge=2, description="Test images that measure accuracies; as many others sort features.")
    fit_images: int = Field(20_000, ge=2, description="Training images at most, for the refitted heads.")
    attack: Attack = Field(Attack(), description="Whose robust accuracy counts.")

    @field_validator("threat")
    @classmethod
    def _is_threat(cls, text: str) -> str:
        read_threat(text)
        return text


class AuditFile(WholeFile):
    """The whole of `audit.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(default=1, alias="schema", description="version of this form")
    created: str = Field(description="ISO 8601, UTC")
    model: str = Field(description="name of the file")
    sha256: str = Field(description="of the file")
    outputs: str = Field("", description="what the network's outputs are, and what of them is attacked")
    command: str = Field(description="repeats the audit")
    settings: dict[str, Any] = Field(description="every option, defaults included")
    data: dict[str, Any] = Field(
        description="name, variant, classes, shape (channel, height, width), train and test (counts), fingerprint"
    )
    test_set: str = Field(description="'test' (untouched) or 'heldout' (taken out of the training images)")
    versions: dict[str, str] = Field(description="of notbugs, Python, torch and others")
    device: str = Field(description="that computed")
    threads: int = Field(description="of the processor")
    seconds: dict[str, float] = Field(description="of every part")
    audit: Audit = Field(description="what was measured")


@checked
def audit_one(model: Path, job: AuditJob, out: Path, console: Console, data: Data | None = None) -> AuditFile:
    """Audit the classifier in `model`; write `audit.json` and `pictures.safetensors` to the folder `out`.

    `data` are those that the job names, where they were read before.

    Every part is kept when it ends: the same job again goes on after the last of them.

    Raises
    ------
    InputError
        Before any work: if the threat, the data, the model or the folder break a rule, or the folder holds another
        audit.
    """
    job, model = of_study(job, model), model_file(model)
    ball = read_threat(job.threat)
    check_writable(out)
    check_links(out)
    job.check(model)
    data = data or read_data(job, console)
    check_one_label(data)
    classifier = job.load(model, data, job)
    check_fits(classifier, data.train, len(data.classes), features=True)  # before the folder is this audit's
    folder = StudyFolder(out, console, stages=PARTS)
    # Hashes, for a path may hold another model, other images, names or code tomorrow.
    sha256 = digest(model)
    wanted = job.model_dump(mode="json") | {"model": sha256, "data": data.fingerprint}
    if names := output_names(job.outputs):
        wanted["outputs"] = names
    if code := code_of(classifier.network):
        wanted["code"] = code
    with folder.claimed(JobClaim("audit", wanted, surroundings(job.data, data, classifier.device))) as about:
        measured = audit(
            classifier,
            data,
            ball,
            images=job.images,
            measured=job.measured,
            fit_images=job.fit_images,
            attack=job.attack,
            seed=job.seed,
            pictures=out / "pictures.safetensors",
            stage=folder.stage,
        )
        written = AuditFile(
            created=about["created"],
            data={**about["data"]},
            versions=about["versions"],
            device=about["device"],
            threads=about["threads"],
            model=model.name,
            sha256=sha256,
            outputs=str(classifier.meaning or ""),
            command=command(model, job),
            settings=job.model_dump(mode="json"),
            test_set=data.test_name,
            seconds={name: done["seconds"] for name, done in folder.done.items()},
            audit=measured,
        )
        write_model(out / "audit.json", written)
    return written


def audit_labels(model: Path, job: AuditJob, out: Path, console: Console) -> Iterator[tuple[Path, AuditFile]]:
    """Audit the classifier in `model`; of several labels and none chosen, for each of them, in `out/label-NAME`.

    Yields the folder and the audit of each that is finished.
    """

    job, model = of_study(job, model), model_file(model)

    def work(label: str | None, folder: Path, data: Data | None) -> AuditFile:
        chosen = job if label is None else job.model_copy(update={"label": label})
        return audit_one(model, chosen, folder, console, data)

    yield from for_labels(work, out, console)


def read_threat(text: str) -> Threat:
    """The threat model in `text`: a norm, a colon, a radius in pixel units.

    Raises
    ------
    InputError
        If it has another form, the norm is unknown, or the radius is not a number above 0.

    Examples
    --------
    >>> read_threat("l2:0.5")
    L2(eps=0.5)
    """
    norm, _, radius = text.partition(":")
    try:
        ball = threat(norm, float(radius))
        if not 0 < ball.eps < float("inf"):
            raise ValueError
    except ValueError:
        rule = "be a norm, l2 or linf, a colon, and a radius above 0 in pixel units, pixels in [0, 1]"
        raise must("threat", rule, text, "For instance l2:0.5, or linf:0.03.") from None
    return ball


def command(model: Path, job: AuditJob) -> str:
    """The command that repeats the audit of `model` into a new folder."""
    words = ["notbugs", "audit", str(model)]
    settings = {"data": job.data, "threat": job.threat} | job.model_dump(mode="json", exclude_defaults=True)
    if job.jpeg:  # by default there is none, so the defaults of one are to be said
        settings["jpeg"] = job.jpeg.model_dump(mode="json")
    for name, value in settings.items():
        words += _option(f"--{ARCHITECTURE.get(name, name).replace('_', '-')}", value)
    return shlex.join([*words, "--out", "NEW_FOLDER"])


def _option(name: str, value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield name if value else name.replace("--", "--no-", 1)
    elif isinstance(value, dict):
        for key, own in value.items():
            yield from (f"{name}.{key}", own if isinstance(own, str) else json.dumps(own))
    else:
        yield name
        yield from map(str, value) if isinstance(value, list) else (str(value),)


def audit_table(audited: Audit) -> Table:
    """The accuracies of an audit as a table to print, in per cent with their intervals."""
    table = Table(box=None, pad_edge=False)
    table.add_column("features used" if audited.score == "accuracy" else "balanced accuracy", no_wrap=True)
    for item in audited.model:
        table.add_column(str(item).split(":")[0], justify="right", no_wrap=True)
    table.add_row("the model", *(_cell(item.by(audited.score)) for item in audited.model))
    for group in audited.groups:
        table.add_row(
            f"{NAMES[group.name]}\n{group.features} features",
            *(_cell(item.by(audited.score)) for item in group.accuracies),
        )
    for name, accuracies in (
        ("the model", audited.model),
        *((NAMES[each.name], each.accuracies) for each in audited.groups),
    ):
        if audited.score != "accuracy" and name == "the model":
            table.add_row("the model,\naccuracy", *(_cell(item.share) for item in accuracies))
        if any(item.area for item in accuracies):
            table.add_row(f"{name},\nAUC", *(_cell(item.area.share) if item.area else "" for item in accuracies))
    return table


def _cell(share: Proportion) -> str:
    return compact(share, "%\n")


def page(folder: Path) -> str:
    """`audit.html`, from `audit.json` and, where they are, `pictures.safetensors`; or the page over several labels."""
    from notbugs.report.audit import labels_in, labels_section, render_audit
    from notbugs.report.pictures import read_pictures
    from notbugs.report.shell import render_section

    labels = labels_in(folder)
    if labels and not (folder / "audit.json").exists():
        audits = {one.name: read_model(one / "audit.json", AuditFile, "an audit", "audit") for one in labels}
        return render_section(labels_section(audits), "notbugs audit")
    audited = read_model(folder / "audit.json", AuditFile, "an audit", "audit")
    return render_audit(audited, read_pictures(folder / "pictures.safetensors"))
