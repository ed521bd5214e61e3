"""The conformance suite that every search passes, and the answers that are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from notbugs.classifier import Classifier
from notbugs.errors import InputError
from notbugs.search import (
    ATTACKS,
    FMN,
    LBFGS,
    PAPER_MATCHING,
    PGDSteps,
    attack_named,
    fast_relabelling,
    match_features,
    minimum_norm,
    pgd,
    search,
    stream,
    targeted_pgd,
)
from notbugs.search.loop import last
from notbugs.search.objectives import away_from, margin, matching, smallest
from notbugs.seeds import generator, seeded
from notbugs.threat import L2, Linf, l2_norm
from tests.conftest import random_images

BALLS = [L2(0.5), L2(0.05), Linf(0.03), L2(0.0)]
SHORT = PGDSteps(5, 0.1, momentum=0.5, decay="cosine")


def _untargeted(classifier, images, ball):
    return pgd(classifier, images, torch.arange(len(images)) % 4, ball, PGDSteps(5))


def _targeted(classifier, images, ball):
    return targeted_pgd(classifier, images, torch.arange(len(images)) % 4, ball, SHORT)


def _matched(classifier, images, ball):
    return match_features(classifier, images, images.flip(3), SHORT, threat=ball)


def _quickly_matched(classifier, images, ball):
    return match_features(classifier, images, images.flip(3), LBFGS(5, 0.5, memory=3), threat=ball)


def _smallest(classifier, images, ball):
    goals = torch.arange(len(images)) % 4, images
    with classifier.evaluating():
        return search(smallest(classifier, ball, targeted=False), images, goals, ball, FMN(5))


SEARCHES = {
    "pgd": _untargeted,
    "targeted_pgd": _targeted,
    "match_features": _matched,
    "match_features_quickly": _quickly_matched,
    "minimum_norm": _smallest,
}
each_search = pytest.mark.parametrize("run", SEARCHES.values(), ids=SEARCHES)


@each_search
@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_stays_in_the_ball_and_in_the_box(run, ball, small):
    images = random_images(8).round(decimals=1).clamp(0, 1)  # some pixels exactly at 0 and 1
    found = run(small, images, ball).images
    assert found.min() >= 0
    assert found.max() <= 1
    assert (ball.size(found - images) <= ball.eps * (1 + 1e-5) + 1e-7).all()


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.001, 5), st.sampled_from([L2, Linf]), st.sampled_from(list(SEARCHES)))
def test_stays_in_the_ball_and_in_the_box_for_any_images(seed, eps, kind, name):
    with seeded(seed):
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.ReLU(), nn.Linear(5, 4)))
    images = random_images(3, seed=seed)
    found = SEARCHES[name](classifier, images, kind(eps)).images
    assert ((found >= 0) & (found <= 1)).all()
    assert (kind(eps).size(found - images) <= eps * (1 + 1e-5) + 1e-6).all()


@each_search
def test_same_call_gives_the_same_bits(run, small):
    images = random_images(6)
    assert torch.equal(run(small, images, L2(0.5)).images, run(small, images, L2(0.5)).images)


@each_search
def test_leaves_the_classifier_and_the_generator_as_they_were(run, small):
    small.train()
    small.network[1].eval()
    modes = [module.training for module in small.modules()]
    weights = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    for parameter in small.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = torch.get_rng_state()
    images = random_images(4)
    before = images.clone()
    run(small, images, L2(0.5))
    assert [module.training for module in small.modules()] == modes
    assert all(torch.equal(weights[name], tensor) for name, tensor in small.state_dict().items())
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in small.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)
    assert not images.requires_grad


@each_search
def test_a_failing_classifier_gets_its_modes_back(run, small):
    small.train()
    with pytest.raises(RuntimeError):
        run(small, random_images(2, (2, 7, 7)), L2(0.5))
    assert all(module.training for module in small.modules())


@each_search
def test_a_sample_does_not_depend_on_its_batch(run, small):
    images = random_images(8)
    whole = run(small, images, L2(0.5)).images
    # Samples 4 to 7 keep their labels, which go round modulo 4.
    torch.testing.assert_close(run(small, images[4:], L2(0.5)).images, whole[4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run(small, images[:1], L2(0.5)).images, whole[:1], rtol=1e-4, atol=1e-5)


@each_search
def test_keeps_the_dtype(run, small):
    found = run(small.double(), random_images(3).double(), L2(0.5))
    assert found.images.dtype == found.loss.dtype == torch.float64


@each_search
def test_result_has_no_graph(run, small):
    found = run(small, random_images(2), L2(0.5))
    assert not found.images.requires_grad
    assert found.loss.grad_fn is None


@each_search
def test_counts_its_passes(run, small):
    calls = []
    small.network.register_forward_pre_hook(lambda *_: calls.append(1))
    found = run(small, random_images(2), L2(0.5))
    assert found.backwards == 5
    assert found.forwards == 6
    assert len(calls) == found.forwards + (run in (_matched, _quickly_matched))  # the target's features, once


@pytest.mark.parametrize("ball", BALLS)
def test_the_last_iterate_alone_takes_a_pass_less(ball, small):
    calls, images, labels = [], random_images(3), torch.arange(3)
    with small.evaluating():
        wanted = search(away_from(small), images, (labels,), ball, SHORT, keep="last").images
        small.network.register_forward_pre_hook(lambda *_: calls.append(1))
        assert torch.equal(last(away_from(small), images, (labels,), ball, SHORT), wanted)
    assert len(calls) == SHORT.steps


@each_search
def test_bf16_is_the_same_attack_to_its_rounding(run, small):
    images = random_images(8)
    exact = run(small, images, L2(0.5))
    small.precision = "bf16"
    rounded = run(small, images, L2(0.5))
    assert rounded.images.dtype == torch.float32
    torch.testing.assert_close(rounded.loss, exact.loss, rtol=0.05, atol=0.05)


# Known answers


def two_classes(seed: int = 0) -> tuple[Classifier, torch.Tensor]:
    """A linear classifier with two classes, and the difference of its weights."""
    with seeded(seed):
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(18, 2))).eval()
    return classifier, (classifier.head.weight[0] - classifier.head.weight[1]).detach()


@pytest.mark.parametrize("kind", [L2, Linf])
def test_pgd_finds_the_worst_case_of_a_linear_classifier(kind):
    classifier, difference = two_classes()
    images = 0.5 + 0.2 * (random_images(6, (2, 3, 3)) - 0.5)  # far from the walls of the box
    labels = torch.tensor([0, 1] * 3)
    ball, sign = kind(0.1), torch.tensor([1.0, -1.0] * 3)[:, None]
    unit = difference / difference.norm() if kind is L2 else difference.sign()
    dual = difference.norm() if kind is L2 else difference.abs().sum()
    found = pgd(classifier, images, labels, ball, PGDSteps(20))
    worst = images.flatten(1) - 0.1 * sign * unit
    torch.testing.assert_close(found.images.flatten(1), worst, rtol=0, atol=1e-6)
    clean = margin(classifier(images), labels)
    torch.testing.assert_close(found.score, clean - 0.1 * dual)


@pytest.mark.parametrize("kind", [L2, Linf])
def test_pgd_agrees_with_foolbox(kind, small):
    foolbox = pytest.importorskip("foolbox")
    attacks = foolbox.attacks
    images, labels = random_images(16), torch.arange(16) % 4
    ball = kind(0.3 if kind is L2 else 0.02)
    small.eval()
    attack = attacks.L2ProjectedGradientDescentAttack if kind is L2 else attacks.LinfProjectedGradientDescentAttack
    theirs = attack(abs_stepsize=ball.eps / 5, steps=10, random_start=False).run(
        foolbox.PyTorchModel(small, bounds=(0, 1), device="cpu"),
        images,
        foolbox.criteria.Misclassification(labels),
        epsilon=ball.eps,
    )
    ours = search(away_from(small), images, (labels,), ball, PGDSteps(10, ball.eps / 5), keep="last").images
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    loss = [cross_entropy(small(found), labels).item() for found in (ours, theirs)]
    assert loss[0] == pytest.approx(loss[1], abs=1e-4)


def linear_features(features: int, seed: int = 0) -> Classifier:
    with seeded(seed):
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(18, features), nn.Linear(features, 3)))


def test_feature_matching_reaches_the_least_squares_answer_of_a_linear_map():
    classifier = linear_features(6)
    start, target = (0.5 + 0.1 * (random_images(4, (2, 3, 3), seed) - 0.5) for seed in (0, 1))
    found = match_features(classifier, start, target, PGDSteps(300, 0.1, momentum=0.8, decay="linear"))
    matrix = classifier.network[1].weight.detach()
    # The nearest image to the start with the target's features: only the row space of the map is moved along.
    way = (target - start).flatten(1)
    nearest = start.flatten(1) + way @ matrix.T @ torch.linalg.pinv(matrix).T
    torch.testing.assert_close(found.images.flatten(1), nearest, rtol=0, atol=1e-3)
    assert found.loss.max() < 1e-3


def test_quasi_newton_steps_reach_it_in_few_gradients():
    classifier = linear_features(6)
    start, target = (0.5 + 0.1 * (random_images(4, (2, 3, 3), seed) - 0.5) for seed in (0, 1))
    plain = match_features(classifier, start, target, PGDSteps(25, 0.1, momentum=0.8, decay="linear"))
    found = match_features(classifier, start, target, LBFGS(25, 0.1))
    assert found.loss.max() < 1e-4 < plain.loss.min()
    # Like gradient steps, these only move along the row space of the map.
    matrix = classifier.network[1].weight.detach()
    way = (target - start).flatten(1)
    nearest = start.flatten(1) + way @ matrix.T @ torch.linalg.pinv(matrix).T
    torch.testing.assert_close(found.images.flatten(1), nearest, rtol=0, atol=1e-3)


def test_quasi_newton_directions_are_those_of_the_two_loop_recursion():
    """With the memory of every step, against the textbook's algorithm (Nocedal and Wright, algorithm 7.4)."""
    draw = generator(0, "two loops")
    walker = LBFGS(9, 1e6, memory=4).walker(L2(math.inf), torch.zeros(1, 1, 3, 4))
    hessian = torch.randn(12, 12, generator=draw, dtype=torch.float64)
    hessian = hessian @ hessian.T + torch.eye(12)
    samples = walker.begin(torch.zeros(1, 1, 3, 4, dtype=torch.float64)) | {"age": torch.zeros(1, dtype=torch.int64)}
    here, pairs, before = torch.randn(12, generator=draw, dtype=torch.float64), [], None
    for age in range(9):
        half_square = 0.5 * here @ hessian @ here
        loss = (2 * half_square).sqrt()
        slope = hessian @ here  # of half the squared loss
        if before is not None:
            pairs = [*pairs, (here - before[0], slope - before[1])][-4:]
        samples |= {"images": here.view(1, 1, 3, 4), "age": torch.tensor([age])}
        samples["base_loss"] = torch.full_like(samples["base_loss"], math.inf)  # every move is taken
        moved = walker.move(samples, loss[None], (slope / loss).view(1, 1, 3, 4)).flatten()
        torch.testing.assert_close(moved, here - two_loops(slope, pairs, loss), rtol=1e-7, atol=1e-9)
        before, here = (here, slope), moved


