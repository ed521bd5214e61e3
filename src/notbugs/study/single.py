"""One step of a study on its own: train a classifier, build a set, measure a classifier, check a set."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from notbugs import workers
from notbugs.catalogue import model_file, set_folder
from notbugs.classifier import Classifier
from notbugs.construct import (
    CONTROLS,
    ConstructedSet,
    Finding,
    Start,
    control,
    mislabel,
    verify,
)
from notbugs.construct.manifest import build_id
from notbugs.construct.verification import check_folder
from notbugs.data import Data, Images
from notbugs.errors import check_choice, must
from notbugs.files import check_writable, only_maker
from notbugs.measure import (
    Accuracy,
    Agreement,
    Outcome,
    SpatialAccuracy,
    autoattack,
    outcomes,
    spatial_accuracy,
)
from notbugs.measure._autoattack import require_autoattack
from notbugs.measure.accuracy import with_areas
from notbugs.measure.several_labels import LabelAccuracies, check_several, evaluate_several
from notbugs.models import load_classifier, save_classifier
from notbugs.models.checkpoint import job_of
from notbugs.networks import code_of
from notbugs.search.compatibility import check_fits
from notbugs.seeds import generator
from notbugs.study.declaration import SMALLEST_STEPS
from notbugs.study.folder import Console, of_study, read_data
from notbugs.study.repeated import check_one_label
from notbugs.study.sections import Architecture, Evaluation, Matching, Model, Relabelling, Source, Storage, Turning
from notbugs.study.sets import EVERY_SET
from notbugs.training import Trained, Training, train

COMMANDS = {declared.command: declared for declared in EVERY_SET}
"""The sets that are searched for, by what the command line calls them; all others are controls."""
SHOWN = 12
"""Names of classes that an error shows."""
if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[*COMMANDS, *CONTROLS, "mislabelled"]


Line = Accuracy | Agreement | SpatialAccuracy | LabelAccuracies | str
"""What a command prints of what it measured."""


class TrainJob(Source, Training):
    """Train one classifier.

    Examples
    --------
    >>> nb.study.TrainJob(data='digits', epochs=3).epochs
    3
    """

    architecture: Architecture = Field(Architecture(), description="Of the classifier.")
    on: Path | None = Field(None, description="A constructed set to train on, in place of the data's training images.")


class BuildJob(Source, Model, Storage):
    """Build one constructed set.

    Examples
    --------
    >>> nb.study.BuildJob(data='digits').relabelling.eps
    0.5
    """

    start: Start = Field("images", description="What searches start from: images, or gaussian or uniform noise.")
    of: Path | None = Field(None, description="The relabelled set that a control is of.")
    weak: Path | None = Field(None, description="A weak classifier: what it predicts is consistent, in leakage.")
    others: tuple[Path, ...] = Field(
        (), description="Classifiers that keep their label or outputs, for bugs, bugs-other and bugs-held."
    )
    features: tuple[int, ...] | None = Field(
        None, description="Numbers of those matched, for half-robust and the like."
    )
    cutoff: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Cycles per image, for rand-low and the like; half if not given."
    )
    matching: Matching = Field(Matching(), description="Feature matching: D_R and D_NR.")
    relabelling: Relabelling = Field(Relabelling(), description="The search of relabelled sets.")


class EvaluateJob(Source, Model, Evaluation):
    """Measure one classifier.

    Examples
    --------
    >>> nb.study.EvaluateJob(radii=(0.5,)).threats
    (L2(eps=0.5),)
    """

    autoattack: bool = Field(False, description="Run AutoAttack, too, at every radius; it needs notbugs[autoattack].")
    autoattack_images: int | None = Field(None, ge=1, description="Test images for AutoAttack, at random; else all.")
    keep: Path | None = Field(None, description="A folder in which AutoAttack keeps its outcomes, to go on from there.")
    spatial: Turning | None = Field(None, description="Measures under rotations and shifts, too, where present.")


class VerifyJob(Source, Model):
    """Check one constructed set.

    Examples
    --------
    >>> nb.study.VerifyJob().data is None
    True
    """

    data: str | None = Field(None, description="What the set was built from, to check perturbations and labels.")  # pyrefly: ignore
    model: Path | None = Field(None, description="What it was built with, to check its recorded success.")


def train_one(job: TrainJob, out: Path, console: Console) -> list[Line]:
    """Train a classifier, write it to `out`, and return its clean accuracy on the test images, of several labels each.

    The same job again continues one that was stopped, at the last epoch it finished; one that is done is only
    measured again.

    Raises
    ------
    InputError
        Before any work: if `out` is there already, of another job, or cannot be written, another process is training
        it, or the data or the network break a rule.
    """
    if job.compile and job.adversary:
        rule, remedy = "be left out of adversarial training, which is never compiled", "Leave out --compile."
        raise must("compile", rule, True, remedy)
    if out.suffix != ".safetensors":
        raise must("out", "end in .safetensors", str(out))
    check_writable(out.with_suffix(""))
    job.architecture.check()
    on = ConstructedSet(job.on) if job.on else None
    data = read_data(job, console)
    if not data.train.has_several:
        check_one_label(data)
    images = on.images if on else data.train
    if images.shape != data.train.shape:
        raise must("on", f"hold images of the data's shape, {data.train.shape}", images.shape)
    if on:
        _check_same_classes(on, data)
    classifier = job.architecture.new(data, job.seed, job)
    if images.has_several:
        check_several(classifier, images)
    else:
        check_fits(classifier, images, len(data.classes))
    # Other settings, another checkpoint: what is not finished is never taken up with other settings.
    held = build_id(on.manifest["request"]) if on else ""  # what a set holds, not only where it is
    code = code_of(classifier.network)  # a user's own may have changed since
    digest = hashlib.sha256((repr(job.model_dump()) + data.fingerprint + held + code).encode()).hexdigest()[:16]
    with only_maker(out) if workers.rank() == 0 else nullcontext():
        if os.path.lexists(out) and (not out.exists() or job_of(out) != digest):
            raise must("out", "not be there yet", str(out), "Name another, or delete it.")
        workers.barrier()  # no worker may finish the file before all have looked
        if out.exists():
            console.say(f"{out} is done: the same command trained it.")
            classifier = load_classifier(out, architecture=job.architecture.name).to(classifier.device)
        else:
            _train_into(out, classifier, images, job, digest, data, console)
        if data.test.has_several:
            return list(evaluate_several(classifier, data.test, data.classes))
        measured = outcomes(classifier, data.test, doubted=on is None)  # of a set, an accuracy at guessing is a result
        return list(with_areas([outcome.accuracy for outcome in measured], classifier, data.test))


def _check_same_classes(on: ConstructedSet, data: Data) -> None:
    """Refuse a set whose labels are numbers of other classes than those of the data that are measured on."""
    there, here = on.manifest["request"]["classes"], list(data.classes)
    if there == here:
        return
    remedy = f"Give --data as it was when the set was built, of {on.manifest['request']['data']['name']}."
    if sorted(there) == sorted(here) and not data.several:
        named = there if len(there) <= SHOWN else ["FILE"]
        remedy = f"Give the data's classes in the order of the set: --classes {shlex.join(named)}."
        remedy += "" if len(there) <= SHOWN else " The file has their names in this order, one on each line."
    there, here = (", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN) for names in (there, here))
    raise must("on", f"be a set of the data's classes in their order, {here}", there, remedy)


def _train_into(
    out: Path, classifier: Classifier, images: Images, job: TrainJob, digest: str, data: Data, console: Console
) -> None:
    """Train, and write the file; its checkpoint goes when the file is there."""
    checkpoint = out.with_name(f".{digest}.unfinished.safetensors")
    settings = Training(**{name: getattr(job, name) for name in Training.model_fields})
    told: list[Trained] = []
    with console.stage(f"train {job.architecture.name}") as progress:
        train(
            classifier,
            images,
            settings,
            seed=job.seed,
            checkpoint=checkpoint,
            keep=True,
            told=told.append,
            progress=progress,
        )
    if settings.patience:
        console.say(f"Early stopping: {told[0]}")
    if workers.rank() == 0:
        save_classifier(out, classifier, job.architecture.blueprint(data), job=digest)
        checkpoint.unlink(missing_ok=True)
    workers.barrier()


def build_one(kind: Kind, model: Path, job: BuildJob, out: Path, console: Console) -> ConstructedSet:
    """Build a constructed set in the folder `out`, or what is left of it.

    Parameters
    ----------
    kind : str
        `robust` or `nonrobust`: feature matching, from a robust or a standard classifier. `rand`, `rand-other`,
        `rand-min` or `det`: relabelled, with targets `any`, `other`, the same by the smallest perturbation, or
        `next`. `leakage`, `random` or `labels`: a control of the set
        `job.of`. `mislabelled`: the images that the source gets wrong. Others, as `bugs`, are those of
        `study.sets.FURTHER`.
    model : Path
        The source.

    Raises
    ------
    InputError
        Before any work: if the data, the model or the folder break a rule.
    """
    check_choice("kind", kind, (*COMMANDS, *CONTROLS, "mislabelled"))
    if (job.of is not None) != (kind in CONTROLS):
        rule = f"be given for {', '.join(CONTROLS)}, and for nothing else"
        raise must("of", rule, f"{kind} with {job.of}", "Name the folder of a relabelled set with --of.")
    _check_used(kind, job)
    check_writable(out)
    job, model = of_study(job, model), model_file(model)
    others_files = [model_file(file) for file in job.others]
    job.check(model, job.weak, *others_files)
    of = ConstructedSet(job.of) if job.of else None
    data = read_data(job, console)
    source = job.load(model, data, job)
    others = [job.needed_by(file).load(file, data, job) for file in others_files]
    with console.stage(f"build {kind}") as progress:
        if of and kind in CONTROLS:
            weak = job.load(job.weak, data, job) if job.weak else None
            return control(source, data, out, of=of, kind=kind, weak=weak, seed=job.seed, progress=progress)
        if kind == "mislabelled":
            return mislabel(source, data, out, dtype=job.dtype, batch=job.batch, progress=progress)
        return COMMANDS[kind].build(
            source,
            data,
            out,
            matching=job.matching,
            relabelling=job.relabelling,
            start=None if job.start == "images" else job.start,
            others=others,
            features=job.features,
            cutoff=job.cutoff,
            dtype=job.dtype,
            batch=job.batch,
            seed=job.seed,
            progress=progress,
        )


SPECIAL = ("matching", "relabelling", "start", "weak", "others", "features", "cutoff", "dtype", "batch")
"""Settings of a build that some kinds have no use for."""
FLAGS = {"matching": "every --matching option", "relabelling": "--threat and every --relabelling option"}


def _check_used(kind: Kind, job: BuildJob) -> None:
    """Refuse what was given though this kind has no use for it: it would do nothing."""
    declared = COMMANDS.get(kind)
    if declared is None:
        used = {"leakage": {"weak"}, "mislabelled": {"dtype", "batch"}}.get(kind, set())
    else:
        used = {"dtype", "batch", "others", "features", "cutoff"}  # of three, the set itself says what it takes
        used |= {"matching" if declared.targets is None else "relabelling"}
        used |= {"start"} if declared.start == "images" else set()
    for name in SPECIAL:
        if name in job.model_fields_set and name not in used:
            got = job.model_dump(mode="json", exclude_unset=True)[name]
            raise must(
                name,
                f"be left out for {kind}, which has no use for it",
                got,
                f"Leave out {FLAGS.get(name, f'--{name}')}.",
            )
    if declared and declared.smallest and job.relabelling.method != "minimum-norm":
        given = job.relabelling.model_fields_set - {"method", "norm"}
        if given - {"steps"}:
            name = min(given - {"steps"})
            raise must(
                f"relabelling.{name}",
                f"be left out for {kind}, whose perturbations are the smallest and free",
                getattr(job.relabelling, name),
                "Give --relabelling.norm for the norm, in place of --threat." if name == "eps" else "Leave it out.",
            )
        if "steps" in given and job.relabelling.steps < SMALLEST_STEPS:
            rule = f"be at least {SMALLEST_STEPS} for {kind}"
            raise must("relabelling.steps", rule, job.relabelling.steps)


def evaluate_one(model: Path, job: EvaluateJob, console: Console) -> list[Line]:
    """Clean and robust accuracy of the classifier in `model` on the test images.

    With `job.autoattack`, each robust accuracy is followed by its agreement with AutoAttack's; with
    `job.spatial`, the accuracy under rotations and shifts comes last. With several labels for an image, accuracies are
    of each and of all; for the others, one label must be chosen.

    Raises
    ------
    InputError
        Before any work: if the data or the model break a rule, one label must be chosen, or AutoAttack is missing.
    """
    for name in ("keep", "autoattack_images"):
        if getattr(job, name) is not None and not job.autoattack:
            raise must(name, "be given with AutoAttack alone", getattr(job, name), "Add --autoattack, or leave it out.")
    if job.keep:
        check_writable(job.keep, "keep")
    if job.autoattack:
        require_autoattack()
    job, model = of_study(job, model), model_file(model)
    job.check(model)
    data = read_data(job, console)
    several = data.test.has_several
    if several and (job.autoattack or job.spatial):
        rule = f"be one of {', '.join(data.classes)} for AutoAttack, rotations and shifts"
        raise must("label", rule, job.label, "Name it with --label.")
    classifier = job.load(model, data, job)
    with console.stage("measure") as progress:
        if several:
            return list(
                evaluate_several(
                    classifier,
                    data.test,
                    data.classes,
                    threats=job.threats,
                    attack=job.attack,
                    seed=job.seed,
                    progress=progress,
                )
            )
        measured = outcomes(classifier, data.test, job.threats, attack=job.attack, seed=job.seed, progress=progress)
        accuracies = with_areas([outcome.accuracy for outcome in measured], classifier, data.test)
    lines: list[Line] = []
    for outcome, accuracy in zip(measured, accuracies, strict=True):
        lines += [accuracy, *_agreement(classifier, data, outcome, job, console)]
    if job.spatial:
        with console.stage("turn and move the images") as progress:
            lines.append(spatial_accuracy(classifier, data.test, job.spatial.threat, seed=job.seed, progress=progress))
    return lines


def _agreement(
    classifier: Classifier, data: Data, pgd: Outcome, job: EvaluateJob, console: Console
) -> Iterator[Agreement]:
    """With AutoAttack on the same images, where it is asked for and there is something to attack."""
    if job.autoattack and pgd.attack and pgd.attack.eps:
        order = torch.randperm(len(data.test), generator=generator(job.seed, "autoattack"))
        index = order[: job.autoattack_images].sort().values
        with console.stage(f"AutoAttack, {pgd.attack.norm} {pgd.attack.eps:g}") as progress:
            other = autoattack(
                classifier, data.test.subset(index), pgd.attack.threat, seed=job.seed, keep=job.keep, progress=progress
            )
        yield Agreement.of(pgd.subset(index), other)


def verify_one(folder: Path, job: VerifyJob, console: Console) -> list[Finding]:
    """What is wrong with a constructed set; see `construct.verify`."""
    alone = () if job.model else tuple(Model.model_fields)
    alone += () if job.model or job.data else tuple(Source.model_fields)
    for name in (name for name in alone if name in job.model_fields_set and name not in {"data", "model"}):
        needed = "--model" if name in Model.model_fields else "--data"
        rule = f"be given with the {needed.removeprefix('--')} that it is of"
        raise must(name, rule, getattr(job, name), f"Add {needed}, or leave it out.")
    job = of_study(job, job.model)
    if job.model and job.data is None:
        raise must("data", "be given with a model", None)
    check_folder(set_folder(folder))
    job.check(job.model)
    data = read_data(job, console) if job.data else None
    source = job.load(job.model, data, job) if job.model and data else None
    with console.stage("verify") as progress:
        return verify(folder, data=data, source=source, progress=progress)
