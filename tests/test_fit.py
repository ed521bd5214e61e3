"""A classifier that does not fit the images is refused before any work, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.errors import InputError
from notbugs.search.fit import check_fits
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


MISFITS = {
    "size": (flat(2, inputs=100), "cannot take images of shape"),
    "one logit": (flat(1), "must return floating point logits"),
    "too many logits": (flat(3), "must give 2 logits, one for each class. Got 3"),
    "not finite": (nan_weights(), "must give finite logits"),
    "detached": (Detached(), "must be differentiable"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_is_refused_and_leaves_no_folder(case, bars_data, tmp_path):
    network, message = MISFITS[case]
    classifier = nb.Classifier(network)
    for build in (nb.robustify, nb.relabel):
        with pytest.raises(InputError, match=message):
            build(classifier, bars_data, tmp_path / "set")
    assert not list(tmp_path.iterdir())
    if case != "too many logits":
        with pytest.raises(InputError):
            nb.evaluate(classifier, bars_data.test)


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
