"""Normalisation: once, in the units and the order of the network, and said where nobody gave it."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.errors import InputError
from notbugs.models import load_classifier, save_classifier
from notbugs.models.checkpoint import Blueprint
from notbugs.normalisation import own_normaliser
from notbugs.training import new_classifier
from tests.conftest import random_images

SHAPE = (3, 12, 12)
CLASSES = ("a", "b", "c", "d")
OWN = """
from collections import OrderedDict

import torch
from torch import nn

class Normalised(nn.Module):
    def __init__(self, classes, centre="mean", spread="std", value=0.5, persistent=True):
        super().__init__()
        self.pair = (centre, spread)
        self.register_buffer(centre, torch.full((1, 3, 1, 1), value), persistent=persistent)
        self.register_buffer(spread, torch.full((1, 3, 1, 1), value / 2), persistent=persistent)
        self.fc = nn.Linear(432, classes)

    def forward(self, images):
        mean, std = (getattr(self, name) for name in self.pair)
        return self.fc(((images - mean) / std).flatten(1))

class Normalize(nn.Module):
    def __init__(self):  # as torchvision's, with plain numbers
        super().__init__()
        self.mean, self.std = [0.5] * 3, (0.25,) * 3

    def forward(self, images):
        return (images - torch.tensor(self.mean).view(-1, 1, 1)) / torch.tensor(self.std).view(-1, 1, 1)

def in_front(classes):
    network = nn.Sequential(nn.Flatten(), nn.Linear(432, classes))
    return nn.Sequential(OrderedDict(normalize=Normalize(), model=network))

