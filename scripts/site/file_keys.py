"""Every key of the files that notbugs writes, from the types that check them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import TypeAdapter

from notbugs.construct.manifest import Manifest
from notbugs.study.jobs.audit import AuditFile
from notbugs.study.results import Results, json_schema

FILES = {
    "results-json": (
        "results.json",
        Results,
        "What `notbugs run` measured. This page is made from `notbugs.study.json_schema()`.",
    ),
    "audit-json": ("audit.json", AuditFile, "What `notbugs audit` measured."),
    "manifest-json": (
        "manifest.json",
        Manifest,
        "What a constructed set is, in its folder. [Its files in words](../how-to/the-files.md).",
    ),
}

MEANINGS = {
    "value": "the estimate",
    "low": "lower end of its interval",
    "high": "upper end of its interval",
    "n": "how many images it is of",
    "seed": "of all that is random here",
    "test_set": "the images measured: `test`, or `heldout`, taken out of the training images",
    "versions": "of notbugs, Python, torch and the other libraries",
    "device": "that computed",
    "threads": "of the processor that torch used",
    "rows": "one for each classifier, set or pair",
    "classifier": "its name in the study",
    "train_set": "what it was trained on",
    "name": "its name",
    "seconds": "how long it took",
    "norm": "of the threat",
    "feature": "its number",
    "architecture": "its name and options",
    "parameters": "weights of the network",
    "robust": "useful, and gamma surely above 0",
    "nonrobust": "useful, and gamma surely below 0",
    "rho_low": "lower end of rho's interval",
    "rho_high": "upper end of rho's interval",
    "gamma_low": "lower end of gamma's interval",
    "gamma_high": "upper end of gamma's interval",
    "clean": "accuracy on the images as they are",
}
"""Of keys that mean the same wherever they stand, and whose type does not say it."""
OF_OBJECTS = {
    "AgainstExpected.found": "the accuracy that was measured",
    "Area.value": "area under the ROC curve",
    "Area.positives": "images of the rarer class",
    "Area.negatives": "all other images",
    "Carried.start": "of the class, in the start image",
    "Carried.built": "of the class, in the constructed image",
    "Carried.target": "of the class, in images of the new class",
    "CertifiedFeature.high": "upper end of gamma's interval",
    "ControlsResult.weak_epochs": "of the weak classifier that says which images are consistent",
    "CorruptionRow.corruptions": "accuracy under each corruption and severity",
    "CorruptionRow.filters": "accuracy on filtered images, by cut-off",
    "Expectations.compared": "every range that the recipe states, with what was found",
    "GapPart.attack": "of the robust accuracies that are compared; null: clean accuracies",
    "GeneralizationGapResult.places": "the three kinds of images on which the classifier of D_R is attacked",
    "GeneralizationGapResult.parts": "what is lost from one kind of images to the next",
    "GroupCarried.new": "of the new class",
    "GroupCarried.original": "of the original class",
    "LeakRow.leak": "what heads on robust features learn from the set",
    "LeakRow.finding": "whether that is above chance",
    "Measured.usefulness": "rho and gamma of every feature",
    "Measured.shares": "how much of each class an image carries",
    "Measured.leakage": "what robust features alone explain of a relabelled set",
    "Measured.controls": "control sets beside the sets they are of",
    "Measured.generalization_gap": "why the classifier of D_R is less robust than its source",
    "Measured.source_radius": "D_R by sources of growing radius",
    "Measured.frequencies": "accuracy against the cut-off of filters",
    "Measured.transfer": "whose adversarial examples fool whom",
    "Measured.strong_attacks": "stronger attacks, and signs of masked gradients",
    "Measured.spatial": "accuracy under rotations and shifts",
    "Measured.corruptions": "accuracy under corruptions and filters",
    "Measured.priors": "training with human priors",
    "Row.training": "how it was trained",
    "Row.accuracy": "share of test images classified correctly, under the row's attack",
    "Row.seed": "of the study",
    "Seen.share": "the mean over images",
    "SetProperties.folder": "inside the study's folder",
    "SetProperties.kind": "by feature matching, or relabelled",
    "SetProperties.success_source": "images that the source classifies as their new label",
    "SharesRow.found": "the shares themselves",
    "SourceRadiusRow.repeat": "number of the repetition, each with seeds of its own",
    "SpatialRow.accuracy": "by grid, random transformations and gradient search",
    "SpectrumRow.best_class": "the class it is shown for",
    "StrongAttacksResult.paired": "exact tests of each classifier against the standard one",
    "StudyInfo.name": "of the study",
    "StudyInfo.seeds": "the seed of the study",
    "StudyInfo.stages": "every part of the work, with its time",
    "Stage.name": "as in `stages/`",
    "TransferResult.learners": "the architectures that were trained on D_det",
    "TransferResult.matrix": "every source with every classifier",
    "Driver.top_labels": "their classes",
    "Driver.top_values": "their values",
    "Driver.start_label": "its class",
    "Driver.start_value": "its value",
    "Driver.far_radius": "of the larger ball in which the feature was raised",
    "Driver.far_value": "of the start image, after a search in the larger ball",
    "Group.name": "which features: all, the robustly useful, or the useful non-robust",
    "Kept.value": "share of the one accuracy that is left in the other",
    "Verdict.basis": "what the accuracy rests on, in one word",
    "Verdict.sentences": "the verdict in words",
}
"""Of keys of one object, whose type does not say it."""


def pages() -> Iterator[tuple[str, str]]:
    """A page for each file."""
    for slug, (name, kind, about) in FILES.items():
        schema = TypeAdapter(kind).json_schema(by_alias=True)
        if kind is not Manifest:
            schema["properties"]["checksum"] = json_schema()["properties"]["checksum"]
        yield f"reference/{slug}.md", page(name, schema, about)


def page(name: str, schema: dict[str, Any], about: str) -> str:
    """One file's keys: those of the file, then of every object within it."""
    units = "Shares and accuracies are in [0, 1]. Lengths are in pixel units, pixels in [0, 1]. Intervals are of 95 %."
    parts = [f"# {name}", about, units, "## The file", _words(schema), table(schema)]
    for title, one in sorted(schema.get("$defs", {}).items()):
        if "properties" in one:
            parts += [f"## {title}", _words(one), table(one)]
        elif "enum" in one:
            parts += [f"## {title}", "One of " + ", ".join(f"`{value}`" for value in one["enum"]) + "."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(schema: dict[str, Any]) -> str:
    return re.split(r"\n\n\w+\n---", schema.get("description", ""), maxsplit=1)[0]


def _on_this_page(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def table(schema: dict[str, Any], title: str = "key", link: Callable[[str], str] = _on_this_page) -> str:
    """The properties of an object: name, type, meaning; `link` makes the link to an object of another type."""
    rows = [f"| {title} | type | what it is |", "|---|---|---|"]
    required = schema.get("required", [])
    for key, value in schema.get("properties", {}).items():
        known = OF_OBJECTS.get(f"{schema.get('title', '')}.{key}", MEANINGS.get(key, ""))
        about = " ".join((value.get("description") or known).split()).replace("|", "\\|")
        optional = "" if key in required or "default" in value else " May be absent."
        if value.get("default") not in (None, [], {}, "") and not isinstance(value.get("default"), dict | list):
            optional = f" Default: `{value['default']}`."
        rows.append(f"| `{key}` | {kind(value, link)} | {about}{optional} |")
    return "\n".join(rows)


def kind(schema: dict[str, Any], link: Callable[[str], str] = _on_this_page) -> str:
    """The type of a value in words, with a link where it is an object of its own."""

    def named(one: dict[str, Any]) -> str:
        return kind(one, link)

    if "$ref" in schema:
        return link(schema["$ref"].rsplit("/", 1)[1])
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(map(named, schema.get("anyOf", schema.get("oneOf", [])))))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    match schema.get("type"):
        case "array":
            within = schema.get("prefixItems") or [schema.get("items", {})]
            return "list of " + ", ".join(dict.fromkeys(map(named, within)))
        case "object":
            extra = schema.get("additionalProperties")
            return f"object of {named(extra)}" if isinstance(extra, dict) and extra else "object"
        case None:
            return "any"
        case other:
            return str(other)
