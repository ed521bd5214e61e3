"""`notbugs tune`: how much what is learned from a constructed set depends on learning rate and architecture."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet
from notbugs.content import Figure, Section, Table
from notbugs.data import Data, Images
from notbugs.errors import must, nearest_path
from notbugs.files import check_links, check_writable
from notbugs.formats import counted, percent, said
from notbugs.measure import Proportion, evaluate
from notbugs.measure.statistics import compare
from notbugs.models.registry import is_own_code
from notbugs.progress import Progress
from notbugs.records import Record, WholeFile, read_model, write_model
from notbugs.search.compatibility import check_fits
from notbugs.seeds import derive
from notbugs.study.folder import Console, StudyFolder, read_data
from notbugs.study.machine import find_device, surroundings
from notbugs.study.recipe import Recipe, code_in_file
from notbugs.study.sections import Architecture
from notbugs.study.sets import Constructed
from notbugs.study.written import StudyClaim, read_own_recipe
from notbugs.training import Training, train
from notbugs.training.loop import Diverged


class TuneJob(Record):
    """What is tried: every combination.

    Examples
    --------
    >>> nb.study.TuneJob().sets
    ('D_rand', 'D_det')
    """

    sets: tuple[Constructed, ...] = Field(
        ("D_rand", "D_det"), min_length=1, description="Of the study, each on its own."
    )
    learning_rates: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        (0.01, 0.03, 0.1, 0.3), min_length=1, description="Largest learning rates."
    )
    architectures: tuple[str, ...] = Field(
        (), description="A name and options, as 'cnn width=8 stride=2'; the study's own if not given."
    )
    epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Passes over the data; the study's own if not given."
    )
    heldout: float = Field(0.2, gt=0, lt=1, description="Share of each set that is held out to choose by.")


class Point(Record):
    """One classifier, trained on what is not held out of a set."""

    train_set: Constructed
    architecture: str
    epochs: int
    lr: float
    heldout: Proportion | None = Field(description="accuracy on what is held out, the set's labels; null: it diverged")
    test: Proportion | None = Field(description="accuracy on the untouched test images, true labels")
    seconds: float

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.architecture}, learning rate {self.lr:g}, {counted(self.epochs, 'epoch')}"


class Tuned(WholeFile, Record):
    """The whole of `tune.json`: what was tried, in the order of `sets`."""

    study: str
    data: str
    test_set: str
    seed: int
    share: float = Field(description="of each set that was held out")
    points: list[Point]

    @property
    def sets(self) -> list[str]:
        """Which sets."""
        return list(dict.fromkeys(point.train_set for point in self.points))

    def of(self, name: str) -> list[Point]:
        """The points of one set."""
        return [point for point in self.points if point.train_set == name]

    def chosen(self, name: str) -> Point | None:
        """The point that is most accurate on what was held out of a set; of equal ones the first."""
        return max(self._measured(name), key=lambda at: _value(at.heldout), default=None)

    def best(self, name: str) -> Point | None:
        """The point that is most accurate on the test images, which nothing may be chosen by."""
        return max(self._measured(name), key=lambda at: _value(at.test), default=None)

    def _measured(self, name: str) -> list[Point]:
        return [at for at in self.of(name) if at.heldout]

    def lines(self) -> Iterator[str]:
        """For a terminal: every point, and which one the held-out split chooses."""
        for name in self.sets:
            for at in self.of(name):
                mark = " <- chosen by the held-out split" if at is self.chosen(name) else ""
                shares = f"held out {at.heldout}, test {at.test}" if at.heldout else "diverged"
                yield f"{name}, {at}: {shares}{mark}"


def _value(share: Proportion | None) -> float:
    return share.value if share else 0.0


def tune(study: Path, job: TuneJob, console: Console) -> Tuned:
    """Try every combination on sets of a study that was run, and write `tune/tune.json` into its folder.

    A part of each set is held out, with the set's own labels, to choose by; the test images are only looked at. Every
    classifier has the same initial weights and order of images. The same job again continues one that was stopped,
    and further learning rates or architectures add to what is there.

    Parameters
    ----------
    study : Path
        The folder of a study whose sets are built.

    Raises
    ------
    InputError
        Before any work: if the folder holds no such study, or an architecture does not fit the images.
    """
    out = study / "tune"
    check_writable(out, "study", "copy the study to where you may write")
    architectures = [Architecture.parse(text).check() for text in job.architectures]
    recipe, sets = _read_study(study, job)
    data = read_data(recipe, console)
    trials = [
        (name, *trial)
        for name in dict.fromkeys(job.sets)
        for trial in itertools.product(
            architectures or [recipe.network(name)], job.epochs or (None,), sorted(set(job.learning_rates))
        )
    ]
    for architecture in {str(architecture): architecture for _, architecture, *_ in trials}.values():
        check_fits(architecture.new(data, recipe.seed, recipe), data.train, len(data.classes))
    folder = StudyFolder(out, console, stages=len(trials))
    code = recipe.own_code(data, *architectures)
    with folder.claimed(StudyClaim(recipe, surroundings(recipe.data, data, find_device(recipe.device), code))):
        splits = {
            name: replace(data, train=built.images).hold_out(job.heldout, recipe.seed) for name, built in sets.items()
        }
        points = [
            _tried(
                folder, recipe, data, splits[name], name, architecture, _settings(recipe, name, epochs, lr), job.heldout
            )
            for name, architecture, epochs, lr in trials
        ]
        tuned = Tuned(
            study=recipe.name,
            data=data.title,
            test_set=data.test_name,
            seed=recipe.seed,
            share=job.heldout,
            points=points,
        )
        write_model(out / "tune.json", tuned)
    return tuned


def _read_study(folder: Path, job: TuneJob) -> tuple[Recipe, dict[str, ConstructedSet]]:
    check_links(folder)
    try:
        recipe = read_own_recipe(folder)
    except (FileNotFoundError, NotADirectoryError):
        remedy = f"Run one with `notbugs run`.{nearest_path(folder)}"
        raise must("folder", "be of a study that was run", str(folder), remedy) from None
    if not job.architectures and is_own_code(recipe.architecture.name):
        raise code_in_file(folder / "recipe.toml", "--architectures", str(recipe.architecture))
    return recipe, {name: ConstructedSet(folder / "sets" / name) for name in job.sets}


def _settings(recipe: Recipe, train_set: str, epochs: int | None, lr: float) -> Training:
    training = recipe.training(train_set)
    return training.model_copy(update={"epochs": epochs or training.epochs, "lr": lr})


class Trial(TypedDict):
    """What a stage keeps of one classifier: of `Point`, what was measured."""

    heldout: Proportion | None
    test: Proportion | None
    seconds: float


def _tried(
    folder: StudyFolder,
    recipe: Recipe,
    data: Data,
    split: Data,
    train_set: Constructed,
    architecture: Architecture,
    settings: Training,
    share: float,
) -> Point:
    """Train once and measure twice; kept as a stage, without the weights."""
    at = f"{train_set} {architecture} epochs={settings.epochs} lr={settings.lr:g}"
    name = re.sub(r"[^\w.=-]+", "_", f"{at} heldout={share:g}")

    checkpoint = folder.path / f"{name}.unfinished.safetensors"

    def work(progress: Progress) -> Trial:
        began = time.monotonic()
        classifier = architecture.new(data, derive(recipe.seed, "init", "tune"), recipe)
        seed = derive(recipe.seed, "train", "tune")
        try:
            train(classifier, split.train, settings, seed=seed, checkpoint=checkpoint, keep=True, progress=progress)
        except Diverged:
            heldout = test = None
        else:
            heldout, test = _accuracy(classifier, split.test), _accuracy(classifier, data.test)
        return {"heldout": heldout, "test": test, "seconds": round(time.monotonic() - began, 2)}

    trial = folder.stage(name, at, work, kind=Trial)
    checkpoint.unlink(missing_ok=True)  # not before the stage is on disk
    return Point(train_set=train_set, architecture=str(architecture), epochs=settings.epochs, lr=settings.lr, **trial)


def _accuracy(classifier: Classifier, images: Images) -> Proportion:
    return evaluate(classifier, images, doubted=False)[0].share


WIDTHS = (520, 250)


def tune_section(tuned: Tuned) -> Section:
    """Every point, with the one that the held-out split chooses."""
    from notbugs.report.section_charts import against_rate

    kept, out = percent(1 - tuned.share), percent(tuned.share)
    return Section(
        name="tune",
        title=f"What {tuned.study} learns from its sets, by learning rate and architecture",
        short="Tuning",
        text=f"Classifiers are trained on {kept}\u00a0% of each set; the other {out}\u00a0%, which carry the set’s "
        f"own labels, choose the settings. Accuracy on the {tuned.test_set} images of {tuned.data}, with their true "
        f"labels, is shown for every point and chooses nothing. Seed {tuned.seed}; all classifiers start from the same "
        "draw and see the images in the same order.",
        reading=[sentence for name in tuned.sets for sentence in _reading(tuned, name)],
        figures=[
            Figure(
                f"Test accuracy after training on {name}, against the largest learning rate; lines are architectures, "
                "bands 95\u00a0% Wilson intervals over images. The ring: the point that the held-out split chooses.",
                [against_rate(tuned, name, width=width) for width in WIDTHS],
            )
            for name in tuned.sets
            if tuned.best(name)
        ],
        tables=[_table(tuned, name) for name in tuned.sets],
    )


def _reading(tuned: Tuned, name: str) -> list[str]:
    chosen, best = tuned.chosen(name), tuned.best(name)
    tests = [at.test for at in tuned.of(name) if at.test]
    if not (chosen and best and chosen.test and chosen.heldout and best.test):
        return [f"On {name}, every training run diverged."]
    low, high = min(test.value for test in tests), best.test.value
    sentences = [
        f"On {name}, test accuracy runs from {percent(low)} to {percent(high)}\u00a0% over {len(tests)} settings.",
        f"What is held out of {name} chooses {chosen}: {said(chosen.heldout)} held out, {said(chosen.test)} on the "
        "test images.",
    ]
    others = [at for at in tuned.of(name) if at is not chosen]
    level = [at for at in others if at.heldout and compare(at.heldout, chosen.heldout) == "unclear"]
    if level:
        tests = sorted(at.test.value for at in level if at.test)
        sentences.append(
            f"Settings whose held-out intervals overlap with its: {len(level)}, with {percent(tests[0])} to "
            f"{percent(tests[-1])}\u00a0% on the test images; what is held out cannot tell them apart."
        )
    if best is not chosen:
        apart = "; the two intervals overlap" if compare(best.test, chosen.test) == "unclear" else ""
        sentences.append(f"Most accurate on the test images, which choose nothing: {best}, {said(best.test)}{apart}.")
    return sentences


def _table(tuned: Tuned, name: str) -> Table:
    columns = ("architecture", "epochs", "learning rate", "held out", "test", "chosen", "seconds")
    chosen = tuned.chosen(name)
    rows = [
        [
            at.architecture,
            at.epochs,
            at.lr,
            at.heldout or "diverged",
            at.test or "diverged",
            "yes" if at is chosen else "",
            at.seconds,
        ]
        for at in tuned.of(name)
    ]
    return Table(f"Trained on {name}: accuracies in per cent with 95\u00a0% intervals", columns, rows)


def page(folder: Path) -> str:
    """`tune.html`, from `tune.json` alone."""
    from notbugs.report.shell import render_section

    return render_section(tune_section(read_model(folder / "tune.json", Tuned, "a tuning", "tuning")), "notbugs tune")
