"""Balanced accuracy and areas under ROC: known answers, coverage of intervals, the area under attack."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from notbugs import L2, Classifier, Data, Images, InputError, audit
from notbugs.measure import (
    Difference,
    Proportion,
    against_chance,
    evaluate,
    paired_difference,
    refit_head,
    wilson,
)
from notbugs.measure.accuracy import doubts
from notbugs.measure.unbalanced import Area, areas, balanced, is_rare, is_unbalanced, is_uneven
from notbugs.report.accuracies import study_accuracies
from notbugs.report.core_tables import unbalanced_section
from notbugs.report.page import render
from notbugs.seeds import generator
from tests import fakes
from tests.fakes import row


def test_balanced_accuracy_of_one_class_alone_and_of_equal_ones_is_wilsons():
    """Of the same share in four equal classes, the mean is known twice as well as each."""
    hits = torch.tensor([True, False, False, True, False, False, False, False, True, True])
    alone, known = balanced(hits, torch.zeros(10, dtype=torch.int64)), Proportion.of(hits)
    assert (alone.low, alone.high) == (pytest.approx(known.low, abs=1e-6), pytest.approx(known.high, abs=1e-6))
    four = balanced(hits.repeat(4), torch.arange(4).repeat_interleave(10))
    half = binomtest(4, 10).proportion_ci(2 * NormalDist().cdf(1.959964 / 2) - 1, "wilson")
    assert (four.value, four.n) == (0.4, 40)
    assert (four.low, four.high) == (pytest.approx(half.low, abs=1e-5), pytest.approx(half.high, abs=1e-5))
    same = balanced(torch.tensor([True] * 8), torch.arange(2).repeat_interleave(4))  # nothing is known of how they vary
    assert (same.value, same.high) == (1, 1)
    assert same.low == pytest.approx(wilson(8, 8).low, abs=1e-3)


@pytest.mark.parametrize("right", [1 / 40, 0.95])
def test_a_balanced_accuracy_near_either_end_is_covered_from_both_sides(right):
    """Many small classes: an interval on one side of its value alone would call a guesser better than chance."""
    sizes = torch.tensor([10, 20, 40, 160]).repeat(5)
    labels, draw = torch.arange(20).repeat_interleave(sizes), generator(0, "coverage", right)
    found = [balanced(torch.rand(len(labels), generator=draw) < right, labels) for _ in range(400)]
    assert sum(one.low > right for one in found) / 400 < 0.05  # 2.5 % are meant
    assert sum(one.high < right for one in found) / 400 < 0.05


def test_chance_is_told_by_the_exact_test():
    """Of any share it is Clopper and Pearson's interval; of 43 classes, 2 right of 20 is no knowledge."""
    for hits, n in ((2, 20), (0, 5), (7, 7), (30, 97)):
        ends, share = binomtest(hits, n).proportion_ci(0.95, "exact"), wilson(hits, n)
        for chance in (ends.low - 1e-6, ends.low + 1e-6, ends.high - 1e-6, ends.high + 1e-6):
            side = "higher" if chance < ends.low else "lower" if chance > ends.high else "unclear"
            assert against_chance(share, chance) == side
    assert wilson(2, 20).low > 1 / 43  # which Wilson's interval calls above chance
    assert against_chance(wilson(2, 20), 1 / 43) == "unclear"


@pytest.mark.parametrize("sizes", [[1] * 43, [2, 3, 10, 30] * 5, [300, 20, 5, 5, 5]])
def test_a_guesser_is_seldom_told_from_chance_in_balanced_accuracy(sizes):
    """Also of many classes with few images, where the interval alone errs two to three times as often."""
    chance, draw = 1 / len(sizes), generator(1, "guesser", len(sizes))
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    found = [balanced(torch.rand(len(labels), generator=draw) < chance, labels) for _ in range(400)]
    assert sum(against_chance(one, chance) == "higher" for one in found) / 400 < 0.045  # 2.5 % are meant
    assert sum(against_chance(one, chance) == "lower" for one in found) / 400 < 0.045


