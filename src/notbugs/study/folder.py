"""The folder of a study: its recipe, its finished stages, and what they left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar, cast, runtime_checkable

from pydantic import ValidationError

from notbugs import workers
from notbugs.catalogue import model_file, study_of
from notbugs.classifier import Classifier
from notbugs.data import Data
from notbugs.errors import InputError, in_one_line
from notbugs.files import (
    Damaged,
    check_links,
    check_tensors,
    make_room,
    only_writer,
    read_tensors,
    sha256,
    write_json,
)
from notbugs.instrument import Step
from notbugs.models import Blueprint, save_classifier
from notbugs.progress import Pace, Progress, silent
from notbugs.records import from_json, to_json
from notbugs.study.instruments import FORMER
from notbugs.study.machine import Info, Machine, find_device
from notbugs.study.recipe import flat, read_recipe
from notbugs.study.sections import READING, Source
from notbugs.study.written import (
    UNDER_WAY,
    Claim,
    StageFile,
    UnderWayFile,
    machine_of,
    read_own_recipe,
    read_stage,
    spent_on,
    write_info,
    write_recipe,
)

NOTE_SECONDS = 2.0
T = TypeVar("T")


@runtime_checkable
class Console(Protocol):
    """Where a study tells how far it is."""

    def stage(self, title: str) -> AbstractContextManager[Progress]:
        """A bar for one stage."""
        ...

    def say(self, text: str, *items: str) -> None:
        """One line; where it must be broken, between its items."""
        ...


class StudyFolder:
    """Runs each stage once: what is finished is on disk, and is read from there the next time.

    Several workers (see `workers.joined`) go through the same stages, in the same order; the first writes the files.

        recipe.toml             every setting, as resolved; .recipe.copy.toml is the same again
        study.json              data, versions and device of the run; .study.copy.json is the same again
        stages/NAME.json        what each finished stage measured, and how long it took
        classifiers/NAME.safetensors
        outcomes/NAME.safetensors  what became of each test image
        sets/NAME/              constructed sets
        under-way.json          the stage that is at work, or at which a run was killed
        results.json, gallery.safetensors, report.html

    Raises
    ------
    InputError
        If the folder is a file, is not writable, holds another study, or has a link in it that leads out of it.
    """

    def __init__(self, path: Path, console: Console, stages: int) -> None:
        self.path = path
        self.console = console
        self.count = stages
        self.number = 0
        self.done: dict[str, StageFile] = {}
        self.info = cast("Info", {})  # until it is claimed
        self.now: Machine | None = None

    @contextmanager
    def claimed(self, claim: Claim) -> Iterator[Info]:
        """Hold the folder, after writing down what it is of or checking that it is of the same already.

        Yields what is known of the work since it was first begun: data, versions, machine and when.

        Raises
        ------
        InputError
            If the folder is of something else, or another process holds it.
        """
        is_first = workers.rank() == 0
        with ExitStack() as held:
            with workers.apart():
                if is_first:
                    check_links(self.path)
                    held.enter_context(only_writer(self.path))
                    for told in claim.settled(self.path):
                        self.console.say(told)
            self.info, self.now = claim.read(self.path), claim.machine
            yield self.info

    def stage(
        self,
        name: str,
        title: str,
        work: Callable[[Progress], T],
        tell: Callable[[T], Sequence[str]] | None = None,
        leaves: Path | None = None,
        *,
        kind: type[T] | None = None,
        images: Callable[[T], int] | None = None,
    ) -> T:
        """The value of a stage: from disk if it is finished, else from `work`, told, and kept on disk.

        Of several workers the first does it. `kind` is the type of the value, and `images` tells how many it went
        through, as `Step` has it.
        """
        return self.stages([Step(name, title, work, tell, leaves, kind, images)])[0]

    def stages(self, steps: Sequence[Step[T]]) -> list[T]:
        """The values of stages that do not need each other; several workers do different ones at a time."""
        missing = self._missing(steps)
        with workers.apart():
            for number, step in enumerate(missing):
                if number % workers.count() == workers.rank():
                    self._do(step, steps.index(step), writes=True)
        return self._values(steps)

    def shared_stage(self, step: Step[T]) -> T:
        """The value of a stage on which all workers work together."""
        if self._missing([step]):
            self._do(step, 0, writes=workers.rank() == 0)
            workers.barrier()
        return self._values([step])[0]

    def _missing(self, steps: Sequence[Step[T]]) -> list[Step[T]]:
        missing = [step for step in steps if not self._is_whole(step)]
        workers.barrier()  # no worker may finish a stage before all have looked
        if missing:
            self._note_machine()
        return missing

    def _is_whole(self, step: Step[T]) -> bool:
        """Whether a stage is finished, and is as it was left."""
        if not self._finished(step.name).exists():
            return False
        try:
            self._read(step)
            if step.leaves and os.path.lexists(step.leaves):
                check_tensors(step.leaves)
        except Damaged as error:
            make_room(self._finished(step.name))
            self.console.say(f"{error} It is done again.")
            return False
        return True

    def _read(self, step: Step[T]) -> tuple[T, StageFile]:
        """The value that a finished stage left, and its file.

        Raises
        ------
        Damaged
            If the file was changed since, or holds no value of this stage's kind.
        """
        file = self._finished(step.name)
        stage = read_stage(file)
        try:
            value = stage["value"] if step.kind is None else from_json(stage["value"], step.kind)
        except ValidationError as error:
            raise Damaged(f"{file} is not what this stage leaves ({in_one_line(error)}).") from None
        return value, stage

    def _note_machine(self) -> None:
        """Say, and write down once, where work goes on with other versions or another machine than it began with."""
        if not self.now:
            return
        known: list[Machine] = [self.info, *self.info.get("continued", [])]
        now, self.now = self.now, None
        begun = flat(machine_of(self.info))
        here = flat(now).items()
        changes = [f"{name} ({begun.get(name)}, now {value})" for name, value in here if begun.get(name) != value]
        if not changes:
            return
        self.console.say("What is done from here on may differ in its bits: the study began with other", *changes)
        if any(machine_of(one) == now for one in known):
            return
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.info["continued"] = [*self.info.get("continued", []), {**now, "at": at}]
        if workers.rank() == 0:
            write_recipe(self.path, read_own_recipe(self.path))  # one of an older notbugs has no checksum
            write_info(self.path, self.info)

    def _do(self, step: Step[T], place: int, *, writes: bool) -> None:
        number, before = self.number + 1 + place, spent_on(step.name, self.path)
        began = time.monotonic()
        title = f"{number:2}/{self.count} {step.title}" if number <= self.count else step.title
        with self.console.stage(title) as progress, self._noted(step.name, progress, before) as noted:
            value = step.work(noted)
        if writes:
            seconds = round(before + time.monotonic() - began, 2)
            plain = value if step.kind is None else to_json(value, step.kind)
            images = {"images": step.images(value)} if step.images else {}
            write_json(self._file(step.name), {"name": step.name, "seconds": seconds, **images, "value": plain})
        if step.tell:
            self.console.say(*step.tell(value))

    def _values(self, steps: Sequence[Step[T]]) -> list[T]:
        self.number += len(steps)
        values = []
        for step in steps:
            value, self.done[step.name] = self._read(step)
            values.append(value)
        return values

    def _file(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def _finished(self, stage: str) -> Path:
        """The file of a stage: of an instrument that had another name, perhaps one that was left under that."""
        file = self._file(stage)
        before = (self._file(f"{former}{stage[len(name) :]}") for former, name in FORMER.items()
                  if stage.startswith(f"{name}-"))  # fmt: skip
        return file if file.exists() else next((other for other in before if other.exists()), file)

    @contextmanager
    def _noted(self, name: str, progress: Progress, spent: float) -> Iterator[Progress]:
        """`progress`, which also writes down how far the stage is, for `status`; a killed stage leaves that behind."""
        if workers.rank() > 0:
            yield silent
            return
        path, pace = self.path / UNDER_WAY, Pace()
        began, written = time.time(), time.monotonic()
        now = UnderWayFile(name=name, began=began, done=0, total=0, left=None, note="", at=began, spent=spent)
        write_json(path, now)

        def noted(done: int, total: int, note: str = "") -> None:
            nonlocal written
            progress(done, total, note)
            now.update(done=done, total=total, left=pace.left(done, total), note=note or now["note"], at=time.time())
            if time.monotonic() - written > NOTE_SECONDS:
                write_json(path, now)
                written = time.monotonic()

        yield noted
        path.unlink(missing_ok=True)

    def classifier_file(self, name: str) -> Path:
        """Where the weights of a classifier are."""
        return self.path / "classifiers" / f"{name}.safetensors"

    def save(self, name: str, classifier: Classifier, blueprint: Blueprint) -> str:
        """Write a classifier, with what its network is built from; return the file's SHA-256."""
        with workers.apart():
            if workers.rank() == 0:
                save_classifier(self.classifier_file(name), classifier, blueprint)
        return sha256(self.classifier_file(name))

    def load(self, name: str, into: Classifier, expected: str) -> Classifier:
        """Read a classifier's weights into `into`, and put it in evaluation mode.

        Raises
        ------
        InputError
            If the file is missing, or is not the one that was written.
        """
        if not self.has(name, expected):
            stage = self.path / "stages" / f"train-{name}.json"
            raise InputError(
                f"{self.classifier_file(name)} is missing or was changed. Delete {stage} to train it again."
            )
        into.load_state_dict(read_tensors(self.classifier_file(name)))
        return into.eval()

    def has(self, name: str, expected: str) -> bool:
        """Whether the file of a classifier's weights is there, and has this SHA-256."""
        path = self.classifier_file(name)
        return path.is_file() and sha256(path) == expected

    def measured(self, name: str) -> list[str]:
        """The finished stages that measured this classifier alone: `evaluate-NAME`, and an instrument's `...-NAME`."""
        stages = (file.stem for file in (self.path / "stages").glob(f"*-{name}.json"))
        return sorted(stage for stage in stages if not stage.startswith(("train-", "build-", "measure-")))

    def forget(self, stage: str, why: str, *others: str) -> None:
        """Let a stage be done again, and say why; and `others`, whose values follow from it."""
        self.console.say(f"{why} It is done again.")
        workers.barrier()  # all have read it
        with workers.apart():
            if workers.rank() == 0:
                for name in (*others, stage):  # last, so that a kill in between leaves the reason to come here again
                    self._file(name).unlink(missing_ok=True)
        self.number -= 1


def read_data(source: Source, console: Console) -> Data:
    """The images that a recipe or a job names, once it is known that there is a device to use them on."""
    find_device(source.device)
    with console.stage("read the data") as progress:
        return source.read(progress)


Job = TypeVar("Job", bound=Source)
SHARED = ("data", *READING, "label", "train_images", "test_images", "heldout", "seed")
"""Settings that decide which images a study has."""


def of_study(job: Job, *given: str | Path | None) -> Job:
    """The job with the data of the study that one of `given` is a part of; as it is where data are given.

    Parameters
    ----------
    job : Source
        What is asked. Settings that are given stay as they are.
    *given : str or Path
        Classifiers, of which one may be named as STUDY:NAME.
    """
    for one in given:
        if one:
            model_file(one)  # refuses a name that the study does not have
    studies = [study for one in given if one and (study := study_of(one))]
    if not studies or (job.data is not None and "data" in job.model_fields_set):
        return job
    recipe = read_recipe(studies[0] / "recipe.toml", is_run=False)
    taken = {name: getattr(recipe, name) for name in SHARED if name not in job.model_fields_set}
    return job.model_copy(update=taken)
