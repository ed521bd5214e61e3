"""Training with human priors: changes of appearance, their worst, gradients beside class means, the instrument."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs import study
from notbugs.classifier import Classifier
from notbugs.console import TerminalConsole
from notbugs.data import Appearance, Data, Images
from notbugs.data.corruptions import jpeg
from notbugs.errors import InputError
from notbugs.search import PGDSteps, appearance_pgd, worst_of
from notbugs.seeds import generator
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments import priors
from notbugs.study.runner import Runner
from notbugs.study.sets import BY_NAME
from notbugs.training import AppearanceTraining

OFF = {"brightness": 0.0, "contrast": 0.0, "hue": 0.0, "blur": 0.0, "jpeg": 0}


def one(place: int, value: float) -> torch.Tensor:
    changes = torch.zeros(1, 5)
    changes[0, place] = value
    return changes


def test_each_change_does_what_it_says_and_no_change_is_none():
    image = torch.rand(1, 3, 16, 16, generator=generator(0, "priors")) * 0.4 + 0.3
    torch.testing.assert_close(Appearance().apply(image, torch.zeros(1, 5)), image, atol=1e-6, rtol=0)
    lighter = Appearance(**OFF | {"brightness": 0.1}).apply(image, one(0, -0.5))
    torch.testing.assert_close(lighter, image - 0.05)
    flatter = Appearance(**OFF | {"contrast": 0.5}).apply(image, one(1, -1.0))
    torch.testing.assert_close(flatter, image.mean() + (image - image.mean()) / 2)
    blurred = Appearance(**OFF | {"blur": 2.0}).apply(image, one(3, 1.0))
    spot = torch.zeros(1, 1, 33, 33)
    spot[0, 0, 16, 16] = 1
    wide = Appearance(**OFF | {"blur": 2.0}).apply(spot, one(3, -1.0))[0, 0]
    places = torch.arange(33.0) - 16
    assert math.isclose(float((wide.sum(1) * places.square()).sum()), (2 * 33 / 32) ** 2, rel_tol=0.02)  # the variance
    assert math.isclose(float(wide.sum()), 1, rel_tol=1e-5)
    assert float(blurred.var()) < float(image.var()) / 2
    red = torch.tensor([0.6, 0.3, 0.3])[None, :, None, None].expand(1, 3, 2, 2)
    turned = Appearance(**OFF | {"hue": 120.0}).apply(red, one(2, 1.0))
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(turned[0, :, 0, 0] @ luma, red[0, :, 0, 0] @ luma)
    assert int(turned[0, :, 0, 0].argmax()) != 0
    grey = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(Appearance(**OFF | {"hue": 120.0}).apply(grey, one(2, 1.0)), grey)
    pressed = Appearance(**OFF | {"jpeg": 60})
    torch.testing.assert_close(pressed.apply(image, one(4, 1.0)), jpeg(image, 60, []))
    torch.testing.assert_close(pressed.apply(image, one(4, 0.1)), image)
    for wrong in ({"jpeg": 96}, {"hue": 181.0}, {"blur": -1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Appearance(**wrong)


def test_a_blurred_image_stays_in_range_and_trains_adversarially():
    white = torch.ones(8, 3, 16, 16)
    changed = Appearance(**OFF | {"blur": 2.0}).apply(white, Appearance().random(8, generator(2, "priors")))
    assert float(changed.max()) <= 1
    white[::2, :, :, ::2] = 0
    images, network = Images(white, torch.arange(8) % 2), nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 2))
    appearance = AppearanceTraining(**OFF | {"blur": 2.0})
    settings = nb.Training(epochs=2, batch=4, appearance=appearance, adversary=nb.Adversary(eps=0.1, steps=1))
    nb.train(Classifier(network, mean=(0.5,)), images, settings)


def test_how_an_image_is_blurred_does_not_depend_on_its_batch():
    images = torch.rand(2, 1, 32, 32, generator=generator(3, "priors"))
    ranges, changes = Appearance(**OFF | {"blur": 4.0}), torch.cat([one(3, 0.25), one(3, 1.0)])
    alone = ranges.apply(images[:1], changes[:1])
    torch.testing.assert_close(ranges.apply(images, changes)[:1], alone, atol=1e-6, rtol=0)


def lit() -> Classifier:
    """Class 1 where the image is lighter than 0.5 on average."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[-20.0], [20.0]]))
        network[2].bias.copy_(torch.tensor([10.0, -10.0]))
    return Classifier(network).eval()


def test_the_worst_change_is_found_by_gradient_and_among_random_ones():
    images, labels = torch.full((6, 1, 8, 8), 0.46), torch.zeros(6, dtype=torch.int64)
    ranges, draw = Appearance(**OFF | {"brightness": 0.1}), generator(0, "priors")
    found = appearance_pgd(lit(), images, labels, ranges, PGDSteps(5, decay="linear"))
    torch.testing.assert_close(found, images + 0.1)
    tries = ranges.random(6 * 4, draw).view(6, 4, 5)
    worst = worst_of(lit(), images, labels, ranges, tries)
    torch.testing.assert_close(worst.mean((1, 2, 3)), 0.46 + 0.1 * tries[:, :, 0].amax(1))