@pytest.mark.parametrize("sizes", [[60], [20, 40, 160] * 2, [90, 10]])
def test_the_interval_of_a_paired_difference_covers_it(sizes):
    """Two classifiers that are right on much the same images: the interval of independent ones is nearly never wrong.

    Of one class, that of balanced accuracies is that of accuracies.
    """
    labels, draw = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)), generator(0, "paired", len(sizes))
    missed, unpaired = 0, 0
    for _ in range(400):
        common, own, which = torch.rand(3, len(labels), generator=draw)
        first, second = common < 0.6, torch.where(which < 0.7, common, own) < 0.5
        found = paired_difference(first, second, labels)
        alone = Difference.of(balanced(first, labels), balanced(second, labels))
        assert (found.value, found.paired, found.score) == (alone.value, True, "balanced accuracy")
        missed += not found.low <= 0.1 <= found.high
        unpaired += not alone.low <= 0.1 <= alone.high
    assert 0.005 < missed / 400 < 0.08
    assert unpaired < missed
    if len(sizes) == 1:
        plain = paired_difference(first, second)
        assert (plain.low, plain.high) == (pytest.approx(found.low), pytest.approx(found.high))


def test_areas_of_a_few_scores():
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert Area.of(torch.tensor([1.0, 2, 3, 4, 5]), labels).value == 1
    assert Area.of(torch.tensor([4.0, 2, 3, 3, 1]), labels).value == pytest.approx(1.5 / 6)  # 3 beats 2 and ties with 3
    assert Area.of(torch.zeros(5), labels).value == 0.5
    with pytest.raises(InputError, match="images with the label and images without"):
        Area.of(torch.zeros(5), labels * 0)


def test_the_interval_of_an_area():
    """Its ends solve the equation that defines it, it has a width at 1, and turns round with the scores."""
    labels = torch.tensor([0] * 30 + [1] * 10)
    scores = torch.randn(40, generator=generator(0)) + labels
    found = Area.of(scores, labels)
    for end in (found.low, found.high):
        first, second = end / (2 - end) - end**2, 2 * end**2 / (1 + end) - end**2
        variance = (end * (1 - end) + 19 * first + 19 * second) / 300  # m - 1 and n - 1 at their mean, 19
        assert abs(found.value - end) == pytest.approx(1.959964 * math.sqrt(variance), abs=1e-6)
    perfect = Area.of(labels.float(), labels)
    assert perfect.high == 1
    assert 0.7 < perfect.low < 0.99
    turned = Area.of(-scores, labels)
    assert turned.low == pytest.approx(1 - found.high)


def test_the_interval_covers_the_area_of_two_gaussians():
    """Scores 1 apart: the area is Phi(1 / sqrt 2)."""
    true, draw = NormalDist().cdf(1 / math.sqrt(2)), generator(1)
    labels = torch.tensor([0] * 60 + [1] * 15)
    found = [Area.of(torch.randn(75, generator=draw) + labels, labels) for _ in range(400)]
    covered = sum(one.low <= true <= one.high for one in found) / len(found)
    assert 0.91 < covered < 0.985


