"""The folder of a study: its recipe, its finished stages, and what they left."""

from __future__ import annotations

import difflib
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tomli_w

from notbugs.classifier import Classifier
from notbugs.errors import InputError
from notbugs.files import read_tensors, sha256, write_json, write_tensors, write_text
from notbugs.progress import Progress
from notbugs.study.asked import Instruments
from notbugs.study.recipe import Recipe, read_recipe


@runtime_checkable
class Console(Protocol):
    """Where a study tells how far it is."""

    def stage(self, title: str) -> AbstractContextManager[Progress]:
        """A bar for one stage."""
        ...

    def say(self, text: str) -> None:
        """One line."""
        ...


class StudyFolder:
    """Runs each stage once: what is finished is on disk, and is read from there the next time.

        recipe.toml             every setting, as resolved
        study.json              data, versions and device of the run
        stages/NAME.json        what each finished stage measured, and how long it took
        classifiers/NAME.safetensors
        outcomes/NAME.safetensors  what became of each test image
        sets/NAME/              constructed sets
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

    def claim(self, recipe: Recipe, info: dict[str, Any]) -> dict[str, Any]:
        """Write down what the study is, or check that it is the one already here; return what is on disk.

        `info["data"]` must not change between runs of one study.
        """
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
            return found
        info = info | {"created": datetime.now(UTC).isoformat(timespec="seconds")}
        write_text(recipe_file, recipe.toml())
        write_json(info_file, info)
        return info

    def stage(self, name: str, title: str, work: Callable[[Progress], Any]) -> Any:
        """The JSON value of a stage: from disk if it is finished, else from `work`, kept on disk."""
        self.number += 1
        path = self.path / "stages" / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        began = time.monotonic()
        numbered = f"{self.number:2}/{self.count} {title}" if self.number <= self.count else title
        with self.console.stage(numbered) as progress:
            value = work(progress)
        write_json(path, {"name": name, "seconds": round(time.monotonic() - began, 2), "value": value})
        return value

    def stages(self) -> list[dict[str, Any]]:
        """Name and seconds of every finished stage, in the order in which they ended."""
        files = sorted((self.path / "stages").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return [{"name": stage["name"], "seconds": stage["seconds"]} for stage in found]

    def classifier_file(self, name: str) -> Path:
        """Where the weights of a classifier are."""
        return self.path / "classifiers" / f"{name}.safetensors"

    def save(self, name: str, classifier: Classifier) -> str:
        """Write a classifier's weights; return the file's SHA-256."""
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
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"The 'out' must be writable. {above} is not: name another with --out.")


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
