"""The whole experiment: from a recipe to a folder with its results and report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from notbugs import data as data_room
from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, relabel, robustify
from notbugs.data import Data
from notbugs.errors import InputError, must
from notbugs.files import only_writer, write_text
from notbugs.measure import evaluate, feature_rank, measure_set
from notbugs.progress import Progress
from notbugs.search import Schedule
from notbugs.seeds import derive, generator
from notbugs.study.folder import Console, StudyFolder, check_writable
from notbugs.study.gallery import write_gallery
from notbugs.study.machine import find_device, surroundings
from notbugs.study.plan import ON_ORIGINALS, SETS, STAGES, ClassifierPlan, SetPlan
from notbugs.study.recipe import Recipe
from notbugs.study.results import Results, Row, SetProperties, Stage, StudyInfo, TheoryCheck
from notbugs.theory import vulnerability
from notbugs.training import Training, train

RANK_IMAGES = 16


def run(recipe: Recipe, out: Path, console: Console) -> Results:
    """Run a study, or what is left of it, and write `results.json` and `gallery.safetensors`.

    Every stage is kept when it ends, training at epochs and constructed sets at shards within it, so the same call
    after a kill goes on from there, and a finished study is only read.

    Parameters
    ----------
    recipe : Recipe
        Every setting.
    out : Path
        The study's folder.
    console : Console
        Told how far the work is.

    Raises
    ------
    InputError
        Before any work: if the data or the folder break a rule, or the folder holds another study.
    DiskFull
        If there is no room left; everything finished is kept.
    """
    check_writable(out)
    device = find_device(recipe.device)
    data = _read_data(recipe, console)
    with only_writer(out):
        folder = StudyFolder(out, console, stages=STAGES)
        info = folder.claim(recipe, surroundings(recipe.data, data, device))
        study = _Study(recipe, data, folder, device)
        results = study.run(info)
        write_text(out / "results.json", results.model_dump_json(indent=2, by_alias=True) + "\n")
    return results


@dataclass
class _Study:
    """The stages, each a few lines; state is only what they need from each other."""

    recipe: Recipe
    data: Data
    folder: StudyFolder
    device: torch.device

    def run(self, info: dict[str, Any]) -> Results:
        rows, sets, hashes = [], [], {}
        classifiers: dict[str, Classifier] = {}
        for plan in ON_ORIGINALS:
            classifiers[plan.name], hashes[plan.name] = self.trained(plan, self.data.train)
            rows += self.evaluated(plan, classifiers[plan.name])
        for plan in SETS:
            built = self.built(plan, classifiers[plan.source])
            sets.append(self.set_measured(plan, built, classifiers))
            on_set = ClassifierPlan(plan.name, plan.name, "constructed")
            classifier, hashes[plan.name] = self.trained(on_set, built.images)
            rows += self.evaluated(on_set, classifier)
        sets_on_disk: dict[str, Path] = {plan.name: self.folder.path / "sets" / plan.name for plan in SETS}
        write_gallery(self.folder.path / "gallery.safetensors", self.data, sets_on_disk, self.recipe.seed)
        study = StudyInfo(
            **info,
            name=self.recipe.name,
            recipe=self.recipe.settings(),
            command=f"notbugs run {self.folder.path / 'recipe.toml'} --out NEW_FOLDER",
            architecture=self.architecture(classifiers),
            seeds=[self.recipe.seed],
            stages=[Stage(**stage) for stage in self.folder.stages()],
            classifiers=hashes,
        )
        return Results(study=study, rows=rows, sets=sets, theory=self.theory(classifiers))

    def trained(self, plan: ClassifierPlan, images: data_room.Images) -> tuple[Classifier, str]:
        settings: Training = getattr(self.recipe, plan.section)
        classifier = self.fresh(plan.name)

        def work(progress: Progress) -> str:
            seed = derive(self.recipe.seed, "train", plan.name)
            checkpoint = self.folder.path / "classifiers" / f"{plan.name}.unfinished.safetensors"
            train(classifier, images, settings, seed=seed, checkpoint=checkpoint, progress=progress)
            return self.folder.save(plan.name, classifier)

        title = f"train {plan.name} classifier" if plan.train_set == "D" else f"train on {plan.train_set}"
        digest = self.folder.stage(f"train-{plan.name}", title, work)
        return self.folder.load(plan.name, classifier, digest), digest

    def fresh(self, name: str) -> Classifier:
        return self.recipe.architecture.new(self.data, derive(self.recipe.seed, "init", name), self.recipe)

    def evaluated(self, plan: ClassifierPlan, classifier: Classifier) -> list[Row]:
        asked, training = self.recipe.evaluation, getattr(self.recipe, plan.section).name

        def work(progress: Progress) -> list[dict[str, Any]]:
            found = evaluate(
                classifier,
                self.data.test,
                norm=asked.norm,
                radii=asked.radii,
                steps=asked.steps,
                restarts=asked.restarts,
                seed=self.recipe.seed,
                progress=progress,
            )
            self.folder.console.say(f"{plan.name}: " + ", ".join(_short(item) for item in found))
            return [item.model_dump() for item in found]

        return [
            Row(
                train_set=plan.train_set,
                training=training,
                classifier=plan.name,
                architecture=self.recipe.architecture.name,
                test_set=self.data.test_name,
                attack=item["attack"],
                accuracy=item["share"]["value"],
                low=item["share"]["low"],
                high=item["share"]["high"],
                n=item["share"]["n"],
                seed=self.recipe.seed,
            )
            for item in self.folder.stage(f"evaluate-{plan.name}", f"measure {plan.name}", work)
        ]

    def built(self, plan: SetPlan, source: Classifier) -> ConstructedSet:
        path = self.folder.path / "sets" / plan.name
        seed = derive(self.recipe.seed, "set", plan.name)

        def work(progress: Progress) -> float:
            how: dict[str, Any] = {**self.recipe.storage.model_dump(), "seed": seed, "progress": progress}
            if plan.targets is None:
                schedule = self.recipe.matching.schedule(self.data.train.shape)
                built = robustify(source, self.data, path, schedule=schedule, **how)
            else:
                asked = self.recipe.relabelling
                built = relabel(
                    source,
                    self.data,
                    path,
                    targets=plan.targets,
                    threat=asked.threat,
                    schedule=asked.schedule,
                    **how,
                )
            return built.manifest["seconds"]

        self.folder.stage(f"build-{plan.name}", f"build {plan.name}", work)
        try:
            return ConstructedSet(path)
        except InputError:  # a shard was lost or damaged since: only that one is built again
            with self.folder.console.stage(f"mend {plan.name}") as progress:
                work(progress)
            return ConstructedSet(path)

    def set_measured(self, plan: SetPlan, built: ConstructedSet, classifiers: dict[str, Classifier]) -> SetProperties:
        def work(progress: Progress) -> dict[str, Any]:
            found = measure_set(
                built,
                self.data.train,
                classifiers[plan.source],
                classifiers["independent"],
                self.recipe.constructed.augmentation,
                seed=self.recipe.seed,
                progress=progress,
            )
            built.record(found)
            return found

        request = built.manifest["request"]
        return SetProperties(
            name=plan.name,
            folder=f"sets/{plan.name}",
            kind="matched" if built.is_matched else "relabelled",
            source=plan.source,
            targets=plan.targets,
            n=len(built),
            settings={key: request[key] for key in ("objective", "threat", "schedule", "seed")},
            seconds=built.manifest["seconds"],
            **self.folder.stage(f"measure-{plan.name}", f"measure {plan.name} itself", work),
        )

    def architecture(self, classifiers: dict[str, Classifier]) -> dict[str, Any]:
        """Its name and size, and the evidence that its features cannot rebuild an image."""
        count, dimension = min(RANK_IMAGES, len(self.data.train)), math.prod(self.data.train.shape)
        index = torch.randperm(len(self.data.train), generator=generator(self.recipe.seed, "rank"))[:count]
        images, _ = self.data.train.batch(index)

        def work(progress: Progress) -> dict[str, float]:
            ranks = {}
            for number, name in enumerate(("standard", "robust"), 1):
                ranks[name] = feature_rank(classifiers[name], images.to(self.device))
                progress(number, 2)
            return ranks

        network = classifiers["standard"].network
        return {
            "name": self.recipe.architecture.name,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "features": len(classifiers["standard"].features(images[:1].to(self.device))[0]),
            "feature_rank": self.folder.stage("rank", "count the directions the features see", work),
            "input_dimension": dimension,
        }

    def theory(self, classifiers: dict[str, Classifier]) -> list[TheoryCheck]:
        """The two Gaussians of the paper's section 4, fitted to real features and held against the search."""
        asked, pair = self.recipe.evaluation, self.recipe.pair

        def work(progress: Progress) -> list[dict[str, Any]]:
            found = []
            for number, name in enumerate(("standard", "robust"), 1):
                classifier, schedule = classifiers[name], Schedule(asked.steps)
                radii = sorted(asked.radii)
                train, test = self.data.train, self.data.test
                fitted, check = vulnerability(classifier, train, test, pair, radii, norm=asked.norm, schedule=schedule)
                measured = [
                    {key: getattr(item, key) for key in ("value", "low", "high", "n")} for item in check.measured
                ]
                found.append(
                    {
                        "classifier": name,
                        "pair": [self.data.classes[label] for label in pair],
                        "norm": asked.norm,
                        "radii": [0.0, *radii],
                        "moved": check.radii.tolist(),
                        "predicted": check.predicted.tolist(),
                        "measured": measured,
                        "shrinkage": fitted.shrinkage,
                    }
                )
                progress(number, 2)
            return found

        return [TheoryCheck(**item) for item in self.folder.stage("theory", "hold the theory against the search", work)]


def _read_data(recipe: Recipe, console: Console) -> Data:
    with console.stage("read the data") as progress:
        data = recipe.read(progress)
    if len(set(recipe.pair)) < 2 or not all(0 <= label < len(data.classes) for label in recipe.pair):
        raise must("pair", f"name two different classes between 0 and {len(data.classes) - 1}", recipe.pair)
    return data


def _short(item: Any) -> str:
    return str(item).split(", n=")[0]
