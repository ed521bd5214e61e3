"""`notbugs transfer`: from one source to a matrix, and to the paper's Figures 3 and 13."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from notbugs.catalogue import model_file
from notbugs.classifier import Classifier
from notbugs.errors import must
from notbugs.files import check_writable
from notbugs.progress import Progress, Stage
from notbugs.records import read_model, write_model
from notbugs.search.compatibility import check_fits
from notbugs.seeds import derive
from notbugs.study.folder import Console, StudyFolder, of_study, read_data
from notbugs.study.instruments import Instruments
from notbugs.study.instruments.transfer import (
    Pair,
    TransferInstrument,
    TransferResult,
    TransferSettings,
    architectures,
    measured,
    trained_pairs,
    transfer_section,
)
from notbugs.study.machine import find_device, surroundings
from notbugs.study.recipe import Recipe
from notbugs.study.runner import Runner
from notbugs.study.sections import Model, Relabelling, Source
from notbugs.study.sets import BY_NAME
from notbugs.study.written import StudyClaim
from notbugs.threat import check_radii
from notbugs.training import Adversary, Training
from notbugs.training.loop import check_training

T = TypeVar("T")


class TransferJob(Source, Model, TransferSettings):
    """Everything that decides the numbers.

    Examples
    --------
    >>> job = nb.study.TransferJob(data='digits')
    """

    standard: Training = Field(Training(), description="Of the classifiers on D.")
    constructed: Training = Field(Training(), description="Of the classifiers on D_det.")
    relabelling: Relabelling = Field(Relabelling(), description="The search of D_det.")

    def recipe(self, *, with_architectures: bool) -> Recipe:
        """The same as a recipe; without architectures nothing is trained.

        The instrument stays off: of one that is off, settings may change from run to run in one folder.
        """
        shared = {
            name: getattr(self, name) for name in (*Source.model_fields, "standard", "constructed", "relabelling")
        }
        transfer = {name: getattr(self, name) for name in TransferSettings.model_fields}
        if not with_architectures:
            transfer["architectures"] = ()
        shared["robust"] = Training(adversary=Adversary())  # every recipe has one; it is not trained here
        return Recipe(name="transfer", **shared, instruments=Instruments.model_validate({"transfer": transfer}))


def transfer_one(source: Path, others: Sequence[Path], job: TransferJob, out: Path, console: Console) -> TransferResult:
    """Train every architecture on D_det of the source and on D, attack, and write `transfer.json` into `out`.

    The same job again continues one that was stopped: D_det and every classifier are kept in `out`; what is
    measured is measured again.

    Parameters
    ----------
    source : Path
        The classifier whose adversarial examples are shown to the others; D_det is built with it.
    others : sequence of Path
        More classifiers for the matrix. Where there are any, architectures are trained only if the job names them.

    Raises
    ------
    InputError
        Before any work: if the data, a classifier or the folder break a rule.
    """
    job = of_study(job, source)
    source, others = model_file(source), [model_file(other) for other in others]
    check_writable(out)
    recipe = job.recipe(with_architectures=not others or "architectures" in job.model_fields_set)
    files = _by_name([source, *others], recipe.instruments.transfer.architectures)
    models = {name: job.needed_by(file) if len(files) > 1 else job for name, file in files.items()}
    for name, file in files.items():
        models[name].check(file)
    data = read_data(recipe, console)
    classifiers = {name: models[name].load(file, data, job) for name, file in files.items()}
    for classifier in classifiers.values():
        check_fits(classifier, data.train, len(data.classes))
    device = find_device(recipe.device)
    folder = StudyFolder(out, console, stages=0)
    runner = Runner(recipe, data, folder, device)
    _check(runner)
    code = recipe.own_code(data, *architectures(runner).values())
    with folder.claimed(StudyClaim(recipe, surroundings(recipe.data, data, device, code))):
        pairs = _pairs(runner, classifiers[source.stem])
        result = measured(runner, source.stem, pairs, classifiers, _again(console))
        write_model(out / "transfer.json", result)
    return result


def _by_name(files: Sequence[Path], taken: Sequence[str]) -> dict[str, Path]:
    """The files by their names without the ending, which the table shows."""
    named = {file.stem: file for file in files}
    if len(named) < len(files) or set(named) & set(taken):
        rule = "have different names, none that of an architecture"
        raise must("models", rule, [str(file) for file in files], "Rename one: the table shows them by name.")
    return named


def _check(runner: Runner) -> None:
    """Refuse what a later stage would refuse, before any training."""
    TransferInstrument().check(runner)
    if architectures(runner):
        for settings in (runner.recipe.standard, runner.recipe.constructed):
            check_training(settings, runner.data.train)
        check_radii([runner.recipe.relabelling.threat], runner.data.train.shape)


def _pairs(runner: Runner, source: Classifier) -> list[Pair]:
    """Every architecture, trained on D and on the D_det of `source`."""
    if not architectures(runner):
        return []
    folder = runner.folder.path / "sets" / "D_det"
    with runner.folder.console.stage("build D_det") as progress:  # not kept as a stage: another source must be refused
        built = BY_NAME["D_det"].build(
            source,
            runner.data,
            folder,
            matching=runner.recipe.matching,
            relabelling=runner.recipe.relabelling,
            seed=derive(runner.seed, "set", "D_det"),
            progress=progress,
        )
    return trained_pairs(runner, built.images)


def _again(console: Console) -> Stage:
    """Does a stage whether or not it was done before: the files may be others now."""

    def at_once(_: str, title: str, work: Callable[[Progress], T], /, *, kind: type[T]) -> T:
        with console.stage(title) as progress:
            return work(progress)

    return at_once


def page(folder: Path) -> str:
    """`transfer.html`, from `transfer.json` alone."""
    from notbugs.report.shell import render_section

    result = read_model(folder / "transfer.json", TransferResult, "a transfer", "transfer")
    return render_section(transfer_section(result), "notbugs transfer")
