"""Every number of the theory page, computed: formulas beside the simulations that check them."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, get_args

import torch
from torch import Tensor

from notbugs.theory.gaussians import TwoGaussians, relaxed_eigenvalues, relaxed_multiplier
from notbugs.theory.linear import Estimate, Norm, average
from notbugs.theory.optimisation import Adversary, adversarial_training, minimise_exact
from notbugs.theory.theorems import cosines, learning_curve, theorem1_gap, theorem1_simulation, worst_cosine

Numbers = dict[str, Any]

FIGURE4 = TwoGaussians([10.0, -1.0], [[10.0, 0.0], [0.0, 0.2]])
"""The paper's Figure 4, as far as its drawing tells: means (-10, 1) and (10, -1), variances 50 to 1."""

_DECADE = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)


@cache  # studies with several seeds have the same page
def compute(seed: int = 0) -> Numbers:
    """Run every experiment of the page; the same seed gives the same numbers on the same machine.

    On one thread: the tensors are small, and sums then do not depend on how many threads there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _compute(seed)
    finally:
        torch.set_num_threads(threads)


def _compute(seed: int) -> Numbers:
    generator = torch.Generator().manual_seed(seed)
    return {
        "schema": 1,
        "seed": seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "figure4": figure4(),
        "live": live_settings(),
        "theorem1": theorem1(generator),
        "theorem2": theorem2(generator),
        "theorem3": theorem3(generator),
        "three_ways": three_ways(generator),
        "dimension": dimension(generator),
        "samples": samples(generator),
        "errors": errors(generator),
    }


def panel(pair: TwoGaussians, radius: float) -> Numbers:
    """What one panel of Figure 4 draws and prints: the pair, what is learned, and the errors."""
    robust = pair.robust_mle(radius)
    rule = robust.classifier
    return {
        "radius": radius,
        "mean": pair.mean.tolist(),
        "covariance": pair.covariance.tolist(),
        "robust_covariance": robust.covariance.tolist(),
        "direction": (rule.direction / rule.direction.norm()).tolist(),
        "multiplier": _finite(robust.multiplier),
        "condition": robust.condition,
        "cosine": robust.cosine,
        "slope": _finite((-rule.direction[0] / rule.direction[1]).item()),
        "clean_error": pair.error(classifier=rule),
        "robust_error": pair.error(radius, classifier=rule),
        "standard_robust_error": pair.error(radius),
    }


def figure4() -> Numbers:
    """The paper's radii 0, 1 and 10, and the boundary slopes that its drawing shows."""
    return {
        "panels": [panel(FIGURE4, radius) for radius in (0.0, 1.0, 10.0)],
        "paper_slopes": [0.20, 1.51, 5.8],
    }


def live_settings() -> Numbers:
    """The stops of the page's sliders, where they start, and what is drawn there; sample size 0 is the population."""
    radii = [0.0] + [d * 10.0**power for power in (-2, -1, 0) for d in _DECADE] + [10.0, 12.5, 16.0, 20.0]
    sizes = [round(d * 10**power) for power in (1, 2, 3) for d in (1, 1.6, 2.5, 4, 6.3)] + [10000, 0]
    settings: Numbers = {
        "radii": [round(radius, 6) for radius in radii],
        "conditions": [round(d * 10**power, 6) for power in (0, 1, 2) for d in _DECADE] + [1000.0],
        "angles": [float(angle) for angle in range(-90, 91, 2)],
        "sizes": sizes,
        "start": {"radius": 3.15, "condition": 50.0, "angle": -6.0, "size": 0},
        "variance": 10.0,
        "length": 10.0,
    }
    start = settings["start"]
    pair = live_pair(start["condition"], start["angle"], settings)
    return {**settings, "panel": panel(pair, start["radius"])}


def live_pair(condition: float, angle: float, settings: Numbers) -> TwoGaussians:
    """The pair that the sliders describe: a mean of fixed length at `angle` degrees to the long axis."""
    turn, length, wide = math.radians(angle), settings["length"], settings["variance"]
    mean = [length * math.cos(turn), length * math.sin(turn)]
    return TwoGaussians(mean, [[wide, 0.0], [0.0, wide / condition]])


