"""The folder of a study: its recipe, its finished stages, and what they left."""

from __future__ import annotations

import difflib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tomli_w

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.data import Data
from notbugs.errors import InputError
from notbugs.files import only_writer, read_tensors, sha256, write_json, write_tensors, write_text
from notbugs.progress import Pace, Progress, silent
from notbugs.study.instruments import Instruments
from notbugs.study.recipe import Recipe, read_recipe
from notbugs.study.sections import Source
from notbugs.study.stages import Step, Tell

UNDER_WAY = "under-way.json"
NOTE_SECONDS = 2.0


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

        recipe.toml             every setting, as resolved
        study.json              data, versions and device of the run
        stages/NAME.json        what each finished stage measured, and how long it took
        classifiers/NAME.safetensors
        outcomes/NAME.safetensors  what became of each test image
        sets/NAME/              constructed sets
        under-way.json          the stage that is at work, or at which a run was killed
        results.json, gallery.safetensors, report.html

    Raises
    ------
    InputError
        If the folder is a file, is not writable, or holds another study.
    """

    def __init__(self, path: Path, console: Console, stages: int) -> None:
        self.path = path
        self.console = console
        self.count = stages
        self.number = 0

    @contextmanager
    def claimed(self, recipe: Recipe, info: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Hold the folder, after writing down what the study is or checking that it is the one already here.

        Yields what `study.json` has. `info["data"]` must not change between runs of one study.

        Raises
        ------
        InputError
            If the folder holds another study, or another process holds it.
        """
        is_first = workers.rank() == 0
        with ExitStack() as held:
            with workers.apart():
                if is_first:
                    held.enter_context(only_writer(self.path))
                    self._claim(recipe, info)
            yield json.loads((self.path / "study.json").read_text(encoding="utf-8"))

    def _claim(self, recipe: Recipe, info: dict[str, Any]) -> None:
        recipe_file, info_file = self.path / "recipe.toml", self.path / "study.json"
        if recipe_file.exists():
            before = read_recipe(recipe_file)
            _refuse_other_recipe(self.path, before, recipe)
            if before != recipe:
                write_text(recipe_file, recipe.toml())
        if info_file.exists():
            found = json.loads(info_file.read_text(encoding="utf-8"))
            if found["data"] != info["data"]:
                raise InputError(
                    f"{self.path} holds a study of other data: fingerprint {found['data']['fingerprint'][:12]} there, "
                    f"{info['data']['fingerprint'][:12]} now. Name another folder with --out."
                )
            return
        write_text(recipe_file, recipe.toml())
        write_json(info_file, info | {"created": datetime.now(UTC).isoformat(timespec="seconds")})

    def stage(self, name: str, title: str, work: Callable[[Progress], Any], tell: Tell | None = None) -> Any:
        """The JSON value of a stage: from disk if it is finished, else from `work`, told, and kept on disk.

        Of several workers the first does it.
        """
        return self.stages([Step(name, title, work, tell)])[0]

    def stages(self, steps: Sequence[Step]) -> list[Any]:
        """The JSON values of stages that do not need each other; several workers do different ones at a time."""
        missing = self._missing(steps)
        with workers.apart():
            for number, step in enumerate(missing):
                if number % workers.count() == workers.rank():
                    self._do(step, steps.index(step), writes=True)
        return self._values(steps)

    def shared_stage(self, step: Step) -> Any:
        """The JSON value of a stage on which all workers work together."""
        if self._missing([step]):
            self._do(step, 0, writes=workers.rank() == 0)
            workers.barrier()
        return self._values([step])[0]

    def _missing(self, steps: Sequence[Step]) -> list[Step]:
        found = [step for step in steps if not self._file(step.name).exists()]
        workers.barrier()  # no worker may finish a stage before all have looked
        return found

    def _do(self, step: Step, place: int, *, writes: bool) -> None:
        began, number = time.monotonic(), self.number + 1 + place
        title = f"{number:2}/{self.count} {step.title}" if number <= self.count else step.title
        with self.console.stage(title) as progress, self._noted(step.name, progress) as noted:
            value = step.work(noted)
        if writes:
            seconds = round(time.monotonic() - began, 2)
            write_json(self._file(step.name), {"name": step.name, "seconds": seconds, "value": value})
        if step.tell:
            self.console.say(*step.tell(value))

    def _values(self, steps: Sequence[Step]) -> list[Any]:
        self.number += len(steps)
        return [json.loads(self._file(step.name).read_text(encoding="utf-8"))["value"] for step in steps]

    def _file(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    @contextmanager
    def _noted(self, name: str, progress: Progress) -> Iterator[Progress]:
        """`progress`, which also writes down how far the stage is, for `status`; a killed stage leaves that behind."""
        if workers.rank() > 0:
            yield silent
            return
        path, pace = self.path / UNDER_WAY, Pace()
        found: dict[str, Any] = {"name": name, "began": time.time(), "done": 0, "total": 0, "left": None, "note": ""}
        write_json(path, found | {"at": time.time()})
        written = time.monotonic()

        def noted(done: int, total: int, note: str = "") -> None:
            nonlocal written
            progress(done, total, note)
            found.update(done=done, total=total, left=pace.left(done, total), note=note or found["note"])
            if time.monotonic() - written > NOTE_SECONDS:
                write_json(path, found | {"at": time.time()})
                written = time.monotonic()

        yield noted
        path.unlink(missing_ok=True)

    def finished(self) -> list[dict[str, Any]]:
        """Name and seconds of every finished stage, in the order in which they ended."""
        files = sorted((self.path / "stages").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return [{"name": stage["name"], "seconds": stage["seconds"]} for stage in found]

    def classifier_file(self, name: str) -> Path:
        """Where the weights of a classifier are."""
        return self.path / "classifiers" / f"{name}.safetensors"

    def save(self, name: str, classifier: Classifier) -> str:
        """Write a classifier's weights; return the file's SHA-256."""
        with workers.apart():
            if workers.rank() == 0:
                write_tensors(self.classifier_file(name), classifier.state_dict())
        return sha256(self.classifier_file(name))

    def load(self, name: str, into: Classifier, expected: str) -> Classifier:
        """Read a classifier's weights into `into`, and put it in evaluation mode.

        Raises
        ------
        InputError
            If the file is missing, or is not the one that was written.
        """
        path = self.classifier_file(name)
        if not path.exists() or sha256(path) != expected:
            stage = self.path / "stages" / f"train-{name}.json"
            raise InputError(f"{path} is missing or was changed. Delete {stage} to train it again.")
        into.load_state_dict(read_tensors(path))
        return into.eval()


def read_data(source: Source, console: Console) -> Data:
    """The images that a recipe or a job names."""
    with console.stage("read the data") as progress:
        return source.read(progress)


def check_writable(path: Path) -> None:
    """Refuse an output folder that cannot be written, before any work.

    Raises
    ------
    InputError
        If `path` or a folder above it is a file, or is not writable.
    """
    above = path
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise InputError(f"The 'out' must be a folder. {above} is a file: name another with --out.")
    try:
        with tempfile.TemporaryFile(dir=above):  # os.access would promise root too much
            pass
    except OSError as error:
        raise InputError(f"The 'out' must be writable. {above} is not ({error.strerror}): name another.") from None


def _refuse_other_recipe(path: Path, found: Recipe, wanted: Recipe) -> None:
    """No setting may change but this: an instrument that was off is on."""
    names = set(Instruments.model_fields)
    free = {name for name in names if name == "all" or not found.instruments.wanted(name)}
    instruments = found.instruments.model_copy(update={name: getattr(wanted.instruments, name) for name in free})
    there = found.model_copy(update={"instruments": instruments})
    if there.settings() == wanted.settings():
        return
    before, after = (tomli_w.dumps(recipe.settings()).splitlines() for recipe in (found, wanted))
    lines = difflib.unified_diff(before, after, "there", "now", n=0, lineterm="")
    changes = "\n".join(f"  {line}" for line in list(lines)[2:] if line[:2] != "@@")
    raise InputError(
        f"{path} holds a study with other settings. Name another folder with --out, or give these:\n{changes}"
    )
