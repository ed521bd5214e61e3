"""Instruments that draw curves: frequencies, size of a set, radius of a source; it is known what must be learned."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from notbugs import relabel, study
from notbugs.console import TerminalConsole
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.formats import between
from notbugs.measure import Difference, Proportion, evaluate, paired_difference, predictions, wilson
from notbugs.seeds import derive, generator
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments import frequencies, set_radius, set_size, source_radius
from notbugs.study.runner import Runner
from notbugs.study.sets import BY_NAME
from notbugs.training import Training
from notbugs.training.watching import trained_on

pytestmark = pytest.mark.whole

TINY = {
    "architecture": {"width": 4, "features": 6},
    **{name: {"epochs": 4, "batch": 50, "lr": 0.1} for name in ("standard", "robust", "constructed")},
    "robust": {"epochs": 1, "batch": 50, "adversary": {"eps": 0.2, "steps": 1, "step_size": 0.1, "guard": False}},
    "matching": {"steps": 3},
    "relabelling": {"steps": 5, "eps": 1.0},
    "evaluation": {"attack": {"name": "pgd", "steps": 2}, "pgd": {"steps": 2}, "radii": [0.1]},
    "instruments": {
        "frequencies": {"on": True, "cutoffs": [3.0], "sets": ["D_rand"]},
        "controls": {"weak_epochs": [1, 2]},
        "set_radius": {"on": True, "radii": [1.0, 0.05], "sets": ["D_rand_other"], "repeats": 2},
        "set_size": {"on": True, "shares": [0.5, 0.02]},
        "source_radius": {"on": True, "radii": [0.2, 0.1], "repeats": 2, "images": 50},
    },
}


@pytest.fixture
def waves() -> Data:
    """Two classes that differ by a wave of 2 cycles an image, and by nothing else; few test images have the second."""
    draw, labels = generator(0, "waves"), torch.arange(400) % 2
    wave = torch.cos(2 * torch.pi * 2 * (torch.arange(8) + 0.5) / 8).expand(1, 1, 8, 8)
    sign = (2 * labels - 1)[:, None, None, None]

    def some() -> Images:
        return Images((0.5 + 0.1 * torch.randn(400, 1, 8, 8, generator=draw) + 0.1 * sign * wave).clamp(0, 1), labels)

    return Data("waves", some(), some().subset((labels == 0) | (torch.arange(400) % 8 == 1)), ("a", "b"))


def less(runner: Runner, first: str, second: str) -> Difference:
    """The difference of their balanced accuracies, image by image."""
    hits = (
        predictions(runner.classifier(name), runner.data.test) == runner.data.test.labels for name in (first, second)
    )
    return paired_difference(*hits, runner.data.test.labels)


def at_work(data: Data, path: Path, **changes) -> Runner:
    recipe = study.read_recipe("digits", TINY | {"pair": [0, 1]} | changes)
    folder = StudyFolder(path, TerminalConsole(quiet=True), stages=0)
    return Runner(recipe, data, folder, torch.device("cpu"))


def test_what_a_classifier_learned_is_asked_of_images_it_was_trained_on(waves, tmp_path):
    """Early stopping holds out a tenth of them."""
    runner, settings = at_work(waves, tmp_path), Training(epochs=1, batch=50, patience=1)
    classifier = runner.train("standard", waves.train, settings=settings)
    kept = waves.train.subset(trained_on(waves.train, settings, derive(runner.seed, "train", "standard")))
    assert len(kept) == runner.trained["standard"].images == 360
    assert runner.fits["standard"] == Proportion.of(predictions(classifier, kept) == kept.labels)


def test_frequencies_say_where_the_signal_is(waves, tmp_path):
    runner = at_work(waves, tmp_path)
    runner.train("standard", waves.train)
    made = frequencies.FrequenciesInstrument()
    made.check(runner)
    found = made.run(runner)
    rows = {(row.trained_on, row.side): row for row in found.rows}
    assert set(rows) == {(of, side) for of in ("D", "D_rand") for side in ("low", "high")}
    assert rows["D", "low"].clean.low > 0.9
    assert rows["D", "high"].clean.value < 0.65
    assert rows["D", "high"].filtered is not None
    assert rows["D", "high"].filtered.value < 0.65
    low, high = (rows["D_rand", side].success for side in ("low", "high"))
    assert low
    assert high
    assert low.low > high.high  # the source sees low frequencies
    again = evaluate(runner.classifier("D_low_3"), waves.test)[0].share
    assert again == rows["D", "low"].clean
    assert rows["D", "low"].beyond == less(runner, "D_low_3", "D_high_3")
    assert rows["D_rand", "low"].beyond == less(runner, "D_rand_low_3", "D_rand_high_3")
    assert rows["D", "low"].fits == runner.fits["D_low_3"]
    assert all(row.balanced for row in found.rows)
    assert all((row.filtered_balanced is None) == (row.trained_on != "D") for row in found.rows)
    learned = [row.model_copy(update={"fits": None}) for row in found.rows]  # of noise nothing can be
    section = made.section(found.model_copy(update={"rows": learned}), waves.classes)
    assert "filtered, balanced" in section.tables[0].columns
    left = rows["D_rand", "high"].model_copy(update={"fits": wilson(10, 100), "success": wilson(60, 100)})
    (said,) = frequencies._reading(found.model_copy(update={"rows": [rows["D_rand", "low"], left]}))
    assert said.startswith("D_rand, high, at 3 cycles per image was not learned by a classifier trained on it, which")
    assert any(
        "D, filtered, at 3 cycles per image" in line and "the low ones teach more" in line for line in section.reading
    )
    assert "D_rand, high at 3" in section.figures[0].drawings[0]
    assert next(iter(made.figures(found, 0))).draw(width=200, height=100)
    images = waves.train.batch(slice(5))[0]
    parts = [
        frequencies.filtered(waves.train.subset(slice(5)), side, 3).batch(slice(None))[0] for side in ("low", "high")
    ]
    torch.testing.assert_close(sum(parts), images + images.mean((2, 3), keepdim=True), atol=0.02, rtol=0)
    with pytest.raises(InputError, match=r"cutoffs' must be above 0 and at most 4"):
        made.check(at_work(waves, tmp_path, instruments={"frequencies": {"on": True, "cutoffs": [5.0]}}))


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((30, 70), "grows with"),
        ((70, 40), "falls as"),
        ((30, 70, 20), "grows and falls"),
        ((50, 51), "not told apart"),
        ((50, 57, 53), "not told apart"),
        ((40, 45, 50), "grows with"),  # neighbours do not decide for the ends
    ],
)
def test_what_is_said_of_sizes_is_what_intervals_tell(shares, words):
    rows = [
        set_size.SetSizeRow(trained_on="D", n=100 * place, epochs=1, clean=wilson(10 * share, 1000))
        for place, share in enumerate(shares, 1)
    ]
    (reading,) = set_size._reading(set_size.SetSizeResult(seed=0, test_set="test", rows=rows))
    assert words in reading


def test_more_images_of_noise_teach_more(waves, tmp_path):
    """The source knows the wave, so noise pushed to a class shows it; eight images show more noise than wave."""
    other = {"D_rand": {"name": "cnn", "width": 4, "features": 7}}
    runner = at_work(waves, tmp_path, sets=["D_rand_gaussian"], architecture_on=other)
    made = set_size.SetSizeInstrument()
    made.check(runner)
    source = runner.train("standard", waves.train)
    for name, start in (("D_rand", "images"), ("D_rand_gaussian", "gaussian")):
        how = {"threat": runner.recipe.relabelling.threat, "schedule": runner.recipe.relabelling.schedule}
        work = partial(relabel, source, waves, start=start, **how)
        runner.train(name, runner.build(name, lambda path, progress, work=work: work(path, progress=progress)).images)
    found = made.run(runner)
    rows = {(row.trained_on, row.n): row for row in found.rows}
    assert [(row.n, row.epochs) for row in found.rows if row.trained_on == "D_rand"] == [(8, 200), (200, 8), (400, 4)]
    assert set(rows) == {(name, n) for name in ("D_rand", "D_rand_gaussian") for n in (8, 200, 400)}
    assert rows["D_rand_gaussian", 400].clean == evaluate(runner.classifier("D_rand_gaussian"), waves.test)[0].share
    assert all(row.fits == runner.fits[name if n == 400 else f"{name}_{n}"] for (name, n), row in rows.items())
    smaller = [less(runner, "D_rand_gaussian", f"D_rand_gaussian_{n}") for n in (8, 200)]
    assert rows["D_rand_gaussian", 400].gained == smaller
    assert rows["D_rand_gaussian", 8].gained == []
    assert rows["D_rand_gaussian", 400].clean.low > max(0.6, rows["D_rand_gaussian", 8].clean.high)
    for name in rows:  # a part has the network of the whole
        part, whole = "_".join(map(str, name)) if name[1] < 400 else name[0], name[0]
        assert runner.classifier(part).head.in_features == runner.classifier(whole).head.in_features
    assert runner.classifier("D_rand_8").head.in_features == 7
    with pytest.raises(InputError, match="was built with another classifier than .* has now"):
        runner.construct("D_rand", BY_NAME["D_rand"], seed=0, source=runner.train("other", waves.train))
    section = made.section(found, waves.classes)
    assert "from 8 images" in section.reading[1]
    assert "The balanced accuracy grows" in section.reading[1]
    left = rows["D_rand", 8].model_copy(update={"fits": wilson(10, 100)})
    (said,) = set_size._reading(found.model_copy(update={"rows": [left, rows["D_rand", 400]]}))
    assert said.startswith("D_rand of 8 images was not learned by a classifier trained on it, which gives 10.0")
    assert next(iter(made.figures(found, 0))).draw(width=200, height=100)
    with pytest.raises(InputError, match="shares' must be above 0 and below 1"):
        made.check(at_work(waves, tmp_path, instruments={"set_size": {"on": True, "shares": [1.0]}}))
    stopping = {"constructed": {"epochs": 4, "batch": 50, "lr": 0.1, "patience": 1}}
    with pytest.raises(InputError, match="'patience' must be 0 with fewer than 10 training images, and there are 8"):
        made.check(at_work(waves, tmp_path, **stopping))


def test_a_set_is_beyond_its_control_where_its_perturbations_hold_the_feature(waves, tmp_path):
    """A wave of 1.6 (l2) tells the classes apart: a perturbation of 1.0 holds much of it, one of 0.05 nothing."""
    runner = at_work(waves, tmp_path)
    made = set_radius.SetRadiusInstrument()
    made.check(runner)
    source = runner.train("standard", waves.train)
    how = {"threat": runner.recipe.relabelling.threat, "schedule": runner.recipe.relabelling.schedule}
    seed = derive(runner.seed, "set", "D_rand_other")
    built = runner.build(
        "D_rand_other", lambda path, progress: relabel(source, waves, path, targets="other", seed=seed, **how)
    )
    runner.train("D_rand_other", built.images)
    found = made.run(runner)
    assert [(row.eps, row.repeat) for row in found.rows] == [(0.05, 1), (0.05, 2), (1.0, 1), (1.0, 2)]
    own, again = found.rows[2:]
    assert own.clean == evaluate(runner.classifier("D_rand_other"), waves.test)[0].share
    assert own.balanced == evaluate(runner.classifier("D_rand_other"), waves.test)[0].balanced
    of_control = {1: "D_rand_other_leakage", 2: "D_rand_other_leakage_weak_2"}
    beyond = {epochs: less(runner, "D_rand_other", name) for epochs, name in of_control.items()}
    control = of_control[own.weak_epochs]  # of two the stronger
    assert own.beyond == beyond[own.weak_epochs] == min(beyond.values(), key=lambda one: one.value)
    assert own.leakage == evaluate(runner.classifier(control), waves.test)[0].share
    assert all(row.beyond.value == pytest.approx(row.balanced.value - row.leakage_balanced.value) for row in found.rows)
    assert all(row.success.low > found.rows[0].success.high for row in (own, again))
    assert (own.fits, own.leakage_fits) == (runner.fits["D_rand_other"], runner.fits[control])
    of = {name: runner.set(name).manifest["request"] for name in ("D_rand_other", "D_rand_other_1_2")}
    assert of["D_rand_other"]["source"] != of["D_rand_other_1_2"]["source"]
    assert of["D_rand_other"]["threat"] == of["D_rand_other_1_2"]["threat"]
    section = made.section(found, waves.classes)
    assert len(section.reading) == 2
    assert "control, balanced" in section.tables[0].columns
    assert "points of balanced accuracy, with Newcombe's interval for paired shares" in section.tables[0].caption
    assert section.figures[0].caption.startswith("Balanced accuracy")
    assert section.reading[1].startswith("D_rand_other at l2 1 ")
    ends = sorted(row.beyond.value for row in (own, again))  # a range, not an interval
    assert f" points ({between(*ends)} over 2 seeds)" in section.reading[1]
    assert "D_rand_other, control at 0.05" in section.figures[0].drawings[0]
    assert next(iter(made.figures(found, 0))).draw(width=200, height=100)
    assert set_radius._relabelling(runner.recipe.relabelling.model_copy(update={"step_size": 0.5}), 2.0).step_size == 1
    free = set_radius._relabelling(runner.recipe.relabelling.model_copy(update={"method": "minimum-norm"}), 2.0)
    assert (free.method, free.eps) == ("gradient", 2.0)
    assert set_radius._radii(at_work(waves, tmp_path, instruments={"set_radius": {}})) == [0.5, 1.0, 2.0]
    with pytest.raises(InputError, match="radii.*greater than 0"):
        at_work(waves, tmp_path, instruments={"set_radius": {"on": True, "radii": [0.0]}})


def test_what_d_r_loses_is_measured_for_every_radius_and_seed(waves, tmp_path):
    runner = at_work(waves, tmp_path)
    made = source_radius.SourceRadiusInstrument()
    made.check(runner)
    found = made.run(runner)
    assert [(row.eps, row.repeat) for row in found.rows] == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    for row in found.rows:
        end = f"{row.eps:g}_{row.repeat}"
        source, taught = runner.classifier(f"robust_{end}"), runner.classifier(f"D_R_{end}")
        built = runner.set(f"D_R_{end}")
        assert row.source[0].share == evaluate(source, waves.test)[0].share
        assert row.taught[0].share == evaluate(taught, waves.test)[0].share
        assert row.on_set[0].share.n == 50
        assert [one.attack and one.attack.eps for one in row.source] == [None, 0.1]
        assert (
            built.manifest["request"]["source"] != runner.set("D_R_0.1_1").manifest["request"]["source"]
            or end == "0.1_1"
        )
    section = made.section(found, waves.classes)
    assert len(section.reading) == 2
    assert "over 2 seeds" in section.reading[0]
    assert f"on {len(waves.test)} test images and 50 images of D_R" in section.tables[0].caption
    assert next(iter(made.figures(found, 0))).draw(width=200, height=100)
    single = found.model_copy(update={"rows": [row for row in found.rows if row.repeat == 1]})
    line = source_radius._lines(single)["source, l2 0.1"]
    assert line == [(row.eps, row.source[1].share) for row in single.rows]  # one seed has no spread, but an interval
    alone = made.section(single, waves.classes)
    assert "over seeds" not in alone.figures[0].caption
    lost = Difference.of(found.rows[0].source[0].share, found.rows[0].taught[0].share)
    assert f"lost are {str(lost).replace(' (', ' points (')} clean" in alone.reading[0]
    grown = source_radius._training(runner.recipe.robust, 0.4).adversary
    assert grown
    assert (grown.eps, grown.step_size, grown.steps) == (0.4, pytest.approx(0.2), 1)
    with pytest.raises(InputError, match="'eps' must be at most 8"):
        made.check(at_work(waves, tmp_path, instruments={"source_radius": {"on": True, "radii": [128.0]}}))