def two_loops(slope, pairs, loss):
    wanted, shares = slope.clone(), []
    for move, change in reversed(pairs):
        shares.append(move @ wanted / (move @ change))
        wanted = wanted - shares[-1] * change
    scale = pairs[-1][0] @ pairs[-1][1] / pairs[-1][1].square().sum() if pairs else loss**2 / slope.square().sum() / 2
    wanted = scale * wanted
    for (move, change), share in zip(pairs, reversed(shares), strict=True):
        wanted = wanted + move * (share - change @ wanted / (move @ change))
    return wanted


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("targeted", [False, True])
def test_minimum_norm_of_a_linear_classifier_is_its_distance(norm, targeted):
    classifier, difference = two_classes()
    images = 0.5 + 0.2 * (random_images(6, (2, 3, 3)) - 0.5)
    labels = classifier(images).argmax(1)
    classes = 1 - labels if targeted else labels
    found = minimum_norm(classifier, images, classes, norm, targeted=targeted)
    dual = difference.norm() if norm == "l2" else difference.abs().sum()
    closest = margin(classifier(images), labels) / dual
    assert (found.loss < 0).all()
    assert (found.score >= closest).all()
    torch.testing.assert_close(found.score, closest, rtol=0.02, atol=1e-4)
    assert (classifier(found.images).argmax(1) == 1 - labels).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_minimum_norm_in_bf16_is_true_in_fp32(small, norm, targeted, steps):
    images, classes = random_images(40), torch.arange(40) % 4
    exact = minimum_norm(small, images, classes, norm, FMN(steps), targeted=targeted)
    small.precision = "bf16"
    found = minimum_norm(small, images, classes, norm, FMN(steps), targeted=targeted)
    assert small.precision == "bf16"
    small.precision = "fp32"
    with torch.no_grad():
        hits = (small.eval()(found.images).argmax(1) == classes) == targeted
    assert torch.equal(found.score.isfinite(), hits)
    assert torch.equal(found.loss < 0, hits)
    assert found.backwards == steps
    if steps == 50:
        assert hits.sum() >= exact.score.isfinite().sum()
        assert found.score[hits].median() <= 1.01 * exact.score[hits].median()


