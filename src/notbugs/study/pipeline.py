"""The whole experiment: from a recipe to a folder with its results and report; results held against those expected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from notbugs import workers
from notbugs.construct import ConstructedSet
from notbugs.data import Data, Images
from notbugs.errors import must
from notbugs.files import check_writable
from notbugs.formats import between
from notbugs.given import checked
from notbugs.measure import Proportion, feature_rank
from notbugs.progress import Progress
from notbugs.records import write_model
from notbugs.search import PGDSteps
from notbugs.search.backward import fake_relu_features
from notbugs.search.compatibility import check_fits
from notbugs.seeds import derive, generator
from notbugs.study import instruments
from notbugs.study.declaration import Ingredients, SetDeclaration
from notbugs.study.examples import write_further, write_gallery
from notbugs.study.folder import Console, StudyFolder, read_data
from notbugs.study.further import check_halves, ingredients
from notbugs.study.machine import Info, find_device, surroundings
from notbugs.study.recipe import Expected, Recipe
from notbugs.study.repeated import check_one_label, for_labels
from notbugs.study.results import (
    AgainstExpected,
    Expectations,
    Measured,
    Results,
    Row,
    SetProperties,
    Stage,
    StudyInfo,
    TheoryCheck,
)
from notbugs.study.runner import Runner
from notbugs.study.sets import BY_NAME, ON_ORIGINALS, SECTIONS, SETS, ClassifierPlan, stage_names
from notbugs.study.written import StudyClaim
from notbugs.theory import vulnerability
from notbugs.threat import check_radii
from notbugs.training.loop import check_training


def against_expected(recipe: Recipe, data: str, rows: Sequence[Row]) -> Expectations | None:
    """The recipe's expectations beside the accuracies of a run; None where it states none.

    Parameters
    ----------
    recipe : Recipe
        As resolved. Where it departs from its file in what changes the numbers, nothing is compared.
    data : str
        Name of the data set of the run.
    rows : sequence of Row
        Every accuracy.
    """
    if not recipe.expected:
        return None
    departures = [*recipe.departures, *(["data"] if recipe.expected_data not in ("", data) else [])]
    by_kind = {_kind(row): row for row in rows}
    compared = []
    for item in () if departures else recipe.expected:
        kind = item.classifier, item.attack if item.radius else "", item.radius
        if kind in by_kind:  # a study may have been asked for fewer sets
            compared.append(_against(item, by_kind[kind]))
    return Expectations(time=recipe.expected_time, departures=departures, compared=compared)


def expected_lines(expectations: Expectations) -> Iterator[str]:
    """What a terminal says: how many accuracies are as expected, and every one that is not."""
    if expectations.departures:
        yield f"What the recipe expects does not apply here: other {', '.join(expectations.departures)}."
        return
    counts = Counter(item.verdict for item in expectations.compared)
    yield (
        f"Of {len(expectations.compared)} accuracies that the recipe expects, {counts['inside']} are inside their "
        f"range, {counts['overlaps']} reach into it with their interval, {counts['outside']} are outside."
    )
    for item in expectations.compared:
        if item.verdict == "outside":
            attack = f"at radius {item.radius:g} by {item.attack}" if item.radius else "clean"
            yield (
                f"Outside: {item.classifier} {attack} {item.found}, expected {between(item.low, item.high)}% "
                f"({item.source})."
            )


def _kind(row: Row) -> tuple[str, str, float]:
    return (row.classifier, row.attack.name, row.attack.eps) if row.attack else (row.classifier, "", 0.0)


def _against(expected: Expected, row: Row) -> AgainstExpected:
    return AgainstExpected(
        **expected.model_dump(),
        found=row.share,
        verdict=_verdict(expected, row),
    )


def _verdict(expected: Expected, row: Row) -> Literal["inside", "overlaps", "outside"]:
    if expected.low <= row.accuracy <= expected.high:
        return "inside"
    return "overlaps" if row.low <= expected.high and expected.low <= row.high else "outside"


RANK_IMAGES = 16


@checked
def run(recipe: Recipe, out: Path, console: Console, data: Data | None = None) -> Results:
    """Run a study, or what is left of it, and write `results.json` and `gallery.safetensors`.

    Every stage is kept when it ends, training at epochs and constructed sets at shards within it, so the same call
    after a kill goes on from there, and a finished study is only read. Several workers (see `workers.joined`) share it.

    Parameters
    ----------
    recipe : Recipe
        Every setting.
    out : Path
        The study's folder.
    console : Console
        Told how far the work is.
    data : Data, optional
        Those that the recipe names, where they were read before.

    Raises
    ------
    InputError
        Before any work: if the data or the folder break a rule, or the folder holds another study.
    DiskFull
        If there is no room left; everything finished is kept.
    """
    check_writable(out)
    device = find_device(recipe.device)
    for network in (recipe.architecture, *recipe.architecture_on.values()):
        network.check()
    if recipe.scaled_down:
        console.say("There is no accelerator here, so the study is the recipe's small form: recipe.toml has it.")
    data = data or read_data(recipe, console)
    _check_data(recipe, data)
    stages = stage_names(recipe.judge, recipe.sets, recipe.further.others)
    folder = StudyFolder(out, console, stages=len(stages))
    runner = Runner(recipe, data, folder, device)
    for network in (recipe.architecture, *recipe.architecture_on.values()):  # one that cannot be made leaves no folder
        made = network.new(data, recipe.seed, recipe)
        check_fits(made, data.train, len(data.classes), features=network is recipe.architecture)
        if recipe.matching.fake_relu and network is recipe.architecture:
            fake_relu_features(made.eval(), data.train.batch(slice(1))[0].to(device), recipe.matching.fake_relu)
    instruments.check(runner)
    check_halves(runner)
    with folder.claimed(StudyClaim(recipe, surroundings(recipe.data, data, device, recipe.own_code(data)))) as info:
        results = _Study(runner).run(info)
        if workers.rank() == 0:
            write_model(out / "results.json", results)
    for line in expected_lines(results.expected) if results.expected else ():
        console.say(line)
    return results


def run_labels(recipe: Recipe, out: Path, console: Console) -> Iterator[tuple[Path, Results]]:
    """Run a study in `out`; of data with several labels and none chosen, one of each label, in `out/label-NAME`.

    Yields the folder and the results of each that is finished.
    """

    def work(label: str | None, folder: Path, data: Data | None) -> Results:
        chosen = recipe if label is None else recipe.model_copy(update={"label": label})
        return run(chosen, folder, console, data)

    yield from for_labels(work, out, console)


@dataclass
class _Study:
    """The stages, each a few lines."""

    runner: Runner

    @property
    def recipe(self) -> Recipe:
        return self.runner.recipe

    @property
    def data(self) -> Data:
        return self.runner.data

    def run(self, info: Info) -> Results:
        rows, sets = [], []
        for plan in ON_ORIGINALS:
            rows += self.measured(plan, self.data.train)
        for plan, built_with in self.plans():
            built = self.built(plan, built_with)
            sets.append(self.set_measured(plan, built))
            rows += self.measured(ClassifierPlan(plan.name, plan.name), built.images)
        write_gallery(self.runner)
        if self.recipe.sets:
            write_further(self.runner)
        folder = self.runner.folder
        architecture, theory = self.architecture(), self.theory()
        settings = self.recipe.instruments
        measured = {each.name: each.run(self.runner) for each in instruments.INSTRUMENTS if settings.wanted(each.name)}
        study = StudyInfo(
            **info,
            name=self.recipe.name,
            recipe=self.recipe.settings(),
            command=self.recipe.command(folder.path / "recipe.toml"),
            architecture=architecture,
            seeds=[self.recipe.seed],
            stages=[
                Stage(name=name, seconds=done["seconds"], images=done.get("images"))
                for name, done in folder.done.items()
            ],
            classifiers=self.runner.hashes,
            training=self.runner.trained,
            fits=self.runner.fits,
        )
        return Results(
            study=study,
            rows=rows,
            sets=sets,
            theory=theory,
            instruments=Measured(**measured),
            expected=against_expected(self.recipe, self.data.name, rows),
        )

    def plans(self) -> Iterator[tuple[SetDeclaration, Ingredients]]:
        """The sets, and what each is built with: those of every study, then the further ones."""
        for plan in SETS:
            yield plan, {}
        yield from ((BY_NAME[name], built_with) for name, built_with in ingredients(self.runner).items())

    def measured(self, plan: ClassifierPlan, images: Images) -> list[Row]:
        """Train a classifier and measure it."""
        title = f"train {plan.name} classifier" if plan.train_set == "D" else f"train on {plan.train_set}"
        settings, network = self.recipe.training(plan.name), self.recipe.network(plan.name)
        classifier = self.runner.train(plan.name, images, title=title)
        return [
            Row(
                train_set=plan.train_set,
                training=settings.name,
                classifier=plan.name,
                architecture=str(network) if self.recipe.architecture_on else network.name,
                test_set=self.data.test_name,
                attack=accuracy.attack,
                broken=accuracy.broken,
                accuracy=accuracy.share.value,
                low=accuracy.share.low,
                high=accuracy.share.high,
                n=accuracy.share.n,
                seed=self.recipe.seed,
                balanced=accuracy.balanced,
                area=accuracy.area,
            )
            for accuracy in self.runner.evaluate(plan.name, classifier)
        ]

    def built(self, plan: SetDeclaration, built_with: Ingredients) -> ConstructedSet:
        seed = derive(self.recipe.seed, "set", plan.name)
        return self.runner.construct(plan.name, plan, seed=seed, **built_with)

    def set_measured(self, plan: SetDeclaration, built: ConstructedSet) -> SetProperties:
        measured = self.runner.measure(plan.name, plan, built)
        request = built.manifest["request"]
        return SetProperties(
            name=plan.name,
            folder=f"sets/{plan.name}",
            kind="matched" if built.is_matched else "relabelled",
            source=plan.source,
            targets=plan.targets,
            n=len(built),
            settings={
                key: request[key] for key in ("objective", "threat", "schedule", "fake_relu", "seed") if key in request
            },
            seconds=built.manifest["seconds"],
            **measured,
        )

    def architecture(self) -> dict[str, object]:
        """Its name and size, and the evidence that its features cannot rebuild an image."""
        count, dimension = min(RANK_IMAGES, len(self.data.train)), math.prod(self.data.train.shape)
        index = torch.randperm(len(self.data.train), generator=generator(self.recipe.seed, "rank"))[:count]
        images, _ = self.data.train.batch(index)

        def work(progress: Progress) -> dict[str, float]:
            ranks = {}
            for number, name in enumerate(("standard", "robust"), 1):
                ranks[name] = feature_rank(self.runner.classifier(name), images.to(self.runner.device))
                progress(number, 2)
            return ranks

        standard = self.runner.classifier("standard")
        return {
            "name": self.recipe.architecture.name,
            "parameters": sum(parameter.numel() for parameter in standard.network.parameters()),
            "features": len(standard.features(images[:1].to(self.runner.device))[0]),
            "feature_rank": self.runner.stage(
                "rank", "count the directions the features see", work, kind=dict[str, float]
            ),
            "input_dimension": dimension,
        }

    def theory(self) -> list[TheoryCheck]:
        """The two Gaussians of the paper's section 4, fitted to real features and held against the search."""
        settings, pair = self.recipe.evaluation, self.recipe.pair

        def work(progress: Progress) -> list[TheoryCheck]:
            checks = []
            for number, name in enumerate(("standard", "robust"), 1):
                classifier, schedule = self.runner.classifier(name), PGDSteps(settings.pgd.steps)
                radii = sorted(settings.radii)
                train, test = self.data.train, self.data.test
                fitted, check = vulnerability(
                    classifier, train, test, pair, radii, norm=settings.norm, schedule=schedule
                )
                checks.append(
                    TheoryCheck(
                        classifier=name,
                        pair=(self.data.classes[pair[0]], self.data.classes[pair[1]]),
                        norm=settings.norm,
                        radii=[0.0, *radii],
                        moved=check.radii.tolist(),
                        predicted=check.predicted.tolist(),
                        measured=[
                            Proportion(value=at.value, low=at.low, high=at.high, n=at.n) for at in check.measured
                        ],
                        shrinkage=fitted.shrinkage,
                    )
                )
                progress(number, 2)
            return checks

        return self.runner.stage("theory", "compare theory with attack", work, kind=list[TheoryCheck])


