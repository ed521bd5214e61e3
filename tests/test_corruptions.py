from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import CORRUPTIONS, Images, corrupt, high_pass, low_pass
from notbugs.data.corruptions import fog
from notbugs.errors import InputError
from notbugs.measure import corruption_accuracy, filter_accuracy, predictions
from notbugs.seeds import generator
from tests.conftest import random_images


def smooth(count: int = 6, shape: tuple[int, int, int] = (3, 32, 32)) -> torch.Tensor:
    """Images with structure at every scale, dark and bright."""
    images = 0.7 * low_pass(random_images(count, shape), 4) + 0.3 * random_images(count, shape, seed=1)
    return (images - images.amin((1, 2, 3), keepdim=True)) / (images.amax() - images.amin())


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).flatten(1).norm(dim=1).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_severer_corruption_changes_more(name):
    images = smooth()
    changed = [corrupt(images, name, severity) for severity in range(1, 6)]
    distances = [distance(one, images) for one in changed]
    assert distances == sorted(set(distances))
    assert distances[0] > 0
    for one in changed:
        assert one.shape == images.shape
        assert one.dtype == images.dtype
        assert 0 <= one.min() <= one.max() <= 1


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 20, 12), (3, 33, 47)])
def test_every_corruption_takes_every_shape(name, shape):
    images = smooth(5, shape)
    whole = corrupt(images, name, 5, seed=3)
    assert whole.shape == images.shape
    parts = [corrupt(images[i : i + 2], name, 5, seed=3, first=i) for i in (0, 2, 4)]  # whatever the batch
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)
    assert torch.equal(whole, corrupt(images, name, 5, seed=3))
    if name in ("gaussian_noise", "shot_noise", "impulse_noise", "fog"):
        assert not torch.equal(whole, corrupt(images, name, 5, seed=4))
        twins = corrupt(images[:1].expand(2, *shape), name, 5)
        assert not torch.equal(twins[0], twins[1])


def test_noise_has_the_strength_of_cifar10_c():
    grey = torch.full((4, 3, 64, 64), 0.5)
    assert (corrupt(grey, "gaussian_noise", 5) - grey).std() == pytest.approx(0.10, rel=0.03)
    shot = corrupt(grey, "shot_noise", 5)  # Poisson: variance = mean / photons
    assert shot.std() == pytest.approx(math.sqrt(0.5 / 50), rel=0.03)
    assert shot.mean() == pytest.approx(0.5, abs=0.005)
    impulse = corrupt(grey, "impulse_noise", 5)
    assert (impulse != 0.5).float().mean() == pytest.approx(0.07, rel=0.1)
    assert (impulse == 1).float().mean() == pytest.approx(0.035, rel=0.1)


def test_what_has_a_closed_form():
    images = smooth(2)
    mean = images.mean((2, 3), keepdim=True)
    torch.testing.assert_close(corrupt(images, "contrast", 2), mean + (images - mean) / 2)
    grey = torch.tensor([0.0, 0.4, 0.9]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    torch.testing.assert_close(corrupt(grey, "brightness", 4)[:, 0, 0, 0], torch.tensor([0.2, 0.6, 1.0]))
    colour = torch.tensor([0.2, 0.4, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(corrupt(colour, "brightness", 4), colour * 1.5)  # value 0.4 to 0.6
    flat = torch.full((1, 3, 32, 32), 0.3)
    for name in ("gaussian_blur", "pixelate", "contrast"):
        torch.testing.assert_close(corrupt(flat, name, 5), flat)
    torch.testing.assert_close(corrupt(flat, "jpeg", 5), flat, atol=1 / 255, rtol=0)


def test_a_blur_keeps_the_sum_and_has_its_width():
    point = torch.zeros(1, 1, 32, 32)
    point[0, 0, 16, 16] = 1
    blurred = corrupt(point, "gaussian_blur", 5)[0, 0]
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    rows = torch.arange(32.0) - 16
    assert (blurred.sum(1) * rows**2).sum() == pytest.approx(1, abs=0.01)  # variance of 1 pixel
    large = torch.zeros(1, 1, 64, 64)
    large[0, 0, 32, 32] = 1
    rows = torch.arange(64.0) - 32
    assert (corrupt(large, "gaussian_blur", 5)[0, 0].sum(1) * rows**2).sum() == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize("size", [(32, 32), (33, 20), (8, 8)])
def test_pixelate_is_pillows_box_filter(size):
    pixels = random_images(1, (1, *size))
    for severity, share in enumerate((0.95, 0.9, 0.85, 0.75, 0.65), 1):
        image = Image.fromarray(pixels[0, 0].numpy())
        small = image.resize((int(size[1] * share), int(size[0] * share)), Image.Resampling.BOX)
        back = torch.from_numpy(np.array(small.resize(size[::-1], Image.Resampling.BOX)))
        torch.testing.assert_close(corrupt(pixels, "pixelate", severity)[0, 0], back)


def test_fog_is_bright_and_slow():
    black = torch.zeros(3, 1, 32, 32)
    black[:, :, 0, 0] = 1
    foggy = fog(black, (1.0, 2.0), [generator(0, "fog", i) for i in range(3)])
    cloud = foggy[:, 0, 1:, 1:] * 2
    assert cloud.min() == pytest.approx(0, abs=0.05)
    assert cloud.max() == pytest.approx(1, abs=0.05)
    assert cloud.diff(dim=2).abs().mean() < 0.2 * cloud.std()


def test_bad_corruptions_are_refused(monkeypatch):
    images = random_images(1)
    with pytest.raises(InputError, match="Did you mean 'gaussian_noise'"):
        corrupt(images, "gausian_noise", 1)
    with pytest.raises(InputError, match="'severity'"):
        corrupt(images, "fog", 6)
    with pytest.raises(InputError, match="'severity'"):
        corrupt(images, "fog", 0)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"notbugs\[data\]"):
        corrupt(images, "jpeg", 1)


def wave(rows: int, columns: int, shape: tuple[int, int] = (16, 16)) -> torch.Tensor:
    """0.5 plus a pure wave of so many cycles down and right."""
    down, right = (torch.arange(size) / size for size in shape)
    phase = rows * down[:, None] + columns * right[None, :]
    return (0.5 + 0.4 * (2 * math.pi * phase).cos())[None, None]


@pytest.mark.parametrize("shape", [(16, 16), (15, 21)])
@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (0, 5), (5, 0), (-4, 3)])
def test_a_pure_wave_passes_exactly_up_to_the_cutoff(rows, columns, shape):
    image = wave(rows, columns, shape)  # five cycles per image
    grey = image.mean((2, 3), keepdim=True).expand_as(image)
    close = {"atol": 1e-6, "rtol": 0}
    torch.testing.assert_close(low_pass(image, 5), image, **close)
    torch.testing.assert_close(low_pass(image, 4.99), grey, **close)
    torch.testing.assert_close(high_pass(image, 5), grey, **close)
    torch.testing.assert_close(high_pass(image, 4.99), image, **close)


