"""What a constructed set is: how it is built, and how it looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from notbugs.errors import must

if TYPE_CHECKING:  # the names of sets need no torch
    from notbugs.classifier import Classifier
    from notbugs.construct import ConstructedSet, Dtype, Start, Targets
    from notbugs.data import Data
    from notbugs.frequency import Side
    from notbugs.progress import Progress
    from notbugs.search.attacks import Hold
    from notbugs.study.sections import Matching, Relabelling
    from notbugs.threat import Threat

SMALLEST_STEPS = 30
"""Gradients of a search for the smallest perturbation, at least; 100 find hardly smaller ones
(docs/explanation/search.md)."""

Half = Literal["robust", "nonrobust"]
Mark = Literal["circle", "square", "triangle-up", "triangle-down", "diamond", "cross"]


class Storing(TypedDict, total=False):
    """How a set is drawn and stored, as `robustify` and `relabel` take it."""

    dtype: Dtype
    batch: int | None
    seed: int
    progress: Progress


class Ingredients(TypedDict, total=False):
    """What some sets are built with beside their source, as `SetDeclaration.build` takes it."""

    start: Start | None
    others: Sequence[Classifier]
    features: Sequence[int] | None
    cutoff: float | None


@dataclass(frozen=True)
class SetDeclaration:
    """A constructed set: what it is, how it is built, and how it looks.

    Attributes
    ----------
    name : str
        In `results.json`, recipes and folders: `D_rand_other`.
    subscript, qualifier : str
        Of its symbol: `rand` and `other`.
    command : str
        What `notbugs build` calls it.
    source : {"standard", "robust"}
        The classifier it is built with.
    says : str
        What one of its images is, below the set's name.
    colour, dark, mark : str
        Of its line in figures, on light pages and on dark ones. Colours are those of Okabe and Ito, or near them, and
        marks differ where colours are near each other.
    targets : {"any", "other", "next"}, optional
        The class that an image is pushed towards and labelled with; None where features are matched instead.
    start : {"images", "gaussian", "uniform"}
        What each search starts from.
    smallest : bool
        Whether a perturbation is the smallest that reaches the class, of any length, whatever the recipe's method and
        radius.
    alone : {"label", "outputs"}, optional
        What the search keeps other classifiers at: the label of the start (Nakkiran 2019), or all their outputs.
    band : {"low", "high"}, optional
        The frequencies that perturbations are confined to.
    half : {"robust", "nonrobust"}, optional
        Of the source's useful features, the half that is matched: that of more, or of less, robust usefulness.
    beside, claim, origin : str
        Of a set that only some studies have: the set that differs from it in what it tests, what that is, and who
        proposed it.
    """

    name: str
    subscript: str
    command: str
    source: Literal["standard", "robust"]
    says: str
    colour: str
    dark: str
    mark: Mark
    targets: Targets | None = None
    qualifier: str = ""
    start: Start = "images"
    smallest: bool = False
    alone: Hold | None = None
    band: Side | None = None
    half: Half | None = None
    beside: str = ""
    claim: str = ""
    origin: str = ""

    @property
    def kind(self) -> Literal["matched", "relabelled"]:
        """How it was made."""
        return "matched" if self.targets is None else "relabelled"

    @property
    def keeps_labels(self) -> bool:
        """Whether some of its images keep their label, so that it can teach without any perturbation."""
        return self.targets == "any" and self.start == "images"

    def relabelling(self, settings: Relabelling) -> Relabelling:
        """The search of this set, where a recipe asks for `settings`."""
        if not self.smallest or settings.method == "minimum-norm":
            return settings
        usual = {"step_size": None, "momentum": 0.0, "decay": "linear"}
        steps = max(settings.steps, SMALLEST_STEPS)
        return settings.model_copy(update={"method": "minimum-norm", "steps": steps, **usual})

    def threat(self, settings: Relabelling, shape: Sequence[int], cutoff: float | None = None) -> Threat:
        """Where its perturbations may be: the smallest are free, whatever the radius of the others.

        Of a band, `cutoff` is in cycles per image; half of the highest frequency along an axis by default.
        """
        from notbugs.frequency import Band, half_of
        from notbugs.threat import threat

        band = Band(self.band, cutoff or half_of(min(shape[1:]))) if self.band else None
        return threat(settings.norm, math.inf if self.smallest else settings.eps, band)

    def build(
        self,
        source: Classifier,
        data: Data,
        path: Path,
        *,
        matching: Matching,
        relabelling: Relabelling,
        start: Start | None = None,
        others: Sequence[Classifier] = (),
        features: Sequence[int] | None = None,
        cutoff: float | None = None,
        **storing: Unpack[Storing],
    ) -> ConstructedSet:
        """Build it in the folder `path`, or what is left of it.

        Parameters
        ----------
        matching, relabelling : Matching, Relabelling
            How features are matched, and how images are pushed to a class: one of the two, as the set is made.
        start : {"images", "gaussian", "uniform"}, optional
            What searches start from, in place of the set's own.
        others : sequence of Classifier
            Those that a search `alone` keeps at their label or outputs.
        features : sequence of int, optional
            Numbers of those that a set of a `half` matches.
        cutoff : float, optional
            Of a `band`, in cycles per image.
        **storing
            `dtype`, `batch`, `seed` and `progress`, as `robustify` and `relabel` take them.

        Raises
        ------
        InputError
            As these two; or if one of the three is missing, or is given to a set that has no use for it.
        """
        from notbugs.construct import relabel, robustify

        self._check_given(others=bool(others), features=features is not None, cutoff=cutoff is not None)
        if self.targets is None:
            return robustify(
                source,
                data,
                path,
                start=start or self.start,
                schedule=matching.schedule(data.train.shape),
                fake_relu=matching.fake_relu,
                features=features,
                **storing,
            )
        settings = self.relabelling(relabelling)
        return relabel(
            source,
            data,
            path,
            targets=self.targets,
            threat=self.threat(settings, data.train.shape, cutoff),
            start=start or self.start,
            schedule=settings.schedule,
            others=others if self.alone else (),
            hold=self.alone or "label",
            **storing,
        )

    def _check_given(self, **given: bool) -> None:
        """Refuse what the set has no use for, and what it cannot be built without."""
        uses = {"others": self.alone is not None, "features": self.half is not None, "cutoff": self.band is not None}
        for name, is_given in given.items():
            if is_given and not uses[name]:
                raise must(name, f"be left out for {self.name}, which has no use for it", "some")
        for name in ("others", "features"):
            if uses[name] and not given[name]:
                raise must(name, f"be given for {self.name}", "none", f"Name them: --{name}.")