def _check_data(recipe: Recipe, data: Data) -> None:
    """Refuse what a later stage would refuse, before hours of work."""
    check_one_label(data)
    for name in (*SECTIONS, *recipe.trained_on):
        check_training(recipe.training(name), data.train)
    check_radii([*recipe.evaluation.threats, recipe.relabelling.threat], data.train.shape)
    for declared in map(BY_NAME.__getitem__, recipe.sets):
        if declared.alone and recipe.relabelling.method == "minimum-norm":
            rule = "name no set that holds other classifiers, where [relabelling] looks for smallest perturbations"
            raise must("sets", rule, declared.name)
        if declared.band:
            ball = declared.threat(recipe.relabelling, data.train.shape, recipe.further.cutoff)
            check_radii([ball], data.train.shape, band=True)
    if len(set(recipe.pair)) < 2 or not all(0 <= label < len(data.classes) for label in recipe.pair):
        raise must("pair", f"name two different classes between 0 and {len(data.classes) - 1}", recipe.pair)
    tested = data.test.labels.unique().tolist()
    for label in recipe.pair:
        if label not in tested:
            others = f"Name others, as --pair {tested[0]} {tested[1]}, or take" if len(tested) > 1 else "Take"
            remedy = f"{others} test images of this class."
            raise must("pair", "name two classes that have test images", f"{data.classes[label]} without any", remedy)
