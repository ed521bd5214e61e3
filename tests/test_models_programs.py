"""Programs of torch.jit and torch.export, and networks without shapes: what they can do, and remedies that work."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.measure import evaluate
from notbugs.models import load_classifier, load_weights
from notbugs.search import Attack, PGDSteps, match_features
from notbugs.seeds import seeded
from tests.conftest import random_images

SHAPE = (3, 12, 12)
HOW = {"shape": SHAPE, "classes": ("a", "b"), "mean": (0.5,), "std": (0.25,), "precision": "fp32"}
ANY = ({0: torch.export.Dim.AUTO},)


def network() -> nn.Sequential:
    with seeded(0):
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(400, 2)]
        return nn.Sequential(*layers).eval()


def scripted(network: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(network)


def attacked(classifier: Classifier) -> float:
    images = random_images(12, SHAPE)
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    clean, robust = evaluate(classifier, Images(images, labels), radii=(4.0,), attack=Attack(steps=5))
    assert clean.share.value == 1
    return robust.share.value


def test_a_program_is_attacked_as_the_network_it_was_made_from(tmp_path):
    plain, images = network(), random_images(4, SHAPE)
    wanted = attacked(Classifier(plain, mean=(0.5,), std=(0.25,)))
    assert wanted < 1
    torch.export.save(torch.export.export(plain, (images,), dynamic_shapes=ANY), tmp_path / "net.pt2")
    scripted(plain).save(str(tmp_path / "net.pt"))
    for name, architecture in (("net.pt2", "exported"), ("net.pt", "torchscript")):
        with pytest.raises(InputError, match=rf"never makes notbugs run code.*--arch {architecture}\)"):
            load_classifier(tmp_path / name, **HOW)
        loaded = load_classifier(tmp_path / name, architecture=architecture, **HOW)
        torch.testing.assert_close(loaded(images), plain((images - 0.5) / 0.25))
        assert attacked(loaded) == wanted
        whole = (tmp_path / name).read_bytes()
        weights = plain[5].weight.detach().numpy().tobytes()
        (tmp_path / f"bit-{name}").write_bytes(whole.replace(weights[:40], bytes(40)))
        with pytest.raises(InputError, match=r"cannot be read: Bad CRC-32"):
            load_classifier(tmp_path / f"bit-{name}", architecture=architecture, **HOW)
    with pytest.raises(InputError, match=r"'architecture' must name a network: .*net\.pt is no file of torch\.export"):
        load_classifier(tmp_path / "net.pt", architecture="exported", **HOW)


def test_features_of_an_exported_program_by_the_name_of_a_layer(tmp_path):
    plain, images = network(), random_images(4, SHAPE)
    torch.export.save(torch.export.export(plain, (images,), dynamic_shapes=ANY), tmp_path / "net.pt2")
    unnamed = load_classifier(tmp_path / "net.pt2", architecture="exported", **HOW)
    with pytest.raises(InputError, match=r"torch\.export\.unflatten.*--arch exported --head NAME"):
        unnamed.features(images)
    loaded = load_classifier(tmp_path / "net.pt2", architecture="exported", head="5", **HOW)
    wanted = Classifier(plain, mean=(0.5,), std=(0.25,))
    torch.testing.assert_close(loaded.features(images), wanted.features(images))
    found = match_features(loaded, images, images.flip(0), PGDSteps(3, 0.1)).images
    torch.testing.assert_close(found, match_features(wanted, images, images.flip(0), PGDSteps(3, 0.1)).images)
    with pytest.raises(InputError, match=r"program of torch\.export.*--arch exported"):
        load_weights(network(), tmp_path / "net.pt2")


@pytest.mark.parametrize("head", [None, "5"])
def test_features_of_torchscript_come_from_the_network_it_was_made_from(head, tmp_path):
    plain, images = network(), random_images(4, SHAPE)
    program = scripted(plain)
    with pytest.raises(InputError, match=r"is TorchScript.*load_weights\(network, FILE\)"):
        Classifier(program, head=head).features(images)
    program.save(str(tmp_path / "net.pt"))
    fresh = network()
    nn.init.zeros_(fresh[5].weight)
    again = Classifier(load_weights(fresh, tmp_path / "net.pt"))
    assert torch.equal(again.features(images), Classifier(plain).features(images))


def test_a_program_for_one_size_of_batch_says_how_to_export_it():
    plain, images = network(), random_images(4, SHAPE)
    one_size = Classifier(torch.export.export(plain, (images,)).module())
    assert one_size(images).shape == (4, 2)
    with pytest.raises(
        InputError, match=r"exported for images of another shape than \(2, 3, 12, 12\).*dynamic_shapes="
    ):
        one_size(images[:2])
    any_size = Classifier(torch.export.export(plain, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module())
    assert any_size.eval()(images[:2]).shape == (2, 2)


def test_layers_without_shapes_are_named():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(InputError, match=r"'1' \(LazyLinear\) has no shape yet.* network\(images\), before"):
        Classifier(lazy)
    lazy(random_images(2, SHAPE))
    assert Classifier(lazy)(random_images(2, SHAPE)).shape == (2, 2)
