"""Accuracy that can be trusted: targets, AutoAttack, masked gradients, adaptive attacks, exact tests, several seeds."""

from __future__ import annotations

import math
import re
import sys
from importlib import util
from pathlib import Path
from typing import get_args

import pytest
import torch
from scipy import stats
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Data, Images, load
from notbugs.errors import InputError
from notbugs.measure import (
    Accuracy,
    Agreement,
    AttackUsed,
    Outcome,
    Proportion,
    Sign,
    autoattack,
    evaluate,
    masking_signs,
    outcomes,
    over_seeds,
    paired,
    predictions,
)
from notbugs.measure._autoattack import possible
from notbugs.measure.masking import SignName
from notbugs.models.execution import frozen
from notbugs.search import Attack, PGDSteps, pgd, replaced_backward, search
from notbugs.search.objectives import away_from, estimated
from notbugs.seeds import generator, seeded
from notbugs.study import EvaluateJob, evaluate_one, read_recipe
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments.strong_attacks import (
    StrongAttacksInstrument,
    StrongAttacksResult,
    strong_attacks_section,
)
from notbugs.study.runner import Runner
from notbugs.threat import L2, Linf
from notbugs.training import Training, new_classifier, train
from tests.conftest import bars, random_images

EPS = 2.0


# -- targets, and image by image ------------------------------------------------------------------------------------


