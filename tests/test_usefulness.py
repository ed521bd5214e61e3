"""Usefulness against closed forms, sampling against its intervals, and what a user can get wrong."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import notbugs as nb
from notbugs.classifier import Classifier
from notbugs.console import TerminalConsole
from notbugs.data import Images, planted
from notbugs.errors import InputError
from notbugs.measure.features import feature_map, feature_values
from notbugs.measure.spectrum import KINDS, UsefulnessSummary, pairs
from notbugs.seeds import generator, seeded
from notbugs.study import read_recipe
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments import usefulness as instrument
from notbugs.study.instruments.usefulness import usefulness_section
from notbugs.study.runner import Runner
from notbugs.threat import L2, Linf
from tests.conftest import random_images

DOCS = Path(__file__).parents[1] / "docs" / "explanation" / "usefulness.md"


@pytest.fixture(scope="module")
def made():
    return planted(train=8000, test=4000)


def measured(made, threat=L2(0.5), **how):  # noqa: B008
    return nb.usefulness(nb.measure.linear_features(made.templates), made.data.train, made.data.test, threat, **how)


def own(table, made):
    """Of each template, the entry of the class that it codes."""
    return table.gather(1, made.codes[:, None])[:, 0].float()


def labelled(pixels: torch.Tensor, classes: int = 3) -> Images:
    return Images(pixels, torch.arange(len(pixels)) % classes)


@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5])
def test_planted_features_are_sorted_as_they_were_planted(made, eps):
    found = measured(made, L2(eps))
    torch.testing.assert_close(own(found.rho, made), made.usefulness, rtol=0, atol=0.04)
    torch.testing.assert_close(own(found.gamma, made), made.robust_usefulness(eps), rtol=0, atol=0.04)
    assert found.of_feature() == (made.kinds if eps else ("robust",) * 8)
    assert found.nonrobust.tolist() == [kind == "nonrobust" for kind in found.of_feature()]
    assert found.robust.tolist() == [kind == "robust" for kind in found.of_feature()]
    assert found.best_class().tolist() == made.codes.tolist()
    assert found.attack is None
    assert (found.n, found.n_searched) == (4000, 4000)


def test_useless_features_are_useless():
    made = planted(nonrobust_strength=0.0, train=2000, test=2000)
    assert measured(made).of_feature() == ("robust",) * 4 + ("useless",) * 4
    assert measured(made, min_rho=0.9).of_feature() == ("useless",) * 8


def test_where_gamma_is_near_zero_nothing_is_decided(made):
    eps = float((made.usefulness * made.deviation)[0])  # gamma of the robust features is 0 there
    assert measured(made, L2(eps)).of_feature()[:4] == ("undecided",) * 4


@pytest.mark.parametrize("threat", [L2(0.3), Linf(0.02)], ids=str)
def test_the_search_finds_the_exact_value_of_linear_features(threat):
    """As a function, the same features are searched; their images stay away from the walls of the box."""
    pixels = 0.4 + 0.2 * random_images(40, (2, 6, 6))
    images = labelled(pixels)
    weight = torch.randn(5, 2, 6, 6, generator=generator(0, "weight"))
    exact = nb.usefulness(nb.measure.linear_features(weight), images, images, threat)
    found = nb.usefulness(lambda moved: moved.flatten(1) @ weight.flatten(1).T, images, images, threat)
    assert found.attack is not None
    assert found.attack.decay == "linear"  # as `fast_relabelling` has it
    torch.testing.assert_close(found.rho, exact.rho, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.gamma, exact.gamma, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.gamma_low, exact.gamma_low, rtol=0, atol=1e-4)
    assert (found.kind == exact.kind).all()
    norm = weight.flatten(1).norm(dim=1) if threat.norm == "l2" else weight.flatten(1).abs().sum(1)
    formula = exact.rho.abs() - (threat.eps * norm / exact.std)[:, None]  # Goh 2019
    torch.testing.assert_close(exact.gamma, formula, rtol=0, atol=1e-5)


def test_the_box_makes_the_exact_value_a_lower_bound():
    images = labelled(random_images(30, (1, 3, 3)).round())
    source = nb.measure.pixels((1, 3, 3))
    bound = nb.usefulness(source, images, images, L2(0.5))
    found = nb.usefulness(source.function, images, images, L2(0.5))
    assert (found.gamma > bound.gamma + 0.1).any()
    assert (found.gamma >= bound.gamma - 1e-5).all()


def test_a_nonlinear_feature_is_found_at_its_true_extremes():
    """f = -|x - 0.5|^2 around images at 0.5 + d: the least is (d + eps)^2 away, the greatest max(d - eps, 0)^2."""
    distance = torch.linspace(0.05, 0.3, 30)
    pixels = torch.full((30, 1, 3, 3), 0.5)
    pixels[:, 0, 1, 1] += distance
    images, eps = labelled(pixels, 2), 0.1
    found = nb.usefulness(lambda x: -(x - 0.5).square().flatten(1).sum(1)[:, None], images, images, L2(eps))
    standard = torch.stack([-((distance + eps) ** 2), -((distance - eps).clamp_min(0) ** 2)])
    low, high = (standard.double() - found.mean) / found.std
    sign = torch.where(images.labels == 0, 1.0, -1.0) * found.rho[0, 0].sign()
    assert float(found.gamma[0, 0]) == pytest.approx(float(torch.where(sign > 0, low, -high).mean()), abs=1e-3)


def test_two_classes_are_the_papers_binary_case(made):
    binary = planted(classes=2, train=2000, test=1000)
    found = measured(binary)
    torch.testing.assert_close(found.rho[:, 0], -found.rho[:, 1])
    torch.testing.assert_close(found.gamma[:, 0], found.gamma[:, 1])
    assert (found.kind[:, 0] == found.kind[:, 1]).all()
    values = (
        feature_values(nb.measure.linear_features(binary.templates), binary.data.test).double() - found.mean
    ) / found.std
    sign = 1.0 - 2.0 * binary.data.test.labels
    torch.testing.assert_close(found.rho[:, 0], (sign[:, None] * values).mean(0))


def test_the_sign_of_a_feature_does_not_matter_to_gamma(made):
    weight = made.templates
    images = made.data.test.subset(slice(0, 60))
    for source in (
        nb.measure.linear_features,
        lambda w: nb.measure.function_features(lambda x: x.flatten(1) @ w.flatten(1).T),
    ):
        one, other = (nb.usefulness(source(w), made.data.train, images, L2(0.5), steps=4) for w in (weight, -weight))
        torch.testing.assert_close(one.rho, -other.rho, rtol=0, atol=1e-4)
        torch.testing.assert_close(one.gamma, other.gamma, rtol=0, atol=1e-4)
        assert (one.kind == other.kind).all()


@settings(max_examples=15)
@given(st.floats(0.01, 100), st.floats(-5, 5), st.booleans())
def test_shift_and_scale_of_a_feature_do_not_matter(scale, shift, negative):
    images = labelled(random_images(24, (1, 4, 4)))
    weight = torch.randn(3, 16, generator=generator(0, "weight"))
    factor = -scale if negative else scale

    def raw(moved):
        return torch.tanh(moved.flatten(1) @ weight.T)

    one = nb.usefulness(raw, images, images, L2(0.2), steps=3)
    other = nb.usefulness(lambda moved: factor * (raw(moved) + shift), images, images, L2(0.2), steps=3)
    torch.testing.assert_close(other.rho, one.rho * (-1 if negative else 1), rtol=0, atol=2e-3)
    torch.testing.assert_close(other.gamma, one.gamma, rtol=0, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 0.3, 1e4])
def test_constant_features_are_useless_and_divide_nothing(value):
    images = labelled(random_images(30, (1, 4, 4)))

    def one_constant(moved):
        flat = moved.flatten(1)
        return torch.stack([flat[:, 0], 0 * flat[:, 0] + value, flat[:, 5]], 1)

    found = nb.usefulness(one_constant, images, images, L2(0.2), steps=2)
    assert found.std[1] == 0
    assert found.of_feature()[1] == "useless"
    for name in ("rho", "rho_low", "rho_high", "gamma", "gamma_low", "gamma_high"):
        table = getattr(found, name)
        assert table.isfinite().all()
        assert (table[1] == 0).all()
    assert found.flat.tolist() == [0, 1, 0]


def test_dead_units_are_told():
    images = labelled(0.4 + 0.2 * random_images(20, (1, 4, 4)))
    found = nb.usefulness(lambda x: torch.relu(x.flatten(1)[:, :2] - 0.5), images, images, L2(0.05), steps=3)
    dead = (images.batch(slice(None))[0].flatten(1)[:, :2] <= 0.5).double().mean(0)
    torch.testing.assert_close(found.flat, dead)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Where all are searched, and where a tenth is: 400 draws of 400 images with known rho and gamma."""
    draws, n, eps = 400, 400, 0.6
    draw = generator(0, "coverage")
    signs = torch.tensor([1.0, -1.0]).repeat(n // 2)[:, None].double()
    hits = torch.zeros(2, 2)
    for _ in range(draws):
        values = 0.5 * signs + torch.randn(n, 1, generator=draw, dtype=torch.float64)
        loss = eps * torch.rand(n, 1, generator=draw, dtype=torch.float64)  # on average eps / 2
        both = torch.cat([signs, -signs], 1)
        for row, index in enumerate((torch.arange(n), torch.randperm(n, generator=draw)[: n // 10])):
            found = pairs(values, (values - loss)[index], (values + loss)[index], both, index).intervals()
            for column, (name, truth) in enumerate((("rho", 0.5), ("gamma", 0.5 - eps / 2))):
                hits[row, column] += found[f"{name}_low"][0, 0] <= truth <= found[f"{name}_high"][0, 0]
    assert ((hits / draws > 0.92) & (hits / draws < 0.98)).all(), hits / draws


def test_intervals_of_a_rare_class_hold_the_truth_as_often_as_they_say():
    """One image in ten is of the class: 4 * 0.1 * 0.9 times half the distance of the means, which is 2."""
    draws, n, draw, hits = 400, 400, generator(0, "rare"), torch.zeros(2)
    signs = torch.where(torch.arange(n) % 10 == 0, 1.0, -1.0)[:, None].double()
    for _ in range(draws):
        values = signs * (1 + 0.5 * (signs > 0) * torch.randn(n, 1, generator=draw, dtype=torch.float64))
        values += torch.randn(n, 1, generator=draw, dtype=torch.float64)
        loss = 0.4 * torch.rand(n, 1, generator=draw, dtype=torch.float64)  # on average 0.2
        index = torch.randperm(n, generator=draw)[:100]
        found = pairs(values, (values - loss)[index], (values + loss)[index], signs, index).intervals()
        for column, (name, truth) in enumerate((("rho", 0.36), ("gamma", 0.16))):
            hits[column] += found[f"{name}_low"][0, 0] <= truth <= found[f"{name}_high"][0, 0]
    assert ((hits / draws > 0.92) & (hits / draws < 0.98)).all(), hits / draws


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_feature_that_says_nothing_of_the_class_is_useless_where_all_images_are_brighter(classes):
    n, draw = 4000, generator(0, "brighter", classes)
    values = 0.1 + torch.randn(n, 9, generator=draw, dtype=torch.float64)  # standardised on other images
    signs = 2 * torch.nn.functional.one_hot(torch.arange(n) % classes, classes).double() - 1
    found = pairs(values, values - 0.001, values + 0.001, signs, torch.arange(n))
    kinds = found.sorted(NormalDist().inv_cdf(1 - 0.025 / (18 * classes)), 0.0)
    assert (kinds == KINDS.index("useless")).all()


def test_gamma_of_few_images_has_students_interval():
    draw = generator(0, "few")
    values = torch.randn(1000, 1, generator=draw, dtype=torch.float64)
    signs = torch.where(values > 0, 1.0, -1.0).double()
    index = torch.arange(5)
    loss = torch.rand(5, 1, generator=draw, dtype=torch.float64)
    found = pairs(values, values[index] - loss, values[index] + loss, signs, index)
    told = found.intervals()
    half = (told["gamma_high"] - told["gamma_low"]) / 2
    torch.testing.assert_close(half, 2.776445 * found.gamma_error, rtol=1e-6, atol=0)  # t of 4 degrees of freedom


def test_a_part_of_the_images_gives_gamma_for_all_of_them(made):
    """With a linear feature all images lose alike: searching twenty is as good as searching all."""
    source = nb.measure.function_features(nb.measure.linear_features(made.templates).function)
    data = made.data
    whole = nb.usefulness(nb.measure.linear_features(made.templates), data.train, data.test, L2(0.5))
    part = nb.usefulness(source, data.train, data.test, L2(0.5), images=20, steps=4)
    torch.testing.assert_close(part.gamma, whole.gamma, rtol=0, atol=1e-3)
    assert (part.n, part.n_searched) == (4000, 20)
    assert part.of_feature() == made.kinds


def test_gamma_is_never_above_rho_and_falls_with_the_radius(small):
    images = labelled(random_images(40), 4)
    tables = [nb.usefulness(small, images, images, L2(eps), steps=4) for eps in (0.0, 0.1, 0.4)]
    torch.testing.assert_close(tables[0].gamma, tables[0].rho.abs(), rtol=0, atol=1e-5)
    assert (tables[1].gamma <= tables[0].gamma + 1e-5).all()
    assert (tables[2].gamma <= tables[1].gamma + 1e-3).all()
    assert (tables[2].gamma.mean() < tables[1].gamma.mean() - 0.1).all()


def test_ten_steps_are_enough_on_a_small_network(small):
    images = labelled(random_images(12), 4)
    source = nb.measure.function_features(lambda x: small.eval().features(x)[:, ::40])
    few, many = (nb.usefulness(source, images, images, L2(0.3), steps=steps) for steps in (10, 100))
    assert float((few.gamma - many.gamma).max()) < 0.02 * float((many.rho.abs() - many.gamma).mean())


def test_neither_batches_nor_the_classifiers_state_matter(small):
    images = labelled(random_images(12), 4)
    small.train()
    weights = [parameter.clone() for parameter in small.parameters()]
    source = nb.measure.layer(small, "network.0".removeprefix("network."))
    one, other = (nb.usefulness(source, images, images, L2(0.2), steps=3, batch=batch) for batch in (7, 500))
    torch.testing.assert_close(one.gamma, other.gamma, rtol=0, atol=1e-4)
    assert small.training
    assert all(module.training for module in small.modules())
    assert all(torch.equal(before, now) for before, now in zip(weights, small.parameters(), strict=True))
    again = nb.usefulness(source, images, images, L2(0.2), steps=3, batch=500)
    assert torch.equal(again.gamma, other.gamma)


def test_progress_counts_searches(small):
    told = []
    images = labelled(random_images(5), 4)
    nb.usefulness(
        nb.measure.logits(small),
        images,
        images,
        L2(0.1),
        steps=1,
        batch=16,
        images=3,
        progress=lambda *a: told.append(a),
    )
    assert told == [(16, 24), (24, 24)]


def test_kinds_of_maps(small):
    images = random_images(6)
    with small.evaluating():
        convolved = small.network[0]((images - small.mean) / small.std)
        expected = {
            "penultimate": small.features(images),
            "logits": small(images),
            "layer 0, mean": convolved.mean((2, 3)),
            "layer 0, flatten": convolved.flatten(1),
            "pixels": images.flatten(1),
        }
    maps = [
        feature_map(small),
        nb.measure.logits(small),
        nb.measure.layer(small, "0"),
        nb.measure.layer(small, "0", over="flatten"),
    ]
    for source in (*maps, nb.measure.pixels((2, 6, 6))):
        with source.evaluating():
            torch.testing.assert_close(source(images), expected[source.name])
        fast = source.ready((2, 6, 6), 6)
        with fast.evaluating("fp32"):
            torch.testing.assert_close(fast(images), expected[source.name], rtol=1e-4, atol=1e-5)


def test_principal_components_are_those_of_the_covariance(made):
    found = nb.measure.principal_components(made.data.train, 8, sample=8000)
    spread = nb.usefulness(found, made.data.train, made.data.test, L2(0.5)).std
    assert (spread.diff() < 1e-3).all()
    pixels = made.data.train.batch(slice(None))[0].flatten(1)
    values = torch.linalg.eigvalsh(torch.cov(pixels.T.double(), correction=0)).flip(0)[:8]
    torch.testing.assert_close(spread.square(), values, rtol=0.02, atol=0)
    flat = found.weight.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(8), rtol=0, atol=1e-4)


def test_an_ensemble_of_weak_nonrobust_features_is_useful_and_not_robust():
    """Sixteen pixels that each say a little, independent given the class."""
    shift, noise, eps, count = 0.02, 0.08, 0.3, 16
    labels = torch.arange(20_000) % 2
    pixels = torch.randn(20_000, 1, 4, 4, generator=generator(0, "weak")) * noise + 0.5
    pixels += shift * (1.0 - 2.0 * labels).view(-1, 1, 1, 1)
    images, source = Images(pixels.clamp(0, 1), labels), nb.measure.pixels((1, 4, 4))
    found = nb.usefulness(source, images, images, L2(eps))
    assert found.nonrobust.all()
    mix = nb.measure.ensemble(source, found, 0, count)
    of_mix = nb.usefulness(mix, images, images, L2(eps))
    assert of_mix.of_feature() == ("nonrobust",)
    deviation = (count**2 * shift**2 + count * noise**2) ** 0.5  # of the sum of all pixels
    assert float(of_mix.rho[0, 0]) == pytest.approx(count * shift / deviation, abs=0.02)
    assert float(of_mix.gamma[0, 0]) == pytest.approx((count * shift - eps * count**0.5) / deviation, abs=0.03)
    few = images.subset(slice(0, 200))
    exact, searched = (nb.usefulness(one, images, few, L2(0.05), steps=3) for one in (mix, mix.function))
    torch.testing.assert_close(searched.gamma, exact.gamma, rtol=0, atol=1e-3)


def test_a_contained_robust_feature_is_useful_and_not_robust():
    made = planted(nonrobust_strength=0.0, train=4000, test=2000)
    source, found = nb.measure.linear_features(made.templates), measured(made)
    assert found.of_feature()[4] == "useless"
    contained = nb.measure.containment(source, found, 0, 4)
    assert nb.usefulness(contained, made.data.train, made.data.test, L2(0.5)).of_feature() == ("nonrobust",)


def test_constructions_refuse_what_is_not_there(made):
    source, found = nb.measure.linear_features(made.templates), measured(made)
    with pytest.raises(InputError, match="'count' must be at most 7"):
        nb.measure.ensemble(source, found, 0, 8)
    with pytest.raises(InputError, match="'label' must be a class, 0 to 3"):
        nb.measure.ensemble(source, found, 4, 1)
    with pytest.raises(InputError, match="'contaminant' must be the number"):
        nb.measure.containment(source, found, 0, 9)


def test_the_summary_says_everything_a_page_needs(made):
    found = measured(made)
    summary = found.summary()
    assert UsefulnessSummary(**summary.model_dump()) == summary
    assert summary.of_features.model_dump() == {"robust": 4, "undecided": 0, "nonrobust": 4, "useless": 0}
    assert sum(summary.of_pairs.model_dump().values()) == 32
    assert [row.best_class for row in summary.spectrum] == made.codes.tolist()
    assert [row.kind for row in summary.spectrum] == list(made.kinds)
    for row in summary.spectrum:
        assert row.rho == pytest.approx(float(found.rho[row.feature, row.best_class]), abs=1e-6)
        assert row.rho_low < row.rho < row.rho_high
        assert row.gamma_low < row.gamma < row.gamma_high
    assert (summary.bound, summary.norm, summary.eps, summary.n) == ("lower", "l2", 0.5, 4000)


class Sensitive(nn.Module):
    """Batch norm in training mode: an image's features depend on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)

    def forward(self, images):
        return self.norm(images).flatten(1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda x: x, "'features' must be floating point of shape"),
        (lambda x: x.flatten(1).detach(), "'features' must be differentiable"),
        (lambda x: x.flatten(1).log() * 0 / 0, "'features' must be finite"),
        (lambda x: x.flatten(1) @ torch.zeros(3, 3), "cannot be computed from images of shape"),
        (Sensitive(), "'features' must give the same values for an image alone and among others"),
        (
            nb.measure.function_features(lambda x: x.flatten(1), names=("a",)),
            "'names' must be 72, one for each feature",
        ),
    ],
)
def test_unfit_features_are_refused(unchecked, source, message):
    images = labelled(0.1 + 0.8 * random_images(6))
    with pytest.raises(InputError, match=message):
        nb.usefulness(source, images, images, L2(0.1))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"classes": 2}, "'classes' must be at least 3"),
        ({"images": 1}, "'images' must be a whole number at or above 2"),
        ({"min_rho": -0.1}, "'min_rho' must be a number at or above 0"),
        ({"steps": 0}, "'steps' must be a whole number at or above 1"),
        ({"threat": L2(float("inf"))}, "'eps' must be a number at or above 0"),
    ],
)
def test_wrong_questions_are_refused(how, message):
    images = labelled(random_images(6))
    threat = how.pop("threat", L2(0.1))
    with pytest.raises(InputError, match=message):
        nb.usefulness(lambda x: x.flatten(1), images, images, threat, **how)


def test_wrong_layers_and_components_are_refused(unchecked, small):
    images = labelled(random_images(6), 4)
    with pytest.raises(InputError, match="must name a module of the network"):
        nb.measure.layer(small, "nothing")
    with pytest.raises(InputError, match="'over' must be one of mean, flatten"):
        nb.measure.layer(small, "0", over="max")  # pyrefly: ignore
    with pytest.raises(InputError, match="'count' must be at most 6"):
        nb.measure.principal_components(images, 7)


@pytest.fixture
def runner(tmp_path) -> Runner:
    sections = {name: {"epochs": 1} for name in ("standard", "robust", "constructed")}
    asked = {"usefulness": {"on": True, "images": 6, "steps": 2}}
    architecture = {"width": 4, "features": 6}
    settings = {"train_images": 200, "test_images": 60, "architecture": architecture, "instruments": asked, **sections}
    recipe = read_recipe("digits", settings | {"evaluation": {"radii": [1.0, 0.25, 0.5]}})
    runner = Runner(
        recipe, recipe.read(), StudyFolder(tmp_path, TerminalConsole(quiet=True), stages=0), torch.device("cpu")
    )
    runner.train("standard", runner.data.train)
    runner.train("robust", runner.data.train)
    return runner


def test_the_instrument_measures_once_and_is_kept(runner, monkeypatch):
    found = instrument.UsefulnessInstrument().run(runner)
    assert list(found.classifiers) == ["standard", "robust"]
    for summary in found.classifiers.values():
        assert (summary.features, summary.eps, summary.n, summary.n_searched) == ("penultimate", 0.5, 60, 6)
        assert len(summary.spectrum) == 6
        assert summary.attack is not None
        assert summary.attack.steps == 2
    section = usefulness_section(found)
    assert [len(table.rows) for table in section.tables] == [2, 6, 6]
    assert section.tables[0].rows[0][0] == "standard"
    assert sum(section.tables[0].rows[0][2:]) == section.tables[0].rows[0][1] == 6
    assert "search of 2 steps" in section.text
    monkeypatch.setattr(instrument, "usefulness", lambda *_, **__: pytest.fail("measured again"))
    assert instrument.UsefulnessInstrument().run(runner) == found


def test_the_guides_example_runs():
    code = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(code) == 2
    exec(compile("\n".join(code), str(DOCS), "exec"), {})  # noqa: S102


def test_a_classifier_on_planted_images_uses_both_kinds():
    """A small network trained on them: the spectrum has robust features and features that are not."""
    made = planted(classes=2, size=8, train=600, test=400, robust_strength=1.0, robust_noise=0.35)
    with seeded(0):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 2))
    classifier = nb.train(Classifier(network, mean=(0.5,)), made.data.train, nb.Training(epochs=3, batch=50))
    found = nb.usefulness(classifier, made.data.train, made.data.test, L2(0.02), images=40, steps=5)
    wide = nb.usefulness(classifier, made.data.train, made.data.test, L2(1.0), images=40, steps=5)
    assert found.robust.any()
    assert wide.nonrobust.sum() > found.nonrobust.sum()