@pytest.mark.parametrize("how", [{"tries": 3}, {"steps": 2}])
def test_training_with_brightness_makes_a_classifier_that_brightness_does_not_change(how):
    draw, labels = generator(1, "priors"), torch.arange(200) % 2
    stripe = torch.zeros(1, 1, 8, 8)
    stripe[..., ::2] = 1
    sign = (2.0 * labels - 1)[:, None, None, None]
    pixels = 0.5 + 0.02 * sign * (stripe - 0.5) + 0.1 * sign + 0.01 * torch.randn(200, 1, 8, 8, generator=draw)
    images = Images(pixels.clamp(0, 1), labels)
    data, right = Data("lit", images, images, ("dark", "light")), {}
    ranges = OFF | {"brightness": 0.3}
    for name, appearance in (("plain", None), ("prior", AppearanceTraining(**ranges | how))):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        nn.init.zeros_(network[1].weight)
        classifier = Classifier(network, mean=(0.5,), std=(0.1,), precision="fp32")
        settings = nb.Training(epochs=20, batch=50, lr=0.05, appearance=appearance)
        nb.train(classifier, data.train, settings)
        darker = Images(Appearance(**ranges).apply(images.batch(slice(None))[0], torch.full((200, 5), -1.0)), labels)
        right[name] = nb.evaluate(classifier, darker)[0].share.value
    assert right["plain"] < 0.6  # it looks at the light, which says more
    assert right["prior"] > 0.95


def test_a_gradient_is_aligned_with_the_means_where_the_classifier_is_their_difference():
    made = nb.planted(train=400, test=100, robust_noise=0.1)
    means = nb.measure.class_means(made.data.train, 4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    with torch.no_grad():
        network[1].weight.copy_(means.flatten(1))
        network[1].bias.copy_(-0.5 * means.flatten(1).square().sum(1))
    gradients, others = nb.measure.input_gradients(Classifier(network), made.data.test)
    cosines = nb.measure.alignment(gradients, others, made.data.test.labels, means)
    assert float(cosines.min()) > 0.7  # of four classes the gradient has the other two in it, too
    assert float(nb.measure.alignment(-gradients, others, made.data.test.labels, means).max()) < -0.7
    assert bool((others != made.data.test.labels).all())


@pytest.mark.whole
def test_the_instrument_in_a_study_at_toy_size(tmp_path: Path):
    once = {name: {"epochs": 1, "batch": 40} for name in ("standard", "robust", "constructed")}
    asked = {
        "train_images": 120, "test_images": 40, "architecture": {"width": 4, "features": 6}, **once,
        "matching": {"steps": 2},
        "evaluation": {"attack": {"name": "pgd", "steps": 1}, "pgd": {"steps": 1}, "radii": [0.5]},
        "instruments": {
            "usefulness": {"steps": 1, "images": 20},
            "priors": {"on": True, "images": 20, "appearance": {"tries": 1}},
        },
    }  # fmt: skip
    recipe = study.read_recipe("digits", asked)
    runner = Runner(recipe, recipe.read(), StudyFolder(tmp_path, TerminalConsole(quiet=True), 0), torch.device("cpu"))
    for name in ("standard", "robust"):
        runner.train(name, runner.data.train)
    runner.train("D_NR", runner.construct("D_NR", BY_NAME["D_NR"], seed=0).images)
    made = priors.PriorsInstrument()
    made.check(runner)
    found = made.run(runner)
    assert [row.classifier for row in found.rows] == ["standard", "priors", "robust"]
    assert [row.taught is None for row in found.rows] == [False, False, True]
    assert all(row.aligned.n == found.n == 20 for row in found.rows)
    assert runner.set("D_NR_priors").manifest["request"]["source"] != found.rows[0].classifier
    test = runner.data.test
    hits = (nb.measure.predictions(runner.classifier(name), test) == test.labels for name in ("D_NR_priors", "D_NR"))
    assert [row.beyond for row in found.rows] == [None, nb.measure.paired_difference(*hits), None]
    assert [row.fits for row in found.rows] == [runner.fits["D_NR"], runner.fits["D_NR_priors"], None]
    for fits, said in ((0.1, "D_NR by priors was not learned"), (0.9, "D_NR by priors teaches")):
        share = nb.measure.wilson(round(1000 * fits), 1000)
        rows = [row.model_copy(update={"fits": row.fits and share, "success": None}) for row in found.rows]
        assert next(priors._reading(found.model_copy(update={"rows": rows}))).startswith(said)
    section = made.section(found, runner.data.classes)
    assert len(section.figures) == 4
    assert "data:image/png;base64," in section.figures[1].drawings[0]
    assert made.Result.model_validate_json(found.model_dump_json()) == found
