"""Sets beyond the paper's, on data where it is known what each must teach, and what it must not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.classifier import Classifier
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.frequency import Band
from notbugs.search import FMN, LBFGS, PGDSteps
from notbugs.seeds import generator
from notbugs.study import read_recipe
from notbugs.study.instruments.controls import ControlsInstrument
from notbugs.study.sets import BY_NAME, FURTHER, SETS, chosen_sets, stage_names
from notbugs.threat import L2, Linf, l2_norm
from tests.planted_classifiers import projecting

STEPS = PGDSteps(20, 0.1)


@pytest.fixture(scope="module")
def made():
    return nb.planted(train=1200, test=400)


def reading(templates: torch.Tensor, classes: int) -> Classifier:
    """A linear classifier that adds up the templates of each class; there are `classes` of them in every group."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(templates[0].numel(), classes))
    with torch.no_grad():
        network[1].weight.copy_(10 * templates.flatten(1).view(-1, classes, templates[0].numel()).sum(0))
        network[1].bias.copy_(-0.5 * network[1].weight.sum(1))
    return Classifier(network).eval()


def taught(images: Images, test: Images) -> float:
    """Test accuracy of the nearest mean of a class: what a linear classifier learns first."""
    inputs = images.batch(slice(None))[0].flatten(1)
    means = torch.stack([inputs[images.labels == label].mean(0) for label in images.labels.unique()])
    nearest = torch.cdist(test.batch(slice(None))[0].flatten(1), means).argmin(1)
    return float((nearest == test.labels).double().mean())


def private_patterns(made, count: int) -> torch.Tensor:
    """Patterns, each orthogonal to all that the data know of: a classifier's own quirks."""
    known = torch.cat([made.templates.flatten(1), torch.ones(1, made.templates[0].numel())])
    drawn = torch.randn(count, known.shape[1], generator=generator(0, "private"))
    drawn = drawn - drawn @ torch.linalg.pinv(known) @ known
    return torch.linalg.qr(drawn.T).Q.T.view(count, *made.templates.shape[1:])


def test_bugs_of_one_classifier_teach_nothing_and_what_classifiers_share_teaches(tmp_path):
    made = nb.planted(classes=2, train=400, test=400, robust_strength=0)
    shared = made.templates[[kind == "nonrobust" for kind in made.kinds]]
    source, others = reading(torch.cat([shared, private_patterns(made, 2)]), 2), [reading(shared, 2)]
    how: dict[str, Any] = {"targets": "next", "threat": L2(1.0), "schedule": STEPS}
    plain = nb.relabel(source, made.data, tmp_path / "det", **how)
    bugs = nb.relabel(source, made.data, tmp_path / "bugs", others=others, **how)
    original = made.data.train.labels
    assert agreed(source, plain, plain.images.labels) > 0.97
    assert agreed(source, bugs, bugs.images.labels) > 0.97
    assert agreed(others[0], plain, original) < 0.2  # the features are shared
    assert agreed(others[0], bugs, original) > 0.97
    assert taught(plain.images, made.data.test) > 0.9
    assert taught(bugs.images, made.data.test) < 0.1  # what the image showed before never goes with its label
    assert nb.verify(tmp_path / "bugs", data=made.data, source=source) == []
    assert len(bugs.manifest["request"]["others"]) == 1


def test_bugs_that_move_third_classes_teach_and_those_that_hold_every_output_do_not(tmp_path):
    """Nakkiran's search keeps the label of the others; what they share with the source may still move other classes."""
    made = nb.planted(classes=6, train=1200, test=600, robust_strength=0)
    shared = made.templates[[kind == "nonrobust" for kind in made.kinds]]
    source, others = reading(torch.cat([shared, private_patterns(made, 6)]), 6), [reading(shared, 6)]
    how: dict[str, Any] = {"targets": "other", "threat": L2(1.0), "schedule": PGDSteps(60), "others": others}
    accuracy = {}
    for hold in ("label", "outputs"):
        built = nb.relabel(source, made.data, tmp_path / hold, hold=hold, **how)
        assert agreed(source, built, built.images.labels) > 0.9
        assert agreed(others[0], built, made.data.train.labels) > 0.9
        accuracy[hold] = taught(built.images, made.data.test)
    assert accuracy["outputs"] < 1 / 6 < accuracy["label"] - 0.05  # chance, were labels not always wrong
    assert nb.verify(tmp_path / "outputs", data=made.data, source=source) == []
    assert nb.ConstructedSet(tmp_path / "outputs").manifest["request"]["hold"] == "outputs"
    assert "hold" not in nb.ConstructedSet(tmp_path / "label").manifest["request"]
    with pytest.raises(InputError, match="'hold' must be one of"):
        nb.relabel(source, made.data, tmp_path / "x", hold="outptus", **how)
    with pytest.raises(InputError, match="'others' must be one classifier at least"):
        nb.relabel(source, made.data, tmp_path / "x", hold="outputs", **how | {"others": ()})


