"""Everything that can be checked of a constructed set on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from notbugs.catalogue import set_folder
from notbugs.classifier import Classifier
from notbugs.construct.builder import fingerprint, starts_of
from notbugs.construct.manifest import (
    COLUMNS,
    Manifest,
    entry_file,
    fault,
    image_count,
    known_entries,
    pooled,
    read_manifest,
    shard_file,
    shard_ranges,
)
from notbugs.construct.storage import HALF_STEP, read_columns
from notbugs.data import Data, Images, Mapped
from notbugs.errors import InputError, in_one_line, must, nearest_path
from notbugs.files import Damaged
from notbugs.given import checked
from notbugs.progress import Progress, silent
from notbugs.threat import l2_norm

CHUNK_BYTES = 2**23  # of float32
NORM_SLACK, ABSOLUTE_SLACK = 1e-5, 1e-6  # of a norm computed in float32, relative, and where it is 0
SUCCESS_SLACK = 1e-3  # share of images that another device, or number of threads, may judge otherwise
BUILD_AGAIN = "Build the set again with the same request: what is damaged is rebuilt, the rest kept."
ANEW = "Delete the folder and build the set again."


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a set.

    Attributes
    ----------
    file : str
        Its name in the folder.
    rule : str
        What must hold.
    found : str
        What does not.
    remedy : str
        What to do.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.relabel(classifier, small, 'set', targets='next', threat=nb.L2(0.5), schedule=nb.search.PGDSteps(2))
    >>> findings = nb.verify('set')
    >>> len(findings)
    0
    """

    file: str
    rule: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file} must {self.rule}. It {self.found}. {self.remedy}"


