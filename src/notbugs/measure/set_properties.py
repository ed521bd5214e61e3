"""How much of each class the images of a constructed set carry, as the features of a classifier see it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from notbugs.construct import ConstructedSet
from notbugs.data import Images
from notbugs.errors import must
from notbugs.given import checked
from notbugs.measure._usefulness import Usefulness
from notbugs.measure.features import FeatureSource, check_alone, feature_map, feature_values
from notbugs.measure.spectrum import KINDS, Kind
from notbugs.measure.statistics import Z95, Proportion
from notbugs.records import Record
from notbugs.seeds import generator
from notbugs.shapes import Features, Labels, PerSample

BINS = 20
"""Of a histogram of shares, from 0 to 1."""
WHERE = ("start", "built", "target")
"""The images that are compared, from the original to the new class."""


class Mean(Record):
    """A mean over images with its 95 % interval."""

    value: float = Field(description="the estimate")
    low: float = Field(description="lower end of its interval")
    high: float = Field(description="upper end of its interval")
    n: int = Field(ge=2, description="how many images it is of")

    @classmethod
    def of(cls, values: Tensor) -> Mean:
        """Of a tensor of shape (n,), n at least 2; the interval is 1.96 standard errors to each side."""
        values = values.double()
        mean, half = float(values.mean()), Z95 * float(values.std()) / len(values) ** 0.5
        return cls(value=mean, low=mean - half, high=mean + half, n=len(values))


class Seen(Record):
    """The share of a group's features that point to one class, over images of one kind."""

    share: Mean = Field(description="the mean over images")
    histogram: list[int] = Field(description=f"images by their share, {BINS} equal bins from 0 to 1")


class Carried(Record):
    """How much of one class the built images carry, as one group of features sees it.

    `start` are untouched images of the original class, `target` untouched images of the new class: for the new class
    the first are the floor and the second the ceiling, for the original class the other way round.
    """

    start: Seen = Field(description="of the class, in the start image")
    built: Seen = Field(description="of the class, in the constructed image")
    target: Seen = Field(description="of the class, in images of the new class")
    carried: Mean | None = Field(
        description="(built - floor) / (ceiling - floor) of the mean shares: 0 as in images of the other class, 1 as "
        "in untouched images of this one; null where floor and ceiling cannot be told apart"
    )
    evidence: Mean | None = Field(description="the same of the mean evidence, in place of the share")


GROUPS = {"robust": "robust", "nonrobust": "non-robust"}
"""Of features, and what sentences call them."""


class GroupCarried(Record):
    """What one group of useful features sees of both classes."""

    features: float = Field(description="how many features of the group point to a class, mean over classes")
    classes: int = Field(description="classes to which at least one feature points")
    new: Carried = Field(description="of the new class")
    original: Carried = Field(description="of the original class")
    new_wins: Proportion = Field(description="built images whose new class has the most evidence of all classes")
    original_wins: Proportion = Field(description="built images whose original class has")
    start_wins: Proportion = Field(description="start images whose own class has: the ceiling of original_wins")
    target_wins: Proportion = Field(description="target images whose own class has: the ceiling of new_wins")


class SetCarried(Record):
    """How much of both classes the images of a set carry, as the features of one classifier see it: see `carried`."""

    images: int = Field(description="images of the set that were looked at")
    same: int = Field(description="of these, left out because original and new class are the same")
    robust: GroupCarried | None = Field(description="null if no feature of the classifier is robustly useful")
    nonrobust: GroupCarried | None = Field(description="null if no feature is useful and not robust")


@checked
def ends(built: ConstructedSet, train: Images, index: Tensor, seed: int = 0) -> tuple[Images, Images]:
    """Untouched images of the original and of the new class for the images at `index` of a set.

    The start images; and the target images of a matched set, or for a relabelled one, which has none, other training
    images of the new class, drawn at random.

    Parameters
    ----------
    built : ConstructedSet
        Built from `train`.
    train : Images
        The training images.
    index : Tensor
        int64, shape (image,).
    seed : int
        Of the draw.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.relabel(classifier, small, 'set', targets='next', threat=nb.L2(0.5), schedule=nb.search.PGDSteps(2))
    >>> start, target = nb.measure.ends(built, small.train, torch.arange(5))
    >>> len(start), len(target)
    (5, 5)
    """
    start = built.start[index]
    if built.is_matched:
        return train.subset(start), train.subset(built.target[index])
    draw = generator(seed, "images of the new class")
    chosen = torch.empty_like(start)
    for label in built.images.labels[index].unique():
        is_here = built.images.labels[index] == label
        there = (train.labels == label).nonzero().flatten()
        chosen[is_here] = there[torch.randint(len(there), (int(is_here.sum()),), generator=draw)]
    return train.subset(start), train.subset(chosen)