def agreed(classifier: Classifier, built: nb.ConstructedSet, labels: torch.Tensor) -> float:
    """The share of a set's images to which a classifier gives these labels."""
    with torch.no_grad():
        return float((classifier(built.images.batch(slice(None))[0]).argmax(1) == labels).double().mean())


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_noise_teaches_what_its_perturbations_hold_and_nothing_else(made, tmp_path, start):
    data, shares = made.data.take(400, None, 0), {}
    for name, source in (("wise", projecting(made)), ("foolish", reading(private_patterns(made, 4), 4))):
        how: dict[str, Any] = {"targets": "any", "threat": L2(1.0), "schedule": STEPS, "start": start}
        built = nb.relabel(source, data, tmp_path / name, **how)
        assert agreed(source, built, built.images.labels) > 0.9
        shares[name] = taught(built.images, made.data.test)
    assert shares["wise"] > 0.9
    assert shares["foolish"] < 0.6  # images of a class err alike, so that chance is 0.25 with a spread of about 0.1


@pytest.fixture(scope="module")
def waves() -> Data:
    """Two classes that differ by a low wave of 2 cycles an image, and a linear source that reads it."""
    draw = generator(0, "waves")
    wave = (
        torch.cos(2 * torch.pi * 2 * (torch.arange(16) + 0.5) / 16)[None, None, None, :].expand(1, 1, 16, 16) / 128**0.5
    )
    labels = torch.arange(400) % 2

    def some() -> Images:
        noise = 0.05 * torch.randn(400, 1, 16, 16, generator=draw)
        return Images((0.5 + noise + 0.3 * (2 * labels - 1)[:, None, None, None] * wave).clamp(0, 1), labels)

    return Data("waves", some(), some(), ("a", "b"))


def test_a_band_teaches_where_the_signal_is_in_it(waves, tmp_path):
    draw = generator(1, "waves")
    wave = waves.train.batch(slice(None))[0][waves.train.labels == 1].mean(0) - waves.train.batch(slice(None))[0][
        waves.train.labels == 0
    ].mean(0)
    fine = torch.randn(1, 16, 16, generator=draw)
    patterns = Band("low", 3)(wave[None])[0] / 0.6 + 0.5 * Band("high", 3)(fine[None])[0] / 16
    source = reading(torch.stack([-patterns, patterns]), 2)
    shares = {}
    for side in ("low", "high"):
        ball = L2(1.0, Band(side, 3))
        built = nb.relabel(source, waves, tmp_path / side, targets="any", threat=ball, schedule=STEPS)
        moved = built.images.batch(slice(None))[0] - waves.train.subset(built.start).batch(slice(None))[0]
        assert float(Band(side, 3).outside(moved).max()) < 1e-3
        assert float(l2_norm(moved).max()) <= 1 + 1e-5
        assert nb.construct.describe(tmp_path / side)["threat"]["band"] == {"side": side, "cutoff": 3}
        assert (
            float((built.images.labels == source(built.images.batch(slice(None))[0]).argmax(1)).double().mean()) > 0.9
        )
        # Half of the labels stay right, so an untouched image teaches as well: those that changed are looked at.
        changed = (built.images.labels != waves.train.labels[built.start]).nonzero().flatten()
        shares[side] = taught(built.images.subset(changed), waves.test)
    assert shares["low"] > 0.9
    assert shares["high"] < 0.3  # the wave of the old class says what the label is not


@pytest.mark.parametrize("ball", [L2(0.5, Band("low", 2)), Linf(0.05, Band("high", 2))])
def test_a_search_in_a_band_stays_in_the_ball_and_in_the_box(made, ball):
    classifier = projecting(made)
    images, labels = made.data.train.batch(slice(30))
    black = (3 * images - 1).clamp(0, 1)  # clips
    for start in (images, black):
        found = nb.pgd(classifier, start, labels, ball, PGDSteps(5)).images
        assert float(ball.size(found - start).max()) <= ball.eps + 1e-6
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert ball.band
        assert float(ball.band.outside(found - start).mean()) < (0.02 if ball.norm == "l2" else 0.4)
    with pytest.raises(InputError, match="must have no band"):
        nb.evaluate(classifier, made.data.test, [ball])
    assert repr(ball).endswith(f", band={ball.band!r})")
    assert repr(L2(0.5)) == "L2(eps=0.5)"


