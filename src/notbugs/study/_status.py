"""Where a running, killed or finished study stands, from the files in its folder: as values, and as tables to print."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError, safe_open

from notbugs.construct.description import describe
from notbugs.errors import InputError, must, nearest_path
from notbugs.files import Damaged, check_links, has_writer, read_json
from notbugs.formats import compact, duration, speed, under_attack
from notbugs.progress import packed
from notbugs.study.sets import BY_NAME, EVERY_SET, FURTHER, MOST_OTHERS, SECTIONS, stage_names
from notbugs.study.written import StageFile, check_recipe, read_info, read_stage, read_under_way

if TYPE_CHECKING:  # a study without instruments is read without torch
    from notbugs.measure import Accuracy
    from notbugs.study.machine import DataInfo, Info

POSSIBLE = stage_names(True, [declared.name for declared in FURTHER], MOST_OTHERS)
"""Every stage that a study may have but for those of instruments."""


def _wanted(recipe: Mapping[str, Any]) -> list[str]:
    """The stages that a recipe asks for, but for those of instruments."""
    others = recipe.get("further", {}).get("others", 0)
    return stage_names(recipe.get("judge", False), recipe.get("sets", ()), others)


@dataclass(frozen=True)
class UnderWay:
    """The stage at work, or the one at which a run was killed.

    Attributes
    ----------
    name : str
        Of the stage.
    done, total : int
        Pieces of work done when it was last heard of; 0 of 0 before the first.
    left : float or None
        Seconds that the rest of it takes, if it goes on as until then.
    note : str
        The number of the moment.
    ago : float
        Seconds since it was last heard of.
    kept : str
        What a killed run would not have to do again; empty where that is nothing.
    """

    name: str
    done: int
    total: int
    left: float | None
    note: str
    ago: float
    kept: str


@dataclass(frozen=True)
class Status:
    """Where a study stands.

    Attributes
    ----------
    folder : Path
        The study's.
    name : str
        Of the study.
    data : dict
        Of `study.json`: name, train and test (counts), and more.
    state : {"running", "stopped", "finished"}
        Whether a process is at work, none is though something is left, or nothing is left.
    seconds : dict of str to float
        How long each finished stage took, in the order of a study, with what was spent on it before a run was stopped.
    speeds : dict of str to float
        Images a second of stages that go through images: all epochs of a training, a set's, those measured. What a
        stopped process did and lost takes time and counts no images.
    now : UnderWay or None
        The stage under way; None between two of them.
    left : tuple of str
        Stages that are neither finished nor under way, and instruments that are not finished.
    measured : dict of str to list of dict
        Every `Accuracy` measured so far, as plain values, by the classifier's name.
    sets : dict of str to dict
        Measured properties of sets so far, by the set's name.
    damaged : tuple of str
        Stages whose file is damaged: the study's command does them again.
    report : Path or None
        The page, if there is one.
    """

    folder: Path
    name: str
    data: DataInfo
    state: Literal["running", "stopped", "finished"]
    seconds: dict[str, float]
    speeds: dict[str, float]
    now: UnderWay | None
    left: tuple[str, ...]
    measured: dict[str, list[dict[str, Any]]]
    sets: dict[str, dict[str, Any]]
    damaged: tuple[str, ...]
    report: Path | None

    @property
    def accuracies(self) -> dict[str, list[Accuracy]]:
        """Measured so far, by the classifier's name."""
        from notbugs.measure import Accuracy

        return {name: [Accuracy(**item) for item in items] for name, items in self.measured.items()}


def studies_in(folder: str | Path) -> list[Path]:
    """The folder of a study; of a run with several seeds, or of several labels, those of its studies."""
    folder = Path(folder)
    if (folder / "recipe.toml").exists():
        return [folder]
    parts = [*folder.glob("seed-*/"), *folder.glob("label-*/")]
    parts.sort(key=lambda one: (len(one.name), one.name))
    found = [study for part in parts for study in studies_in(part) if (study / "recipe.toml").exists()]
    return found or [folder]


