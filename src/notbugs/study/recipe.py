"""Recipes: every setting of a study, in a TOML file, checked before any work."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from notbugs.classifier import Precision
from notbugs.errors import InputError
from notbugs.search import QuasiNewton, Schedule, Steps, fast_matching
from notbugs.search.steps import Decay
from notbugs.threat import Norm, Threat, threat
from notbugs.training import Training


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Section):
    """Which network, for every classifier of the study."""

    name: Literal["cnn"] = Field("cnn", description="Architecture by name.")
    width: int = Field(32, ge=1, description="Channels of the first convolution.")
    features: int = Field(128, ge=1, description="Penultimate features.")
    stride: int = Field(1, ge=1, description="Of the first convolution.")


class Matching(_Section):
    """The search of feature matching, for D_R and D_NR. The paper's: gradient, 1000 steps of 0.1."""

    method: Literal["quasi-newton", "gradient"] = Field("quasi-newton", description="How the search moves.")
    steps: int = Field(60, ge=1, description="Gradients.")
    step_size: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="First step, or trust radius, l2; 0.035 times the root of the number of pixel values if not given.",
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="Heavy-ball momentum, of the gradient method.")
    decay: Decay = Field("constant", description="How the step falls to 0, of the gradient method.")

    def schedule(self, shape: Sequence[int]) -> Steps:
        """As the search takes it, for images of `shape`."""
        length = self.step_size or fast_matching(shape).reach
        if self.method == "quasi-newton":
            return QuasiNewton(self.steps, length)
        return Schedule(self.steps, length, self.momentum, self.decay)


class Relabelling(_Section):
    """The targeted search for D_rand, D_rand_other and D_det."""

    norm: Norm = Field("l2", description="Norm of the ball.")
    eps: float = Field(0.5, ge=0, allow_inf_nan=False, description="Radius, pixel units.")
    steps: int = Field(100, ge=1, description="Gradient steps.")
    step_size: float | None = Field(None, gt=0, allow_inf_nan=False, description="Length of the first step.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Heavy-ball momentum.")
    decay: Decay = Field("constant", description="How the step falls to 0.")

    @property
    def schedule(self) -> Schedule:
        """As the search takes it."""
        return Schedule(**self.model_dump(exclude={"norm", "eps"}))

    @property
    def threat(self) -> Threat:
        """The ball."""
        return threat(self.norm, self.eps)


class Evaluation(_Section):
    """How every classifier is measured."""

    norm: Norm = Field("l2", description="Norm of the threat model.")
    radii: tuple[float, ...] = Field((0.25, 0.5), description="Radii of robust accuracy, pixel units.")
    steps: int = Field(20, ge=1, description="PGD steps, each 2.5 eps / steps long.")
    restarts: int = Field(1, ge=1, description="Runs of PGD; the first starts at the image.")


class Recipe(_Section):
    """Everything that decides the numbers of a study."""

    name: str = Field("study", pattern=r"^[\w.-]+$", description="Name of the study.")
    data: str = Field("digits", description="Data set by name, or a folder.")
    train_images: int | None = Field(None, ge=1, description="Training images, drawn at random; all if not given.")
    test_images: int | None = Field(None, ge=1, description="Test images, drawn at random; all if not given.")
    heldout: float = Field(
        0.0, ge=0, lt=1, description="Share of the training images to measure on in place of the test images."
    )
    seed: int = Field(0, ge=0, description="All randomness follows from it.")
    device: str = Field("auto", description="A torch device, or auto.")
    precision: Precision = Field("auto", description="What the networks compute in: fp32, bf16 or auto.")
    architecture: Architecture = Architecture()
    standard: Training = Field(Training(), description="Of the standard and the independent classifier.")
    robust: Training = Field(Training(), description="Of the robust classifier.")
    constructed: Training = Field(Training(), description="Of the classifiers on constructed sets.")
    matching: Matching = Matching()
    relabelling: Relabelling = Relabelling()
    evaluation: Evaluation = Evaluation()
    pair: tuple[int, int] = Field((0, 1), description="Two classes to whose features the theory is fitted.")

    def settings(self) -> dict[str, Any]:
        """The recipe as plain values; what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def toml(self) -> str:
        """The recipe as a TOML file that `read_recipe` reads back to an equal recipe."""
        return tomli_w.dumps(self.settings())


def recipe_names() -> list[str]:
    """The recipes that come with notbugs."""
    return sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml"))


def read_recipe(source: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe by name or from a TOML file.

    Parameters
    ----------
    source : str or Path
        One of `recipe_names()`, or a path that ends in `.toml`.
    overrides : dict, optional
        Nested values that take the place of the file's.

    Raises
    ------
    InputError
        If there is no such recipe, the file is not TOML, or a value breaks a rule.
    """
    if str(source).endswith(".toml"):
        return _validate(_merge(_read_toml(Path(source)), overrides or {}), str(source))
    names = recipe_names()
    if source not in names:
        near = get_close_matches(str(source), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"There is no recipe {str(source)!r}.{hint} Recipes: {', '.join(names)}; or give a path ending in .toml."
        )
    return _validate(_merge(_read_toml(_folder() / f"{source}.toml"), overrides or {}), f"recipe {source}")


def _folder() -> Traversable:
    return resources.files("notbugs.study") / "recipes"


def _read_toml(path: Path | Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no recipe file {path}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"The recipe {path} cannot be read: {error}.") from error


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        deeper = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if deeper else value
    return merged


def _validate(values: dict[str, Any], where: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {describe(error)}") from None
    for eps in recipe.evaluation.radii:
        threat(recipe.evaluation.norm, eps)
    if not recipe.robust.adversary:
        raise InputError(f"{where}: The 'robust' training must have an adversary. Set robust.adversary.eps.")
    return recipe


def describe(error: ValidationError) -> str:
    """Pydantic's findings, one clause for each: the name, the rule, the value got."""
    clauses = []
    for item in error.errors():
        name = ".".join(map(str, item["loc"]))
        clauses.append(f"The '{name}' is wrong: {item['msg']}. Got {item['input']!r} instead.")
    return " ".join(clauses)
