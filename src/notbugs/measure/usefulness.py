"""Usefulness and robust usefulness of features (the paper, section 2), for every feature and class.

Features are standardised on training images; the labels of class c are y = +1 for its images and -1 for all others.
For one feature f and one image, every class needs only the least and the greatest f in the ball: two searches.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from notbugs.data import Images
from notbugs.errors import check_count, check_number, must
from notbugs.measure.accuracy import AttackUsed
from notbugs.measure.features import FeatureMap, FeatureSource, check_map, feature_map, feature_values
from notbugs.measure.spectrum import KINDS, SpectrumRow, UsefulnessSummary, counts
from notbugs.measure.statistics import Z95
from notbugs.progress import Progress, silent
from notbugs.search import Schedule, fast_relabelling, search
from notbugs.seeds import generator
from notbugs.shapes import Batch, PerSample
from notbugs.threat import Threat

Table = Float[Tensor, "f c"]
Values = Float[Tensor, "image f"]

CONSTANT = 1e-6
"""Share of its mean below which a feature's standard deviation is rounding."""
FLAT = 1e-6
"""Standard deviations that two searches in opposite directions must at least lie apart to have moved a feature."""


@dataclass(frozen=True, eq=False)
class Usefulness:
    """Usefulness and robust usefulness of every feature for every class, with 95 % intervals.

    Attributes
    ----------
    rho, rho_low, rho_high : Tensor
        E[y f(x)], signed; shape (feature, class), float64. A constant feature counts as 0.
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


def usefulness(
    features: FeatureSource,
    train: Images,
    test: Images,
    threat: Threat,
    *,
    classes: int | None = None,
    steps: int = 10,
    schedule: Schedule | None = None,
    images: int | None = None,
    min_rho: float = 0.0,
    batch: int = 500,
    seed: int = 0,
    progress: Progress = silent,
) -> Usefulness:
    """Measure rho and gamma of every feature for every class, and sort the pairs.

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
    schedule : Schedule, optional
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
    """
    source = feature_map(features)
    check_number("eps", threat.eps)
    check_number("min_rho", min_rho)
    check_count("images", len(test) if images is None else images, low=2)
    count = _classes(classes, train, test)
    check_map(source, train)
    mean, std = _standard(source, train, batch)
    values = _standardised(feature_values(source, test, batch=batch), mean, std)
    index = _searched(test, images, seed)
    plan = schedule or fast_relabelling(threat, steps)
    if source.weight is not None:
        low, high, attack = *_exact(source.weight, threat, values[index], std), None
    else:
        raw = _extremes(source, test.subset(index), threat, plan, std > 0, batch, progress)
        low, high = (_standardised(part, mean, std) for part in raw)
        # what was found is judged anew, and must not count as better than the image as it is
        low, high = torch.minimum(low, values[index]), torch.maximum(high, values[index])
        attack = AttackUsed(
            norm=threat.norm, eps=threat.eps, steps=plan.steps, step_size=plan.first_length(threat), restarts=1
        )
    signs = 2 * one_hot(test.labels, count).double() - 1
    tables = _tables(values, low, high, signs, index)
    z = NormalDist().inv_cdf(1 - 0.025 / max(1, int((std > 0).sum()) * count))
    flat = (high - low <= FLAT).double().mean(0)
    return Usefulness(
        **tables.intervals(),
        kind=tables.sorted(z, min_rho),
        mean=mean,
        std=std,
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


@dataclass(frozen=True)
class _Tables:
    """Estimates with their standard errors."""

    rho: Table
    rho_error: Table
    gamma: Table
    gamma_error: Table

    def intervals(self) -> dict[str, Table]:
        found = {"rho": (self.rho, self.rho_error), "gamma": (self.gamma, self.gamma_error)}
        return {
            f"{name}{end}": value + shift * error
            for name, (value, error) in found.items()
            for end, shift in (("", 0.0), ("_low", -Z95), ("_high", Z95))
        }

    def sorted(self, z: float, min_rho: float) -> Int[Tensor, "f c"]:
        useful = self.rho.abs() - z * self.rho_error > min_rho
        kind = torch.full_like(self.rho, KINDS.index("useless"), dtype=torch.int64)
        kind[useful] = KINDS.index("undecided")
        kind[useful & (self.gamma - z * self.gamma_error > 0)] = KINDS.index("robust")
        kind[useful & (self.gamma + z * self.gamma_error < 0)] = KINDS.index("nonrobust")
        return kind


def _tables(values: Values, low: Values, high: Values, signs: Tensor, index: Tensor) -> _Tables:
    """rho over all images; gamma as rho plus the mean change over those at `index`.

    Var = Var(worst) / n + Var(change) (1 / m - 1 / n), the searched m being a random part of all n (two-phase
    sampling; Cochran 1977, section 12.6).
    """
    n, m = len(values), len(index)
    rho = values.T @ signs / n
    rho_error = ((values.square().mean(0)[:, None] - rho.square()).clamp_min(0) / (n - 1)).sqrt()
    gamma, gamma_error = torch.empty_like(rho), torch.empty_like(rho)
    flips = torch.where(rho < 0, -1.0, 1.0).to(rho)
    for label, sign in enumerate(signs[index].T):
        turned = sign[:, None] * flips[:, label]
        worst = torch.where(turned > 0, low, -high)
        change = worst - turned * values[index]
        gamma[:, label] = rho[:, label].abs() + change.mean(0)
        gamma_error[:, label] = (worst.var(0) / n + change.var(0) * (1 / m - 1 / n)).sqrt()
    return _Tables(rho, rho_error, gamma, gamma_error)


def _extremes(
    source: FeatureMap,
    images: Images,
    threat: Threat,
    steps: Schedule,
    varies: Tensor,
    batch: int,
    progress: Progress,
) -> tuple[Values, Values]:
    """The least and the greatest value of every feature that varies, in the ball around every image, in fp32."""
    fast = source.ready(images.shape, batch)
    numbers = varies.nonzero().flatten()
    found = torch.zeros(2, len(images), len(varies))
    total = 2 * len(images) * len(numbers)

    def objective(moved: Batch, number: Tensor, sign: PerSample) -> tuple[PerSample, PerSample]:
        value = sign * fast(moved).gather(1, number[:, None])[:, 0]
        return value, value.detach()

    for first in range(0, total, batch):
        pair = torch.arange(first, min(first + batch, total))
        image, number = pair // (2 * len(numbers)), numbers[pair // 2 % len(numbers)]
        end = pair % 2
        origin = images.batch(image)[0].to(source.device)
        goals = (number.to(source.device), (1.0 - 2.0 * end).to(source.device))
        with fast.evaluating():
            moved = search(objective, origin, goals, threat, steps).images
        with torch.no_grad(), source.evaluating("fp32"):
            found[end, image, number] = source(moved).gather(1, goals[0][:, None])[:, 0].float().cpu()
        progress(min(first + batch, total), total)
    return found[0], found[1]


def _exact(weight: Tensor, threat: Threat, values: Values, std: Tensor) -> tuple[Values, Values]:
    """The same for affine features: eps times the dual norm away, the box ignored (Goh 2019)."""
    reach = torch.where(std > 0, threat.eps * threat.dual(weight.double()) / std.clamp_min(torch.finfo().tiny), 0.0)
    return values - reach, values + reach


def _standard(source: FeatureMap, train: Images, batch: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every feature; 0 where it does not vary but for rounding."""
    size, mean, square = 0, torch.zeros(()), torch.zeros(())
    for first in range(0, len(train), batch * 10):
        part = feature_values(source, train.subset(slice(first, first + batch * 10)), batch=batch).double()
        change = part.mean(0) - mean
        square = square + (part - part.mean(0)).square().sum(0)
        square = square + change.square() * (size * len(part) / (size + len(part)))  # Chan et al. 1979
        size += len(part)
        mean = mean + change * (len(part) / size)
    std = (square / size).sqrt()
    return mean, torch.where(std > CONSTANT * mean.abs(), std, 0.0)


def _standardised(values: Tensor, mean: Tensor, std: Tensor) -> Values:
    scaled = (values.double() - mean) / torch.where(std > 0, std, 1.0)
    return scaled.where(std > 0, 0.0)


def _searched(test: Images, count: int | None, seed: int) -> Tensor:
    order = torch.randperm(len(test), generator=generator(seed, "usefulness"))
    return order[:count].sort().values


def _classes(classes: int | None, train: Images, test: Images) -> int:
    seen = 1 + max(int(train.labels.max()), int(test.labels.max()))
    if classes is not None and check_count("classes", classes, low=2) < seen:
        raise must("classes", f"be at least {seen}, as the labels show", classes)
    return max(classes or seen, 2)
