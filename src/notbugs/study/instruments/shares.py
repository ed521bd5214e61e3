"""How much of the new class and of the original class the images of every set carry."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from notbugs.measure import SetCarried, carried, ends
from notbugs.progress import Progress
from notbugs.seeds import generator
from notbugs.study.instruments.usefulness import features_of, sorted_features
from notbugs.study.lab import Lab
from notbugs.study.sets import SETS
from notbugs.threat import Norm


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SharesRow(_Model):
    """One set, as the features of one classifier see it."""

    name: str = Field(description="of the set")
    classifier: str = Field(description="whose features look")
    is_source: bool = Field(description="whether the set was built with this classifier: then it was searched to agree")
    found: SetCarried


class SharesFound(_Model):
    """How much of both classes constructed images carry."""

    norm: Norm
    eps: float = Field(description="radius at which features were sorted, pixel units")
    seed: int
    rows: list[SharesRow]


def measure(lab: Lab) -> SharesFound:
    """Every set, by the features of every classifier that the recipe names; these are sorted first."""
    usefulness = {name: sorted_features(lab, name) for name in lab.recipe.instruments.shares.classifiers}

    def work(progress: Progress) -> list[dict[str, Any]]:
        rows = []
        for made in SETS:
            name, source = made.name, made.source
            built = lab.set(name)
            index = torch.randperm(len(built), generator=generator(lab.seed, "shares", name))
            index = index[: lab.recipe.instruments.shares.images].sort().values
            start, target = ends(built, lab.data.train, index, lab.seed)
            for looks, found in usefulness.items():
                seen = carried(found, features_of(lab, looks), built.images.subset(index), start, target)
                row = SharesRow(name=name, classifier=looks, is_source=looks == source, found=seen)
                rows.append(row.model_dump(mode="json"))
                progress(len(rows), len(SETS) * len(usefulness))
        return rows

    rows = [SharesRow(**row) for row in lab.stage("shares", "what constructed images carry", work)]
    threat = next(iter(usefulness.values())).threat
    return SharesFound(norm=threat.norm, eps=threat.eps, seed=lab.seed, rows=rows)