def test_balanced_accuracy():
    """Naming the most frequent class is worth one over the number of classes."""
    labels = torch.tensor([0] * 90 + [1] * 10)
    found = balanced(labels == 0, labels)
    assert found.value == 0.5
    assert found.low < 0.5 < found.high
    assert found.n == 100
    hits = torch.tensor([True] * 45 + [False] * 45 + [True] * 5 + [False] * 5)
    first = balanced(hits, labels)
    assert first.value == 0.5
    assert first.high - first.low == pytest.approx(first.high - 0.5 + 0.5 - first.low)
    assert first.high - 0.5 > 0.9 * math.hypot(0.10, 0.26) / 2  # Wilson's half widths of 45 of 90 and of 5 of 10
    assert is_unbalanced(labels)
    assert is_rare(labels)
    assert not is_unbalanced(torch.tensor([0, 0, 1, 1]))
    assert not is_uneven(torch.arange(4).repeat_interleave(torch.tensor([24, 1, 20, 20])))  # 1 counts as 5
    assert is_uneven(torch.arange(4).repeat_interleave(torch.tensor([25, 1, 20, 20])))
    sizes = torch.tensor([25, 5, 20, 20])  # none has half; one has five times another's
    assert is_uneven(labels)
    assert is_uneven(torch.arange(4).repeat_interleave(sizes))
    assert not is_uneven(torch.arange(4).repeat_interleave(sizes - torch.tensor([1, 0, 0, 0])))
    thirds = torch.tensor([45, 35, 20])  # naming the first is right on 45 %, not on a third
    assert is_uneven(torch.arange(3).repeat_interleave(10 * thirds))
    assert not is_uneven(torch.arange(3).repeat_interleave(thirds))  # so few may be so by chance
    assert not is_uneven(torch.randint(200, (4000,), generator=generator(0, "labels")))
    assert not is_rare(torch.tensor([0, 0, 1, 1]))
    assert not is_rare(torch.tensor([0, 1, 2]))


def test_the_area_under_attack_of_a_linear_model():
    """Every logit moves by eps times the norm of the weights towards the other class: exactly, by Cauchy-Schwarz."""
    draw = generator(2)
    labels = (torch.arange(80) % 5 == 0).long()
    pixels = 0.4 + 0.2 * torch.rand(80, 1, 4, 4, generator=draw) + 0.02 * labels[:, None, None, None]
    head = nn.Linear(16, 1)
    head.weight.data.fill_(0.25)  # of norm 1
    classifier = Classifier(nn.Sequential(nn.Flatten(), head))
    z = classifier(pixels)[:, 1].detach()
    clean, near, far = areas(classifier, Images(pixels, labels), (L2(0.03), L2(0.2)), steps=3)
    assert clean == Area.of(z, labels)
    assert near.value == Area.of(z - 0.03 * (2 * labels - 1), labels).value
    assert 0.1 < near.value < clean.value
    assert far.value == 0
    with pytest.raises(InputError, match="'classifier' must give 2 logits"):
        areas(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3))), Images(pixels, labels))


def unbalanced_data() -> Data:
    """1x8x8 images, one of ten of class 1, whose left half is then brighter by 0.25."""
    splits = []
    for seed, count in ((5, 200), (6, 120)):
        labels = (torch.arange(count) % 10 == 0).long()
        pixels = 0.5 * torch.rand(count, 1, 8, 8, generator=generator(seed))
        pixels[:, :, :, :4] += 0.25 * labels[:, None, None, None]
        splits.append(Images(pixels, labels))
    return Data("rare", splits[0], splits[1], ("healthy", "ill"))


class Halves(nn.Module):
    """Features are the means of the halves; the logit is right by the left one, and says class 0 unless it is sure."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 1)
        self.head.weight.data = torch.tensor([[20.0, 0.0]])
        self.head.bias.data.fill_(-20 * 0.375)

    def forward(self, images):
        return self.head(images.unflatten(3, (2, 4)).mean((1, 2, 4)))


def test_an_audit_counts_every_class_the_same():
    """The left half carries all of it, and its mean moves by less than a quarter of the classes' distance."""
    found = audit(Classifier(Halves()), unbalanced_data(), L2(0.1), images=8, attack="pgd")
    assert found.score == "balanced accuracy"
    assert found.guessing == 0.5
    for accuracies in (found.model, *(group.accuracies for group in found.groups)):
        assert accuracies[0].area is not None
        assert accuracies[0].balanced is not None
    everything = found.group("all").accuracies[0]
    assert everything.balanced.value > 0.95  # a head that counts images alike would be right on 95 % as well
    assert found.verdict.basis == "robust"
    assert found.verdict.sentences[0].startswith("Every class counts the same here, in balanced accuracies. Its one ")
    assert "reaches" in found.verdict.sentences[0]