def status(folder: str | Path) -> Status:
    """Where a study stands; only reads, also while a process is writing there.

    Parameters
    ----------
    folder : Path
        The study's.

    Raises
    ------
    InputError
        If `folder` holds no study, or one that cannot be read.
    """
    try:
        return _read(Path(folder))
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be read by this user. Ask its owner.") from error
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}).") from error


def _read(folder: Path) -> Status:
    check_links(folder)
    is_running = has_writer(folder)  # first: what ends while we read must not look killed
    recipe, info = _claim(folder)
    stages, damaged = _finished_stages(folder)
    now = _under_way(folder, recipe, stages)
    left = [name for name in _wanted(recipe) if name not in stages and not (now and now.name == name)]
    left += _left_instruments(folder, recipe, stages)
    is_finished = not left and not now and (folder / "results.json").exists()
    report = folder / "report.html"
    value_of = {name: stage["value"] for name, stage in stages.items()}
    return Status(
        folder=folder,
        name=recipe["name"],
        data=info["data"],
        state="running" if is_running else "finished" if is_finished else "stopped",
        seconds={name: stage["seconds"] for name, stage in stages.items()},
        speeds={
            name: images / stage["seconds"]
            for name, stage in stages.items()
            if (images := stage.get("images")) and stage["seconds"]
        },
        now=now,
        left=tuple(left),
        measured={name: value_of[f"evaluate-{name}"] for name in SECTIONS if f"evaluate-{name}" in value_of},
        sets={plan.name: value_of[f"measure-{plan.name}"] for plan in EVERY_SET if f"measure-{plan.name}" in value_of},
        damaged=tuple(damaged),
        report=report if report.exists() else None,
    )


