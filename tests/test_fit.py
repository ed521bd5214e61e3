"""A classifier that does not fit the images is refused before any work, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.errors import InputError
from notbugs.measure.accuracy import permutation
from notbugs.measure.features import pixels
from notbugs.search.compatibility import check_fits
from notbugs.seeds import seeded
from tests.conftest import bars


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(images.flatten(1)).detach()


def flat(outputs: int, inputs: int = 64) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))


def nan_weights() -> nn.Module:
    network = flat(2)
    nn.init.constant_(network[1].weight, torch.nan)
    return network


class DropoutLeftOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.dropout(images.flatten(1), 0.5))


def of_its_batch() -> nn.Module:
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    return nn.Sequential(norm, nn.Flatten(), nn.Linear(64, 2))


MISFITS = {
    "size": (flat(2, inputs=100), "cannot take images of shape"),
    "too many logits": (flat(3), "must give 2 logits, one for each class. Got 3"),
    "not finite": (nan_weights(), "must give finite logits"),
    "detached": (Detached(), "must be differentiable"),
    "chance": (DropoutLeftOn(), "the same logits for the same images twice.*F.dropout"),
    "its batch": (of_its_batch(), "the same logits for an image alone and among others.*track_running_stats=True"),
}


def of_pixels(data: nb.Data) -> nb.measure.Usefulness:
    return nb.usefulness(pixels(data.test.shape), data.train, data.test, nb.L2(0.1))


ENTRIES = {
    "evaluate": lambda c, data, out: nb.evaluate(c, data.test),
    "outcomes": lambda c, data, out: nb.measure.outcomes(c, data.test, [nb.L2(0.1)]),
    "autoattack": lambda c, data, out: nb.measure.autoattack(c, data.test, nb.L2(0.1)),
    "relabel": lambda c, data, out: nb.relabel(c, data, out),
    "robustify": lambda c, data, out: nb.robustify(c, data, out),
    "usefulness": lambda c, data, out: nb.usefulness(c, data.train, data.test, nb.L2(0.1)),
    "transfer": lambda c, data, out: nb.transfer({"one": c}, data.test, nb.L2(0.1)),
    "audit": lambda c, data, out: nb.audit(c, data, nb.L2(0.1)),
    "spatial": lambda c, data, out: nb.measure.spatial_accuracy(c, data.test, nb.Spatial(10, 1)),
    "corruptions": lambda c, data, out: nb.measure.corruption_accuracy(c, data.test),
    "masking signs": lambda c, data, out: nb.measure.masking_signs(c, data.test, nb.L2(0.1)),
    "leakage": lambda c, data, out: nb.leakage(c, data.train, data.test, classes=2),
    "shares": lambda c, data, out: nb.measure.carried(of_pixels(data), c, data.test, data.test, data.test),
    "head": lambda c, data, out: nb.measure.refit_head(c, data.train, torch.ones(64, dtype=torch.bool), classes=2),
}


@pytest.mark.parametrize("case", ["chance", "its batch"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_refuses_an_answer_that_is_not_the_images_own(entry, case, bars_data, tmp_path):
    if (entry, case) == ("masking signs", "chance"):  # it looks for just that
        return
    if entry == "autoattack":
        pytest.importorskip("pyautoattack")
    with pytest.raises(InputError, match="must give the same"):
        ENTRIES[entry](nb.Classifier(MISFITS[case][0]), bars_data, tmp_path / "set")


def test_whatever_its_weights_a_network_that_looks_at_its_batch_is_found(bars_data):
    """Beside images that are much alike its answers are, too."""
    for seed in range(40):
        with seeded(seed):
            network = of_its_batch()
        with pytest.raises(InputError, match="for an image alone and among others"):
            check_fits(nb.Classifier(network), bars_data.train)


def test_a_clean_accuracy_below_guessing_and_another_order_are_said(caplog):
    data = nb.load("digits").take(100, 200, 0)
    pixels, labels = data.test.batch(slice(None))
    centres = torch.stack([pixels[labels == label].mean(0).flatten() for label in range(10)])
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    order = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    with torch.no_grad():  # the nearest class mean; output i stands for class order[i]
        network[1].weight.copy_(2 * centres[order])
        network[1].bias.copy_(-centres[order].square().sum(1))
    found = nb.evaluate(nb.Classifier(network), data.test)[0].share
    first, second = (record.message for record in caplog.records if "accuracy" in record.message)
    assert found.value < 0.2
    assert "in another order" in first
    assert "output 0 for 1, 1 for 2, 2 for 3, 3 for 4, 4 for 5, 5 for 6, 6 for 7, 7 for 8, 8 for 9, 9 for 0." in first
    causes = ["numbered otherwise", "normalisation", "range", "a head"]
    assert [second.index(cause) for cause in causes] == sorted(second.index(cause) for cause in causes)
    caplog.clear()
    right = nb.Images(pixels, network(pixels).argmax(1))
    assert nb.evaluate(nb.Classifier(network), right)[0].share.value == 1
    assert not [record for record in caplog.records if "accuracy" in record.message]


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_is_refused_and_leaves_no_folder(case, bars_data, tmp_path):
    network, message = MISFITS[case]
    classifier = nb.Classifier(network)
    for build in (nb.robustify, nb.relabel):
        with pytest.raises(InputError, match=message):
            build(classifier, bars_data, tmp_path / "set")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        nb.evaluate(classifier, bars_data.test)


THOUSAND = {
    name: ENTRIES[name] for name in ("evaluate", "outcomes", "autoattack", "transfer", "spatial", "corruptions")
}


@pytest.mark.parametrize("entry", THOUSAND)
def test_a_thousand_logits_for_the_classes_of_a_folder_are_refused(entry, bars_data, tmp_path):
    if entry == "autoattack":
        pytest.importorskip("pyautoattack")
    few = bars_data.take(None, 6, 0)
    classifier = nb.Classifier(flat(1000))
    with pytest.raises(InputError, match=r"must give 2 logits, one for each class. Got 1000 .*--outputs"):
        THOUSAND[entry](classifier, few, tmp_path / "set")
    loose = nb.Images(few.test.pixels, few.test.labels)  # of which nobody said how many classes there are
    assert loose.classes is None
    assert nb.evaluate(classifier, loose)[0].share.value < 1


def test_a_network_for_colour_is_refused_for_grey():
    classifier = nb.Classifier(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)))
    with pytest.raises(InputError, match=r"cannot take images of shape \(1, 8, 8\).*to have 3 channels"):
        check_fits(classifier, bars(4))


def test_a_fit_passes_and_is_left_as_it_was(bars_data):
    classifier = nb.new_classifier(bars_data, width=2)
    classifier.train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    check_fits(classifier, bars_data.train, 2)
    assert classifier.training
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_another_order_is_found_though_half_of_the_images_lack_a_class():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4] * 6 + [5, 0] * 2)  # class 5: only among those to choose on
    found = permutation((labels + 1) % 6, labels, 6)
    assert found is not None
    assert found.tolist() == [5, 0, 1, 2, 3, 4]
