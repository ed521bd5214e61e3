"""Whom constructed images resemble, and how large perturbations are: known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.measure import Mean, PerturbationSize, just_noticeable, nearest_of_class, resemblance, ssim
from notbugs.measure.likeness import grey, likeness, noticed
from tests.conftest import random_images

pytestmark = pytest.mark.whole


def _defined(x: np.ndarray, y: np.ndarray, side: int) -> float:
    """Structural similarity as Wang et al. define it, window by window."""
    low, high, found = 0.01**2, 0.03**2, []
    for row in range(x.shape[1] - side + 1):
        for column in range(x.shape[2] - side + 1):
            for a, b in zip(x, y, strict=True):
                one, other = (part[row : row + side, column : column + side].ravel() for part in (a, b))
                covariance = np.cov(one, other)
                top = (2 * one.mean() * other.mean() + low) * (2 * covariance[0, 1] + high)
                bottom = (one.mean() ** 2 + other.mean() ** 2 + low) * (covariance[0, 0] + covariance[1, 1] + high)
                found.append(top / bottom)
    return float(np.mean(found))


@pytest.mark.parametrize(("shape", "side"), [((1, 8, 8), 7), ((3, 10, 9), 7), ((2, 6, 6), 5)])
def test_structural_similarity_is_its_definition(shape, side):
    first = random_images(3, shape).double()
    second = 0.6 * first + 0.4 * random_images(3, shape, seed=1).double()
    expected = [_defined(x, y, side) for x, y in zip(first.numpy(), second.numpy(), strict=True)]
    assert ssim(first, second).tolist() == pytest.approx(expected, abs=1e-9)
    assert ssim(first, first).tolist() == pytest.approx([1, 1, 1])


def test_structural_similarity_of_constant_images_is_that_of_their_means():
    dark, light = torch.full((1, 1, 9, 9), 0.2), torch.full((1, 1, 9, 9), 0.8)
    assert float(ssim(dark, light)) == pytest.approx((2 * 0.16 + 1e-4) / (0.04 + 0.64 + 1e-4), abs=1e-6)


def test_structural_similarity_needs_a_structure(unchecked):
    with pytest.raises(InputError, match="at least 3 pixels"):
        ssim(torch.zeros(1, 1, 2, 9), torch.zeros(1, 1, 2, 9))
    with pytest.raises(InputError, match="shape of the first"):
        ssim(torch.zeros(1, 1, 9, 9), torch.zeros(1, 3, 9, 9))


def test_the_just_noticeable_change_is_the_published_one():
    levels = torch.tensor([0.0, 127.0, 255.0, 127 / 4])
    flat = (levels / 255).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    found = just_noticeable(flat)
    assert found.amax((1, 2)).tolist() == pytest.approx([20, 3, 6, 17 / 2 + 3], abs=1e-3)
    assert torch.allclose(found, found[:, :1, :1].expand_as(found), atol=1e-3)  # the edge of an image is no background
    dot = torch.zeros(1, 1, 8, 8)
    dot[0, 0, 4, 4] = 1.0
    around = just_noticeable(dot)[0]
    assert float(around[4, 4]) == pytest.approx(20)  # a pixel is not its own background
    assert float(around[4, 5]) == pytest.approx(17 * (1 - (2 / 32 * 255 / 127) ** 0.5) + 3, abs=1e-3)


def test_colours_count_by_their_luma():
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 5, 5)
    assert grey(red).unique().tolist() == pytest.approx([0.299 * 255], abs=1e-3)
    assert grey(torch.full((1, 2, 5, 5), 0.5)).unique().tolist() == pytest.approx([127.5])


def test_pixels_that_change_noticeably_are_counted():
    start = torch.full((1, 1, 10, 10), 127 / 255)
    moved = start.clone()
    moved[0, 0, 0, :4] += 3.1 / 255
    moved[0, 0, 1, :4] -= 2.9 / 255
    assert float(noticed(start, moved)) == pytest.approx(0.04)


def test_the_nearest_image_of_a_class():
    images = Images(random_images(60, (1, 4, 4)), torch.arange(60) % 3)
    starts, wanted = random_images(7, (1, 4, 4), seed=5), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    distance, index = nearest_of_class(starts, wanted, images)
    every = torch.cdist(starts.flatten(1), images.batch(slice(None))[0].flatten(1))
    every = every.masked_fill(images.labels[None] != wanted[:, None], torch.inf)
    assert torch.allclose(distance, every.amin(1), atol=1e-6)
    assert torch.equal(index, every.argmin(1))


def test_chunks_do_not_matter_and_a_class_without_images_is_far(monkeypatch):
    images = Images(random_images(60, (1, 4, 4)), torch.arange(60) % 3)
    starts, wanted = random_images(4, (1, 4, 4), seed=5), torch.tensor([0, 1, 2, 3])
    before = nearest_of_class(starts, wanted, images)
    monkeypatch.setattr("notbugs.measure.likeness.CHUNK_BYTES", 7 * 64)
    after = nearest_of_class(starts, wanted, images)
    assert torch.equal(before[1], after[1])
    assert before[0][3] == after[0][3] == torch.inf


def test_a_perturbation_is_measured_against_what_separates_the_classes():
    start = torch.full((3, 1, 10, 10), 0.5)
    images = start.clone()
    images[:, 0, 0, :9] += torch.tensor([0.1, 0.2, 0.3])[:, None] / 3  # l2 0.1, 0.2, 0.3
    found = PerturbationSize.of(start, images, torch.full((3,), 0.5))
    assert (found.to_nearest.median, found.to_nearest.max) == pytest.approx((0.4, 0.6), abs=1e-5)
    assert found.below_half.value == pytest.approx(2 / 3)
    assert found.noticed.median == pytest.approx(0.09)
    assert not found.is_large
    assert not found.is_visible
    assert PerturbationSize.of(start, images, torch.full((3,), 0.39)).is_large


def test_a_start_that_is_there_with_both_labels_has_no_way_to_go():
    start, images = torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 0.25)
    size = PerturbationSize.of(start, images, torch.tensor([0.0, 8.0]))
    assert (size.n, size.to_nearest.max) == (1, pytest.approx(0.25))
    with pytest.raises(InputError, match="'distance' must be above 0 for an image at least. Got '2 of 0'"):
        PerturbationSize.of(start, images, torch.zeros(2))


@pytest.mark.parametrize(("share", "verdict"), [(0.1, "start"), (0.5, "unclear"), (0.9, "target")])
def test_images_between_two_are_like_the_nearer(share, verdict):
    """Judged by a network whose features are the pixels: all three measures have known answers."""
    start, target = random_images(40, (1, 8, 8)), random_images(40, (1, 8, 8), seed=1)
    judge = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    images = start.lerp(target, share)
    if verdict == "unclear":
        images[:20], images[20:] = start[:20], target[20:]
    found = resemblance(images, start, target, judge=judge, judge_name="other")
    assert found.verdict == verdict
    assert (found.n, found.judge, found.target) == (40, "other", "matched image")
    assert [one.by for one in found.measures] == ["pixels", "ssim", "robust features"]
    for one in (found.by("pixels"), found.by("robust features")):
        assert one.nearer_target.value == (share if verdict == "unclear" else round(share))
        assert one.difference.value == pytest.approx(2 * share - 1, abs=1e-5)


def test_the_judge_names_classes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([-torch.ones(16), torch.ones(16)]))
    judge, images = Classifier(network, mean=(0.5,)), torch.full((4, 1, 4, 4), 0.9)
    images[3] = 0.1
    classes = (torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64))
    found = resemblance(images, torch.zeros_like(images), images, classes=classes, judge=judge)
    assert (found.judged_target.value, found.judged_start.value) == (0.75, 0.25)


def test_equal_start_and_target_are_no_reason_to_fail():
    ones = torch.ones(2)
    found = likeness("pixels", ones, ones, 0 * ones)
    assert (found.nearer_target.value, found.difference.value) == (0, 0)


def test_the_interval_of_a_mean_is_the_bootstraps():
    values = random_images(200, (1, 1, 1)).flatten()
    found = Mean.of(values, seed=3)
    assert found.value == pytest.approx(float(values.mean()))
    error = float(values.std() / 200**0.5)
    assert (found.low, found.high) == pytest.approx(
        scipy.stats.norm.interval(0.95, found.value, error), abs=0.2 * error
    )
    assert Mean.of(values, seed=3) == found
    assert (Mean.of(torch.ones(5)).low, Mean.of(torch.ones(5)).high) == (1, 1)


def test_the_guides_example_runs(capsys):
    text = (Path(__file__).parents[1] / "docs" / "explanation" / "resemblance.md").read_text(encoding="utf-8")
    exec(text.split("```python\n")[1].split("```")[0], {})  # noqa: S102
    assert float(capsys.readouterr().out.split()[0]) == pytest.approx(0.5, abs=1e-4)
