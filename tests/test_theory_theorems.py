"""The three theorems: known answers, gradients, simulation, and the extremes that they name."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from notbugs.errors import InputError
from notbugs.theory import (
    TwoGaussians,
    cosines,
    theorem1_gap,
    theorem1_gradient,
    theorem1_perturbation,
    theorem1_simulation,
    theorem2_slope,
    worst_cosine,
    worst_mean,
)
from tests.theory_pairs import dims, random_pair, seeded, seeds


def test_theorem1_by_hand():
    assert theorem1_gap([1.0, 1.0], 2.0).item() == pytest.approx(2 * 4 - 2)
    assert theorem1_gap([2.0, 0.5], 4.0).item() == pytest.approx((8 / 7) ** 2 + 4 - 2)


def test_theorem1_simulation_in_five_dimensions():
    """A gap of 8.534, reached at a covariance that is not diagonal, and measured by drawing samples."""
    pair = random_pair(11, 5)
    low, high = 1 / pair.eigenvalues[0].item() * (1 + 1e-9), 1e3
    for _ in range(200):
        penalty = math.sqrt(low * high)
        above = theorem1_gap(pair.eigenvalues, penalty) > 8.534
        low, high = (penalty, high) if above else (low, penalty)
    assert theorem1_gap(pair.eigenvalues, penalty).item() == pytest.approx(8.534)
    measured = theorem1_simulation(pair, penalty, 200_000, seeded())
    assert measured.holds(8.534)
    assert measured.high - measured.low < 0.2


@given(seeds, dims, st.floats(1.05, 50.0))
@settings(max_examples=25, deadline=None)
def test_theorem1_gradient_and_minimum(seed, dim, ratio):
    variances = random_pair(seed, dim).eigenvalues.clone().requires_grad_()
    penalty = ratio / variances.min().item()
    (slope,) = torch.autograd.grad(theorem1_gap(variances, penalty), variances)
    torch.testing.assert_close(theorem1_gradient(variances, penalty), slope, rtol=1e-8, atol=1e-10)
    even = torch.full_like(variances, variances.mean().item())
    assert theorem1_gap(even, penalty) <= theorem1_gap(variances, penalty)


def test_theorem1_perturbation_is_the_penalised_maximum():
    pair = random_pair(3, 3)
    penalty = 1.5 / pair.eigenvalues[0].item()
    residuals = torch.randn(5, 3, dtype=torch.float64, generator=seeded())
    delta = theorem1_perturbation(pair, residuals, penalty)

    def value(steps):
        return pair.whiten(residuals + steps).square().sum(-1) - penalty * steps.square().sum(-1)

    rivals = delta + 0.3 * torch.randn(1000, 5, 3, dtype=torch.float64, generator=seeded(1))
    assert (value(rivals) < value(delta)).all()


def test_theorem1_gap_in_likelihood_is_half():
    pair = random_pair(7, 2)
    penalty = 3 / pair.eigenvalues[0].item()
    inputs, labels = pair.sample(50_000, seeded())
    moved = inputs + theorem1_perturbation(pair, inputs - labels[:, None] * pair.mean, penalty)
    rise = pair.negative_log_likelihood(moved, labels) - pair.negative_log_likelihood(inputs, labels)
    assert 2 * rise.mean().item() == pytest.approx(theorem1_gap(pair.eigenvalues, penalty).item(), rel=0.02)


@pytest.mark.parametrize("penalty", [4.0, 1.0, -3.0, math.nan])
def test_penalty_at_or_below_its_bound_is_refused_with_the_value(penalty):
    with pytest.raises(InputError, match=rf"'penalty'.*Got {penalty}"):
        theorem1_gap([1.0, 0.25], penalty)


@given(seeds, dims, st.floats(0.01, 20.0))
@settings(max_examples=20, deadline=None)
def test_theorem2_slope(seed, dim, radius):
    pair = random_pair(seed, dim)
    step = 1e-5 * radius
    ends = [pair.robust_mle(radius + sign * step).eigenvalues.sqrt() for sign in (1, -1)]
    slope = theorem2_slope(pair, radius)
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)
    assert (slope > 0).all()
    assert (slope.diff() <= 1e-12).all()


def test_theorem2_slope_at_zero_is_the_limit():
    pair = random_pair(1, 3)
    torch.testing.assert_close(theorem2_slope(pair, 0.0), theorem2_slope(pair, 1e-6), rtol=1e-4, atol=0)


def test_worst_cosine_for_condition_16():
    assert worst_cosine(16.0) == pytest.approx(0.4706, abs=5e-5)
    assert worst_cosine(1.0) == 1.0
    with pytest.raises(InputError, match=r"'condition'.*Got 0.5"):
        worst_cosine(0.5)


@given(seeds, dims)
@settings(max_examples=25, deadline=None)
def test_worst_mean_reaches_the_worst_cosine_and_no_mean_goes_below(seed, dim):
    pair = random_pair(seed, dim)
    worst = worst_mean(pair)
    assert worst.norm().item() == pytest.approx(1)
    expected = worst_cosine(pair.condition)
    assert TwoGaussians(worst, pair.covariance).cosine == pytest.approx(expected, rel=1e-9)
    means = torch.randn(500, dim, dtype=torch.float64, generator=seeded(seed))
    assert cosines(means, pair.covariance).min() >= expected - 1e-9


@given(seeds, dims, st.floats(0.0, 10.0), st.floats(0.01, 3.0))
@settings(max_examples=30, deadline=None)
def test_the_cosine_rises_for_every_mean(seed, dim, radius, more):
    pair = random_pair(seed, dim)
    means = torch.randn(300, dim, dtype=torch.float64, generator=seeded(seed))
    before, after = (cosines(means, pair.robust_mle(r).covariance) for r in (radius, radius + more))
    assert (after >= before - 1e-12).all()


def test_cosine_gradient_is_level_at_the_worst_mean():
    pair = random_pair(9, 4)
    mean = worst_mean(pair).requires_grad_()
    (slope,) = torch.autograd.grad(cosines(mean[None], pair.covariance).sum(), mean)
    assert slope.norm() < 1e-9
    means = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: cosines(m, pair.covariance), (means,))


def test_the_slope_of_deviations_has_its_limit_at_small_radii():
    pair = TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    limit = theorem2_slope(pair, 0.0)
    for radius in (1e-20, 1e-16, 1e-12, 1e-8):
        torch.testing.assert_close(theorem2_slope(pair, radius), limit, rtol=1e-6, atol=0)


def test_bounds_of_another_problem_than_the_relaxed_one_are_none():
    pair = TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    assert all(map(math.isnan, pair.robust_mle(0.5, "linf").bounds))
