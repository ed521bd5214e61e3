from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import notbugs as nb
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.seeds import generator
from notbugs.threat import L2, Linf, l2_norm, threat
from notbugs.training import Adversary, Training
from tests.conftest import random_images

threats = st.builds(lambda kind, eps: kind(eps), st.sampled_from([L2, Linf]), st.floats(0, 10))
seeds = st.integers(0, 2**31)


def noise(seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(3, 2, 4, 4, generator=generator(seed)) * scale


@given(threats, seeds, st.floats(1e-6, 1e3))
def test_projection_lands_in_the_ball_and_leaves_what_is_inside(ball, seed, scale):
    projected = ball.project(noise(seed, scale))
    assert (ball.size(projected) <= ball.eps * (1 + 1e-5) + 1e-12).all()
    torch.testing.assert_close(ball.project(projected), projected)


@given(threats, seeds)
def test_projection_is_the_nearest_valid_point(ball, seed):
    delta, other = noise(seed), ball.start(noise(seed), generator(seed, "other"))
    assert (l2_norm(delta - ball.project(delta)) <= l2_norm(delta - other) + 1e-5).all()


@given(threats, seeds)
def test_start_is_inside(ball, seed):
    assert (ball.size(ball.start(noise(seed), generator(seed))) <= ball.eps * (1 + 1e-5)).all()


def test_l2_start_is_uniform_in_the_ball():
    delta = L2(1.0).start(torch.zeros(20000, 1, 1, 2), generator(0))
    # In d = 2 the share of a uniform draw within radius 1/2 is 1/4.
    share = (l2_norm(delta) < 0.5).double().mean()
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 20000)
    assert delta.mean(0).abs().max() < 4 * 0.5 / math.sqrt(20000)


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1.0, 1e25])
@pytest.mark.parametrize("ball", [L2(1.0), Linf(1.0)])
def test_step_has_unit_length_however_small_the_gradient(ball, scale):
    gradient = noise(0).clamp(-2, 2) * scale
    torch.testing.assert_close(ball.size(ball.step(gradient)), torch.ones(3), rtol=1e-4, atol=0)
    assert torch.equal(ball.step(torch.zeros_like(gradient)), torch.zeros_like(gradient))


def test_step_ascends_fastest():
    gradient = noise(3)
    for ball, dual in ((L2(1.0), l2_norm(gradient)), (Linf(1.0), gradient.flatten(1).abs().sum(1))):
        torch.testing.assert_close((ball.step(gradient) * gradient).flatten(1).sum(1), dual)


@pytest.mark.parametrize("eps", [-0.1, math.nan, "1", None, True])
@pytest.mark.parametrize("kind", [L2, Linf])
def test_radius_must_be_a_number_at_or_above_zero(kind, eps, unchecked):
    with pytest.raises(InputError, match="'eps' must be a number at or above 0"):
        kind(eps)


def test_by_name():
    assert threat("linf", 0.1) == Linf(0.1)
    with pytest.raises(InputError, match=r"must be one of l2, linf. Got 'l_inf' instead. Did you mean 'linf'"):
        threat("l_inf", 0.1)


@pytest.mark.parametrize(("ball", "whole"), [(Linf(8.0), 1), (L2(128.0), math.sqrt(72))])
def test_a_radius_in_grey_levels_is_refused_wherever_one_is_given(small, ball, whole):
    images = Images(random_images(12), torch.arange(12) % 4)
    data = Data("made", images, images, ("a", "b", "c", "d"))
    assert ball.whole(images.shape) == pytest.approx(whole)
    training = Training(adversary=Adversary(norm=ball.norm, eps=ball.eps))
    for work in (
        lambda: nb.evaluate(small, images, [ball]),
        lambda: nb.audit(small, data, ball),
        lambda: nb.usefulness(small, images, images, ball),
        lambda: nb.relabel(small, data, "set", targets="next", threat=ball),
        lambda: nb.transfer({"a": small, "b": small}, images, ball),
        lambda: nb.measure.masking_signs(small, images, ball),
        lambda: nb.train(small, images, training),
    ):
        with pytest.raises(
            InputError, match=f"'eps' must be at most .* in grey levels.* {ball.norm}:{ball.eps / 255:.4g}"
        ):
            work()
    assert nb.evaluate(small, images, [type(ball)(whole)], attack="pgd", steps=1)[1].attack