@checked
def verify(
    folder: str | Path, *, data: Data | None = None, source: Classifier | None = None, progress: Progress = silent
) -> list[Finding]:
    """Check a constructed set: its manifest, every file and every value; with more given, also where it came from.

    Parameters
    ----------
    folder : Path
        Where the set is.
    data : Data, optional
        What it was built from: then every perturbation must lie in the threat model, and labels be those of targets.
    source : Classifier, optional
        What it was built with: then its success on the set must be the recorded one.
    progress : Progress
        Told how many images have been checked.

    Returns
    -------
    list of Finding
        Empty if nothing is wrong.

    Raises
    ------
    InputError
        If `folder` is no constructed set, or `data` or `source` are not those that the manifest names.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.robustify(classifier, small, 'checked', schedule=nb.search.LBFGS(2, reach=0.3))
    >>> nb.verify('checked', data=small, source=classifier)
    []
    """
    folder = set_folder(folder)
    check_folder(folder)
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        remedy = BUILD_AGAIN if isinstance(error, Damaged) else ANEW
        return [Finding("manifest.json", "be readable, of a known schema", f"is not: {error}", remedy)]
    if manifest is None:
        return [Finding("manifest.json", "be there", "is missing", ANEW)]
    check = _Check(folder, manifest, data, source, progress)
    check.refuse_others()
    return [*check.manifest_alone(), *check.shards(), *check.records(), *check.strays()]


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no constructed set, nor what is left of one."""
    if not folder.is_dir():
        raise must("folder", "be the folder of a constructed set", str(folder), nearest_path(folder).strip())
    if not (folder / "manifest.json").exists() and not any(folder.glob("shard-*")):
        raise must("folder", "be that of a constructed set, with a manifest.json", str(folder))


class _Check:
    """One pass over a set; sums and maxima grow with it."""

    def __init__(
        self, folder: Path, manifest: Manifest, data: Data | None, source: Classifier | None, progress: Progress
    ) -> None:
        self.folder, self.manifest, self.data, self.source, self.progress = folder, manifest, data, source, progress
        self.request = manifest["request"]
        self.ranges = shard_ranges(self.request)
        self.entries = known_entries(folder, manifest)
        self.largest = {"l2_norm": 0.0, "linf_norm": 0.0}
        self.hits = self.seen = 0
        self.count = image_count(self.request)
        self.starts = starts_of(self.request, data.train) if data else None

    def refuse_others(self) -> None:
        """The data and the classifier must be those of the set."""
        if self.data is not None:
            _refuse_other("data", self.data.fingerprint, self.request["data"]["fingerprint"])
        if self.source is not None:
            _refuse_other("source", fingerprint(self.source), self.request["source"])

    def manifest_alone(self) -> Iterator[Finding]:
        """What the manifest says of itself."""
        if self.manifest["status"] != "complete":
            done = f"has {len(self.entries)} of {len(self.ranges)} shards"
            yield Finding("manifest.json", "be of a finished set", done, "Build the set again to finish it.")
        elif [entry["file"] for entry in self.manifest["shards"]] != list(map(shard_file, range(len(self.ranges)))):
            listed = f"lists {len(self.manifest['shards'])} shards, or not in order"
            yield Finding("manifest.json", f"list all {len(self.ranges)} shards", listed, BUILD_AGAIN)
        images = sum(entry["images"] for entry in self.entries.values())
        if self.manifest["status"] == "complete" and images != self.count:
            rule = f"count as many images as the request, {self.count}"
            yield Finding("manifest.json", rule, f"counts {images}", BUILD_AGAIN)

    def shards(self) -> Iterator[Finding]:
        """Every shard: its file, and if that is as it was written, its content."""
        for number, (first, last) in enumerate(self.ranges):
            name = shard_file(number)
            wrong = fault(self.folder, self.request, number, self.entries.get(name))
            if wrong == "is not finished" and self.manifest["status"] == "building":
                continue
            if wrong:
                yield Finding(name, "be there, whole, and of this build", wrong, BUILD_AGAIN)
            else:
                yield from self.content(name, last - first)
            self.progress(last, self.count)

    def content(self, name: str, count: int) -> Iterator[Finding]:
        """The columns of one shard, then its images."""
        try:
            pixels = Mapped([self.folder / name], "images")
            columns = read_columns(self.folder / name, COLUMNS[1:])
        except InputError as error:
            yield Finding(name, f"hold {', '.join(COLUMNS)}", f"does not ({in_one_line(error)})", ANEW)
            return
        faults = [*self.shape(pixels, columns, count)] or [*self.columns(columns)] or [*self.images(pixels, columns)]
        yield from (Finding(name, rule, wrong, ANEW) for rule, wrong in faults)

    def shape(self, pixels: Mapped, columns: dict[str, Tensor], count: int) -> Iterator[tuple[str, str]]:
        """Shapes and types as the request says."""
        images = (getattr(torch, self.request["dtype"]), (count, *self.request["data"]["shape"]))
        rules = {"images": images, "loss": (torch.float32, (count,))}
        for name, column in {"images": pixels, **columns}.items():
            dtype, shape = rules.get(name, (torch.int64, (count,)))
            if (column.dtype, tuple(column.shape)) != (dtype, shape):
                yield f"hold {name} of {dtype} {shape}", f"holds {column.dtype} {tuple(column.shape)}"

    def columns(self, columns: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        """Labels are classes, starts are images, targets the one or the other; losses are numbers."""
        classes, images = len(self.request["classes"]), self.request["data"]["images"]
        matched = self.request["targets"] is None
        for name, end in (("labels", classes), ("start", images), ("target", images if matched else classes)):
            low, high = int(columns[name].min()), int(columns[name].max())
            if low < 0 or high >= end:
                yield f"hold {name} between 0 and {end - 1}", f"holds {low if low < 0 else high}"
                return
        if columns["loss"].isnan().any():
            yield "hold losses that are numbers", "holds NaN"
        if not matched and not torch.equal(columns["labels"], columns["target"]):
            yield "hold labels equal to the targets", "holds others"
        if matched and self.data and not torch.equal(columns["labels"], self.data.train.labels[columns["target"]]):
            yield "hold the labels of the target images", "holds others"

    def images(self, pixels: Mapped, columns: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        """Pixels in [0, 1]; perturbations in the threat model, as far as the type stores them; success counted."""
        size = max(1, CHUNK_BYTES // (4 * math.prod(self.request["data"]["shape"])))
        for low in range(0, len(pixels), size):
            part = slice(low, low + size)
            try:
                images, labels = Images(pixels[part], columns["labels"][part]).batch(slice(None))
            except InputError as error:
                yield "hold pixels in [0, 1]", f"does not: {error}"
                return
            self.seen += len(images)
            self.count_hits(images, labels)
            if self.starts and (wrong := self.norms(images - self.starts(columns["start"][part]))):
                yield wrong
                return

    def count_hits(self, images: Tensor, labels: Tensor) -> None:
        """Count the images that the source gives their labels."""
        if self.source is None:
            return
        with torch.no_grad(), self.source.evaluating("fp32"):
            for some, own in zip(images.split(self.request["batch"]), labels.split(self.request["batch"]), strict=True):
                self.hits += int((self.source(some.to(self.source.device)).argmax(1).cpu() == own).sum())

    def norms(self, moved: Tensor) -> tuple[str, str] | None:
        """The largest perturbation so far; what is wrong if it leaves the threat model."""
        norms = {"l2_norm": l2_norm(moved), "linf_norm": moved.flatten(1).abs().amax(1)}
        for name, values in norms.items():
            self.largest[name] = max(self.largest[name], float(values.max()))
        ball, half = self.request["threat"], HALF_STEP[self.request["dtype"]]
        if ball["eps"] is None:
            return None
        rounding = half * (math.sqrt(moved[0].numel()) if ball["norm"] == "l2" else 1)
        if "of" in self.request:  # a control is as long as what its set stored, which was rounded, too
            rounding *= 2
        allowed = ball["eps"] * (1 + NORM_SLACK) + rounding + ABSOLUTE_SLACK
        largest = float(norms[f"{ball['norm']}_norm"].max())
        if largest <= allowed:
            return None
        rule = f"hold perturbations of {ball['norm']} norm at most {ball['eps']:g}, and {rounding:.2g} of rounding"
        return rule, f"holds one of {largest:.6g}"

    def records(self) -> Iterator[Finding]:
        """What the manifest recorded against the shards' own records and what this pass found."""
        shards, stored = self.manifest["shards"], self.manifest["storage"]
        if stored is None or self.seen < self.count:
            return
        if stored != pooled([entry["storage"] for entry in shards], [entry["images"] for entry in shards]):
            yield Finding("manifest.json", "record what its shards record", "records something else", BUILD_AGAIN)
        norms = {"l2_norm": stored["l2_norm"]["max"], "linf_norm": stored["linf_norm"]["max"]}
        for name, recorded in norms.items() if self.data else ():
            if not math.isclose(self.largest[name], recorded, rel_tol=1e-4, abs_tol=1e-6):
                rule = f"record the largest {name}, {self.largest[name]:.6g}"
                yield Finding("manifest.json", rule, f"records {recorded:.6g}", ANEW)
        recorded = round(stored["success_stored"] * self.seen)
        if self.source and abs(self.hits - recorded) > SUCCESS_SLACK * self.seen:
            rule = f"record the success on the source, {self.hits} of {self.seen}"
            yield Finding("manifest.json", rule, f"records {recorded}", ANEW)

    def strays(self) -> Iterator[Finding]:
        """Files that are no part of the set."""
        numbers = range(len(self.ranges))
        known = {"manifest.json", ".lock", *map(shard_file, numbers)}
        if self.manifest["status"] == "building":
            known |= set(map(entry_file, numbers))
        for path in sorted(self.folder.iterdir()):
            if path.name not in known:
                # safetensors, too, writes to a file of its own first: `.tmp` and six letters.
                left = path.name.endswith(".part") or path.name.startswith(("shard-", ".tmp"))
                state = "is left over from a build that was killed" if left else "is no part of it"
                yield Finding(path.name, "be part of the set", state, "Delete it, or move it elsewhere.")


def _refuse_other(name: str, got: str, wanted: str) -> None:
    if got != wanted:
        remedy = "Give the one that it was built with."
        raise must(name, f"be what the set was built with, of hash {wanted[:12]}", got[:12], remedy)