@pytest.mark.parametrize("shape", [(3, 9, 12), (1, 8, 8)])
def test_low_and_high_add_up(shape):
    images = random_images(3, shape)
    for cutoff in (0, 1, 2.5, 20):
        low, high = low_pass(images, cutoff), high_pass(images, cutoff, keep_mean=False)
        torch.testing.assert_close(low + high, images)
        torch.testing.assert_close(low_pass(low, cutoff), low)
        assert (low_pass(high, cutoff).abs() < 1e-6).all()
    torch.testing.assert_close(low_pass(images, 20), images)


class Texture(nn.Module):
    """Class 1 where an image has a checkerboard, whatever its brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        rows, columns = (torch.arange(size) for size in images.shape[2:])
        board = 1.0 - 2 * ((rows[:, None] + columns) % 2)
        found = (images.mean(1) * board).mean((1, 2)).abs() * self.scale
        return torch.stack([0.05 - found, found - 0.05], dim=1)


def textured() -> Images:
    plain = torch.full((20, 1, 16, 16), 0.5)
    board = 1.0 - 2 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2)
    return Images(torch.cat([plain, plain + 0.2 * board]), torch.tensor([0] * 20 + [1] * 20))


def test_a_classifier_of_texture_needs_high_frequencies():
    """A checkerboard has sqrt(8^2 + 8^2) = 11.3 cycles per image of 16 pixels."""
    cutoffs = (0, 8, 11.2, 11.4)
    found = filter_accuracy(Classifier(Texture()), textured(), cutoffs)
    assert [(item.passes, item.cutoff, item.share.value) for item in found] == [
        *[("low", cutoff, 1.0 if cutoff == 11.4 else 0.5) for cutoff in cutoffs],
        *[("high", cutoff, 0.5 if cutoff == 11.4 else 1.0) for cutoff in cutoffs],
    ]
    assert all(item.share.n == 40 for item in found)
    with pytest.raises(InputError, match="'cutoff'"):
        filter_accuracy(Classifier(Texture()), textured(), [-1])


def test_accuracy_under_corruptions_is_that_of_corrupted_images(monkeypatch):
    monkeypatch.setattr("notbugs.measure.transformed.BATCH", 7)
    images, told = textured(), []
    found = corruption_accuracy(
        Classifier(Texture()), images, names=("gaussian_noise", "contrast"), severities=(2, 5), seed=1,
        progress=lambda done, total, note="": told.append((done, total)),
    )  # fmt: skip
    assert [(item.corruption, item.severity) for item in found] == [
        *[("gaussian_noise", severity) for severity in (2, 5)],
        *[("contrast", severity) for severity in (2, 5)],
    ]
    for item in found:
        pixels = corrupt(images.pixels, item.corruption, item.severity, seed=1)
        hits = predictions(Classifier(Texture()), Images(pixels, images.labels)) == images.labels
        assert item.share.value == hits.float().mean()
    assert found[-1].share.value == 0.5  # a fifteenth of the contrast is below the bound
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(InputError, match="'name'"):
        corruption_accuracy(Classifier(Texture()), images, names=("haze",))