def test_a_head_refitted_with_balance_moves_its_threshold():
    """Two Gaussians, one image in ten: alike it is where densities weighed 9 to 1 meet, else in the middle."""
    draw = generator(7)
    labels = (torch.arange(4000) % 10 == 0).long()
    features = torch.randn(4000, 1, generator=draw) + 2 * labels[:, None]
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(1, 2)))
    images = Images(torch.zeros(4000, 1, 1, 1), labels)
    for is_balanced, place in ((False, 1 + math.log(9) / 2), (True, 1.0)):
        fit = refit_head(
            classifier, images, torch.tensor([True]), classes=2, features=features, balanced=is_balanced
        ).classifier
        slope, offset = (float(part[1] - part[0]) for part in (fit.weight[:, 0], fit.bias))
        assert -offset / slope == pytest.approx(place, abs=0.12)


def test_the_page_has_balanced_accuracies_and_areas():
    share = Proportion(value=0.9, low=0.8, high=0.95, n=100)
    beside = {"balanced": share.model_copy(update={"value": 0.5, "low": 0.4, "high": 0.6})}
    area = Area(value=0.75, low=0.6, high=0.85, positives=10, negatives=90)
    rows = [row("D"), row("D", 0.5, eps=0.25)]
    beyond = [fakes.properties("D_bugs")]
    for also in (None, fakes.proportion(0.1, 360)):
        of_bugs = fakes.row("D_bugs", 0.6).model_copy(update={"balanced": also})
        page = render(fakes.results().model_copy(update={"rows": [of_bugs], "sets": beyond}), None)
        assert ("of balanced accuracy, which" in page) == bool(also)
    assert not list(unbalanced_section(study_accuracies(fakes.results().model_copy(update={"rows": rows}))))
    rows = [one.model_copy(update=beside) for one in rows]
    (section,) = unbalanced_section(study_accuracies(fakes.results().model_copy(update={"rows": rows})))
    assert [len(table.rows) for table in section.tables] == [1]
    rows = [one.model_copy(update={"area": area}) for one in rows]
    (section,) = unbalanced_section(study_accuracies(fakes.results().model_copy(update={"rows": rows})))
    first, second = section.tables
    assert first.rows[0][1:] == [beside["balanced"]] * 2
    assert [cell.value for cell in second.rows[0][1:]] == [0.75, 0.75]
    assert second.rows[0][1].n == 100


def test_doubts_where_a_class_is_rare():
    """A model that finds the rare class is not doubted, whatever its accuracy; one that names the other is."""
    labels = (torch.arange(100) % 11 == 0).long()
    finds = labels.clone()
    finds[1:31] = 1  # 27 false alarms: right on 73, and naming the larger class is right on 90

    def said(predicted: torch.Tensor) -> list[str]:
        return list(doubts(torch.nn.functional.one_hot(predicted, 2).float(), labels))

    assert said(finds) == []
    (line,) = said(torch.zeros_like(labels))
    assert line.startswith("The balanced clean accuracy, 50.0%")
    assert "in this order: training that does not count every class the same (--balanced)" in line
    swapped, _ = said(1 - labels)
    assert swapped.startswith("The balanced clean accuracy is 0.0%")
    assert said(torch.ones_like(labels))[0].startswith("The balanced clean accuracy, 50.0%")


def test_a_classifier_of_more_classes_than_the_images_show_has_no_area(linear):
    images = Images(torch.rand(20, 1, 3, 3), torch.tensor([1] * 3 + [0] * 17))
    found = evaluate(linear, images, radii=[0.1], attack="pgd", steps=1)
    assert [one.area for one in found] == [None, None]
    assert all(one.balanced for one in found)


def test_a_clean_accuracy_at_guessing_is_doubted_unless_it_is_a_result(caplog):
    images = Images(torch.rand(60, 1, 8, 8), torch.arange(60) % 3)
    always = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(always[1].weight)
    for doubted in (True, False):
        caplog.clear()
        assert evaluate(Classifier(always), images, doubted=doubted)[0].share.value == pytest.approx(1 / 3)
        assert bool(caplog.messages) == doubted
