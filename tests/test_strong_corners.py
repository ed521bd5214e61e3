"""The strong attack where a gradient says nothing of a few images, and where several radii or batches could matter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.errors import InputError
from notbugs.seeds import generator

DARK = 8
"""Black images, of few among many: too few for gradients to look masked."""


class Threshold(nn.Module):
    """Linear behind a threshold: at a black image the gradient is 0, and a point further on crosses the boundary."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 64, generator=generator(0, "weight")) / 8)
        self.bias = nn.Parameter(torch.tensor([0.02, 0.0]))

    def before(self, pixels):
        return torch.relu(pixels - 0.02)

    def forward(self, images):
        return self.before(images.flatten(1)) @ self.weight.T + self.bias


class Unit(Threshold):
    """Divided by its norm, whose gradient at a black image is no number."""

    def before(self, pixels):
        return pixels / (pixels.square().sum(1, keepdim=True).sqrt() + 0.01)


@pytest.mark.parametrize(("network", "eps"), [(Threshold(), 0.5), (Unit(), 0.02)], ids=["zero", "nan"])
def test_an_image_without_a_gradient_is_searched_from_random_points(network, eps):
    bright = 0.3 + 0.4 * torch.rand(72, 1, 8, 8, generator=generator(0, "bright"))
    pixels = torch.cat([bright, torch.zeros(DARK, 1, 8, 8)])
    classifier = nb.Classifier(network)
    with torch.no_grad():
        images = nb.Images(pixels, classifier(pixels).argmax(1))
    clean, attacked = nb.measure.outcomes(classifier, images, [nb.L2(eps)], doubted=False)
    assert clean.accuracy.share.value == 1
    assert int(attacked.survived[-DARK:].sum()) == 0
    assert attacked.broken["random start"] >= DARK


class Shell(nn.Module):
    """Of marked images, wrong in a thin shell around the image, and right within and beyond it."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        pixels = images.flatten(1)
        way = (pixels[:, 0] - 0.5).abs()
        beyond = torch.where(way < 0.3, 10 * (way - 0.2), torch.ones_like(way))
        margin = torch.where(way < 0.15, 1 - 10 * way, beyond)
        margin = torch.where(pixels[:, -1] > 0.5, margin, 1 + 0.01 * pixels[:, 1:9].sum(1))
        return torch.stack([margin, torch.zeros_like(margin)], 1) + 0 * self.unused


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_a_larger_ball_hides_is_found_in_the_smaller_one(seed):
    pixels = 0.4 * torch.rand(200, 1, 4, 4, generator=generator(0, "pixels"))
    pixels[:, 0, 0, 0], pixels[:, 0, 3, 3] = 0.5 + 0.01 * pixels[:, 0, 0, 0], 0.0
    pixels[:2, 0, 3, 3] = 1.0
    images = nb.Images(pixels, torch.zeros(200, dtype=torch.int64))
    _, small, _ = nb.measure.outcomes(nb.Classifier(Shell()), images, radii=(0.2, 0.8), doubted=False, seed=seed)
    assert small.survived.sum() == 198


class Steps(nn.Module):
    """Of pixels as whole numbers: no gradient, and none straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 36, generator=generator(0, "steps")))

    def forward(self, images):
        return ((images.detach() * 16).long() / 16).flatten(1) @ self.weight.T + 0 * images.sum()


def test_what_queries_find_does_not_depend_on_the_batch():
    pixels = torch.rand(60, 1, 6, 6, generator=generator(0, "pixels"))
    classifier = nb.Classifier(Steps())
    with torch.no_grad():
        images = nb.Images(pixels, classifier(pixels).argmax(1))
    whole, parts = (
        nb.measure.outcomes(classifier, images, [nb.L2(0.25)], batch=batch, doubted=False, queries=80)[1]
        for batch in (60, 7)
    )
    assert whole.broken["queries"] > 0
    assert torch.equal(whole.survived, parts.survived)


class Dark(nn.Module):
    """Divides by the brightness: black images have logits that are no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 1))

    def forward(self, images):
        mean = images.flatten(1).mean(1, keepdim=True)
        return (mean / mean - 0.5 + mean) @ self.weight.T


def test_logits_that_are_no_numbers_are_not_the_first_class():
    pixels = torch.ones(6, 1, 4, 4)
    pixels[4:] = 0
    images = nb.Images(pixels, torch.zeros(6, dtype=torch.int64))
    with pytest.raises(InputError, match="'classifier' must give finite logits. Got nan"):
        nb.evaluate(nb.Classifier(Dark()), images)