def theorem1(generator: torch.Generator, trace: float = 2.0, n: int = 20_000) -> Numbers:
    """The gap against the condition number at equal trace, for three penalties, with simulated points."""
    conditions = torch.logspace(0, math.log10(20), 41, dtype=torch.float64).tolist()
    curves, points = [], []
    for penalty in (16.0, 24.0, 48.0):
        gaps = [theorem1_gap(_split(kappa, trace), penalty).item() for kappa in conditions]
        curves.append({"penalty": penalty, "x": conditions, "y": gaps})
        for kappa in (1.0, 2.5, 6.0, 15.0):
            variances = _split(kappa, trace)
            measured = theorem1_simulation(TwoGaussians([1.0, 1.0], variances.diag()), penalty, n, generator)
            formula = theorem1_gap(variances, penalty).item()
            points.append({"penalty": penalty, "condition": kappa, **_check(formula, measured)})
    return {"dim": 2, "trace": trace, "curves": curves, "points": points}


def theorem2(generator: torch.Generator) -> Numbers:
    """Robust eigenvalues against the radius; adversarial training's beside them, with either adversary."""
    variances = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
    pair = TwoGaussians([1.0, 1.0, 1.0], variances.diag())
    radii = torch.logspace(-2, 2, 81, dtype=torch.float64)
    multipliers = relaxed_multiplier(variances.expand(81, 3), radii)
    robust = relaxed_eigenvalues(variances.expand(81, 3), multipliers)
    curves = [
        {"eigenvalue": s, "x": radii.tolist(), "y": robust[:, i].tolist()} for i, s in enumerate(variances.tolist())
    ]
    points, trained_at = [], (0.1, 0.5, 1.0, 2.0, 5.0)
    by_adversary = {adversary: _train(pair, trained_at, adversary, generator) for adversary in get_args(Adversary)}
    for place, radius in enumerate(trained_at):
        formula = pair.robust_mle(radius).covariance.diagonal()
        for adversary, covariances in by_adversary.items():
            learned = covariances[place].diagonal(dim1=-2, dim2=-1)
            for i, eigenvalue in enumerate(variances.tolist()):
                check = _check(formula[i].item(), average(learned[:, i]))
                points.append({"radius": radius, "adversary": adversary, "eigenvalue": eigenvalue, **check})
    solutions = [pair.robust_mle(math.sqrt(budget)) for budget in (0.01, 0.25, 1.0, 4.0, 25.0)]
    table = [
        {
            "budget": solution.radius**2,
            "radius": solution.radius,
            "robust": solution.eigenvalues.flip(0).tolist(),
            "multiplier": solution.multiplier,
            "lower": solution.bounds[0],
            "upper": solution.bounds[1],
            "condition": solution.condition,
            "certificate": solution.certificate,
            "within_sufficient": solution.radius < solution.sufficient_radius,
        }
        for solution in solutions
    ]
    return {
        "curves": curves,
        "points": points,
        "table": table,
        "sufficient_radius": solutions[0].sufficient_radius,
    }


def theorem3(generator: torch.Generator) -> Numbers:
    """The worst cosine over the mean against the radius; a search over all means after training beside it."""
    turns = torch.arange(0, math.pi, math.pi / 1440, dtype=torch.float64)
    means = torch.stack([turns.cos(), turns.sin()], dim=-1)
    radii = torch.linspace(0, 4, 81, dtype=torch.float64).tolist()
    curves, points = [], []
    for kappa in (4.0, 16.0, 100.0):
        pair = TwoGaussians([1.0, 0.0], [[math.sqrt(kappa), 0.0], [0.0, 1 / math.sqrt(kappa)]])
        worst = [worst_cosine(pair.robust_mle(radius).condition) for radius in radii]
        curves.append({"condition": kappa, "x": radii, "y": worst})
        trained_at = (0.0, 0.5, 1.0, 2.0, 3.5)
        for radius, covariances in zip(trained_at, _train(pair, trained_at, "map", generator), strict=True):
            measured = average(cosines(means, covariances).amin(-1))
            formula = worst_cosine(pair.robust_mle(radius).condition)
            points.append({"condition": kappa, "radius": radius, **_check(formula, measured)})
    return {"means_searched": len(means), "curves": curves, "points": points}