def _claim(folder: Path) -> tuple[dict[str, Any], Info]:
    """The recipe and `study.json`, as plain values: no library that a recipe needs is needed to read it."""
    try:
        return check_recipe(folder), read_info(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise must(
            "folder",
            "hold a study: a recipe.toml and a study.json",
            str(folder),
            f"Give the folder of a `notbugs run`; `notbugs info` tells of a constructed set.{nearest_path(folder)}",
        ) from None


def _finished_stages(folder: Path) -> tuple[dict[str, StageFile], list[str]]:
    """What finished stages left, in the order of a study, and the names of those whose file is damaged."""
    stages, damaged, own = {}, [], set(POSSIBLE)
    for file in sorted((folder / "stages").glob("*.json"), key=_place):
        name = file.stem if file.stem in own else _present_name(file.stem)
        try:
            stages[name] = read_stage(file)
        except Damaged:
            damaged.append(name)
    return stages, damaged


def _present_name(stage: str) -> str:
    """The name today of an instrument's stage."""
    from notbugs.study.instruments import FORMER

    kind, dash, rest = stage.partition("-")
    return f"{FORMER.get(kind, kind)}{dash}{rest}"


def _place(file: Path) -> tuple[int, int]:
    """In the order of a study; instruments' stages follow, in that in which they ended."""
    names = POSSIBLE
    return names.index(file.stem) if file.stem in names else len(names), file.stat().st_mtime_ns


def _under_way(folder: Path, recipe: dict[str, Any], stages: Collection[str]) -> UnderWay | None:
    noted = read_under_way(folder)
    if noted is None or noted["name"] in stages:  # killed between two stages
        return None
    return UnderWay(
        name=noted["name"],
        done=noted["done"],
        total=noted["total"],
        left=noted["left"],
        note=noted["note"],
        ago=max(0.0, time.time() - noted["at"]),
        kept=_kept(folder, recipe, noted["name"]),
    )


def _kept(folder: Path, recipe: dict[str, Any], stage: str) -> str:
    """What is on disk of an unfinished stage: epochs of a training, shards of a set."""
    work, _, name = stage.partition("-")
    try:
        if work == "build":
            described = describe(folder / "sets" / name, check=False)
            shards = f"{described['shards']} of {described['shards_wanted']} shards"
            return (
                f"{shards}, {described['images']} of {described['images_wanted']} images" if described["shards"] else ""
            )
        if work == "train":
            with safe_open(folder / "classifiers" / f"{name}.unfinished.safetensors", "np") as file:
                epoch = int(file.get_tensor("epoch"))
            epochs = _training(recipe, name)["epochs"] if name in SECTIONS else None
            return f"epoch {epoch} of {epochs}" if epochs else f"epoch {epoch}"
    except (InputError, SafetensorError, OSError):  # nothing yet, or gone since: the stage has just ended
        pass
    return ""


def _training(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    """As `Recipe.training` has it, of plain values."""
    of_sets, beside = recipe.get("trained_on", {}), BY_NAME[name].beside if name in BY_NAME else ""
    return of_sets.get(name) or of_sets.get(beside) or recipe[SECTIONS[name]]


def _left_instruments(folder: Path, recipe: dict[str, Any], stages: Collection[str]) -> list[str]:
    """Those that the recipe asks for and that `results.json` has not, from the last one with a finished stage."""
    written = recipe.get("instruments", {})
    if not written.get("all") and not any(isinstance(one, dict) and one.get("on") for one in written.values()):
        return []
    from notbugs.study.instruments import Instruments, renamed

    settings = renamed(written)
    names = [name for name in Instruments.model_fields if name != "all"]
    wanted = [name for name in names if settings.get("all") or settings.get(name, {}).get("on")]
    try:
        results = read_json(folder / "results.json")
    except (FileNotFoundError, Damaged):
        begun = [number for number, name in enumerate(wanted) if any(s.partition("-")[0] == name for s in stages)]
        return wanted[max(begun, default=0) :]
    measured = renamed(results.get("instruments", {}))
    return [name for name in wanted if measured.get(name) is None]


WORKS = ("build", "measure", "train", "evaluate")
MEDIANS = {"l2": ".3g", "linf": ".2g", "matching_loss": ".2g"}


def status_tables(standing: Status) -> Iterator[Table]:
    """What `status` found, as tables to print: where it stands, how long it took, and the numbers so far."""
    yield _overview(standing)
    if standing.seconds:
        yield _by_work("time", {name: duration(seconds) for name, seconds in standing.seconds.items()})
    speeds = _by_work("images/s", {name: speed(images) for name, images in standing.speeds.items()})
    if speeds.row_count:
        yield speeds
    if others := _others(standing):
        yield others
    if standing.measured:
        yield _accuracies(standing)
    if standing.sets:
        yield _sets(standing)


@dataclass(frozen=True)
class _Items:
    """A list, in lines that end between its items."""

    items: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        first, *others = self.items
        yield Text("\n".join(packed(f"{first}," if others else first, others, options.max_width, indent="")))


def _overview(standing: Status) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    data, spent = standing.data, sum(standing.seconds.values())
    own = set(POSSIBLE)  # not an instrument's
    base, is_stopped = [name for name in standing.seconds if name in own], standing.state == "stopped"
    count = (
        len(base) + sum(name in own for name in standing.left) + (standing.now is not None and standing.now.name in own)
    )
    lines: dict[str, str | Sequence[str]] = {
        "study": f"{standing.name}: {standing.state}",
        "folder": str(standing.folder),
        "data": f"{data['name']}, {data['train']:,} training and {data['test']:,} test images",
        "done": f"{len(base)} of {count} stages{_more(standing, base)}, in {duration(spent)}",
        **(_now(standing.now, standing.state) if standing.now else {}),
        **({"left": [_title(name) for name in standing.left]} if standing.left else {}),
        **({"damaged": [_title(name) for name in standing.damaged]} if standing.damaged else {}),
        **({"go on": _go_on(standing.folder)} if is_stopped else {}),
        "report": str(standing.report) if standing.report else _no_report(standing),
    }
    for name, line in lines.items():
        text = Text(line) if isinstance(line, str) else _Items(line)  # names of studies and data are not markup
        table.add_row(name, text)
    return table


def _go_on(folder: Path) -> str:
    """The command, with the code of a user's own in it, which a file alone never runs."""
    recipe = check_recipe(folder)
    transferred = recipe.get("instruments", {}).get("transfer", {}).get("architectures", [])
    named = {"--arch": [recipe["architecture"]["name"]], "--instruments.transfer.architectures": transferred}
    code = [word for flag, names in named.items() if any(map(_is_own_code, names)) for word in (flag, *names)]
    return shlex.join(["notbugs", "run", str(folder / "recipe.toml"), *code, "--out", str(folder)])


def _is_own_code(architecture: str) -> bool:
    if ":" not in architecture:  # most often, and then torch is not loaded
        return False
    from notbugs.models.registry import is_own_code

    return is_own_code(architecture)


def _more(standing: Status, base: list[str]) -> str:
    more = len(standing.seconds) - len(base)
    return f", and {more} of instruments" if more else ""


def _no_report(standing: Status) -> str:
    return shlex.join(["notbugs", "report", str(standing.folder)]) if standing.state == "finished" else "none yet"


def _now(now: UnderWay, state: str) -> dict[str, str | Sequence[str]]:
    parts = [_title(now.name)]
    if now.total:
        parts.append(f"{now.done}/{now.total}")
    if now.left is not None and state == "running":
        parts.append(f"about {duration(now.left)} left")
    parts += [*now.note.split(", "), f"{duration(now.ago)} ago"] if now.note else [f"{duration(now.ago)} ago"]
    return {("now" if state == "running" else "killed at"): parts, **({"kept": now.kept} if now.kept else {})}


def _title(stage: str) -> str:
    return stage.replace("-", " ", 1)


def _by_work(head: str, of_stage: Mapping[str, str]) -> Table:
    """A row a classifier and its set, a column a kind of stage."""
    table = _table(head, *WORKS)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name in SECTIONS:
        cells = [of_stage.get(f"{work}-{name}", "") for work in WORKS]
        if any(cells):
            table.add_row(name, *cells)
    return table


def _others(standing: Status) -> Table | None:
    """All other stages, those of a kind together; None where there are none."""
    named = {f"{work}-{name}" for work in WORKS for name in SECTIONS}
    kinds: dict[str, list[float]] = {}
    for name, seconds in standing.seconds.items():
        if name not in named:
            kinds.setdefault(name.partition("-")[0], []).append(seconds)
    table = _table("other stages", "number", "time")
    for kind, times in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        table.add_row(Text(kind), str(len(times)), duration(sum(times)))
    return table if kinds else None


def _accuracies(standing: Status) -> Table:
    """A row a classifier, a column a radius, per cent with 95 % intervals."""
    rows = {
        name: {_under(item["attack"]): compact(SimpleNamespace(**item["share"])) for item in items}
        for name, items in standing.measured.items()
    }
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    table = _table("accuracy (%)", *heads)
    for name, row in rows.items():
        table.add_row(name, *(row.get(head, "") for head in heads))
    return table


def _under(attack: dict[str, Any] | None) -> str:
    return under_attack(attack["name"], attack["norm"], attack["eps"]) if attack else "clean"


def _sets(standing: Status) -> Table:
    """A row a set: success on its source and on another classifier, per cent; medians of distances and of the loss."""
    table = _table("success (%)", "source", "another", "l2", "l-inf", "loss")
    for name, value in standing.sets.items():
        shares = [compact(SimpleNamespace(**value[f"success_{on}"])) for on in ("source", "independent")]
        medians = [f"{value[of]['median']:{digits}}" if value[of] else "" for of, digits in MEDIANS.items()]
        table.add_row(name, *shares, *medians)
    return table


def _table(*heads: str) -> Table:
    table = Table(*heads, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    return table
