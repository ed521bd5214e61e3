"""Networks of timm and torchvision, and torchvision as a second opinion on our own."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.models import build, load_classifier, load_weights, registry
from notbugs.seeds import generator, seeded
from notbugs.training import new_classifier
from tests.vision import torchvision


@pytest.fixture(scope="module", autouse=True)
def vision():
    return torchvision()


@pytest.fixture(scope="module", autouse=True)
def timm(vision):
    return pytest.importorskip("timm")


def pixels(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(0, "pixels"))


@pytest.mark.parametrize(("name", "kind"), [("resnet18", "basic"), ("resnet50", "bottleneck")])
def test_our_resnets_are_torchvisions_but_for_the_stem(vision, name, kind):
    with seeded(0):
        ours = build(name, channels=3, classes=10, width=64).eval()
        theirs = vision.models.get_model(name, num_classes=10)
    theirs.conv1, theirs.maxpool = ours.conv1, torch.nn.Identity()
    renamed = {key.replace("downsample", "shortcut").replace("fc.", "linear."): key for key in theirs.state_dict()}
    theirs.load_state_dict({there: ours.state_dict()[here] for here, there in renamed.items()})
    images = pixels(1, 3, 16, 16)
    with torch.no_grad():
        ours_at_16 = build(name, channels=3, classes=10, size=16).eval()
        ours_at_16.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours_at_16(images), theirs.eval()(images))


def test_networks_of_timm():
    with seeded(0):
        network = build("timm:test_resnet", channels=1, classes=5, size=28)
    assert network.training
    classifier = Classifier(network).eval()
    images = pixels(2, 1, 28, 28)
    torch.testing.assert_close(classifier.head(classifier.features(images)), classifier(images))
    assert classifier.head_name == "fc"


def test_timm_is_told_the_size_where_a_network_is_made_for_one():
    with seeded(0):
        classifier = Classifier(build("timm:test_vit", channels=3, classes=4, size=(32, 48))).eval()
        assert classifier.features(pixels(2, 3, 32, 48)).shape == (2, 64)
        with pytest.raises(InputError, match="cannot be built for images of 31x31 pixels: AssertionError: "):
            build("timm:test_vit", channels=3, classes=4, size=31)


def test_networks_of_torchvision():
    with seeded(0):
        classifier = Classifier(build("torchvision:squeezenet1_1", channels=3, classes=4, size=32), head="classifier.1")
    assert classifier.eval().features(pixels(2, 3, 32, 32)).shape == (2, 512)  # its head is a 1x1 convolution
    with torch.device("meta"):
        assert build("torchvision:vit_b_32", channels=3, classes=4, size=32).image_size == 32


def test_logits_beside_auxiliary_ones():
    """GoogLeNet returns three sets of logits while it trains."""
    with seeded(0):
        network = build("torchvision:googlenet", channels=3, classes=4, size=64, init_weights=False, aux_logits=False)
    classifier = Classifier(network).train()
    assert classifier(pixels(2, 3, 64, 64)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("timm:resnet19", {}, "'architecture' must be a network that timm has. Got 'timm:resnet19'.*mean timm:resnet1"),
        ("torchvision:resnet19", {}, "that torchvision has.*Did you mean torchvision:resnet1"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, "that torchvision has"),
        ("torchvision:resnet18", {"channels": 1}, "'channels' must be 3 for a network of torchvision.*timm:NAME"),
        ("torchvision:vit_b_16", {"size": (32, 64)}, "'size' must be square for torchvision:vit_b_16"),
        ("torchvision:alexnet", {"size": 16}, "cannot be built for images of 16x16 pixels: RuntimeError"),
        ("torchvision:resnet18", {"depth": 3}, "TypeError.*'depth'"),
        ("timm:test_resnet", {"depth": 3}, "TypeError.*'depth'"),
        ("timm:test_resnet", {"pretrained": True}, "does not check a hash.*load_classifier"),
        ("timm:test_resnet", {"checkpoint_path": "weights.pth"}, "does not check a hash"),
        ("torchvision:inception_v3", {"pretrained": True}, "'pretrained' must be left out"),
    ],
)
def test_what_is_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        build(name, **({"channels": 3, "classes": 4, "size": 32} | settings))


# Pretrained


@pytest.fixture
def published(vision, monkeypatch) -> dict[str, object]:
    """ImageNet weights of ResNet-18, made up here in place of a download; returns how they were asked for."""
    asked: dict[str, object] = {}
    with seeded(5):
        tensors = vision.models.resnet18(num_classes=1000).state_dict()

    def fake(self, **options):
        asked.update(options)
        return tensors

    monkeypatch.setattr(vision.models.ResNet18_Weights, "get_state_dict", fake)
    asked["tensors"] = tensors
    return asked


def test_pretrained_weights_are_checked_and_bring_their_normalisation(published):
    images = Images(pixels(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]))
    data = Data("d", images, images, ("a", "b"))
    classifier = new_classifier(data, "torchvision:resnet18", pretrained=True, device=torch.device("cpu"))
    assert published["check_hash"] is published["weights_only"] is True
    for name, value in classifier.network.state_dict().items():
        assert torch.equal(value, published["tensors"][name]) != name.startswith("fc.")
    torch.testing.assert_close(classifier.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(classifier.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


def test_all_thousand_classes_keep_the_published_head(published):
    network = build("torchvision:resnet18", channels=3, classes=1000, size=32, pretrained=True)
    assert torch.equal(network.fc.weight, published["tensors"]["fc.weight"])


def test_a_published_densenet_has_the_first_names_of_its_layers(vision, monkeypatch, tmp_path):
    """As densenet121-a639ec97.pth has them; so has CheXNet's file, with two prefixes and without counters."""
    with seeded(5):
        published = vision.models.densenet121(num_classes=1000).state_dict()
    old = {re.sub(r"(layer\d\.(norm|conv))([12])", r"\1.\3", key): value for key, value in published.items()}
    assert "features.denseblock1.denselayer2.norm.2.weight" in old
    monkeypatch.setattr(vision.models.DenseNet121_Weights, "get_state_dict", lambda self, **_: dict(old))
    network = build("torchvision:densenet121", channels=3, classes=4, size=32, pretrained=True)
    differing = [key for key, value in network.state_dict().items() if not torch.equal(value, published[key])]
    assert differing == ["classifier.weight", "classifier.bias"]
    chest = {f"module.densenet121.{key}": value for key, value in old.items() if "batches" not in key}
    torch.save({"state_dict": chest}, tmp_path / "chest.pth")
    with seeded(6):
        again = vision.models.densenet121(num_classes=1000)
    load_weights(nn.ModuleDict({"densenet121": again}), tmp_path / "chest.pth")
    assert all(torch.equal(value, published[key]) for key, value in again.state_dict().items())