def test_minimum_norm_counts_nothing_beyond_its_radius():
    classifier, difference = two_classes()
    images = 0.5 + 0.2 * (random_images(6, (2, 3, 3)) - 0.5)
    labels = classifier(images).argmax(1)
    distance = margin(classifier(images), labels) / difference.norm()
    radius = float(distance.detach().sort().values[2:4].mean())
    found = minimum_norm(classifier, images, labels, eps=radius)
    within = distance <= radius
    assert torch.equal(found.score.isfinite(), within)
    torch.testing.assert_close(found.score[within], distance[within].detach(), rtol=0.02, atol=1e-4)
    assert torch.equal(found.images[~within], images[~within])


def test_fast_relabelling_reaches_what_the_papers_steps_reach(small):
    images, targets = random_images(32), torch.arange(32) % 4
    paper = targeted_pgd(small, images, targets, L2(0.5), PGDSteps(100, 0.1))
    fast = targeted_pgd(small, images, targets, L2(0.5), fast_relabelling(L2(0.5)))
    assert fast.backwards == 20
    assert fast.score.mean() <= paper.score.mean()
    assert (l2_norm(fast.images - images) <= 0.5 + 1e-6).all()
    assert fast_relabelling(L2(0.0)).lengths(L2(0.0))[0] == 0
    with pytest.raises(InputError, match="'threat' must have a finite radius"):
        fast_relabelling(L2(math.inf))