def three_ways(generator: torch.Generator) -> list[Numbers]:
    """Figure 4's pair learned by the closed form, by adversarial training, and exactly on a sample."""
    rows = []
    for radius in (1.0, 10.0):
        closed = FIGURE4.robust_mle(radius)
        inputs, labels = FIGURE4.sample(16_000, generator)
        exact = minimise_exact(inputs, labels, radius)
        ways: list[tuple[str, str, Tensor]] = [
            ("closed form", "relaxed", closed.covariance[None]),
            ("adversarial training", "relaxed", _train(FIGURE4, radius, "map", generator)),
            ("L-BFGS on 16,000 samples", "exact", exact.covariance[None]),
            ("adversarial training", "exact", _train(FIGURE4, radius, "sample", generator)),
        ]
        for way, problem, covariances in ways:
            wide, narrow = covariances.diagonal(dim1=-2, dim2=-1).unbind(-1)
            spread = (
                {} if len(wide) < 2 else {"wide_check": asdict(average(wide)), "narrow_check": asdict(average(narrow))}
            )
            row = {"radius": radius, "way": way, "problem": problem}
            rows.append({**row, "wide": wide.mean().item(), "narrow": narrow.mean().item(), **spread})
    return rows


def dimension(generator: torch.Generator) -> Numbers:
    """How fast the exact solution meets the relaxed one: half the variances 4, half 1/4, radius sqrt(d)."""
    points = []
    for dim in (2, 4, 8, 16, 32):
        variances = torch.tensor([0.25, 4.0], dtype=torch.float64).repeat_interleave(dim // 2)
        pair = TwoGaussians(torch.ones(dim), variances.diag())
        relaxed = pair.robust_mle(math.sqrt(dim)).eigenvalues[0].item()
        learned = _train(pair, math.sqrt(dim), "sample", generator).diagonal(dim1=-2, dim2=-1)
        points.append({"dim": dim, **_check(relaxed, average(learned[:, : dim // 2].mean(-1)))})
    return {"relaxed": points[0]["formula"], "points": points}


def samples(generator: torch.Generator) -> Numbers:
    """Error against sample size for standard and robust maximum likelihood, in ten dimensions."""
    variances = torch.logspace(0, -2, 10, dtype=torch.float64)
    pair = TwoGaussians(0.2 * torch.ones(10, dtype=torch.float64), variances.diag())
    radius, sizes = 0.25, [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    curves = []
    for training_radius in (0.0, radius):
        curve = learning_curve(pair, sizes, radius, training_radius=training_radius, repeats=32, generator=generator)
        curves.append({"training_radius": training_radius, **asdict(curve), "needed": curve.samples_needed(0.02)})
    return {"dim": 10, "radius": radius, "tolerance": 0.02, "curves": curves}


def errors(generator: torch.Generator, n: int = 20_000) -> list[Numbers]:
    """Clean and robust errors, closed form beside simulation: both norms, equal and unequal priors."""
    rows = []
    for prior in (0.5, 0.8):
        pair = TwoGaussians([1.0, -0.4], [[1.0, 0.3], [0.3, 0.2]], prior)
        attacks: list[tuple[Norm, float]] = [("l2", 0.0), ("l2", 0.5), ("linf", 0.5)]
        for learned, rule in (("standard", pair.classifier), ("robust", pair.robust_mle(0.5).classifier)):
            for norm, radius in attacks:
                measured = pair.sampled_error(n, radius, norm, rule, generator)
                row = {"prior": prior, "learned": learned, "norm": norm, "radius": radius}
                rows.append({**row, **_check(pair.error(radius, norm, rule), measured)})
    return rows


def _split(condition: float, trace: float) -> Tensor:
    """Two variances with the given ratio and sum."""
    return torch.tensor([condition, 1.0], dtype=torch.float64) * trace / (condition + 1)


def _train(
    pair: TwoGaussians, radius: float | Sequence[float], adversary: Adversary, generator: torch.Generator
) -> Tensor:
    """Covariances from eight runs of adversarial training, its first step as large as the largest radius allows."""
    largest = max(radius) if isinstance(radius, Sequence) else radius
    first = 0.1 if largest == 0 else min(0.1, pair.eigenvalues[0].sqrt().item() / largest)
    trained = adversarial_training(
        pair,
        radius,
        adversary=adversary,
        steps=round(30 / first),
        batch=1024 if adversary == "map" else 256,
        first_step=first,
        repeats=8,
        generator=generator,
    )
    return trained.covariances


def _check(formula: float, measured: Estimate) -> Numbers:
    return {"formula": formula, **asdict(measured), "holds": measured.holds(formula)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
