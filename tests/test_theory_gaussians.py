"""Two Gaussians: densities, metrics, errors, sampling, standard maximum likelihood, features, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from scipy.stats import binomtest, multivariate_normal, ttest_1samp

from notbugs.errors import InputError
from notbugs.theory import (
    LinearClassifier,
    TwoGaussians,
    compare,
    fit,
    learning_curve,
    maximum_likelihood,
)
from notbugs.theory.linear import average, share
from tests.theory_pairs import dims, random_pair, seeded, seeds


@given(seeds, dims)
@settings(max_examples=25, deadline=None)
def test_likelihood_is_scipys(seed, dim):
    pair = random_pair(seed, dim)
    inputs, labels = pair.sample(5, seeded(seed))
    ours = pair.negative_log_likelihood(inputs, labels)
    for x, y, value in zip(inputs, labels, ours, strict=True):
        assert value.item() == pytest.approx(
            -multivariate_normal.logpdf(x.numpy(), (y * pair.mean).numpy(), pair.covariance.numpy()), rel=1e-9
        )


@given(seeds, dims)
@settings(max_examples=25, deadline=None)
def test_gradients_against_autograd(seed, dim):
    pair = random_pair(seed, dim, prior=0.3)
    x = torch.randn(1, dim, dtype=torch.float64, generator=seeded(seed), requires_grad=True)
    nll = pair.negative_log_likelihood(x, torch.ones(1))
    (slope,) = torch.autograd.grad(nll.sum(), x, retain_graph=True)
    precision = torch.linalg.inv(pair.covariance)
    torch.testing.assert_close(slope[0], (x[0] - pair.mean) @ precision, rtol=1e-8, atol=1e-8)
    # The log odds of the two classes are twice the Bayes classifier's score, in value and in gradient.
    other = pair.negative_log_likelihood(x, -torch.ones(1))
    odds = other - nll + math.log(0.3 / 0.7)
    rule = pair.classifier
    torch.testing.assert_close(2 * rule.scores(x), odds, rtol=1e-8, atol=1e-8)
    (slope,) = torch.autograd.grad(odds.sum(), x)
    torch.testing.assert_close(slope[0], 2 * rule.direction, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("prior", [0.5, 0.8])
@pytest.mark.parametrize("radius", [0.0, 0.4])
def test_error_formula_and_sampling_agree(norm, prior, radius):
    pair = TwoGaussians([1.0, -0.4, 0.2], [[1, 0.3, 0], [0.3, 0.5, 0.1], [0, 0.1, 0.8]], prior)
    measured = pair.sampled_error(200_000, radius, norm, generator=seeded(3))
    assert abs(measured.value - pair.error(radius, norm)) < 4 * (measured.high - measured.low) / 3.92


def test_no_perturbation_in_the_ball_is_worse_than_the_worst_step():
    rule = LinearClassifier(torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64))
    noise = torch.randn(1000, 3, dtype=torch.float64, generator=seeded())
    for norm, order in (("l2", 2), ("linf", math.inf)):
        tries = 0.3 * noise / noise.norm(order, dim=-1, keepdim=True)
        assert (tries @ rule.direction).min() >= rule.worst_step(0.3, norm) @ rule.direction - 1e-12
    assert rule.worst_step(0.3, "linf").tolist() == pytest.approx([-0.3, 0.3, 0.0])


def test_error_slope_in_the_radius():
    pair = random_pair(5, 3)
    rule = pair.classifier
    deviation = (rule.direction @ pair.covariance @ rule.direction).sqrt().item()
    z = -(rule.direction @ pair.mean - 0.2 * rule.direction.norm()).item() / deviation
    slope = rule.direction.norm().item() / deviation * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    assert (pair.error(0.2 + 1e-5) - pair.error(0.2 - 1e-5)) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_bayes_classifier_is_the_best_of_many():
    pair = random_pair(1, 4, prior=0.7)
    directions = torch.randn(300, 4, dtype=torch.float64, generator=seeded())
    others = [pair.error(classifier=LinearClassifier(w, b)) for w in directions for b in (-0.5, 0.0, 0.4)]
    assert pair.error() < min(others)


def test_metrics():
    pair = TwoGaussians([0.0, 1.0], [[4.0, 0.0], [0.0, 0.25]])
    assert pair.mahalanobis([2.0, 0.0], [0.0, 0.0]) == pytest.approx(1.0)
    assert pair.inner_product([2.0, 2.0], [2.0, 2.0]) == pytest.approx(1 + 4)
    gap = pair.metric_gap
    assert (gap.condition, gap.cosine) == pytest.approx((16.0, 8 / 17))
    assert gap.spread == pytest.approx(math.log(16) / math.sqrt(2))
    even = TwoGaussians([1.0, 0.0], [[3.0, 0.0], [0.0, 3.0]]).metric_gap
    assert (even.condition, even.cosine, even.spread) == pytest.approx((1, 1, 0))


def test_maximum_likelihood_finds_the_pair():
    pair = random_pair(2, 3, prior=0.7)
    learned = maximum_likelihood(*pair.sample(100_000, seeded(1)))
    torch.testing.assert_close(learned.mean, pair.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(learned.covariance, pair.covariance, atol=0.1, rtol=0.03)
    assert learned.prior == pytest.approx(0.7, abs=0.01)


def test_intervals_are_scipys():
    for hits, n in ((879, 1000), (0, 50), (50, 50)):
        ours = share(torch.arange(n) < hits)
        theirs = binomtest(hits, n).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    for n in (2, 3, 8, 1000):
        draws = torch.randn(n, generator=seeded(), dtype=torch.float64)
        ours, theirs = average(draws), ttest_1samp(draws.numpy(), 0).confidence_interval()
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_learning_curve_reaches_the_population():
    pair = TwoGaussians([0.5, 0.5, 0.5], torch.diag(torch.tensor([1.0, 0.3, 0.1])))
    curve = learning_curve(pair, [8, 64, 512, 8192], 0.2, repeats=24, generator=seeded())
    assert curve.population_robust == pytest.approx(pair.error(0.2))
    assert curve.robust[0].value > curve.robust[-1].value
    assert curve.robust[-1].value == pytest.approx(curve.population_robust, rel=0.01)
    assert curve.samples_needed(1.0) == 8
    assert curve.samples_needed(0.01) in (64, 512, 8192)
    assert curve.samples_needed(1e-12) is None


def test_fit_recovers_two_classes_and_predicts_their_vulnerability():
    pair = TwoGaussians([1.0, 0.5], [[1.0, 0.2], [0.2, 0.3]], prior=0.6)
    inputs, labels = pair.sample(50_000, seeded())
    classes = torch.where(labels > 0, 7, 2)
    shifted = inputs + torch.tensor([10.0, -3.0], dtype=torch.float64)
    fitted = fit(torch.cat([shifted, 99 * torch.ones(4, 2)]), torch.cat([classes, torch.full((4,), 5)]), (7, 2))
    assert fitted.shrinkage < 1e-3
    torch.testing.assert_close(fitted.gaussians.mean, pair.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(fitted.gaussians.covariance, pair.covariance, atol=0.03, rtol=0)
    assert fitted.centre.tolist() == pytest.approx([10, -3], abs=0.05)
    radii = torch.tensor([0.0, 0.3, 0.8])
    rule = pair.classifier
    test, truth = pair.sample(2000, seeded(1))
    correct = torch.stack(
        [rule.scores(test + truth[:, None] * rule.worst_step(radius)) * truth > 0 for radius in radii.tolist()]
    )
    result = compare(fitted, radii, correct)
    assert result.inside >= 2
    assert result.largest_difference < 0.03


def test_fit_shrinks_where_the_scatter_is_singular():
    features = torch.randn(12, 30, dtype=torch.float64, generator=seeded())
    labels = torch.arange(12) % 2
    fitted = fit(features, labels, (0, 1))
    assert 0 < fitted.shrinkage <= 1
    assert fitted.gaussians.condition < 1e4
    with pytest.raises(InputError, match="positive definite"):
        fit(features, labels, (0, 1), shrinkage=0.0)


EYE = [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TwoGaussians([1.0, 1.0], [[1.0, 0.5], [0.1, 1.0]]), "symmetric. Got 0.4 "),
        (lambda: TwoGaussians([1.0, 1.0], [[1.0, 0.0], [0.0, -2.0]]), "positive definite. Got -2.0 "),
        (lambda: TwoGaussians([1.0, 1.0], [[1.0, 1.0], [1.0, 1.0]]), "positive definite"),
        (lambda: TwoGaussians([1.0, 1.0, 1.0], EYE), r"3 x 3 matrix.*\(2, 2\)"),
        (lambda: TwoGaussians([1.0, math.nan], EYE), "finite numbers only. Got nan"),
        (lambda: TwoGaussians([1.0, 1.0], [[math.inf, 0.0], [0.0, 1.0]]), "finite numbers only. Got inf"),
        (lambda: TwoGaussians([], []), "at least one entry"),
        (lambda: TwoGaussians([1.0, 1.0], EYE, prior=1.0), "'prior'.*Got 1.0"),
        (lambda: TwoGaussians([1.0, 1.0], EYE).robust_mle(-0.5), "'radius'.*Got -0.5"),
        (lambda: TwoGaussians([1.0, 1.0], EYE).robust_mle(math.nan), "'radius'.*Got nan"),
        (lambda: TwoGaussians([1.0, 1.0], EYE).robust_mle(math.inf), "'radius'.*Got inf"),
        (lambda: TwoGaussians([1.0, 1.0], EYE).error(-1.0), "'radius'.*Got -1.0"),
        (lambda: TwoGaussians([1.0, 1.0], EYE).error(0.1, "l1"), "'norm'.*Got 'l1'"),
        (lambda: TwoGaussians([1.0, 1.0], [[1, 0.1], [0.1, 1]]).robust_mle(1.0, "linf"), "diagonal"),
        (lambda: TwoGaussians([0.0, 0.0], EYE).cosine, "must not be zero"),
        (lambda: TwoGaussians([1.0, 1.0], EYE).negative_log_likelihood([[1.0]], [1]), r"2 columns.*\(1, 1\)"),
        (
            lambda: TwoGaussians([1.0, 1.0], EYE).negative_log_likelihood([[1.0, 2.0]], [0]),
            r"\+1 and -1. Got 0.0",
        ),
        (lambda: TwoGaussians([1.0, 1.0], EYE).sample(0), "'n'.*Got 0"),
        (lambda: maximum_likelihood([[1.0, 2.0]], [1]), "positive definite"),
        (lambda: fit(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]), (0, 1)), "vary"),
        (lambda: fit(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]), (0, 3)), "occur.*Got 3"),
        (lambda: fit(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]), (1, 1)), "different"),
        (lambda: fit(torch.rand(4, 2), torch.tensor([0, 0, 1]), (0, 1)), r"4 rows. Got \(3,\)"),
    ],
)
def test_bad_input_is_named_with_its_value(make, words, unchecked):
    with pytest.raises(InputError, match=words):
        make()