@checked
def carried(
    usefulness: Usefulness,
    features: FeatureSource,
    built: Images,
    start: Images,
    target: Images,
) -> SetCarried:
    """How much of the new class and how much of the original class constructed images carry.

    A useful feature points to a class where it is on that class's side of its mean. For each image, and each group of
    features useful for a class, the share that points to it is counted, for the built image and for untouched ones of
    both classes; `carried` says where between these the built images are.

    Parameters
    ----------
    usefulness : Usefulness
        Of `features`, which best belong to a classifier that had no part in building the images.
    features : FeatureMap, Classifier or callable
        A classifier stands for its penultimate features.
    built : Images
        Constructed images. Their labels are not looked at.
    start, target : Images
        Untouched images, as many, from `ends`: each `start` has the original class, each `target` the new one.

    Raises
    ------
    InputError
        If the numbers of images differ, or of features; or if an image's features depend on the images beside it or on
        chance.

    Examples
    --------
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.relabel(classifier, small, 'set', targets='next', threat=nb.L2(0.5), schedule=nb.search.PGDSteps(2))
    >>> found = nb.usefulness(classifier, data.train, images, nb.L2(0.5), steps=2)
    >>> start, target = nb.measure.ends(built, small.train, torch.arange(20))
    >>> shares = nb.measure.carried(found, classifier, built.images, start, target)
    """
    if not len(built) == len(start) == len(target):
        raise must("start", "be one image for each built image, as 'target'", f"{len(start)}, {len(target)}")
    standardised, source = {}, feature_map(features)
    check_alone(source, start)
    for name, images in zip(WHERE, (start, built, target), strict=True):
        values = feature_values(source, images)
        if values.shape[1] != len(usefulness.rho):
            raise must("features", f"be the {len(usefulness.rho)} that the usefulness is of", values.shape[1])
        shifted = (values - usefulness.mean) / usefulness.std
        standardised[name] = torch.where(usefulness.std > 0, shifted, 0.0).float()

    def seen_by(kind: Kind) -> GroupCarried | None:
        group = _Group(usefulness.rho.float(), usefulness.kind == KINDS.index(kind))
        return _group_carried(group, standardised, target.labels, start.labels)

    return SetCarried(
        images=len(built),
        same=int((start.labels == target.labels).sum()),
        robust=seen_by("robust"),
        nonrobust=seen_by("nonrobust"),
    )


class _Group:
    """The useful features of one kind: which point to which class, in which direction and how strongly.

    Parameters
    ----------
    rho : Tensor
        Usefulness, shape (feature, class).
    chosen : Tensor
        Which of them are of the kind, bool, shape (feature, class).
    """

    def __init__(self, rho: Float[Tensor, "feature class"], chosen: Bool[Tensor, "feature class"]) -> None:
        self.signs = torch.where(chosen, rho.sign(), 0.0)
        self.weights = torch.where(chosen, rho, 0.0)
        self.counts = chosen.sum(0)
        self.has = self.counts > 0

    def shares(self, values: Features, labels: Labels) -> PerSample:
        """Of every image, the share of the group's features for its class in `labels` that point to that class."""
        signs = self.signs[:, labels].T
        return ((signs * values > 0).sum(1) / self.counts[labels]).to(values)

    def evidence(self, values: Features) -> Float[Tensor, "batch class"]:
        """The paper's linear classifier over the group, scaled so that E[y evidence] = 1 for every class."""
        return values @ self.weights / self.weights.square().sum(0).clamp_min(1e-12)

    def winner(self, values: Features) -> Labels:
        """The class with the most evidence, among those that the group has features for."""
        return self.evidence(values).masked_fill(~self.has, -torch.inf).argmax(1)


def _group_carried(group: _Group, values: dict[str, Tensor], new: Tensor, original: Tensor) -> GroupCarried | None:
    """`values` of the three kinds of images, `new` and `original` their classes; None if the group cannot tell."""
    is_seen = group.has[new] & group.has[original] & (new != original)
    if int(is_seen.sum()) < 2:
        return None
    values, new, original = {name: part[is_seen] for name, part in values.items()}, new[is_seen], original[is_seen]
    winners = {name: group.winner(part) for name, part in values.items()}
    return GroupCarried(
        features=float(group.counts.double().mean()),
        classes=int(group.has.sum()),
        new=_carried(group, values, new, floor="start", ceiling="target"),
        original=_carried(group, values, original, floor="target", ceiling="start"),
        new_wins=Proportion.of(winners["built"] == new),
        original_wins=Proportion.of(winners["built"] == original),
        start_wins=Proportion.of(winners["start"] == original),
        target_wins=Proportion.of(winners["target"] == new),
    )


def _carried(group: _Group, values: dict[str, Tensor], labels: Tensor, *, floor: str, ceiling: str) -> Carried:
    """How much of each image's class in `labels` is there."""
    shares = {name: group.shares(values[name], labels) for name in WHERE}
    evidence = {name: group.evidence(values[name]).gather(1, labels[:, None])[:, 0] for name in WHERE}
    return Carried(
        **{name: _seen(part) for name, part in shares.items()},
        carried=_between(shares["built"], shares[floor], shares[ceiling]),
        evidence=_between(evidence["built"], evidence[floor], evidence[ceiling]),
    )


def _seen(shares: Tensor) -> Seen:
    return Seen(share=Mean.of(shares), histogram=shares.float().histc(BINS, 0, 1).long().tolist())


def _between(built: Tensor, floor: Tensor, ceiling: Tensor) -> Mean | None:
    """Where the mean of `built` lies between two others, with the delta method's interval of a ratio of means."""
    way, gone = (ceiling - floor).double(), (built - floor).double()
    if Mean.of(way).low <= 0:
        return None
    ratio = gone.mean() / way.mean()
    return Mean.of((gone - ratio * way) / way.mean() + ratio)
