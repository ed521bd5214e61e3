"""Usefulness and robust usefulness of features: correlation with the label, as it is and at its worst in a ball.

Features are standardised on training images; the labels of class c are y = +1 for its images and -1 for all others.
For one feature f and one image, every class needs only the least and the greatest f in the ball: two searches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from notbugs.data import Images
from notbugs.errors import check_count, check_number, must
from notbugs.given import checked
from notbugs.measure.accuracy import AttackUsed
from notbugs.measure.features import FeatureMap, FeatureSource, check_map, feature_map, feature_values
from notbugs.measure.spectrum import KINDS, SpectrumRow, Standard, Table, UsefulnessSummary, Values, counts, pairs
from notbugs.progress import Progress, silent
from notbugs.search import PGDSteps, fast_relabelling, search
from notbugs.seeds import generator
from notbugs.shapes import Batch, PerSample
from notbugs.shown import Tabular
from notbugs.threat import Threat, check_radii


def extremes(
    source: FeatureMap,
    images: Images,
    threat: Threat,
    schedule: PGDSteps,
    *,
    wanted: Bool[Tensor, " f"],
    batch: int = 500,
    progress: Progress = silent,
) -> tuple[Values, Values]:
    """The least and the greatest value of every `wanted` feature around every image, as far as a search finds them.

    Two searches a feature and image, `batch` of them side by side, on a frozen copy in its fastest form; what they
    found is judged by the map itself in fp32. Columns of features that are not wanted are 0.
    """
    fast = source.ready(images.shape, batch)
    numbers = wanted.nonzero().flatten()
    extreme = torch.zeros(2, len(images), len(wanted), dtype=torch.float32)
    total = 2 * len(images) * len(numbers)

    def objective(moved: Batch, number: Tensor, sign: PerSample) -> tuple[PerSample, PerSample]:
        value = sign * fast(moved).gather(1, number[:, None])[:, 0]
        return value, value.detach()

    for first in range(0, total, batch):
        which = torch.arange(first, min(first + batch, total))
        end, number, image = which % 2, numbers[which // 2 % len(numbers)], which // (2 * len(numbers))
        origin = images.batch(image)[0].to(source.device)
        goals = (number.to(source.device), (1.0 - 2.0 * end).to(source.device))
        with fast.evaluating():
            moved = search(objective, origin, goals, threat, schedule).images
        with torch.no_grad(), source.evaluating("fp32"):
            extreme[end, image, number] = source(moved).gather(1, goals[0][:, None])[:, 0].float().cpu()
        progress(first + len(which), total)
    return extreme[0], extreme[1]


def reach(weight: Float[Tensor, "f c h w"], threat: Threat) -> Float[Tensor, " f"]:
    """How far an affine feature moves at most: the radius times the dual norm of its weight, the box [0, 1] ignored."""
    return threat.eps * threat.dual(weight).double()


FLAT = 1e-6
"""Standard deviations that two searches in opposite directions must at least lie apart to have moved a feature."""


@dataclass(frozen=True, eq=False, repr=False)
class Usefulness(Tabular):
    """Usefulness and robust usefulness of every feature for every class, with 95 % intervals.

    Attributes
    ----------
    rho, rho_low, rho_high : Tensor
        E[y f(x)] of f without its mean over the images measured, signed; shape (feature, class), float64. A constant
        feature counts as 0.
    gamma, gamma_low, gamma_high : Tensor
        E[min y f(x + d)] over the threat model, of f where rho >= 0 and of -f where rho < 0; signed.
    kind : Tensor
        int64, shape (feature, class): number in `KINDS`.
    mean, std : Tensor
        Of each feature over the training images, shape (feature,); a std of 0 marks a constant feature.
    flat : Tensor
        Shape (feature,): share of the searched images at which neither search moved the feature. Where it is not near
        0, gradients vanish, and gamma may be far too high.
    features : str
        What they are.
    names : tuple of str
        Of each, or empty.
    threat : Threat
        Of gamma.
    attack : AttackUsed, optional
        The search behind gamma, which makes it an upper bound. None: gamma is exact but for the box [0, 1], which is
        ignored, so that it is a lower bound.
    n, n_searched : int
        Images of rho, and those of them that were searched.
    min_rho, z : float
        Of the rules by which pairs were sorted: see `usefulness`.
    seed : int
        Of the draw of the searched images.

    Examples
    --------
    >>> found = nb.usefulness(classifier, data.train, images, nb.L2(0.5), steps=2)
    >>> len(found.to_pandas())
    80
    """

    rho: Table
    rho_low: Table
    rho_high: Table
    gamma: Table
    gamma_low: Table
    gamma_high: Table
    kind: Int[Tensor, "f c"]
    mean: Float[Tensor, " f"]
    std: Float[Tensor, " f"]
    flat: Float[Tensor, " f"]
    features: str
    names: tuple[str, ...]
    threat: Threat
    attack: AttackUsed | None
    n: int
    n_searched: int
    min_rho: float
    z: float
    seed: int

    @property
    def heading(self) -> str:
        """What the rows are."""
        counts = Counter(self.of_feature())
        told = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        images = f"{self.n} images, {self.n_searched} searched"
        return f"Usefulness of {len(self.mean)} features at {self.threat}: {told}; {images}"

    def table_rows(self) -> list[dict[str, object]]:
        """One row for each feature and class."""
        tables = ("rho", "rho_low", "rho_high", "gamma", "gamma_low", "gamma_high")
        columns = {name: getattr(self, name).tolist() for name in tables}
        return [
            {"feature": feature, "class": label, "kind": KINDS[int(self.kind[feature, label])]}
            | {name: column[feature][label] for name, column in columns.items()}
            for feature in range(self.rho.shape[0])
            for label in range(self.rho.shape[1])
        ]

    @property
    def robust(self) -> Bool[Tensor, " f"]:
        """Which features are robust for at least one class."""
        return self._kinds == KINDS.index("robust")

    @property
    def nonrobust(self) -> Bool[Tensor, " f"]:
        """Which features are useful for some class, and for no class robust or undecided."""
        return self._kinds == KINDS.index("nonrobust")

    def of_feature(self) -> tuple[str, ...]:
        """The kind of each feature as a whole: the first of `KINDS` that it is for any class."""
        return tuple(KINDS[number] for number in self._kinds.tolist())

    def best_class(self) -> Int[Tensor, " f"]:
        """Of the classes for which a feature is of its kind, the one with the largest |rho|."""
        return self.rho.abs().where(self.kind == self._kinds[:, None], -1.0).argmax(1)

    def summary(self) -> UsefulnessSummary:
        """What stands in `results.json`: counts, and every feature for its best class."""
        best = self.best_class()
        tables = ("rho", "rho_low", "rho_high", "gamma", "gamma_low", "gamma_high")
        columns = {name: getattr(self, name).gather(1, best[:, None])[:, 0].tolist() for name in tables}
        rows = [
            SpectrumRow(
                feature=number,
                best_class=int(best[number]),
                kind=KINDS[int(self._kinds[number])],
                flat=float(self.flat[number]),
                **{name: round(column[number], 6) for name, column in columns.items()},
            )
            for number in range(len(best))
        ]
        return UsefulnessSummary(
            features=self.features,
            norm=self.threat.norm,
            eps=self.threat.eps,
            attack=self.attack,
            bound="upper" if self.attack else "lower",
            n=self.n,
            n_searched=self.n_searched,
            min_rho=self.min_rho,
            z=self.z,
            seed=self.seed,
            of_features=counts(self._kinds),
            of_pairs=counts(self.kind),
            spectrum=rows,
        )

    @property
    def _kinds(self) -> Int[Tensor, " f"]:
        return self.kind.amin(1)


@checked
def usefulness(
    features: FeatureSource,
    train: Images,
    test: Images,
    threat: Threat,
    *,
    classes: int | None = None,
    steps: int = 10,
    schedule: PGDSteps | None = None,
    images: int | None = None,
    min_rho: float = 0.0,
    batch: int = 500,
    seed: int = 0,
    progress: Progress = silent,
) -> Usefulness:
    """Measure rho and gamma of every feature for every class, or every one of several labels, and sort the pairs.

    A pair of feature and class is *useful* if the interval of |rho| is above `min_rho`. A useful one is *robust* if the
    interval of gamma is above 0, *non-robust* if it is below 0, and *undecided* otherwise. The intervals that sort hold
    together with 95 % confidence over all pairs (Bonferroni); those reported hold 95 % each.

    Parameters
    ----------
    features : FeatureMap, Classifier or callable
        A classifier stands for its penultimate features.
    train, test : Images
        To standardise on, and to measure on.
    threat : Threat
        With a finite radius.
    classes : int, optional
        By default as many as the labels show.
    steps : int
        Of the search, with steps that fall from 2 eps to 0 (`fast_relabelling`).
    schedule : PGDSteps, optional
        Another way to move, in place of `steps`.
    images : int, optional
        How many test images are searched; all by default. Each takes 2 searches a feature. rho is measured on all
        test images in any case, and gamma as rho less the mean loss over the searched ones.
    min_rho : float
        How useful a useful feature is at least.
    batch : int
        Pairs of image and feature searched at once.
    seed : int
        Of the draw of the searched images.

    Raises
    ------
    InputError
        If an argument is out of range, or the features do not fit the images.

    Examples
    --------
    >>> found = nb.usefulness(classifier, data.train, images, nb.L2(0.5), steps=2)
    >>> found.rho.shape  # feature, class
    torch.Size([8, 10])
    """
    source = feature_map(features)
    check_radii([threat], train.shape)
    check_number("eps", threat.eps)
    check_number("min_rho", min_rho)
    check_count("images", len(test) if images is None else images, low=2)
    count = _classes(classes, train, test)
    check_map(source, train)
    standard = Standard.over(source, train, batch=batch)
    values = standard(feature_values(source, test, batch=batch))
    index = _searched(test, images, seed)
    plan = schedule or fast_relabelling(threat, steps)
    if source.weight is not None:
        change = reach(source.weight, threat) * standard.scale
        low, high, attack = values[index] - change, values[index] + change, None
    else:
        low, high = _reached(source, standard, test.subset(index), values[index], threat, plan, batch, progress)
        length = plan.first_length(threat)
        attack = AttackUsed(
            name="pgd",
            norm=threat.norm,
            eps=threat.eps,
            steps=plan.steps,
            step_size=length,
            decay=plan.decay,
            restarts=1,
        )
    signs = 2 * (test.labels if test.has_several else one_hot(test.labels, count)).double() - 1
    estimates = pairs(values, low, high, signs, index)
    intervals = 2 * max(1, int(standard.varies.sum()) * count)  # of rho and of gamma, for every pair
    z = NormalDist().inv_cdf(1 - 0.025 / intervals)
    flat = (high - low <= FLAT).double().mean(0)
    return Usefulness(
        **estimates.intervals(),
        kind=estimates.sorted(z, min_rho),
        mean=standard.mean,
        std=standard.std,
        flat=flat,
        features=source.name,
        names=source.names,
        threat=threat,
        attack=attack,
        n=len(test),
        n_searched=len(index),
        min_rho=min_rho,
        z=z,
        seed=seed,
    )


def _reached(
    source: FeatureMap,
    standard: Standard,
    images: Images,
    values: Values,
    threat: Threat,
    schedule: PGDSteps,
    batch: int,
    progress: Progress,
) -> tuple[Values, Values]:
    """The least and the greatest standardised features that a search finds; `values` are those of the images."""
    wanted = standard.varies
    least, greatest = extremes(source, images, threat, schedule, wanted=wanted, batch=batch, progress=progress)
    # Searched in less precision, an image may turn out worse than it was: then it stays where it was.
    return torch.minimum(standard(least), values), torch.maximum(standard(greatest), values)


def _searched(test: Images, count: int | None, seed: int) -> Tensor:
    order = torch.randperm(len(test), generator=generator(seed, "usefulness"))
    return order[:count].sort().values


def _classes(classes: int | None, train: Images, test: Images) -> int:
    if train.has_several or test.has_several:
        seen = train.labels.shape[-1]
        if train.labels.shape[1:] != test.labels.shape[1:] or classes not in (None, seen):
            raise must("labels", f"be {classes or seen} for each image in both splits", tuple(test.labels.shape))
        return seen
    seen = 1 + max(int(train.labels.max()), int(test.labels.max()))
    if classes is not None and check_count("classes", classes, low=2) < seen:
        raise must("classes", f"be at least {seen}, as the labels show", classes)
    return max(classes or seen, 2)
