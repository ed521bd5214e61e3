"""What the stages of a study work with: recipe, data and folder, and each piece of work done once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack

import torch
from pydantic import Field, model_validator
from torch import Tensor

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, fingerprint
from notbugs.data import Data, Images
from notbugs.errors import InputError, check_choice, must, renamed
from notbugs.instrument import Step
from notbugs.measure import Accuracy, Difference, Outcome, Proportion, evaluate, outcomes, predictions
from notbugs.measure.accuracy import with_areas
from notbugs.measure.measured_set import MeasuredSet, set_measured
from notbugs.progress import Progress
from notbugs.records import Record, to_json
from notbugs.seeds import derive, generator
from notbugs.study.declaration import Ingredients, SetDeclaration
from notbugs.study.folder import StudyFolder
from notbugs.study.recipe import Recipe
from notbugs.study.results import outcomes_file, read_outcomes, write_outcomes
from notbugs.study.sections import Architecture, Matching, Relabelling
from notbugs.study.sets import JUDGE, SECTIONS
from notbugs.threat import Threat
from notbugs.training import Trained, Training, train
from notbugs.training.watching import trained_on

T = TypeVar("T")


class KeptTraining(Record):
    """What a stage leaves of training."""

    sha256: str = Field(description="of the classifier's file")
    settings: Training | None = Field(None, description="how it was trained; null in studies of older versions")
    trained: Trained | None = Field(None, description="how it went; null in studies of older versions")
    fits: Proportion | None = Field(None, description="of its training images, those that it gives their label")

    @model_validator(mode="before")
    @classmethod
    def _take_a_hash_alone(cls, kept: object) -> object:
        """Older versions left no more than that."""
        return {"sha256": kept} if isinstance(kept, str) else kept

    def images_seen(self) -> int:
        """In all epochs."""
        return self.trained.images * self.trained.epochs if self.trained else 0


FITTED = 2000
"""Training images, at most, on which a classifier is looked at when it is trained."""


def _fits(classifier: Classifier, images: Images, numbers: Tensor, seed: int) -> Proportion | None:
    """The share of the images of these numbers, as they are, that the classifier trained on them gives their label."""
    if images.has_several:
        return None
    drawn = torch.randperm(len(numbers), generator=generator(seed, "fits"))[:FITTED].sort().values
    some = images.subset(numbers[drawn])
    return Proportion.of(predictions(classifier, some) == some.labels)


Clean = Accuracy | Proportion
"""What a stage keeps of a clean accuracy: in studies of older versions the share alone."""


def _accuracy(kept: Clean) -> Accuracy:
    return Accuracy(attack=None, share=kept) if isinstance(kept, Proportion) else kept


class Runner:
    """A study at work.

    Parameters
    ----------
    recipe : Recipe
        Every setting.
    data : Data
        The images.
    folder : StudyFolder
        Where everything finished is kept.
    device : torch.device
        Where the networks run.
    """

    def __init__(self, recipe: Recipe, data: Data, folder: StudyFolder, device: torch.device) -> None:
        self.recipe, self.data, self.folder, self.device = recipe, data, folder, device
        self.seed = recipe.seed
        self.stage, self.stages = folder.stage, folder.stages  # where an instrument keeps what it measures
        self.hashes: dict[str, str] = {}
        self.trained: dict[str, Trained] = {}
        self.fits: dict[str, Proportion] = {}
        self._classifiers: dict[str, Classifier] = {}
        self._sets: dict[str, ConstructedSet] = {}

    def classifier(self, name: str) -> Classifier:
        """One that was trained in this study, in evaluation mode: `standard`, `independent`, `robust`, `D_R`, ..."""
        if name not in self._classifiers:
            raise must("classifier", f"be one of {', '.join(self._classifiers)}", name)
        return self._classifiers[name]

    def set(self, name: str) -> ConstructedSet:
        """One that was built in this study: `D_R`, `D_NR`, `D_rand`, ..., or an instrument's."""
        if name not in self._sets:
            raise must("set", f"be one of {', '.join(self._sets)}", name)
        return self._sets[name]

    def train(
        self,
        name: str,
        images: Images,
        like: str = "",
        *,
        architecture: Architecture | None = None,
        settings: Training | None = None,
        drawn_as: str = "",
        title: str | None = None,
    ) -> Classifier:
        """A classifier trained on `images`; it continues a run that was stopped.

        It has the network and the training that the recipe says of `like`, the classifier of a study that it is
        compared with (or its section of the recipe); of `name` itself if not given; the study's architecture and
        `[constructed]` if that is no classifier of a study.
        `architecture` and `settings`, where given, take the place of the recipe's. Its initialisation and order of
        batches follow from the study's seed and `name`, or, to compare two sets alike in both, from `drawn_as`.

        Raises
        ------
        InputError
            If there is no classifier `like`.
        """
        if like:
            check_choice("like", like, (*SECTIONS, "constructed"))
        training = settings or self.recipe.training(like or name)
        seed, drawn = (derive(self.seed, what, drawn_as or name) for what in ("init", "train"))
        network = architecture or self.recipe.network(like or name)
        classifier = network.new(self.data, seed, self.recipe)

        checkpoint = self.folder.path / "classifiers" / f"{name}.unfinished.safetensors"

        def work(progress: Progress) -> KeptTraining:
            told: list[Trained] = []
            train(
                classifier,
                images,
                training,
                seed=drawn,
                checkpoint=checkpoint,
                keep=True,
                told=told.append,
                progress=progress,
            )
            digest = self.folder.save(name, classifier, network.blueprint(self.data))
            fits = _fits(classifier, images, trained_on(images, training, drawn), self.seed)
            return KeptTraining(sha256=digest, settings=training, trained=told[0], fits=fits)

        def tell(kept: KeptTraining) -> list[str]:
            return [f"{name}:", str(kept.trained)]

        title, tell_it = title or f"train {name}", tell if training.patience else None
        step = Step(f"train-{name}", title, work, tell_it, kind=KeptTraining, images=KeptTraining.images_seen)
        kept = self.folder.shared_stage(step)
        is_as_asked = kept.settings in (None, training)
        if not is_as_asked or not self.folder.has(name, kept.sha256):
            file = self.folder.classifier_file(name)
            why = "is missing or was changed" if is_as_asked else "was trained with other settings"
            if workers.rank() == 0:
                outcomes_file(self.folder.path, name).unlink(missing_ok=True)
            self.folder.forget(step.name, f"{file} {why}.", *self.folder.measured(name))
            kept = self.folder.shared_stage(step)
        self.hashes[name] = kept.sha256
        if kept.trained:
            self.trained[name] = kept.trained
        if kept.fits:
            self.fits[name] = kept.fits
        if workers.rank() == 0:
            checkpoint.unlink(missing_ok=True)  # not before the stage is on disk: a kill between them would lose it all
        self._classifiers[name] = self.folder.load(name, classifier, self.hashes[name])
        return self._classifiers[name]

    def evaluate(self, name: str, classifier: Classifier) -> list[Accuracy]:
        """Clean and robust accuracy on the test images, as the recipe says; what became of each image is kept."""
        settings = self.recipe.evaluation

        def work(progress: Progress) -> list[Accuracy]:
            others = [self._classifiers[other] for other in ("independent", "standard") if other in self._classifiers]
            kept = outcomes(
                classifier,
                self.data.test,
                settings.threats,
                attack=settings.attack,
                beside=settings.pgd,
                others=[other for other in others if other is not classifier][:1],
                doubted=False,
                seed=self.seed,
                progress=progress,
            )
            write_outcomes(self.folder.path, name, kept, self.data.test)
            return with_areas([item.accuracy for item in kept], classifier, self.data.test)

        def tell(accuracies: list[Accuracy]) -> list[str]:
            return [
                f"{name}, {accuracies[0].share.n} images:",
                *(f"{item.under} {item.share}{item.beside}" for item in accuracies),
            ]

        kept = outcomes_file(self.folder.path, name)
        return self.stage(
            f"evaluate-{name}",
            f"measure {name}",
            work,
            tell,
            leaves=kept,
            kind=list[Accuracy],
            images=lambda accuracies: accuracies[0].share.n,
        )

    def accuracies(
        self, stage: str, title: str, classifier: Classifier, images: Images, threats: Sequence[Threat] | None = None
    ) -> list[Accuracy]:
        """Clean accuracy, then that under the recipe's attack, in a stage of an instrument.

        At the recipe's radii, if no `threats` are given.
        """
        settings = self.recipe.evaluation

        def work(progress: Progress) -> list[Accuracy]:
            return evaluate(
                classifier,
                images,
                settings.threats if threats is None else threats,
                attack=settings.attack,
                doubted=False,
                seed=self.seed,
                progress=progress,
            )

        return self.stage(stage, title, work, kind=list[Accuracy])

    def clean(self, name: str, instrument: str) -> Accuracy:
        """Accuracy of a classifier of this study on the test images as they are, in a stage of an instrument.

        What became of each image is kept in `outcomes/`, for `less`.
        """

        def work(progress: Progress) -> Clean:
            return self.known(name).accuracy

        measured = self.stage(
            f"{instrument}-{name}",
            f"measure {name} once more" if name in SECTIONS else f"measure {name}",
            work,
            leaves=self.outcomes_file(name),
            kind=Clean,
            images=lambda measured: _accuracy(measured).share.n,
        )
        return _accuracy(measured)

    def known(self, name: str) -> Outcome:
        """What becomes of each test image as it is: what `outcomes/` has, else measured and kept there."""
        try:
            kept = self.outcomes(name)
        except InputError:  # damaged
            kept = []
        if kept:
            return kept[0]
        measured = outcomes(self.classifier(name), self.data.test, doubted=False)
        write_outcomes(self.folder.path, name, measured, self.data.test)
        return measured[0]

    def outcomes_file(self, name: str) -> Path:
        """Where `known` and `evaluate` keep what became of each test image: what a stage that asks for it leaves."""
        return outcomes_file(self.folder.path, name)

    def outcomes(self, name: str) -> list[Outcome]:
        """What became of each test image, clean and then under each attack; none in studies of older versions."""
        kept = read_outcomes(self.folder.path, name)
        if kept is None or kept.test_images != self.data.test.fingerprint:
            return []
        return [replace(one, labels=self.data.test.labels) for one in kept.outcomes]

    def less(self, first: str, second: str, of: tuple[Accuracy, Accuracy]) -> Difference:
        """The clean accuracy of one classifier less that of another, which are `of`; balanced ones of unequal classes.

        In pairs, image by image, where what became of each is kept.
        """
        ours, theirs = self.outcomes(first), self.outcomes(second)
        return ours[0].less(theirs[0]) if ours and theirs else of[0].less(of[1])

    def of_each(
        self,
        names: Sequence[str],
        stage: str,
        title: str,
        work: Callable[[str, Progress], T],
        *,
        kind: type[T],
    ) -> dict[str, T]:
        """The value of `work` for each classifier, by its name: in stages, which several workers share.

        The stages are called `STAGE-NAME`, and their titles end with the name.
        """
        steps = [Step(f"{stage}-{name}", f"{title} {name}", partial(work, name), kind=kind) for name in names]
        return dict(zip(names, self.stages(steps), strict=True))

    def construct(
        self,
        name: str,
        declared: SetDeclaration,
        *,
        seed: int,
        source: Classifier | None = None,
        data: Data | None = None,
        matching: Matching | None = None,
        relabelling: Relabelling | None = None,
        **ingredients: Unpack[Ingredients],
    ) -> ConstructedSet:
        """The set `declared`, built as the recipe says in `sets/NAME`.

        `source`, `data`, `matching` and `relabelling`, where given, take the place of the study's; `ingredients` are
        what the set is built with beside its source, as `SetDeclaration.build` takes them.

        Raises
        ------
        InputError
            If it is there already, by a source that the study has no more.
        """
        with_whom = source or self.classifier(declared.source)

        def work(path: Path, progress: Progress) -> ConstructedSet:
            return declared.build(
                with_whom,
                data or self.data,
                path,
                matching=matching or self.recipe.matching,
                relabelling=relabelling or self.recipe.relabelling,
                dtype=self.recipe.storage.dtype,
                batch=self.recipe.storage.batch,
                seed=seed,
                progress=progress,
                **ingredients,
            )

        built = self.build(name, work)
        if built.manifest["request"]["source"] != fingerprint(with_whom):
            raise InputError(
                f"{built.folder} was built with another classifier than {self.folder.path / 'classifiers'} has now: "
                "a file was lost, and training it again gave other weights, as another machine or version may. Restore "
                "the file from a copy, or run the study in a new folder, with --out."
            )
        return built

    def build(self, name: str, work: Callable[[Path, Progress], ConstructedSet]) -> ConstructedSet:
        """The set that `work` builds in the folder it is given; a damaged shard is built again."""
        path = self.folder.path / "sets" / name

        def seconds(progress: Progress) -> float:
            self._sets[name] = work(path, progress)
            return self._sets[name].manifest["seconds"]

        def images(_: float) -> int:
            return len(self._sets[name])

        self.folder.shared_stage(Step(f"build-{name}", f"build {name}", seconds, kind=float, images=images))
        try:
            self._sets[name] = ConstructedSet(path)
        except InputError:  # a shard was lost or damaged since: only that one is built again
            with self.folder.console.stage(f"repair {name}") as progress:
                seconds(progress)
            self._sets[name] = ConstructedSet(path)
        return self._sets[name]

    def judge(self, source: str) -> tuple[Classifier | None, str]:
        """A robust classifier that had no hand in a set by `source`, if there is one, and its name."""
        if source != "robust":
            return self.classifier("robust"), "robust"
        if not self.recipe.judge:
            return None, ""
        return self.train(JUDGE.name, self.data.train, title="train a second robust classifier"), JUDGE.name

    def measure(
        self, name: str, declared: SetDeclaration, built: ConstructedSet, originals: Images | None = None
    ) -> MeasuredSet:
        """The properties of the set `declared` that was built as `name` from `originals`, the study's if not given."""
        judge, judge_name = self.judge(declared.source)

        def work(progress: Progress) -> MeasuredSet:
            measured = set_measured(
                built,
                originals or self.data.train,
                self.classifier(declared.source),
                self.classifier("independent"),
                self.recipe.training(declared.name).augmentation,
                judge=judge,
                judge_name=judge_name,
                seed=self.seed,
                progress=progress,
            )
            built.record(to_json(measured, MeasuredSet))
            return measured

        step = Step(
            f"measure-{name}",
            f"measure {name} itself",
            work,
            partial(_told, name),
            kind=MeasuredSet,
            images=lambda _: len(built),
        )
        measured = self.stages([step])[0]
        properties = to_json(measured, MeasuredSet)
        if built.manifest.get("properties") != properties:  # the manifest was lost or damaged since
            built.record(properties)
        return measured


def _told(name: str, measured: MeasuredSet) -> list[str]:
    """Of a set's measured properties, what a console says."""
    source, loss = measured["success_source"], measured["matching_loss"]
    return [
        f"{name}, {source.n} images:",
        f"success {source}",
        f"on an independent classifier {measured['success_independent']}",
        f"l2 {measured['l2'].median:.3g} and l-inf {measured['linf'].median:.2g} from the start (medians)",
        *([f"matching loss {loss.median:.2g}"] if loss else []),
    ]


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Lab": "Runner"})