def test_pretrained_weights_that_lack_a_layer(published):
    del published["tensors"]["layer1.0.conv1.weight"]
    with pytest.raises(InputError, match="weights in torchvision:resnet18 do not fit.*Missing: layer1.0.conv1"):
        build("torchvision:resnet18", channels=3, classes=4, size=32, pretrained=True)


def test_pretrained_weights_that_do_not_fit(vision, monkeypatch):
    with seeded(5):
        tensors = vision.models.resnet50(num_classes=1000).state_dict()
    monkeypatch.setattr(vision.models.ResNet50_Weights, "get_state_dict", lambda self, **options: tensors)
    with pytest.raises(InputError, match="torchvision:resnet50 do not fit: layer1.0.conv1.weight has shape .64, 64"):
        build("torchvision:resnet50", channels=3, classes=4, size=32, pretrained=True, width_per_group=32)


def test_the_normalisation_that_published_weights_expect():
    assert registry.normalisation("timm:vit_tiny_patch16_224") == ((0.5,) * 3, (0.5,) * 3)
    assert registry.normalisation("torchvision:resnet18") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert registry.normalisation("resnet18") is None


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_published_weights_that_expect_other_images_than_they_say(vision, name):
    """torchvision brings ImageNet's normalisation to that of these weights inside the network, with an option."""
    with seeded(1):
        network = vision.models.get_model(name, num_classes=2, init_weights=False, transform_input=True).eval()
    images = pixels(2, 3, 96, 96)
    (mean, std), halves = (registry.normalisation(f"torchvision:{name}", transform_input=on) for on in (True, False))
    wanted = Classifier(network, mean=mean, std=std)(images)
    network.transform_input = False
    torch.testing.assert_close(Classifier(network, mean=halves[0], std=halves[1])(images), wanted)


def test_weights_of_timm_load_with_the_normalisation_they_expect(tmp_path, timm):
    with seeded(1):
        theirs = timm.create_model("test_vit", num_classes=2, img_size=32)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "weights.pth")
    ours = load_classifier(
        tmp_path / "weights.pth",
        architecture="timm:test_vit",
        shape=(3, 32, 32),
        classes=("a", "b"),
        precision="fp32",
    )
    images = pixels(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs.eval()((images - 0.5) / 0.5))


# Without the extra


def test_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **named):
        if name.split(".")[0] in ("torchvision", "timm"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    for name in ("timm:resnet18", "torchvision:resnet18"):
        with pytest.raises(InputError, match=r"not installed. pip install 'notbugs\[vision\]'"):
            build(name, channels=3, classes=4)


def test_a_torchvision_that_does_not_fit_its_torch():
    """As PyPI's wheel beside a torch without CUDA: its import fails, and the message says what to install."""
    broken = (
        "import sys, types, importlib.abc\n"
        "class Broken(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torchvision':\n"
        "            raise RuntimeError('operator torchvision::nms does not exist')\n"
        "sys.meta_path.insert(0, Broken())\n"
        "import notbugs as nb\n"
        "try:\n"
        "    nb.models.build('timm:resnet18', channels=3, classes=4)\n"
        "except nb.InputError as error:\n"
        "    print(error)\n"
    )
    finished = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True, timeout=120, check=True)
    assert "does not fit this torch (operator torchvision::nms does not exist)" in finished.stdout
    assert "https://download.pytorch.org/whl/cpu" in finished.stdout
