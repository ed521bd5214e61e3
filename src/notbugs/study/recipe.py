"""Recipes: every setting of a study, in a TOML file, checked before any work."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from notbugs import catalogue
from notbugs.classifier import default_device
from notbugs.data import Data
from notbugs.errors import InputError, check_choice, described, in_one_line, must, nearest_path
from notbugs.files import LOG, check_regular
from notbugs.models.registry import is_own_code
from notbugs.networks import code_of
from notbugs.records import Record
from notbugs.study.instruments import FORMER, INSTRUMENTS, Instruments, renamed
from notbugs.study.sections import Architecture, Further, Matching, Relabelling, Source, Storage, StudyEvaluation
from notbugs.study.sets import BY_NAME, FOR_HALVES, FURTHER, JUDGE, RELABELLED, SECTIONS, Trained, chosen_sets
from notbugs.threat import threat
from notbugs.training import Training

ALL_RELABELLED = "relabelled"
"""What stands for every relabelled set that has no table of its own."""
NEUTRAL = ("name", "data", "seed", "device", "precision", "compile", "instruments", "judge", "sets", "further")
"""Settings that may differ from a recipe's while what it expects still applies; of `data`, its name is compared."""


class Settings(Source):
    """Everything that decides the numbers of a study.

    Examples
    --------
    >>> nb.study.Settings(seed=3).seed
    3
    """

    name: str = Field("study", max_length=100, pattern=r"^[\w.-]+$", description="Name of the study.")
    architecture: Architecture = Field(Architecture(), description="Of every classifier that has no other.")
    architecture_on: dict[str, Architecture] = Field(
        {},
        description="Of the classifier on one set, on its controls, and on further sets compared with it, where it is "
        "another one: `[architecture_on.D_det]`, or `[architecture_on.relabelled]` of all relabelled sets; of the "
        "judge, `[architecture_on.judge]`. Without a name it is that of [architecture] but for what it says.",
    )
    standard: Training = Field(Training(), description="Of the standard and the independent classifier.")
    robust: Training = Field(Training(), description="Of the robust classifier.")
    constructed: Training = Field(Training(), description="Of the classifiers on constructed sets.")
    trained_on: dict[str, Training] = Field(
        {},
        description="Of the classifier on one set, and on further sets compared with it, where they are trained "
        "otherwise: `[trained_on.D_det]` is of D_bugs as well, `[trained_on.relabelled]` of all relabelled sets; of "
        "the judge, `[trained_on.judge]`. What it does not set is not that of [constructed] or [robust].",
    )
    matching: Matching = Field(Matching(), description="Feature matching, which makes D_R and D_NR.")
    storage: Storage = Field(Storage(), description="How constructed sets are stored.")
    sets: tuple[str, ...] = Field(
        (), description="Further constructed sets, by name, or all: see docs/explanation/sets.md."
    )
    further: Further = Field(Further(), description="How further sets are built.")
    relabelling: Relabelling = Field(Relabelling(), description="The search behind relabelled sets.")
    evaluation: StudyEvaluation = Field(
        StudyEvaluation(), description="At which radii, and by which attacks, classifiers are evaluated."
    )
    instruments: Instruments = Field(Instruments(), description="What is measured beyond the paper's accuracies.")
    scaled_down: bool = Field(False, description="Whether these are the settings for a machine without accelerator.")
    judge: bool = Field(
        False,
        description="Train a second robust classifier, from another seed, to say what the images of D_R resemble.",
    )
    pair: tuple[int, int] = Field((0, 1), description="Two classes to whose features the theory is fitted.")

    @field_validator("trained_on", "architecture_on")
    @classmethod
    def _check_sets(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        main = info.data.get("architecture")  # missing where it was refused
        for name, settings in given.items():
            check_choice(str(info.field_name), name, (ALL_RELABELLED, *BY_NAME, JUDGE.name))
            if isinstance(settings, Architecture) and "name" in settings.model_fields_set:
                if is_own_code(settings.name):
                    raise must(str(info.field_name), "name architectures that notbugs knows", settings.name)
            elif isinstance(settings, Architecture) and main:
                given[name] = main.but(settings)
        if shared := given.pop(ALL_RELABELLED, None):
            given |= dict.fromkeys((name for name in RELABELLED if name not in given), shared)
        return given

    @field_validator("sets")
    @classmethod
    def _check_further(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return chosen_sets(given)


class Expected(Record):
    """An accuracy that a recipe is expected to give: between `low` and `high`, both in [0, 1]."""

    classifier: Trained = Field(description="Whose.")
    radius: float = Field(0.0, ge=0, allow_inf_nan=False, description="Of the evaluation's attack; 0 is clean.")
    attack: str = Field("strong", description="Whose number is expected: strong, or pgd, the paper's protocol.")
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    source: str = Field(min_length=1, description="Where the expectation comes from.")

    @model_validator(mode="after")
    def _check_order(self) -> Expected:
        if self.low > self.high:
            raise ValueError("low may not be above high")
        return self


Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
"""Of a setting, with dots."""


class Recipe(Settings):
    """Settings, and what they are expected to give.

    Examples
    --------
    >>> nb.study.read_recipe('digits').relabelling.eps
    1.5
    """

    about: str = Field("", max_length=200, description="What the recipe does, in one sentence.")
    expected_time: str = Field("", description="How long the study takes, and on what.")
    expected_data: str = Field("", description="Name of the data set that the expectations are of; any if not given.")
    expected: tuple[Expected, ...] = Field((), description="Ranges of accuracies that the recipe is expected to give.")
    departures: tuple[Name, ...] = Field((), description="Settings that were changed, so that nothing is expected.")

    def training(self, name: str) -> Training:
        """How a classifier of a study is trained: as its set says, or the set that it is compared with, or its section.

        A classifier that no study has, as an instrument's own, is trained as `[constructed]` says.
        """
        beside = BY_NAME[name].beside if name in BY_NAME else ""
        section = getattr(self, SECTIONS.get(name, "constructed"))
        return self.trained_on.get(name) or self.trained_on.get(beside) or section

    def network(self, name: str) -> Architecture:
        """The architecture of a classifier of a study: of its set, or of the set that it is compared with."""
        beside = BY_NAME[name].beside if name in BY_NAME else ""
        return self.architecture_on.get(name) or self.architecture_on.get(beside) or self.architecture

    def code(self) -> dict[str, tuple[str, ...]]:
        """The settings that name code of a user's own, with their values."""
        architectures = {
            "architecture.name": (self.architecture.name,),
        }
        if self.instruments.wanted("transfer"):  # else none of them is made
            architectures["instruments.transfer.architectures"] = self.instruments.transfer.architectures
        return {setting: names for setting, names in architectures.items() if any(map(is_own_code, names))}

    def own_code(self, data: Data, *others: Architecture) -> dict[str, str]:
        """The hash of the code of every architecture that is a user's own, by its name; of `others`, too."""
        every = [self.architecture, *others]
        if self.instruments.wanted("transfer"):
            every += map(Architecture.parse, self.instruments.transfer.architectures)
        return {str(one): code_of(one.new(data, 0, self).network) for one in every if is_own_code(one.name)}

    def command(self, file: Path) -> str:
        """The command that repeats the study whose recipe is in `file`."""
        names = {"architecture.name": "arch"}
        flags = (f" --{names.get(setting, setting)} {shlex.join(code)}" for setting, code in self.code().items())
        return f"notbugs run {shlex.quote(str(file))}{''.join(flags)} --out NEW_FOLDER"

    def settings(self) -> dict[str, Any]:
        """The settings as plain values; what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True, include=set(Settings.model_fields))

    def toml(self) -> str:
        """The recipe as a TOML file that `read_recipe` reads back to an equal recipe."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


Toml = dict[str, Any]
"""A table of a recipe as it was read or said: plain values, of which none was checked."""
_STATED = frozenset(Recipe.model_fields) - frozenset(Settings.model_fields)


def recipe_names() -> list[str]:
    """The recipes that come with notbugs.

    Examples
    --------
    >>> 'digits' in nb.study.recipe_names()
    True
    """
    return catalogue.names()


def read_recipe(source: str | Path, overrides: dict[str, Any] | None = None, *, is_run: bool = True) -> Recipe:
    """Read a recipe by name or from a TOML file.

    Where it is to run without an accelerator, the values of its table `[small]`, if it has one, take the place of its
    own; `scaled_down` then says so.

    Parameters
    ----------
    source : str or Path
        One of `recipe_names()`, or a path that ends in `.toml`.
    overrides : dict, optional
        Nested values that take the place of the file's. Those that change the numbers are kept in `departures`.
    is_run : bool
        Whether its networks will be made. A file is only data, so code of a user's own, as the architecture
        `module:function`, must then be named by `overrides`.

    Raises
    ------
    InputError
        If there is no such recipe, the file is not TOML, a value breaks a rule, or the file would run code.

    Examples
    --------
    >>> nb.study.read_recipe('digits', {'seed': 3}).seed
    3
    """
    if str(source).endswith(".toml"):
        file = _read_toml(Path(source))
        recipe = _resolve(file, overrides or {}, str(source))
        if is_run:
            _refuse_code(recipe, overrides or {}, str(source))
            _tell_of_former_names(file, str(source))
        return recipe
    return _resolve(_read_toml(catalogue.recipe_file(str(source))), overrides or {}, f"recipe {source}")


def _tell_of_former_names(file: Toml, where: str) -> None:
    for former in sorted(FORMER.keys() & file.get("instruments", {}).keys()):
        LOG.warning(
            f"{where}: [instruments.{former}] is now [instruments.{FORMER[former]}]; "
            "the old name will be removed in version 1.0."
        )


def _refuse_code(recipe: Recipe, overrides: Toml, where: str) -> None:
    """Code of a user's own runs only where the user says so, never because a file does."""
    said = flat(overrides)
    for setting, code in recipe.code().items():
        if setting not in said:
            raise code_in_file(where, f"--{setting}", *code)


def code_in_file(where: str | Path, flag: str, *values: str) -> InputError:
    """What is said of a file that names code, with the flag by which a person names it too."""
    code = next(filter(is_own_code, values))
    return InputError(
        f"{where} names code to run, {code!r}. A file alone never makes notbugs run code: "
        f"if you trust it, say so in the command with {flag} {shlex.join(values)}."
    )


def folder_name(recipe: Recipe) -> str:
    """What a study's folder is called: as its recipe, and for the recipe of any images as its data.

    Examples
    --------
    >>> nb.study.folder_name(nb.study.read_recipe('digits'))
    'digits'
    """
    return re.sub(r"[^\w.-]+", "-", Path(recipe.data).name) if recipe.name == "images" else recipe.name


def _read_toml(path: Path | Traversable) -> Toml:
    if isinstance(path, Path):
        check_regular(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no recipe file {path}.{nearest_path(Path(str(path)))}") from None
    except RecursionError:
        raise InputError(f"The recipe {path} cannot be read: it is nested too deep.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else in_one_line(error)
        raise InputError(f"The recipe {path} cannot be read: {reason}.") from error


def _merge(base: Toml, over: Toml) -> Toml:
    merged = dict(base)
    for key, value in over.items():
        deeper = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if deeper else value
    return merged


def _resolve(file: Toml, overrides: Toml, where: str) -> Recipe:
    full = _under_names_of_today({name: value for name, value in file.items() if name != "small"}, where)
    small, overrides = file.get("small", {}), _under_names_of_today(overrides, where)
    if not isinstance(small, dict):
        raise must(f"{where}: small", "be a table of settings, [small]", small)
    small = _under_names_of_today(small, where)
    here = _merge(full, small | {"scaled_down": True}) if small and _without_accelerator(full | overrides) else full
    if "scaled_down" in overrides:
        rule, remedy = "be left out: it follows from the device", "Give --device cpu for a recipe's small form."
        raise must(f"{where}: scaled_down", rule, overrides["scaled_down"], remedy)
    resolved = _validate(_merge(_without_options(here, overrides), overrides), where)
    _check_effect(resolved, overrides, where)
    if not resolved.expected:
        return resolved
    stated = _validate(full, where)
    _check_expected(stated, where)
    before, now = (flat(recipe.model_dump(exclude={*NEUTRAL, *_STATED})) for recipe in (stated, resolved))
    changed = sorted(name for name in before | now if before.get(name) != now.get(name))
    return resolved.model_copy(update={"departures": tuple(dict.fromkeys((*stated.departures, *changed)))})


def _under_names_of_today(settings: Toml, where: str) -> Toml:
    """The same, with its instruments under the names that they have now, so that what overrides them has these, too."""
    instruments = settings.get("instruments")
    if not isinstance(instruments, dict):
        return settings
    try:
        return settings | {"instruments": renamed(instruments)}
    except ValueError as error:
        raise InputError(f"{where}: The 'instruments' have one twice: {error}.") from None


def _without_options(file: Toml, overrides: Toml) -> Toml:
    """The file's values, but for options of its architecture, on whatever set, where another one takes its place."""
    architecture = overrides.get("architecture")
    named = architecture.get("name") if isinstance(architecture, dict) else None
    if named is None or named == file.get("architecture", {}).get("name", Architecture().name):
        return file
    on_sets = file.get("architecture_on", {})
    whole = {key: value for key, value in on_sets.items() if "name" in value} if isinstance(on_sets, dict) else on_sets
    return file | {"architecture": {}, "architecture_on": whole}


def _without_accelerator(settings: Toml) -> bool:
    device = settings.get("device", "auto")
    return device == "cpu" or (device == "auto" and default_device().type == "cpu")


def _check_expected(recipe: Recipe, where: str) -> None:
    radii = {item.radius for item in recipe.expected} - {0.0, *recipe.evaluation.radii}
    if radii and not recipe.departures:
        raise InputError(f"{where}: The 'expected' must be at radii of the evaluation. Got {min(radii):g} instead.")
    attacks = {recipe.evaluation.attack.name, recipe.evaluation.pgd.name}
    for item in recipe.expected:
        if item.attack not in attacks and not recipe.departures:
            raise must("expected", f"be by an attack of the evaluation, {' or '.join(sorted(attacks))}", item.attack)


def _validate(settings: Toml, where: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError as error:
        raise InputError(f"{where}: {described(error)}") from None
    for eps in recipe.evaluation.radii:
        threat(recipe.evaluation.norm, eps)
    _check_sets_of_instruments(recipe, where)
    for table, name in (("robust", "robust"), (f"trained_on.{JUDGE.name}", JUDGE.name)):
        if not recipe.training(name).adversary:
            raise InputError(f"{where}: The '{table}' training must have an adversary. Set {table}.adversary.eps.")
    return recipe


def _check_effect(recipe: Recipe, overrides: Toml, where: str) -> None:
    """Refuse settings of instruments that the study does not have: a file may hold some for another day, a command not.

    Settings of sets that it does not have yet must stand from its beginning, where they are to be added later.
    """
    asked = overrides.get("instruments")
    for name, given in asked.items() if isinstance(asked, dict) else ():
        if name == "all" or not isinstance(given, dict):
            continue
        if recipe.instruments.all and given.get("on") is False:
            remedy = "Give --instruments.no-all, and name those that the study is to have."
            raise must(f"{where}: instruments.{name}.on", "not be false where the study has all of them", False, remedy)
        used_by = (name, *(each.name for each in INSTRUMENTS if name in each.uses))
        if any(map(recipe.instruments.wanted, used_by)):
            continue
        of_halves = name == "usefulness" and any(BY_NAME[one].half for one in recipe.sets)
        for setting, value in flat(given).items():
            if setting != "on" and not (of_halves and setting in FOR_HALVES):
                flag = f"--instruments.{name.replace('_', '-')}.on"
                rule = "be given for an instrument that the study has"
                raise must(f"{where}: instruments.{name}.{setting}", rule, value, f"Add {flag}, or leave it out.")


def _check_sets_of_instruments(recipe: Recipe, where: str) -> None:
    """No instrument may be told to look at a further set that the study does not build."""
    absent = {declared.name for declared in FURTHER} - set(recipe.sets)
    for name, settings in recipe.instruments:
        if name == "all" or not recipe.instruments.wanted(name):
            continue
        for setting, value in flat(settings.model_dump()).items():
            for one in value if isinstance(value, tuple | list) else (value,):
                if one in absent:
                    rule, remedy = "name sets that the study has", f"Add it, with --sets {one}."
                    raise must(f"{where}: instruments.{name}.{setting}", rule, one, remedy)


def flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, with dotted names; a table that is empty is none."""
    level: dict[str, object] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            level |= flat(value, f"{name}.")
        else:
            level[name] = value
    return level
