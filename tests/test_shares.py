"""What constructed images carry, on sets that carry known features by construction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from notbugs import study
from notbugs.console import TerminalConsole
from notbugs.construct import relabel, robustify
from notbugs.data import Data, Images, Planted, planted
from notbugs.errors import InputError
from notbugs.measure import Usefulness, carried, ends, linear_features, usefulness
from notbugs.measure.set_properties import Mean, SetCarried, _between
from notbugs.measure.spectrum import KINDS
from notbugs.search import PGDSteps
from notbugs.seeds import generator
from notbugs.threat import L2
from tests.conftest import random_images

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted(train=2000, test=1000)


def sorted_features(world: Planted) -> Usefulness:
    """The planted patterns, measured and sorted."""
    return usefulness(linear_features(world.templates), world.data.train, world.data.test, L2(0.5), classes=4)


def known(world: Planted) -> Usefulness:
    """The same, each useful for its own class alone."""
    found = sorted_features(world)
    codes = torch.nn.functional.one_hot(world.codes).bool()
    kinds = torch.tensor([KINDS.index(kind) for kind in world.kinds])[:, None]
    return replace(found, kind=torch.where(codes, kinds, KINDS.index("useless")))


@dataclass
class Set:
    built: Images
    start: Images
    target: Images


def swapped(world: Planted, kind: str, amount: float = 1.0) -> Set:
    """Every image moved along the patterns of one kind, from its class to another."""
    start, classes = world.data.train, len(world.data.classes)
    draw = generator(0, "swapped")
    new = (start.labels + torch.randint(1, classes, (len(start),), generator=draw)) % classes
    first = 0 if kind == "robust" else classes
    move = amount * world.strength[first] * (world.templates[first + new] - world.templates[first + start.labels])
    there = [(start.labels == label).nonzero().flatten() for label in range(classes)]
    chosen = [int(there[t][torch.randint(len(there[t]), (), generator=draw)]) for t in new.tolist()]
    return Set(Images((start.pixels + move).clamp(0, 1), new), start, start.subset(torch.tensor(chosen)))


def measured(world: Planted, made: Set, found: Usefulness | None = None) -> SetCarried:
    return carried(found or known(world), linear_features(world.templates), made.built, made.start, made.target)


def test_with_features_as_measured(world):
    """A robust pattern is non-robust evidence against the other classes: hardly useful there, and as easily moved."""
    found = sorted_features(world)
    assert (found.kind == KINDS.index("robust")).sum() == 4
    moved = measured(world, swapped(world, "nonrobust"), found)
    assert moved.robust.new.carried.high < 0.05
    assert moved.robust.original.carried.low > 0.95
    assert 0.5 < moved.nonrobust.new.carried.value < 1
    assert moved.nonrobust.new.carried.value < moved.nonrobust.new.evidence.value < 1
    assert moved.nonrobust.features > 4


@pytest.mark.parametrize(("moved", "left"), [("nonrobust", "robust"), ("robust", "nonrobust")])
def test_the_moved_kind_is_of_the_new_class_and_the_other_of_the_original(world, moved, left):
    found = measured(world, swapped(world, moved))
    ours, theirs = getattr(found, moved), getattr(found, left)
    for group, new, original in ((ours, 1.0, 0.0), (theirs, 0.0, 1.0)):
        for part, expected in ((group.new, new), (group.original, original)):
            assert part.carried.low - 0.02 <= expected <= part.carried.high + 0.02
            assert part.evidence.low - 0.02 <= expected <= part.evidence.high + 0.02
            assert part.carried.high - part.carried.low < 0.1
    assert ours.new_wins.low <= world.accuracy(moved) + 0.02
    assert ours.new_wins.value == pytest.approx(world.accuracy(moved), abs=0.02)
    assert theirs.original_wins.value == pytest.approx(world.accuracy(left), abs=0.02)
    assert theirs.original_wins == theirs.start_wins
    assert max(ours.original_wins.value, theirs.new_wins.value) < 0.06
    assert (found.images, found.same, ours.features, ours.classes) == (2000, 0, 1.0, 4)


def test_shares_of_untouched_images_are_those_of_the_distribution(world):
    """A feature of the own class is above its mean with probability Phi((1 - 1/k) strength / noise)."""
    found = measured(world, swapped(world, "nonrobust"))
    for kind, group in (("robust", found.robust), ("nonrobust", found.nonrobust)):
        ratio = float(world.strength[world.kinds.index(kind)] / world.noise[world.kinds.index(kind)])
        own, other = (float(torch.special.ndtr(torch.tensor(part * ratio))) for part in (0.75, -0.25))
        assert group.new.target.share.value == pytest.approx(own, abs=0.02)
        assert group.original.start.share.value == pytest.approx(own, abs=0.02)
        assert group.new.start.share.value == pytest.approx(other, abs=0.03)
        assert sum(group.new.start.histogram) == group.new.start.share.n == 2000
        assert group.new.target.histogram[-1] == round(2000 * group.new.target.share.value)


@pytest.mark.parametrize("amount", [0.25, 0.5])
def test_evidence_is_linear_in_the_way_that_was_gone(world, amount):
    found = measured(world, swapped(world, "nonrobust", amount))
    assert found.nonrobust.new.evidence.value == pytest.approx(amount, abs=0.01)
    assert found.nonrobust.original.evidence.value == pytest.approx(1 - amount, abs=0.01)
    assert found.robust.new.evidence.value == pytest.approx(0, abs=0.02)


def test_untouched_images_carry_all_of_their_class_and_nothing_of_the_other(world):
    made = swapped(world, "robust")
    for built, new in ((made.start, 0.0), (made.target, 1.0)):
        found = measured(world, Set(built, made.start, made.target))
        for group in (found.robust, found.nonrobust):
            for mean, expected in ((group.new.carried, new), (group.original.carried, 1 - new)):
                assert (mean.value, mean.low, mean.high) == pytest.approx((expected,) * 3, abs=1e-9)


def test_a_feature_that_speaks_against_a_class_counts_turned_round(world):
    made, plain = swapped(world, "nonrobust"), known(world)
    turned = replace(plain, rho=-plain.rho, mean=-plain.mean)
    found = carried(turned, linear_features(-world.templates), made.built, made.start, made.target)
    assert found == measured(world, made)


def test_what_a_group_cannot_tell_is_null(world):
    made, plain = swapped(world, "nonrobust"), known(world)
    useless, robust = KINDS.index("useless"), KINDS.index("robust")
    none = replace(plain, kind=plain.kind.where(plain.kind != robust, useless))
    assert measured(world, made, none).robust is None
    same = measured(world, Set(made.built, made.start, made.start))
    assert (same.same, same.robust, same.nonrobust) == (2000, None, None)
    constant = replace(plain, std=plain.std * 0)
    assert measured(world, made, constant).robust.new.carried is None
    half = plain.kind.clone()
    half[:4, 2:] = useless
    found = measured(world, made, replace(plain, kind=half))
    pairs = (made.start.labels < 2) & (made.target.labels < 2)
    assert (found.robust.classes, found.robust.features) == (2, 0.5)
    assert found.robust.new.built.share.n == int(pairs.sum()) < 2000


def test_the_interval_of_a_ratio_is_that_of_its_repetitions():
    draw = generator(0, "ratio")
    floor, ceiling = torch.randn(400, 300, generator=draw), 2 + torch.randn(400, 300, generator=draw)
    found = []
    for low, high in zip(floor, ceiling, strict=True):
        built = 0.3 * high + 0.7 * low + 0.5 * torch.randn(300, generator=draw)
        found.append(_between(built, low, high))
    inside = sum(mean.low <= 0.3 <= mean.high for mean in found if mean)
    assert 0.92 < inside / 400 < 0.98


def test_mean_is_the_textbooks():
    found = Mean.of(torch.tensor([1.0, 2.0, 3.0]))
    assert (found.value, found.high - found.value, found.n) == (2, pytest.approx(1.96 / 3**0.5, rel=1e-4), 3)


def test_the_ends_of_a_set(tmp_path, small):
    labels = torch.arange(40) % 4
    data = Data("r", *[Images(random_images(40), labels)] * 2, tuple("abcd"))
    quick, index = PGDSteps(2, 0.3), torch.tensor([3, 0, 17])
    matched = robustify(small, data, tmp_path / "matched", schedule=quick)
    start, target = ends(matched, data.train, index)
    assert torch.equal(start.pixels, data.train.pixels[matched.start[index]])
    assert torch.equal(target.pixels, data.train.pixels[matched.target[index]])
    assert torch.equal(target.labels, matched.images.labels[index])
    rand = relabel(small, data, tmp_path / "rand", targets="other", threat=L2(0.5), schedule=quick)
    start, target = ends(rand, data.train, index, seed=1)
    assert torch.equal(start.pixels, data.train.pixels[rand.start[index]])
    assert torch.equal(target.labels, rand.images.labels[index])
    again = ends(rand, data.train, index, seed=1)[1]
    assert torch.equal(again.pixels, target.pixels)


def test_a_study_has_shares_and_leakage(tmp_path, monkeypatch):
    monkeypatch.setattr("notbugs.measure._leakage.SHUFFLES", 3)
    few = {name: {"epochs": 1} for name in ("standard", "robust", "constructed")}
    on = {
        "usefulness": {"on": True, "images": 4, "steps": 1, "classifiers": ["independent"]},
        "shares": {"on": True, "images": 40},
        "leakage": {"on": True, "images": 100},
    }
    small = {"train_images": 150, "test_images": 40, "architecture": {"width": 4, "features": 6}, **few}
    searches = {
        "matching": {"steps": 2},
        "relabelling": {"steps": 2},
        "evaluation": {"attack": {"steps": 1, "queries": 0}, "pgd": {"steps": 1}, "radii": [0.5]},
    }
    recipe = study.read_recipe("digits", small | searches | {"instruments": on})
    found = study.run(recipe, tmp_path / "digits", TerminalConsole(quiet=True)).instruments
    sets = ["D_R", "D_NR", "D_rand", "D_rand_other", "D_rand_min", "D_det"]
    assert [(row.name, row.classifier) for row in found.shares.rows] == [
        (name, looks) for name in sets for looks in ("independent", "robust")
    ]
    assert [row.name for row in found.shares.rows if row.is_source] == ["D_R"]
    assert found.shares.eps == found.usefulness.classifiers["independent"].eps == 0.5
    assert all(row.found.images == 40 for row in found.shares.rows)
    assert [(row.train_set, row.features) for row in found.leakage.rows] == [
        (name, kind) for name in ("D", *sets[2:]) for kind in ("robust linear", "robust network")
    ]
    assert all(row.leak.images == 100 and row.finding == row.leak.finding for row in found.leakage.rows)
    assert found.leakage.certificate.eps == 0.25
    stages = {file.stem for file in (tmp_path / "digits" / "stages").iterdir()}
    assert {"usefulness-independent", "usefulness-robust", "shares", "leakage"} <= stages


def test_what_does_not_fit_is_refused(world):
    made = swapped(world, "robust")
    with pytest.raises(InputError, match="'start' must be one image for each built image"):
        carried(known(world), linear_features(world.templates), made.built, made.start.subset(slice(9)), made.target)
    with pytest.raises(InputError, match="the 8 that the usefulness is of"):
        carried(known(world), lambda images: images.flatten(1), made.built, made.start, made.target)