def test_minimum_norm_says_where_it_failed(linear):
    """A target that wins nowhere in the box is reached by no image."""
    with torch.no_grad():
        linear.head.bias[2] = -100
    images = random_images(3, (1, 3, 3))
    found = minimum_norm(linear, images, torch.full((3,), 2), targeted=True)
    assert found.score.isinf().all()
    assert torch.equal(found.images, images)


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("steps", [PGDSteps(13, 0.1), PGDSteps(13, 0.1, momentum=0.5, decay="linear")], ids=["", "m"])
def test_a_stream_finds_what_a_search_finds(small, batch, steps):
    """Samples leave when they are broken; those that are not have the search's result, whoever shared their batch."""
    images, labels = random_images(11), torch.arange(11) % 4
    whole = pgd(small, images, labels, L2(0.1), steps)
    assert 0 < int((whole.score < 0).sum()) < 11

    def waiting():
        for part in torch.arange(11).split(3):
            yield part, images[part], (labels[part],), None

    with small.evaluating():
        left = list(stream(away_from(small), waiting(), L2(0.1), steps, batch=batch))
    numbers = torch.cat([numbers for numbers, _ in left])
    assert numbers.sort().values.tolist() == list(range(11))
    score, found = (torch.cat([getattr(part, name) for _, part in left]) for name in ("score", "images"))
    assert torch.equal(score < 0, whole.score[numbers] < 0)
    stays = score >= 0
    torch.testing.assert_close(found[stays], whole.images[numbers][stays], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(margin(small.eval()(found), labels[numbers]), score, rtol=1e-4, atol=1e-5)
    assert max(part.backwards for _, part in left) == 13
    if batch == 1:
        assert min(part.backwards for _, part in left) <= 5


def test_a_stream_of_quasi_newton_searches(small):
    images, target = random_images(5), random_images(5, seed=1)
    steps = LBFGS(12, 0.5, memory=3)
    whole = match_features(small, images, target, steps)
    with small.evaluating(), torch.no_grad():
        features = small.features(target)
        parts = torch.tensor([4, 0, 3]), torch.tensor([1, 2])
        waiting = [(part, images[part], (features[part],), None) for part in parts]
        left = list(stream(matching(small), waiting, L2(math.inf), steps, batch=2))
    for numbers, found in left:
        torch.testing.assert_close(found.loss, whole.loss[numbers], rtol=1e-3, atol=1e-5)


def test_with_more_features_than_pixels_matching_reproduces_the_target():
    classifier = linear_features(40)
    start, target = (random_images(4, (2, 3, 3), seed) for seed in (0, 1))
    found = match_features(classifier, start, target, PGDSteps(400, 0.3, momentum=0.8, decay="linear"))
    assert (l2_norm(found.images - target) < 0.02 * l2_norm(start - target)).all()


def test_the_papers_matching_schedule():
    assert (PAPER_MATCHING.steps, PAPER_MATCHING.step_size, PAPER_MATCHING.momentum) == (1000, 0.1, 0)
    assert set(PAPER_MATCHING.lengths(L2(math.inf))) == {0.1}


def test_the_best_iterate_is_kept(linear):
    images, labels = random_images(5, (1, 3, 3)), torch.arange(5) % 3
    bouncing = PGDSteps(9, 0.7)  # longer than the ball is wide
    best = search(away_from(linear), images, (labels,), L2(0.3), bouncing)
    last = search(away_from(linear), images, (labels,), L2(0.3), bouncing, keep="last")
    assert (best.score <= last.score).all()
    torch.testing.assert_close(best.score, margin(linear(best.images), labels))
    torch.testing.assert_close(softplus(-best.loss), cross_entropy(linear(best.images), labels, reduction="none"))


def test_a_start_outside_is_brought_inside(linear):
    images = random_images(3, (1, 3, 3))
    found = pgd(linear, images, torch.tensor([0, 1, 2]), L2(0.1), PGDSteps(1, 1e-9), start=images + 5)
    assert (l2_norm(found.images - images) <= 0.1 + 1e-6).all()


def test_vanishing_gradients_do_not_stop_the_search():
    """A confident classifier's gradients are far below what float32 can square."""
    classifier, difference = two_classes()
    with torch.no_grad():
        classifier.head.weight *= 40 / difference.norm()
        classifier.head.bias.copy_(torch.tensor([60.0, -60.0]))
    images, labels = torch.full((1, 2, 3, 3), 0.5), torch.tensor([0])
    found = pgd(classifier, images, labels, L2(0.1), PGDSteps(5))
    assert found.score < margin(classifier(images), labels) - 3.9


def test_lengths():
    assert PGDSteps(4, 1.0, decay="linear").lengths(L2(1.0)) == [1, 0.75, 0.5, 0.25]
    assert PGDSteps(4).lengths(L2(1.0)) == [0.625] * 4
    assert PGDSteps(2, 1.0, decay="cosine").lengths(L2(1.0)) == pytest.approx([1, 0.5])
    with pytest.raises(InputError, match="'step_size' must be given"):
        PGDSteps(4).lengths(L2(math.inf))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "'steps' must be a whole number at or above 1. Got 0"),
        ({"steps": 2.5}, "'steps'"),
        ({"steps": 1, "step_size": 0.0}, "'step_size' must be a number above 0"),
        ({"steps": 1, "step_size": math.nan}, "'step_size'"),
        ({"steps": 1, "momentum": 1.0}, "'momentum' must be at or above 0 and below 1"),
        ({"steps": 1, "decay": "linaer"}, "Did you mean 'linear'"),
    ],
)
def test_a_schedule_checks_itself(arguments, message, unchecked):
    with pytest.raises(InputError, match=message):
        PGDSteps(**arguments)