def test_half_of_the_features_are_matched_and_the_others_are_left(made, tmp_path):
    classifier = projecting(made)
    data = made.data.take(20, None, 0)
    numbers = [number for number, kind in enumerate(made.kinds) if kind == "nonrobust"]
    rest = [number for number in range(len(made.templates)) if number not in numbers]
    built = nb.robustify(classifier, data, tmp_path / "half", features=numbers, schedule=LBFGS(20, 0.3))
    found, start, target = (
        classifier.features(images)
        for images in (
            built.images.batch(slice(None))[0],
            data.train.subset(built.start).batch(slice(None))[0],
            data.train.subset(built.target).batch(slice(None))[0],
        )
    )
    torch.testing.assert_close(found[:, numbers], target[:, numbers], atol=2e-3, rtol=0)
    torch.testing.assert_close(found[:, rest], start[:, rest], atol=2e-2, rtol=0)
    for wrong in ([], [0, 0], [99]):
        with pytest.raises(InputError, match="'features'"):
            nb.robustify(classifier, data, tmp_path / "wrong", features=wrong)


def test_what_cannot_be_is_refused_before_work(made, tmp_path):
    classifier = projecting(made)
    with pytest.raises(InputError, match="'others'"):
        nb.relabel(classifier, made.data, tmp_path, others=[classifier], start="uniform")
    with pytest.raises(InputError, match="'others'"):
        nb.relabel(classifier, made.data, tmp_path, others=[classifier], schedule=FMN(5))
    with pytest.raises(InputError, match="no band"):
        nb.relabel(classifier, made.data, tmp_path, threat=L2(0.5, Band("low", 2)), schedule=FMN(5))
    with pytest.raises(InputError, match="'cutoff'"):
        Band("low", 0)
    recipe = read_recipe("digits")
    searches = {"matching": recipe.matching, "relabelling": recipe.relabelling}
    for name, given, word in (
        ("D_bugs", {}, "others"),
        ("D_half_R", {}, "features"),
        ("D_det", {"others": [classifier]}, "others"),
        ("D_det", {"cutoff": 2.0}, "cutoff"),
    ):
        with pytest.raises(InputError, match=f"'{word}'"):
            BY_NAME[name].build(classifier, made.data, tmp_path, **searches, **given)
    assert list(tmp_path.iterdir()) == []


def test_sets_are_asked_for_by_name_or_all_and_none_by_default():
    names = tuple(made.name for made in FURTHER)
    assert read_recipe("digits").sets == ()
    assert read_recipe("digits", {"sets": ["all"]}).sets == names
    assert chosen_sets(["D_rand_low,D_bugs", "D_bugs"]) == ("D_bugs", "D_rand_low")
    with pytest.raises(InputError, match="Did you mean 'D_bugs'"):
        read_recipe("digits", {"sets": ["D_bug"]})
    assert read_recipe("digits", {"sets": ["all"]}).departures == ()  # the expectations still apply
    assert all(made.claim and made.origin for made in FURTHER)
    assert not any(made.claim for made in SETS)
    asked = stage_names(False, ("D_bugs", "D_half_NR"), 2)
    assert [name for name in asked if name not in stage_names(False)] == [
        *("train-other-1", "train-other-2", "halves"),
        *(f"{work}-{name}" for name in ("D_bugs", "D_half_NR") for work in ("build", "measure", "train", "evaluate")),
        "gallery-further",
    ]


def test_instruments_are_told_of_no_set_that_is_not_built():
    for asked in (
        {"controls": {"on": True, "labels": ["D_bugs"]}},
        {"corruptions": {"on": True, "classifiers": ["standard", "D_bugs"]}},
    ):
        with pytest.raises(InputError, match="must name sets that the study has.*D_bugs.*--sets D_bugs"):
            read_recipe("digits", {"instruments": asked})
        read_recipe("digits", {"instruments": asked, "sets": ["D_bugs"]})
    check = ControlsInstrument().check
    for wrong in ({"labels": ["D_rand_uniform"]}, {"linf": ["D_det_low"]}):
        recipe = read_recipe("digits", {"sets": ["all"], "instruments": {"controls": {"on": True, **wrong}}})
        with pytest.raises(InputError, match=f"controls.{next(iter(wrong))}"):
            check(SimpleNamespace(recipe=recipe))