class Scaled(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(432, classes)
        self.register_buffer("logit_mean", torch.zeros(classes))
        self.register_buffer("logit_std", torch.ones(classes))

    def forward(self, images):
        return self.fc(images.flatten(1)) * self.logit_std + self.logit_mean

def plain(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(432, classes))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module in the working folder."""
    name = f"own_{re.sub(r'[^a-z0-9]', '_', tmp_path.name)}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def made(own: str, function: str, **options) -> nn.Module:
    return getattr(__import__(own), function)(4, **options)


PAIRS = [("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std"), ("pixel_mean", "pixel_std")]


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_network_with_its_own_normaliser_is_not_normalised_twice(own, pair, persistent, caplog):
    options = {"centre": pair[0], "spread": pair[1], "persistent": persistent}
    network, images = made(own, "Normalised", **options), random_images(5, SHAPE)
    torch.save({"state_dict": network.state_dict()}, "own.pth")
    how = {"architecture": f"{own}:Normalised", "shape": SHAPE, "classes": CLASSES, "precision": "fp32"}
    with caplog.at_level(logging.INFO, "notbugs"):
        loaded = load_classifier("own.pth", **how, **options)
    assert torch.equal(loaded(images), network(images))
    assert f"normalises its images itself, by '{pair[0]}'" in caplog.text
    told = load_classifier("own.pth", mean=(0.1,), std=(0.2,), **how, **options)
    assert "If that is once too often, give --mean 0 --std 1" in caplog.text
    torch.testing.assert_close(told(images), network((images - 0.1) / 0.2))
    with pytest.raises(InputError, match=r"itself, by .* Leave out 'mean' and 'std' \(--mean 0 --std 1\)"):
        Classifier(network, mean=(0.5,) * 3, std=(0.25,) * 3)
    with pytest.raises(InputError, match="Leave out 'mean' and 'std'"):  # one value for all channels is the same
        Classifier(network, mean=(0.5,), std=(0.25,))
    assert torch.equal(Classifier(network, mean=(0,), std=(1,))(images), network(images))


def test_a_normaliser_in_front_of_the_network(own):
    network, images = made(own, "in_front"), random_images(5, SHAPE)
    torch.save(network.state_dict(), "front.pth")
    how = {"shape": SHAPE, "classes": CLASSES, "precision": "fp32"}
    assert torch.equal(load_classifier("front.pth", architecture=f"{own}:in_front", **how)(images), network(images))
    buffers = {"normalize.mean": torch.full((1, 3, 1, 1), 0.5), "normalize.std": torch.full((1, 3, 1, 1), 0.25)}
    torch.save(buffers | network.state_dict(), "front.pth")  # as RobustBench has them; here the classifier takes them
    loaded = load_classifier("front.pth", architecture=f"{own}:plain", **how)
    torch.testing.assert_close(loaded(images), network(images))
    torch.save(
        {name: 255 * value if value.ndim == 4 else value for name, value in torch.load("front.pth").items()}, "b"
    )
    with pytest.raises(InputError, match=r"for pixels from 0 to 255.* --mean 0\.5 0\.5 0\.5 --std 0\.25 0\.25 0\.25"):
        load_classifier("b", architecture=f"{own}:plain", **how)


def test_plain_numbers_normalise_too_and_noise_does_not():
    """As in networks for grey images, and in layers that add noise of mean 0."""

    class Grey(nn.Module):
        def __init__(self, mean, std):
            super().__init__()
            self.mean, self.std = mean, std
            self.fc = nn.Linear(36, 4)

        def forward(self, images):
            return self.fc(((images - self.mean) / self.std).flatten(1))

    with pytest.raises(InputError, match="itself, by 'mean'.* Leave out 'mean' and 'std'"):
        Classifier(Grey(0.13, 0.31), mean=(0.13,), std=(0.31,))
    assert own_normaliser(Grey(0.13, 0.31)).values == ((0.13,), (0.31,))
    assert own_normaliser(Grey(0.0, 0.1)) is None


def test_what_is_called_so_and_has_no_value_for_each_channel_is_no_normaliser(own):
    """Statistics of two targets, for images of three channels."""
    state = made(own, "plain").state_dict()
    torch.save({"state_dict": state, "target_mean": torch.ones(2), "target_std": torch.ones(2)}, "targets.pth")
    how = {"shape": SHAPE, "classes": CLASSES, "precision": "fp32"}
    with pytest.raises(InputError, match="normalisation that the network was trained with is not in the file"):
        load_classifier("targets.pth", architecture=f"{own}:plain", **how)
    torch.save(made(own, "Scaled").state_dict(), "scaled.pth")
    with pytest.raises(InputError, match="normalisation that the network was trained with is not in the file"):
        load_classifier("scaled.pth", architecture=f"{own}:Scaled", **how)


def test_normalisers_in_a_file_that_differ_or_are_overruled(own, caplog):
    how = {"architecture": f"{own}:plain", "shape": SHAPE, "classes": CLASSES, "precision": "fp32"}
    stored = made(own, "plain").state_dict() | {"a.mean": torch.full((3,), 127.5), "a.std": torch.full((3,), 51.0)}
    torch.save(stored, "one.pth")
    load_classifier("one.pth", mean=(0.5,), std=(0.2,), **how)  # its values, for pixels in [0, 1]
    assert not caplog.records
    load_classifier("one.pth", mean=(0,), std=(1,), **how)
    assert "one.pth has a normaliser, 'a.mean'" in caplog.text
    assert "by mean 0 and std 1 instead, as they are given" in caplog.text
    torch.save(stored | {"b.mean": torch.full((3,), 0.5), "b.std": torch.full((3,), 0.3)}, "two.pth")
    with pytest.raises(InputError, match=r"several normalisers, 'a.mean' .* and 'b.mean' .* Give the values .*--mean"):
        load_classifier("two.pth", **how)


def test_a_normaliser_of_its_own_for_other_units_is_asked_about(own, caplog):
    network, images = made(own, "Normalised", value=127.5), random_images(5, SHAPE)
    torch.save(network.state_dict(), "bytes.pth")
    how = {"architecture": f"{own}:Normalised", "shape": SHAPE, "classes": CLASSES, "precision": "fp32"}
    with pytest.raises(InputError, match=r"for pixels from 0 to 255.*--mean 0 --std 0\.00392157 .* --mean 0 --std 1"):
        load_classifier("bytes.pth", **how)
    Classifier(network)
    assert "for pixels from 0 to 255; notbugs has them in [0, 1]. If it takes" in caplog.text
    asked = load_classifier("bytes.pth", mean=(0,), std=(0.00392157,), **how)
    torch.testing.assert_close(asked(images), network(images * 255), rtol=1e-4, atol=1e-4)


def test_a_new_classifier_is_not_normalised_twice(own, bars_data):
    (pixels, _), mean = bars_data.train.batch(slice(None)), bars_data.channel_statistics[0]
    assert new_classifier(bars_data, "cnn", width=2, features=2).mean.flatten().tolist() == pytest.approx(list(mean))
    made = new_classifier(bars_data.__class__("c", *[
        part.__class__(pixels.repeat(1, 3, 2, 2)[:, :, :12, :12], part.labels) for part in (bars_data.train,) * 2
    ], bars_data.classes), f"{own}:Normalised")  # fmt: skip
    assert (made.mean.item(), made.std.item()) == (0, 1)


# Units and order, from the numbers


@pytest.mark.parametrize(
    ("mean", "std", "remedy"),
    [
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), r"--mean 0\.485098 0\.456078 0\.405882 --std 0\.22902 0\.22392"),
        ((0, 0, 0), (255, 255, 255), r"--mean 0 0 0 --std 1 1 1"),
        ((127.5,), (127.5,), r"--mean 0\.5 --std 0\.5"),
        ((123.7, 116.3, 103.5), (1, 1, 1), r"--mean 0\.485098 .* --std 0\.00392157 0\.00392157 0\.00392157"),
        ((123.7, 116.3, 103.5), (0.229, 0.224, 0.225), r"This mean .*--mean 0\.485098 .* --std 0\.229 0\.224 0\.225"),
    ],
)
def test_values_for_pixels_from_0_to_255_are_refused_with_those_that_work(mean, std, remedy):
    network = nn.Sequential(nn.Flatten(), nn.Linear(432, 4))
    with pytest.raises(InputError, match=rf"for pixels in \[0, 1\]\. Got .*{remedy}") as caught:
        Classifier(network, mean=mean, std=std)
    given = [[float(word) for word in words.split()] for words in re.findall(r"--\w+ ([\d. ]+\d)", str(caught.value))]
    images = random_images(3, SHAPE)
    classifier = Classifier(network, mean=given[0], std=given[1], channel_order="rgb")
    if std[0] >= 1:
        wanted = (images * 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
        torch.testing.assert_close(classifier(images), network(wanted), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("mean", "std"), [((-500,), (300,)), ((40,), (400,)), ((12000.0,), (9000.0,))])
def test_values_for_hounsfield_units_or_16_bits_are_not_divided_by_255(own, mean, std, caplog):
    with pytest.raises(InputError, match=r"not for pixels from 0 to 255 either.* \(mean - LOW\) / \(HIGH - LOW\)"):
        Classifier(nn.Linear(2, 3), mean=mean, std=std)
    network = made(own, "Normalised", value=-500.0)
    network.std.fill_(300)
    torch.save(network.state_dict(), "own.pth")
    how = {"shape": SHAPE, "classes": CLASSES, "precision": "fp32"}
    with pytest.raises(InputError, match=r"If LOW is black .* give -LOW / \(HIGH - LOW\) as the mean"):
        load_classifier("own.pth", architecture=f"{own}:Normalised", **how)
    images = random_images(2, SHAPE)
    asked = load_classifier("own.pth", architecture=f"{own}:Normalised", mean=(0.5,), std=(1 / 2000,), **how)
    torch.testing.assert_close(asked(images), network(2000 * images - 1000))
    assert not caplog.records


@pytest.mark.parametrize("mean", [(0.406, 0.456, 0.485), (0.4076, 0.458, 0.485), (0.4465, 0.4822, 0.4914)])
def test_means_of_blue_green_and_red_are_asked_about(mean, tmp_path):
    network, images, std = (
        nn.Sequential(nn.Flatten(), nn.Linear(432, 4)),
        random_images(3, SHAPE),
        (0.225, 0.224, 0.229),
    )
    with pytest.raises(InputError, match=r"order blue, green, red.* channel_order='bgr' \(--channel-order bgr\)"):
        Classifier(network, mean=mean, std=std)
    as_it_stands = Classifier(network, mean=mean, std=std, channel_order="rgb")
    turned = Classifier(network, mean=mean, std=std, channel_order="bgr")
    Classifier(network, mean=mean[::-1], std=std)
    assert torch.equal(turned(images), as_it_stands(images.flip(1)))
    assert torch.equal(turned.features(images), as_it_stands.features(images.flip(1)))


def test_the_order_of_channels_is_kept_in_the_file(own):
    network, images = made(own, "plain"), random_images(3, SHAPE)
    classifier = Classifier(network, mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229), channel_order="bgr").eval()
    save_classifier("bgr.safetensors", classifier, Blueprint(architecture=f"{own}:plain", shape=SHAPE, classes=CLASSES))
    assert torch.equal(load_classifier("bgr.safetensors", architecture=f"{own}:plain")(images), classifier(images))