@pytest.mark.parametrize("bad", [-0.5, 1.5, math.nan, 255.0])
def test_images_outside_the_box_are_refused_before_work(linear, bad):
    images = random_images(2, (1, 3, 3))
    images[1, 0, 0, 0] = bad
    with pytest.raises(InputError, match=r"must be floating point in \[0, 1\]"):
        pgd(linear, images, torch.tensor([0, 1]), L2(0.1))


def test_another_shape_of_start_is_refused(linear, unchecked):
    images = random_images(2, (1, 3, 3))
    with pytest.raises(InputError, match="'start' must have the shape of the origin"):
        pgd(linear, images, torch.tensor([0, 1]), L2(0.1), start=images[:1])


def test_margin_is_negative_exactly_where_another_class_wins():
    logits = torch.randn(100, 5, generator=generator(0))
    labels = torch.arange(100) % 5
    assert torch.equal(margin(logits, labels) < 0, logits.argmax(1) != labels)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda each: each, "Got 'Tensor' instead"),
        (lambda each: (each.mean(), each), r"of shape \(4,\) for 4 images. Got 'a shape of \(\)'"),
        (lambda each: (each, each[:, None]), r"Got 'a shape of \(4, 1\)'"),
        (lambda each: (each.detach(), each), "must return a loss that has a gradient"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_an_objective_that_does_not_fit_is_refused(answer, words):
    """A mean would be taken for the loss of every image, and rank them all alike."""
    with pytest.raises(InputError, match=words):
        search(lambda images: answer(images.mean((1, 2, 3))), torch.full((4, 1, 3, 3), 0.5), (), L2(1), PGDSteps(2))


@pytest.mark.parametrize(
    ("name", "settings", "work", "words"),
    [
        ("strong", {}, lambda attacked, asked: None, "that no other attack has"),
        ("mine", {"step": 3}, lambda attacked, asked: None, "Did you mean 'steps'"),
        ("mine", {}, lambda attacked: None, "a function of the images under attack and of the settings"),
    ],
)
def test_an_attack_that_does_not_fit_is_not_registered(name, settings, work, words):
    with pytest.raises(InputError, match=words):
        attack_named(name, **settings)(work)
    assert "mine" not in ATTACKS
