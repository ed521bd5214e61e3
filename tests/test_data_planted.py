"""The planted features are what their formulas say."""

from __future__ import annotations

import math

import pytest
import torch

from notbugs.data import load, planted
from notbugs.data.built_in import MOST_CLIPPED
from notbugs.errors import InputError

DIALS = [
    {},
    {"classes": 2, "size": 8, "channels": 3, "robust_strength": 1.0, "robust_noise": 0.3},
    {"classes": 10, "size": 32, "pixel_noise": 0.05, "nonrobust_strength": 0.3, "nonrobust_noise": 0.2},
    {"nonrobust_strength": 0.0},
]


def signs(made, labels):
    return torch.where(labels[:, None] == made.codes, 1.0, -1.0)


@pytest.mark.parametrize("dials", DIALS, ids=str)
def test_formulas_agree_with_samples(dials):
    made = planted(train=20_000, test=10, **dials)
    images, labels = made.data.train.batch(slice(None))
    features = made.features(images)
    close = {"rtol": 0, "atol": 5 / math.sqrt(len(images))}  # five standard errors of a feature of variance 1
    torch.testing.assert_close(features.mean(0), torch.zeros(len(made.codes)), **close)
    torch.testing.assert_close(features.square().mean(0), torch.ones(len(made.codes)), **close)
    torch.testing.assert_close((signs(made, labels) * features).mean(0), made.usefulness, **close)


@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5, 2.0])
def test_gamma_is_the_worst_step(eps):
    """y f is linear: its worst case in the ball is against its gradient, here found by autograd."""
    made = planted(train=20_000, test=10)
    images, labels = made.data.train.batch(slice(None))
    sign = signs(made, labels)
    for number in (0, 7):
        moving = images.clone().requires_grad_()
        value = (sign * made.features(moving))[:, number]
        (gradient,) = torch.autograd.grad(value.sum(), moving)
        step = -eps * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
        worst = float((sign * made.features(images + step))[:, number].mean())
        assert worst == pytest.approx(float(made.robust_usefulness(eps)[number]), abs=0.04)


def test_the_defaults_have_one_kind_of_each():
    made = planted()
    robust = torch.tensor([kind == "robust" for kind in made.kinds])
    assert (made.usefulness > 0.6).all()
    gamma = made.robust_usefulness(0.5)
    assert (gamma[robust] > 0.2).all()
    assert (gamma[~robust] < -1).all()
    assert made.accuracy("nonrobust") > 0.999
    assert made.accuracy("robust") < 0.95


@pytest.mark.parametrize("dials", DIALS[:3], ids=str)
@pytest.mark.parametrize("kind", ["robust", "nonrobust"])
def test_the_best_classifier_on_one_kind(dials, kind):
    made = planted(train=20_000, test=10, **dials)
    images, labels = made.data.train.batch(slice(None))
    seen = torch.tensor([each == kind for each in made.kinds])
    right = (made.features(images)[:, seen].argmax(1) == labels).float().mean()
    assert float(right) == pytest.approx(made.accuracy(kind), abs=0.01)


def test_templates_are_orthonormal_coarse_and_fine():
    made = planted(channels=2)
    flat = made.templates.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(8), rtol=0, atol=1e-6)
    assert made.codes.tolist() == [0, 1, 2, 3] * 2
    changes = sum((made.templates.diff(dim=dim) != 0).flatten(1).sum(1) for dim in (2, 3))
    assert changes[:4].max() * 5 < changes[4:].min()
    assert (made.templates.flatten(1).sum(1).abs() < 1e-5).all()


def test_clipping_is_negligible_and_counted():
    made = planted(train=50_000, test=10)
    clipped = ((made.data.train.pixels == 0) | (made.data.train.pixels == 1)).float().mean()
    assert made.clipped < 3e-5
    assert float(clipped) == pytest.approx(made.clipped, rel=0.3)
    louder = planted(robust_noise=0.85, train=20_000, test=10)
    clipped = ((louder.data.train.pixels == 0) | (louder.data.train.pixels == 1)).float().mean()
    assert 1e-4 < louder.clipped < MOST_CLIPPED
    assert float(clipped) == pytest.approx(louder.clipped, rel=0.2)


def test_images_follow_from_the_seed():
    made = planted(train=40, test=20)
    assert made.data.fingerprint == planted(train=40, test=20).data.fingerprint
    assert made.data.fingerprint != planted(train=40, test=20, seed=1).data.fingerprint
    assert torch.bincount(made.data.train.labels).tolist() == [10] * 4
    assert made.data.train.pixels.dtype == torch.float32
    assert load("planted").fingerprint == planted().data.fingerprint
    assert (len(load("planted").train), load("planted").train.shape) == (4000, (1, 16, 16))


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"classes": 1}, "'classes' must be a whole number at or above 2"),
        ({"size": 12}, "'size' must be a power of two"),
        ({"size": 2}, "with room for 2 x 4 patterns"),
        ({"robust_noise": -1.0}, "'robust_noise' must be a number at or above 0"),
        ({"pixel_noise": 0.0}, "'pixel_noise' must be a number above 0"),
        ({"robust_strength": 9.0}, r"must keep pixels in \[0, 1\]; a share of .* would be clipped.*Lower robust_noise"),
        ({"train": 2}, "Every class must have a training image"),
    ],
)
def test_dials_out_of_range(dials, message):
    with pytest.raises(InputError, match=message):
        planted(**dials)


def test_wrong_questions():
    with pytest.raises(InputError, match="'kind' must be one of robust, nonrobust"):
        planted(train=8, test=4).accuracy("useful")
    with pytest.raises(InputError, match="'eps' must be a number at or above 0"):
        planted(train=8, test=4).robust_usefulness(-0.5)
    with pytest.raises(InputError, match="'size' must be left out for planted"):
        load("planted", size=8)