def linear_problem(n: int = 200, classes: int = 5) -> tuple[Classifier, Images, torch.Tensor]:
    """A linear classifier, images far from the walls, and each one's exact distance to the nearest other class."""
    with seeded(3):
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, classes))).eval()
    pixels = 0.4 + 0.2 * random_images(n, (1, 6, 6))
    head = classifier.head
    with torch.no_grad():
        head.bias.copy_(head.bias - classifier(pixels).mean(0))
        logits = classifier(pixels)
        labels = logits.argmax(1)
        gaps = logits.gather(1, labels[:, None]) - logits
        lengths = (head.weight[labels][:, None] - head.weight).norm(dim=2)
        distance = (gaps / lengths).scatter(1, labels[:, None], torch.inf).amin(1)
    labels[: n // 10] = (labels[: n // 10] + 1) % classes
    distance[: n // 10] = -1
    return classifier, Images(pixels, labels), distance


def test_targets_make_a_linear_classifiers_robust_accuracy_exact():
    classifier, images, distance = linear_problem()
    radii = (0.02, 0.05, 0.1)
    found = outcomes(classifier, images, radii=radii)
    for outcome in found[1:]:
        assert outcome.attack is not None
        assert outcome.attack.targeted == 9
        assert torch.equal(outcome.survived, distance > outcome.attack.eps)
    assert 0 < found[-1].accuracy.share.value < found[1].accuracy.share.value < 0.9


def test_outcomes_are_what_evaluate_counts(small):
    images = Images(random_images(40), torch.arange(40) % 4)
    images = Images(images.pixels, predictions(small, images))
    how = {"radii": (0.1, 0.2), "attack": Attack(steps=8, restarts=2, targeted=2)}
    found = outcomes(small, images, **how)
    assert [outcome.accuracy for outcome in found] == evaluate(small, images, **how)
    assert bool((found[2].survived <= found[1].survived).all())
    weaker = outcomes(small, images, **how | {"attack": Attack(steps=8, restarts=2, targeted=0)})
    assert all(bool((strong.survived <= weak.survived).all()) for strong, weak in zip(found, weaker, strict=True))
    assert outcomes(small, images, **how, batch=7)[2].survived.equal(found[2].survived)


def test_decaying_steps_are_recorded_and_find_no_less_on_a_linear_classifier():
    classifier, images, distance = linear_problem()
    found = outcomes(classifier, images, radii=(0.0, 0.1), attack=Attack(steps=10))
    assert [outcome.attack and outcome.attack.step_size for outcome in found] == [None, 0.0, 0.2]
    assert found[2].attack is not None
    assert found[2].attack.decay == "linear"
    assert torch.equal(found[2].survived, distance > 0.1)


def test_an_unknown_attack_and_two_norms_are_refused(small):
    images = Images(random_images(4), torch.arange(4))
    with pytest.raises(
        InputError, match="'attack' must be one of strong, pgd.*Got 'stong' instead. Did you mean 'strong'"
    ):
        evaluate(small, images, radii=(0.1,), attack="stong")
    with pytest.raises(InputError, match="'threats' must have one norm"):
        evaluate(small, images, [L2(0.1), Linf(0.1)])


# -- AutoAttack -----------------------------------------------------------------------------------------------------

needs_autoattack = pytest.mark.skipif(not util.find_spec("pyautoattack"), reason="pyautoattack is not installed")


@needs_autoattack
@pytest.mark.parametrize("eps", [0.02, 0.05])
def test_autoattack_on_a_linear_classifier_is_exact(eps):
    classifier, images, distance = linear_problem(100)
    hwc = images.pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # strides that the library cannot take
    state, told = torch.get_rng_state(), []
    found = autoattack(
        classifier, Images(hwc, images.labels), L2(eps), attacks=("apgd-ce", "apgd-t"), batch=40,
        progress=lambda done, total, note="": told.append((done, total)),
    )  # fmt: skip
    assert torch.equal(found.survived, distance > eps)
    assert torch.equal(torch.get_rng_state(), state)
    assert told == [(40, 90), (80, 90), (90, 90)]
    assert found.attack is not None
    assert found.attack.version.startswith("pyautoattack 0.2")
    assert str(found.accuracy).startswith(f"l2 {eps:g}, autoattack: ")


def test_square_is_left_out_where_its_tiles_leave_the_image():
    """The library lays tiles of a fifth of the height from a margin on, as far as whole ones go into the side."""
    for height, width in [(side, side) for side in range(5, 70)] + [(32, 24), (32, 40), (28, 10)]:
        delta, side = torch.zeros(height, width), height // 5
        try:
            for row in range(height // side):
                for column in range(width // side):
                    first = (height - 5 * side) // 2
                    down, right = first + row * side, first + column * side
                    delta[down : down + side, right : right + side] += torch.ones(side, side)
            fits = True
        except RuntimeError:
            fits = False
        assert ("square" in possible(("fab-t", "square"), 10, "l2", (3, height, width))) == fits, (height, width)
    assert "square" in possible(("square",), 10, "linf", (3, 12, 12))


@needs_autoattack
def test_autoattack_goes_on_after_a_kill_to_the_same_outcome(tmp_path):
    (classifier, images, distance), told = linear_problem(60), []
    how = {"attacks": ("apgd-ce", "apgd-t"), "batch": 20, "keep": tmp_path}

    def killed(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        autoattack(classifier, images, L2(0.05), **how, progress=killed)
    for _ in range(2):  # the second time, there is nothing left to do
        found = autoattack(classifier, images, L2(0.05), **how, progress=lambda done, total, note="": told.append(done))
        assert torch.equal(found.survived, distance > 0.05)
    assert told == [40, 54], "of 54 that are classified correctly, the first 20 were kept"
    with pytest.raises(KeyboardInterrupt):  # what was kept is of another radius
        autoattack(classifier, images, L2(0.02), **how, progress=killed)
    assert len(list(tmp_path.iterdir())) == 2


@needs_autoattack
def test_autoattack_and_pgd_agree_on_a_network():
    classifier, images = trained(0), bars(60, 5)
    ball = Linf(0.18)
    ours = outcomes(classifier, images, norm="linf", radii=(ball.eps,))[1]
    theirs = autoattack(classifier, images, ball, attacks=("apgd-ce", "fab-t"))
    agreement = Agreement.of(ours, theirs)
    assert not agreement.marked
    assert 0 < agreement.union.value <= min(agreement.pgd.share.value, agreement.autoattack.share.value) < 1


@needs_autoattack
def test_the_standard_attacks_are_those_that_the_classes_allow(linear):
    images = Images(random_images(3, (1, 3, 3)), torch.zeros(3, dtype=torch.int64))
    images = Images(images.pixels, (predictions(linear, images) + 1) % 3)  # nothing to attack
    found = autoattack(linear, images, Linf(0.1))
    assert found.attack is not None
    assert found.attack.attacks == ("apgd-ce", "fab-t", "square")
    assert not found.survived.any()
    with pytest.raises(InputError, match="not have apgd-t with fewer than 4 classes"):
        autoattack(linear, images, L2(0.1), attacks=("apgd-t",))
    with pytest.raises(InputError, match="radius above 0"):
        autoattack(linear, images, L2(0.0))


class Cheat:
    """A library whose images are far outside the ball."""

    def __init__(self, classifier, *, norm, eps, seed, version, device):
        self.apgd_targeted = self.fab = self

    def run_standard_evaluation(self, images, labels):
        assert images.is_contiguous()
        return 1 - images, labels


@needs_autoattack
def test_what_the_library_claims_is_judged_inside_the_ball(monkeypatch):
    room = sys.modules[Agreement.__module__]  # in the package, the function has the module's name
    monkeypatch.setattr(room, "_library", lambda: (Cheat, "cheat 1"))
    classifier, images = trained(0), bars(50, 5)
    clean = predictions(classifier, images) == images.labels
    flipped = Images(1 - images.pixels, images.labels)
    assert (predictions(classifier, flipped) != images.labels).double().mean() > 0.9
    assert torch.equal(autoattack(classifier, images, L2(1e-3)).survived, clean)


def test_without_the_library_autoattack_is_refused_before_any_work(linear, monkeypatch, tmp_path):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    images = Images(random_images(3, (1, 3, 3)), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"pip install 'notbugs\[autoattack\]'"):
        autoattack(linear, images, L2(0.1))
    with pytest.raises(InputError, match=r"notbugs\[autoattack\]"):
        evaluate_one(tmp_path / "none", EvaluateJob(autoattack=True), Silent())
    with pytest.raises(InputError, match=r"notbugs\[autoattack\]"):
        read_recipe("digits", {"instruments": {"strong_attacks": {"on": True}}})
    assert read_recipe("digits", {"instruments": {"strong_attacks": {"on": True, "autoattack": False}}})


@pytest.mark.slow
@needs_autoattack
@pytest.mark.parametrize(("ball", "name"), [(L2(0.5), "L2"), (Linf(0.05), "Linf")])
def test_autoattack_agrees_with_an_independent_apgd(ball, name):
    """pyautoattack and torchattacks share no code of ours; PGD with targets is our own search."""
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed: pip install --no-deps")
    data = load("digits")
    classifier = train(new_classifier(data, width=16), data.train, Training(epochs=5, batch=64))
    pixels, labels = data.test.batch(slice(None))
    with classifier.evaluating("fp32"):
        attack = torchattacks.APGD(classifier, norm=name, eps=ball.eps, steps=100)
        moved = attack(pixels.contiguous(), labels)
        assert (ball.size(moved - pixels) <= ball.eps * (1 + 1e-5)).all()
        with torch.no_grad():
            theirs = Proportion.of(classifier(moved).argmax(1) == labels)
    alone = autoattack(classifier, data.test, ball, attacks=("apgd-ce",)).accuracy.share
    both = autoattack(classifier, data.test, ball, attacks=("apgd-ce", "apgd-t"))
    ours = outcomes(classifier, data.test, norm=ball.norm, radii=(ball.eps,))[1]
    agreement = Agreement.of(ours, both)
    print(f"\ntorchattacks APGD: {theirs}\npyautoattack APGD: {alone}\n{ours.accuracy}\n{agreement}")
    assert 0.02 < theirs.value < 0.98
    assert theirs.low <= alone.value <= theirs.high
    assert both.accuracy.share.value <= alone.value
    assert not agreement.marked


def outcome(name, survivors, n=100, eps=0.5):
    survived = torch.zeros(n, dtype=torch.bool)
    survived[survivors] = True
    attack = AttackUsed(name=name, norm="l2", eps=eps, steps=20, step_size=None, restarts=1)
    return Outcome(attack, survived)


def test_two_numbers_more_than_a_point_apart_are_marked():
    pgd = outcome("pgd", slice(0, 40))
    point, two = (Agreement.of(pgd, outcome("autoattack", slice(0, 40 - gap))) for gap in (1, 2))
    assert (point.marked, two.marked) == (False, True)
    assert "too weak" not in str(point)
    assert "AutoAttack is -2.0 points from PGD" in str(two)
    apart = Agreement.of(pgd, outcome("autoattack", slice(30, 70)))  # equal numbers, other images
    assert (apart.marked, apart.union.value) == (False, 0.1)
    with pytest.raises(InputError, match="PGD's norm, radius and number of images"):
        Agreement.of(pgd, outcome("autoattack", slice(0, 40), eps=0.25))


# -- two classifiers, several seeds ---------------------------------------------------------------------------------


def masks(both: int, first: int, second: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    one = torch.tensor([True] * (both + first) + [False] * (second + neither))
    other = torch.tensor([True] * both + [False] * first + [True] * second + [False] * neither)
    return one, other


def test_paired_is_mcnemars_exact_test():
    found = paired(*masks(40, 1, 9, 50))
    assert found.p_value == pytest.approx(22 / 1024)  # 2 (1 + 10) / 2^10
    assert found.difference == pytest.approx(-0.08)
    assert found.low < -0.08 < found.high < 0
    swapped = paired(*reversed(masks(40, 1, 9, 50)))
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    same = paired(*masks(30, 0, 0, 70))
    assert (same.difference, same.p_value) == (0, 1)
    assert same.low < 0 < same.high


def test_the_interval_of_a_paired_difference_covers():
    draw, truth, covered = generator(0, "paired"), 0.3 - 0.1, 0
    shares = torch.tensor([0.4, 0.3, 0.1, 0.2])
    for _ in range(400):
        counts = torch.bincount(torch.multinomial(shares, 60, replacement=True, generator=draw), minlength=4)
        found = paired(*masks(*counts.tolist()))
        covered += found.low <= truth <= found.high
    assert 0.925 <= covered / 400 <= 0.985


def test_paired_refuses_other_images():
    with pytest.raises(InputError, match="'second' must be boolean"):
        paired(torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool))


def test_over_seeds():
    found = over_seeds([0.1, 0.2, 0.3])
    assert (found.mean, found.deviation, found.n) == (pytest.approx(0.2), pytest.approx(0.1), 3)
    low, high = stats.t.interval(0.95, 2, 0.2, 0.1 / math.sqrt(3))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert over_seeds([0.7]).model_dump() == {"mean": 0.7, "deviation": None, "low": None, "high": None, "n": 1}
    assert str(over_seeds([0.7])) == "0.7, 1 seed"
    with pytest.raises(InputError, match="'values'"):
        over_seeds([])


# -- planted defects ------------------------------------------------------------------------------------------------


class Quantise(nn.Module):
    def forward(self, images):
        return (images * 4).round() / 4


class Jpeg(nn.Module):
    """The 8x8 discrete cosine transform with rounded coefficients."""

    def forward(self, images):
        k = torch.arange(8.0)
        basis = torch.cos(math.pi / 8 * (k[None] + 0.5) * k[:, None]) * 0.5
        basis[0] /= math.sqrt(2)
        return basis.T @ ((basis @ images @ basis.T) * 4).round() / 4 @ basis


class Noise(nn.Module):
    def forward(self, images):
        return images + 0.1 * torch.randn_like(images)


class Scale(nn.Module):
    def forward(self, logits):
        return 1e4 * logits


class Waves(nn.Module):
    """Right from afar, but waves on the way hold small steps: margin s + 0.6 sin(5 s), s how much brighter left is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.125] * 4 + [-0.125] * 4), requires_grad=False)

    def forward(self, images):
        score = (images.flatten(1, 2) * self.weight).sum((1, 2))
        score = score + 0.6 * (5 * score).sin()
        return torch.stack([score, -score], 1)


def trained(seed: int, *, before=(), after=(), **how) -> Classifier:
    """A small network that knows bars, in between two lists of layers that it was not trained with."""
    with seeded(seed):
        core = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    images = bars(200, 100 + seed)
    optimiser = torch.optim.Adam(core.parameters(), 0.01)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(core(images.pixels), images.labels).backward()
        optimiser.step()
    return Classifier(nn.Sequential(*before, *core, *after), head=f"{len(before) + 3}", **how).eval()


def shown(signs: list[Sign]) -> set[str]:
    return {sign.name for sign in signs if sign.shown}


def looked(classifier: Classifier) -> list[Sign]:
    return masking_signs(classifier, bars(80, 7), L2(EPS), other=trained(1), steps=10, seed=0)


def test_a_clean_network_shows_no_sign():
    found = looked(trained(0))
    assert shown(found) == set()
    assert len(found) == 8
    assert all(sign.rule and sign.numbers for sign in found)
    assert len(masking_signs(trained(0), bars(20, 7), L2(EPS), steps=3)) == 7  # nothing to transfer from


ZERO_GRADIENT = {
    *("vanishing gradients", "loss does not fall", "accuracy at a huge radius"),
    *("transfer beats gradients", "queries beat gradients"),
}


@pytest.mark.parametrize(
    ("defect", "signs"),
    [
        ({"before": [Quantise()]}, ZERO_GRADIENT),
        ({"before": [Jpeg()]}, ZERO_GRADIENT),
        ({"before": [Noise()]}, {"random outputs"}),
        ({"after": [nn.Softmax(1)], "outputs_are": "logits"}, {"softmaxed outputs"}),
        ({"after": [nn.Softmax(1)]}, set()),  # recognised, and searched in front of it
        ({"after": [Scale()]}, {"vanishing gradients"}),
    ],
    ids=["quantises", "jpeg", "random", "softmaxes", "recognised", "logits times 1e4"],
)
def test_a_planted_defect_is_named(defect, signs):
    found = looked(trained(0, **defect))
    assert signs <= shown(found)
    if signs <= {"softmaxed outputs", "vanishing gradients"}:  # the others weaken every search by gradients as well
        assert shown(found) <= signs | {"loss does not fall"}


def test_large_logits_hide_the_cross_entropy_and_not_the_log_odds():
    numbers = next(sign.numbers for sign in looked(trained(0, after=[Scale()])) if sign.name == "vanishing gradients")
    entropy, odds = numbers["of the cross-entropy"], numbers["of the log-odds"]
    assert isinstance(entropy, Proportion)
    assert isinstance(odds, Proportion)
    assert entropy.value > 0.9
    assert odds.value == 0


def test_waves_hold_many_steps_and_not_one():
    found = masking_signs(Classifier(Waves()), bars(80, 7), L2(EPS), steps=20)
    assert "one step beats many" in shown(found)
    sign = next(sign for sign in found if sign.name == "one step beats many")
    assert str(sign).startswith("! one step beats many: robust accuracy, PGD ")


def test_signs_refuse_a_ball_without_a_size(linear):
    images = Images(random_images(3, (1, 3, 3)), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="radius above 0 and finite"):
        masking_signs(linear, images, L2(math.inf))


def test_an_estimated_gradient_is_the_gradient():
    classifier, images, _ = linear_problem(4)
    objective = away_from(classifier)
    pixels, labels = images.batch(slice(None))
    leaf = pixels.clone().requires_grad_()
    objective(leaf, labels)[0].sum().backward(inputs=[leaf])
    blind = pixels.clone().requires_grad_()
    loss, score = estimated(objective, L2(0.05), 2000, generator(0, "blind"))(blind, labels)
    loss.sum().backward(inputs=[blind])
    assert leaf.grad is not None
    assert blind.grad is not None
    cosine = nn.functional.cosine_similarity(leaf.grad.flatten(1), blind.grad.flatten(1))
    assert cosine.min() > 0.97
    torch.testing.assert_close((loss, score), objective(pixels, labels))


def test_queries_break_what_has_no_gradient():
    classifier, images = trained(0, before=[Quantise()]), bars(40, 7)
    with classifier.evaluating():
        blind = estimated(away_from(classifier), L2(EPS), 20, generator(0, "blind"))
        found = search(blind, images.pixels, (images.labels,), L2(EPS), PGDSteps(20))
    assert (found.score < 0).double().mean() > 0.5
    assert (pgd(classifier, images.pixels, images.labels, L2(EPS)).score < 0).sum() <= 1


# -- adaptive attacks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Quantise(), Jpeg()], ids=["quantises", "jpeg"])
def test_a_layer_without_a_gradient_is_broken_with_the_hook_and_not_without(layer):
    classifier, images = trained(0, before=[layer]), bars(60, 7)
    clean, before = evaluate(classifier, images, radii=(EPS,), queries=0)
    assert before.share.value == clean.share.value > 0.95
    logits = classifier(images.pixels)
    with replaced_backward(classifier, "0"):
        assert torch.equal(classifier(images.pixels), logits)
        with torch.no_grad():
            assert torch.equal(classifier(images.pixels), logits)
        clean_inside, inside = evaluate(classifier, images, radii=(EPS,))
        attacked = pgd(classifier, images.pixels, images.labels, L2(EPS))
    assert clean_inside == clean
    assert inside.share.value < 0.1
    assert (attacked.score < 0).double().mean() > 0.9
    assert evaluate(classifier, images, radii=(EPS,), queries=0)[1] == before  # gone after the block


class Hidden(nn.Module):
    """The images, with a gradient of zero that nothing in Python shows."""

    def forward(self, images):
        return images.detach() + 0 * images


def test_what_hides_its_gradients_is_broken_straight_through_by_queries_and_by_transfer(caplog):
    images = bars(40, 7)
    rounded = outcomes(trained(0, before=[Quantise()]), images, [L2(EPS)])[1]
    assert rounded.accuracy.share.value < 0.2
    assert rounded.broken["straight through"] > 30
    assert "gradients look masked" in caplog.text
    blind = outcomes(trained(0, before=[Hidden()]), images, [L2(EPS)])[1]
    assert blind.accuracy.share.value < 0.2
    assert blind.broken["queries"] > 30
    helped = outcomes(trained(0, before=[Hidden()]), images, [L2(EPS)], others=[trained(1)])[1]
    assert helped.broken["transfer"] > 30
    caplog.clear()
    assert "queries" not in outcomes(trained(0), images, [L2(EPS)])[1].broken
    assert "masked" not in caplog.text


def test_a_classifier_that_answers_alike_is_not_queried(caplog):
    classifier, images = trained(0), bars(40, 7)
    with torch.no_grad():
        classifier.head.weight.zero_()
    clean, attacked = outcomes(classifier, images, [L2(EPS)], doubted=False)
    assert torch.equal(attacked.survived, clean.survived)
    assert "queries" not in attacked.broken
    assert "masked" not in caplog.text


@needs_autoattack
def test_autoattack_takes_the_hook():
    classifier, images = trained(0, before=[Quantise()]), bars(30, 7)
    with replaced_backward(classifier, "0"):
        assert autoattack(classifier, images, L2(EPS), attacks=("apgd-ce",)).accuracy.share.value < 0.1


class Detached(nn.Module):
    def forward(self, images):
        return torch.from_numpy(images.detach().numpy().round(1))


def test_a_layer_outside_torch_can_be_attacked_with_any_substitute():
    classifier, images = trained(0, before=[Detached()]), bars(30, 7)
    with pytest.raises(InputError, match="differentiable"):
        evaluate(classifier, images, radii=(EPS,))
    with replaced_backward(classifier, "0", lambda inputs: 0.5 * inputs):
        assert evaluate(classifier, images, radii=(EPS,))[1].share.value < 0.1


def test_frozen_copies_keep_the_hook_and_are_not_folded(small):
    images = random_images(3)
    with replaced_backward(small, "2", lambda inputs: 3 * inputs):
        copy = frozen(small, images.shape[1:])
        assert any(isinstance(module, nn.BatchNorm2d) for module in copy.network.modules())
        grads = []
        for classifier in (small.eval(), copy):
            leaf = images.clone().requires_grad_()
            classifier(leaf).sum().backward(inputs=[leaf])
            grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen(small, images.shape[1:]).network.modules())


def test_a_wrong_layer_or_substitute_is_refused(small, unchecked):
    with pytest.raises(InputError, match="'layer' must name a module"), replaced_backward(small, "12"):
        pass
    with (
        replaced_backward(small, "0"),  # from 2 channels to 8
        pytest.raises(InputError, match="'substitute' must return a tensor of the shape"),
    ):
        small(random_images(2).requires_grad_())


# -- the instrument -------------------------------------------------------------------------------------------------


class Silent:
    """A console that says nothing."""

    from contextlib import contextmanager

    @contextmanager
    def stage(self, title):
        yield lambda done, total, note="": None

    def say(self, text):
        pass


def runner(folder: Path, data: Data, **asked) -> Runner:
    recipe = read_recipe(
        "digits", {"instruments": {"strong_attacks": {"on": True, "radius": EPS, "images": 40, **asked}}}
    )
    made = Runner(recipe, data, StudyFolder(folder, Silent(), 0), torch.device("cpu"))
    made._classifiers |= {
        "standard": trained(0), "independent": trained(1), "robust": trained(2, after=[Scale()]),
    }  # fmt: skip
    return made


@needs_autoattack
def test_the_instrument(tmp_path, bars_data):
    asked = {"classifiers": ("standard", "robust"), "masking_images": 20}
    found = StrongAttacksInstrument().run(runner(tmp_path, bars_data, **asked))
    assert (found.n, found.masking_n) == (40, 20)
    standard, steep = found.rows
    assert [row.classifier for row in found.rows] == ["standard", "robust"]
    assert isinstance(standard.autoattack, Accuracy)
    assert standard.autoattack.attack is not None
    assert standard.autoattack.attack.attacks == ("apgd-ce",)  # two classes are too few for apgd-t
    assert standard.pgd.attack is not None
    assert (standard.pgd.attack.name, standard.strong.attack.name) == ("pgd", "strong")
    # APGD on the cross-entropy sees no gradient where logits are 1e4 times too large; the log-odds have one.
    assert steep.strong.share.value < 0.1 < 0.9 < steep.autoattack.share.value
    assert steep.union == steep.strong.share
    assert (standard.marked, steep.marked) == (False, True)
    assert shown(standard.signs) == set()
    assert "vanishing gradients" in shown(steep.signs)
    section = strong_attacks_section(found)
    assert [table.rows[0][0] for table in section.tables] == ["standard", "robust"]
    assert section.tables[0].rows[1][-1] == steep.union
    assert section.reading[0].startswith("robust: the stronger PGD leaves ")
    assert section.reading[1].startswith("robust shows signs of masked gradients: vanishing gradients (")
    (test,) = found.paired
    assert (test.classifier, test.robust.n) == ("robust", 40)
    assert test.robust.difference == pytest.approx(steep.union.value - standard.union.value)
    again = runner(tmp_path, bars_data, **asked)
    again._classifiers["robust"] = trained(0)  # finished stages are read, not run
    assert (
        StrongAttacksInstrument().run(again)
        == found
        == StrongAttacksResult.model_validate_json(found.model_dump_json())
    )


def test_the_instrument_without_autoattack(tmp_path, bars_data):
    found = StrongAttacksInstrument().run(
        runner(tmp_path, bars_data, classifiers=("robust",), autoattack=False, masking_images=10)
    )
    assert [row.classifier for row in found.rows] == ["standard", "robust"]
    assert found.rows[0].autoattack is None
    assert found.rows[0].union == found.rows[0].strong.share
    assert "more than a point" not in " ".join(strong_attacks_section(found).reading)


def test_a_recipe_refuses_an_unknown_classifier():
    with pytest.raises(InputError, match="instruments.strong_attacks.classifiers.0.*'standard'.*Got 'nobody'"):
        read_recipe("digits", {"instruments": {"strong_attacks": {"classifiers": ["nobody"]}}})


# -- the page -------------------------------------------------------------------------------------------------------


def test_every_block_of_the_page_runs(capsys):
    page = Path(__file__).parents[1] / "docs" / "explanation" / "robust-accuracy.md"
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "page"}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 5
    for block in blocks:
        exec(compile("\n" * text.count("\n", 0, block.start()) + block[1], str(page), "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out
    assert "transfer beats gradients" in printed
    assert "0.505 ± 0.007" in printed


def test_the_page_names_every_sign():
    table = (Path(__file__).parents[1] / "docs" / "explanation" / "robust-accuracy.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in table for name in get_args(SignName))
