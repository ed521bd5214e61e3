"""Robust maximum likelihood: the closed form, the exact adversary, training, and where they must agree."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from notbugs.theory import (
    TwoGaussians,
    adversarial_training,
    exact_isotropic,
    minimise_exact,
    relaxed_eigenvalues,
    relaxed_multiplier,
    robust_loss,
    worst_perturbation,
)
from tests.theory_pairs import dims, random_pair, seeded, seeds

radii = st.floats(0.01, 30.0)


def diagonal(*variances: float) -> TwoGaussians:
    return TwoGaussians([1.0] * len(variances), torch.tensor(variances, dtype=torch.float64).diag())


@pytest.mark.parametrize(
    ("budget", "variances", "multiplier", "lower", "upper", "condition"),
    [
        (0.01, (4.0984, 1.0968, 0.3418), 20.2019, 5.234, 105.91, 11.99),
        (0.25, (4.6645, 1.6164, 0.7892), 2.8984, 1.159, 10.188, 5.91),
        (1.0, (5.6509, 2.4674, 1.5113), 1.1153, 0.581, 2.991, 3.74),
        (4.0, (8.2991, 4.7071, 3.4687), 0.3941, 0.261, 0.796, 2.39),
        (25.0, (20.6091, 15.4618, 13.357), 0.0867, 0.0712, 0.1276, 1.54),
    ],
)
def test_known_answers(budget, variances, multiplier, lower, upper, condition):
    robust = diagonal(4.0, 1.0, 0.25).robust_mle(math.sqrt(budget))
    assert robust.covariance.diagonal().tolist() == pytest.approx(variances, abs=6e-5)
    assert robust.multiplier == pytest.approx(multiplier, abs=6e-5)
    assert robust.bounds == pytest.approx((lower, upper), rel=1e-3)
    assert robust.condition == pytest.approx(condition, abs=6e-3)
    assert robust.added_length**2 == pytest.approx(budget, rel=1e-12)
    assert robust.mean.tolist() == [1.0, 1.0, 1.0]
    assert robust.sufficient_radius == pytest.approx(0.5)


def test_never_diverges_over_twelve_orders_of_magnitude():
    exponents = torch.arange(-12.0, 13.0, dtype=torch.float64)
    conditions = 10.0 ** torch.arange(0.0, 13.0, dtype=torch.float64)
    radius = (10.0**exponents)[:, None].expand(25, 13)
    variances = torch.stack([1 / conditions, conditions**-0.5, torch.ones_like(conditions)], -1).expand(25, 13, 3)
    multiplier = relaxed_multiplier(variances, radius)
    assert torch.isfinite(multiplier).all()
    q = 4 / multiplier[..., None]
    added = q / (2 * ((variances + q).sqrt() + variances.sqrt()))
    torch.testing.assert_close(added.norm(dim=-1) / radius, torch.ones(25, 13, dtype=torch.float64), rtol=1e-12, atol=0)
    assert (multiplier.diff(dim=0) < 0).all()
    assert diagonal(1e-12, 1.0).robust_mle(1e12).certificate > 0


def test_limits():
    pair = diagonal(4.0, 1.0, 0.25)
    assert pair.robust_mle(0.0).covariance.tolist() == pair.covariance.tolist()
    assert pair.robust_mle(0.0).multiplier == math.inf
    torch.testing.assert_close(pair.robust_mle(1e-9).covariance, pair.covariance, rtol=1e-7, atol=1e-8)
    wide = pair.robust_mle(1e6)
    assert wide.condition == pytest.approx(1, abs=1e-5)
    assert wide.multiplier * wide.eigenvalues[0].item() == pytest.approx(1, abs=1e-5)


@given(seeds, dims, radii)
@settings(max_examples=25, deadline=None)
def test_stationary_point_of_the_paper_and_its_bounds(seed, dim, radius):
    pair = random_pair(seed, dim)
    robust = pair.robust_mle(radius)
    s, lam = pair.eigenvalues, robust.multiplier
    written = s / 2 + 1 / lam + (s / lam + s**2 / 4).sqrt()
    torch.testing.assert_close(robust.eigenvalues, written, rtol=1e-9, atol=0)
    gain = 1 / (lam * robust.eigenvalues - 1)
    torch.testing.assert_close(s * (1 + gain) ** 2, robust.eigenvalues, rtol=1e-7, atol=0)
    assert robust.bounds[0] <= lam * (1 + 1e-12)
    assert lam <= robust.bounds[1] * (1 + 1e-12)
    assert robust.certificate == pytest.approx(lam * robust.eigenvalues[0].item() - 1, rel=1e-6)
    assert robust.certificate > 0


@given(seeds, dims, radii, st.floats(0.01, 100.0))
@settings(max_examples=25, deadline=None)
def test_rotation_and_scaling(seed, dim, radius, scale):
    pair = random_pair(seed, dim)
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=seeded(seed + 1)))
    turned = TwoGaussians(turn @ pair.mean, turn @ pair.covariance @ turn.mT)
    here, there = pair.robust_mle(radius), turned.robust_mle(radius)
    torch.testing.assert_close(there.covariance, turn @ here.covariance @ turn.mT, rtol=1e-7, atol=1e-7)
    scaled = TwoGaussians(scale * pair.mean, scale**2 * pair.covariance).robust_mle(scale * radius)
    torch.testing.assert_close(scaled.covariance, scale**2 * here.covariance, rtol=1e-8, atol=1e-12)
    assert scaled.multiplier == pytest.approx(here.multiplier / scale**2, rel=1e-9)
    assert scaled.error(scale * radius) == pytest.approx(here.error(radius), rel=1e-6, abs=1e-300)


@given(seeds, dims, radii, st.floats(1.01, 3.0))
@settings(max_examples=25, deadline=None)
def test_monotone_in_the_radius(seed, dim, radius, factor):
    pair = random_pair(seed, dim)
    small, large = pair.robust_mle(radius), pair.robust_mle(factor * radius)
    assert (large.eigenvalues > small.eigenvalues).all()
    assert large.multiplier < small.multiplier
    assert large.condition < small.condition
    assert large.cosine >= small.cosine - 1e-12
    assert large.metric_gap.cosine > small.metric_gap.cosine


@given(st.floats(0.01, 100.0), dims, radii)
@settings(max_examples=20, deadline=None)
def test_isotropy_is_a_fixed_point(variance, dim, radius):
    pair = diagonal(*[variance] * dim)
    robust = pair.robust_mle(radius)
    expected = (math.sqrt(variance) + radius / math.sqrt(dim)) ** 2
    assert robust.eigenvalues.tolist() == pytest.approx([expected] * dim, rel=1e-9)
    assert robust.cosine == pytest.approx(1.0)


def test_saddle_point_against_random_rivals():
    """No map raises the loss at the solution, no other covariance lowers the worst case, at any radius."""
    s = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
    generator = seeded()
    for radius in (0.1, 1.0, 20.0):
        pair = TwoGaussians([1.0, 1.0, 1.0], s.diag())
        robust = pair.robust_mle(radius).eigenvalues
        value = robust.log().sum() + 3  # at the solution E (v + Mv)^T S^-1 (v + Mv) = d
        maps = torch.randn(2000, 3, dtype=torch.float64, generator=generator)
        maps = radius * maps / ((maps**2 * s).sum(-1, keepdim=True)).sqrt()
        assert (robust.log().sum() + (s * (1 + maps) ** 2 / robust).sum(-1)).max() <= value + 1e-9
        best = (robust / s).sqrt() - 1
        rivals = robust * torch.exp(0.5 * torch.randn(2000, 3, dtype=torch.float64, generator=generator))
        # The solution's own map is one answer to each rival; the worst answer is no better for the rival.
        assert (rivals.log().sum(-1) + (s * (1 + best) ** 2 / rivals).sum(-1)).min() >= value - 1e-9


@given(seeds, st.integers(1, 6), radii)
@settings(max_examples=40, deadline=None)
def test_exact_adversary_beats_random_ones_and_satisfies_its_conditions(seed, dim, radius):
    generator = seeded(seed)
    factor = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    covariance = factor @ factor.mT + 0.1 * torch.eye(dim, dtype=torch.float64)
    residuals = torch.randn(4, dim, dtype=torch.float64, generator=generator)
    delta = worst_perturbation(residuals, covariance, radius)
    assert delta.norm(dim=-1).tolist() == pytest.approx([radius] * 4, rel=1e-12)
    precision = torch.linalg.inv(covariance)

    def loss(steps):
        return torch.einsum("...i,ij,...j->...", residuals + steps, precision, residuals + steps)

    noise = torch.randn(500, 4, dim, dtype=torch.float64, generator=generator)
    rivals = radius * noise / noise.norm(dim=-1, keepdim=True)
    assert (loss(rivals) <= loss(delta) * (1 + 1e-9)).all()
    push = (residuals + delta) @ precision  # = lambda delta, with lambda at or above the largest precision
    lam = (push * delta).sum(-1, keepdim=True) / radius**2
    torch.testing.assert_close(push, lam * delta, rtol=1e-6, atol=1e-6 * lam.max().item() * radius)
    assert (lam >= torch.linalg.eigvalsh(precision)[-1] * (1 - 1e-9)).all()


def test_every_covariance_may_have_a_radius_of_its_own():
    generator, radii = seeded(5), torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)
    factor = torch.randn(3, 4, 4, dtype=torch.float64, generator=generator)
    covariances = factor @ factor.mT + 0.1 * torch.eye(4, dtype=torch.float64)
    residuals = torch.randn(3, 6, 4, dtype=torch.float64, generator=generator)
    together = worst_perturbation(residuals, covariances, radii)
    for place, radius in enumerate(radii.tolist()):
        alone = worst_perturbation(residuals[place], covariances[place], radius)
        torch.testing.assert_close(together[place], alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("adversary", ["map", "sample"])
def test_several_radii_are_trained_for_at_once(adversary):
    pair = TwoGaussians([1.0, 1.0, 1.0], torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64).diag())
    how = {"adversary": adversary, "steps": 300, "repeats": 8, "first_step": 0.1}
    together = adversarial_training(pair, [0.0, 0.5, 2.0], generator=seeded(2), **how)
    assert together.covariances.shape == (3, 8, 3, 3)
    assert together.means.shape == (3, 8, 3)
    torch.testing.assert_close(together.covariances[0].mean(0), pair.covariance, rtol=0.03, atol=0.05)
    for place, radius in enumerate([0.5, 2.0], 1):
        alone = adversarial_training(pair, radius, generator=seeded(3), **how)
        learned = [one.mean(0).diagonal() for one in (together.covariances[place], alone.covariances)]
        torch.testing.assert_close(*learned, rtol=0.03, atol=0)
        if adversary == "map":
            closed = pair.robust_mle(radius).covariance.diagonal()
            torch.testing.assert_close(learned[0], closed, rtol=0.02, atol=0)


@pytest.mark.parametrize("top", [0.0, 1e-300, 1e-20, 1e-12, 1e-6])
def test_hard_case(top):
    """Almost nothing along the least-variance axis: what length is missing must go there."""
    covariance = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64).diag()
    residuals = torch.tensor([[top, 0.3, -0.2], [top, 9.0, 1.0], [top, 0.0, 0.0]], dtype=torch.float64)
    delta = worst_perturbation(residuals, covariance, 2.0)
    assert delta.norm(dim=-1).tolist() == pytest.approx([2.0] * 3, rel=1e-12)
    assert delta[0].tolist() == pytest.approx(
        [math.sqrt(4 - 0.1**2 - (0.2 / 15) ** 2), 0.1, -0.2 / 15], rel=1e-5, abs=1e-9
    )
    assert abs(delta[2, 0].item()) == pytest.approx(2.0)
    extreme = torch.tensor([1e-12, 1.0], dtype=torch.float64).diag()
    for radius in (1e-12, 1.0, 1e12):
        step = worst_perturbation(torch.tensor([[top, 1.0]], dtype=torch.float64), extreme, radius)
        assert step.norm().item() == pytest.approx(radius, rel=1e-12)


def test_closed_form_is_differentiable():
    variances = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64, requires_grad=True)
    radius = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def learned(s, r):
        return relaxed_eigenvalues(s, relaxed_multiplier(s, r))

    assert torch.autograd.gradcheck(learned, (variances, radius))
    # The envelope theorem: the robust loss rises with the squared radius at half the multiplier.
    loss = 0.5 * learned(variances, radius).log().sum()
    (slope,) = torch.autograd.grad(loss, radius)
    assert slope.item() / (2 * radius.item()) == pytest.approx(relaxed_multiplier(variances, radius).item() / 2)


def test_robust_loss_has_the_gradient_of_danskins_theorem():
    generator = seeded(4)
    residuals = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    factor = torch.randn(3, 3, dtype=torch.float64, generator=generator) + 2 * torch.eye(3, dtype=torch.float64)
    factor.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: robust_loss(residuals, f @ f.mT, 0.5), (factor,), atol=1e-5)


@pytest.mark.parametrize(("radius", "exact"), [(1.0, (12.46, 1.75)), (10.0, (88.4, 65.9))])
def test_three_ways_agree_where_they_should(radius, exact):
    pair = TwoGaussians([10.0, -1.0], [[10.0, 0.0], [0.0, 0.2]])
    closed = pair.robust_mle(radius).covariance.diagonal()
    first = min(0.1, math.sqrt(0.2) / radius)
    ways = {
        name: adversarial_training(
            pair, radius, adversary=name, steps=300, repeats=8, first_step=first, generator=seeded(2)
        )
        for name in ("map", "sample")
    }
    trained = {name: way.covariances.mean(0).diagonal() for name, way in ways.items()}
    torch.testing.assert_close(trained["map"], closed, rtol=0.01, atol=0)
    batch = minimise_exact(*pair.sample(8000, seeded(1)), radius)
    torch.testing.assert_close(trained["sample"], batch.covariance.diagonal(), rtol=0.04, atol=0)
    assert trained["sample"].tolist() == pytest.approx(exact, rel=0.02)
    # Relaxed and exact differ here, in two dimensions, by more than either's error.
    assert (trained["map"] / trained["sample"] - 1).abs().max() > 0.04
    assert ways["sample"].means.mean(0).tolist() == pytest.approx([10, -1], abs=0.2)
    assert batch.mean.tolist() == pytest.approx([10, -1], abs=0.3)


@pytest.mark.parametrize("dim", [1, 3])
def test_exact_problem_has_a_closed_form_when_isotropic(dim):
    pair = diagonal(*[2.0] * dim)
    learned = minimise_exact(*pair.sample(40_000, seeded()), 0.8)
    assert learned.eigenvalues.mean().item() == pytest.approx(exact_isotropic(2.0, dim, 0.8), rel=0.02)
    relaxed = pair.robust_mle(0.8).eigenvalues[0].item()
    assert exact_isotropic(2.0, dim, 0.8) < relaxed


def test_exact_meets_relaxed_in_high_dimension():
    gaps = []
    for dim in (1, 10, 100, 1000):
        relaxed = diagonal(*[1.0] * dim).robust_mle(math.sqrt(dim)).eigenvalues[0].item()
        gaps.append(relaxed - exact_isotropic(1.0, dim, math.sqrt(dim)))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(2 / (4 * 1000), rel=0.01)


def test_l_inf_closed_form_is_the_exact_solution_for_a_diagonal_covariance():
    pair = diagonal(1.0, 0.2)
    robust = pair.robust_mle(0.5, "linf")
    noise = torch.randn(400_000, 2, dtype=torch.float64, generator=seeded()) * pair.covariance.diagonal().sqrt()
    attacked = noise + 0.5 * noise.sign()
    assert robust.covariance.diagonal().tolist() == pytest.approx(attacked.square().mean(0).tolist(), rel=0.01)
    assert robust.condition < pair.condition
