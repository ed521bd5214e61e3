"""The classifiers of a study, each with the accuracies that the figures and the sentences speak about."""

from __future__ import annotations

from dataclasses import dataclass

from notbugs.study.results import Results, Row
from notbugs.study.sets import BY_NAME

ORDER = ("D", *BY_NAME)


@dataclass(frozen=True)
class Member:
    """One classifier: its clean accuracy, and its robust accuracy by radius in one norm."""

    name: str
    train_set: str
    training: str
    clean: Row | None
    robust: dict[float, Row]


@dataclass(frozen=True)
class StudyAccuracies:
    """All classifiers of one seed.

    Attributes
    ----------
    norm : str or None
        The norm that figures show: l2 where it was measured.
    radii : tuple of float
        Every radius measured in that norm, rising, in pixel units.
    radius : float or None
        The main one: the measured radius nearest to half of the robust classifier's training radius, as the paper's
        Figure 2b shows 0.25 for training at 0.5; the smallest where there was no such training.
    """

    members: tuple[Member, ...]
    norm: str | None
    radii: tuple[float, ...]
    radius: float | None
    test_set: str
    seed: int

    def get(self, train_set: str, training: str = "standard") -> Member | None:
        """The classifier trained that way on that set; for standard training on D, not the independent one."""
        found = (m for m in self.members if (m.train_set, m.training) == (train_set, training))
        return min(found, key=lambda member: member.name == "independent", default=None)


def study_accuracies(results: Results) -> StudyAccuracies:
    """Gather the rows of the first seed: on the test images, or on held-out ones where there is nothing else.

    Where several attacks have the same radius, the one that leaves the lowest accuracy counts.
    """
    rows = results.rows
    test_set = "test" if any(row.test_set == "test" for row in rows) or not rows else rows[0].test_set
    seeds = {row.seed for row in rows}
    seed = next((seed for seed in results.study.seeds if seed in seeds), min(seeds, default=0))
    rows = [row for row in rows if row.test_set == test_set and row.seed == seed]
    norms = {row.attack.norm for row in rows if row.attack}
    norm = "l2" if "l2" in norms else min(norms, default=None)
    names = dict.fromkeys(row.classifier for row in rows)
    members = [_member([row for row in rows if row.classifier == name], norm) for name in names]
    members.sort(key=lambda m: (ORDER.index(m.train_set), m.training == "adversarial", m.name == "independent"))
    radii = sorted({radius for member in members for radius in member.robust})
    return StudyAccuracies(tuple(members), norm, tuple(radii), _main_radius(results, radii), test_set, seed)


def _main_radius(results: Results, radii: list[float]) -> float | None:
    adversary = (results.study.recipe.get("robust") or {}).get("adversary") or {}
    half = adversary.get("eps", 0) / 2
    return min(radii, key=lambda radius: abs(radius - half), default=None)


def _member(rows: list[Row], norm: str | None) -> Member:
    clean = next((row for row in rows if row.attack is None), None)
    robust: dict[float, Row] = {}
    for row in rows:
        if row.attack is None or row.attack.norm != norm or row.attack.eps == 0:
            continue
        radius = row.attack.eps
        if radius not in robust or row.accuracy < robust[radius].accuracy:
            robust[radius] = row
    return Member(rows[0].classifier, rows[0].train_set, rows[0].training, clean, robust)
