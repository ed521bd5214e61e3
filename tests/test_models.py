"""Architectures by name: known numbers of weights, every size of image, and networks of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.models import ARCHITECTURES, build
from notbugs.models.layers import Residual, Skip, strides
from notbugs.seeds import generator, seeded
from notbugs.training import new_classifier

PUBLISHED = {  # parameters for 3 channels and 10 classes, as pytorch-cifar and others report them
    "resnet9": 6_573_130,
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnet50": 23_520_842,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "wrn28-10": 36_479_194,
    "vgg16-bn": 14_728_266,
    "densenet121": 6_956_298,
}
DEEPER = ("resnet32", "resnet44", "resnet56", "resnet110")
"""They differ from resnet20 in depth alone."""
LAST_MAP = {  # side of the last feature map of a 32x32 image in the published networks
    "resnet9": 4,
    "resnet18": 4,
    "resnet34": 4,
    "resnet50": 4,
    **dict.fromkeys(("resnet20", *DEEPER), 8),
    "wrn28-10": 8,
    "vgg16-bn": 1,
    "densenet121": 4,
}
SMALL = {name: {"growth": 4} if name == "densenet121" else {"width": 4} for name in [*PUBLISHED, "cnn"]}
for deep in DEEPER:
    del SMALL[deep]


def weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def last_map(network: nn.Module, size: tuple[int, int]) -> tuple[int, ...]:
    """Height and width of what the global pooling sees."""
    seen: list[tuple[int, ...]] = []
    pools = [module for module in network.children() if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)]
    pools[0].register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    network.eval()(torch.rand(1, 3, *size))
    return seen[0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name):
    with torch.device("meta"):
        network = build(name, channels=3, classes=10)
        assert weights(network) == PUBLISHED[name]
        assert last_map(network, (32, 32)) == (LAST_MAP[name],) * 2


@pytest.mark.parametrize("size", [8, (28, 44), 64])
@pytest.mark.parametrize("name", PUBLISHED)
def test_one_number_of_weights_for_every_size(name, size):
    pair = size if isinstance(size, tuple) else (size, size)
    with torch.device("meta"):
        network = build(name, channels=3, classes=10, size=size)
        assert weights(network) == PUBLISHED[name]
        assert min(last_map(network, pair)) in (range(1, 2) if name == "vgg16-bn" else range(2, 9))


def test_strides():
    assert strides(32, 3).stages == (2, 2, 2)
    assert strides(8, 3).stages == (1, 2, 2)  # the first halving is left out, as the stem's is below 48 pixels
    assert strides((8, 200), 3) == strides(8, 3)
    assert [strides(side, 3).stem for side in (47, 48, 95, 96, 224)] == [1, 2, 2, 2, 2]
    assert [strides(side, 3).pool for side in (47, 48, 95, 96, 224)] == [False, False, False, True, True]
    assert not strides(224, 5, pool=False).pool
    assert strides(1, 3).stages == (1, 1, 1)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (4, (20, 33))])
def test_images_of_any_kind(name, channels, size):
    """Features before a linear head, gradients, channels_last and bf16."""
    with seeded(0):
        network = build(name, channels=channels, classes=5, size=size, **SMALL[name])
    classifier = Classifier(network).eval()
    images = torch.rand(2, channels, *size, generator=generator(0, "images"))
    features = classifier.features(images.requires_grad_())
    assert isinstance(classifier.head, nn.Linear)
    torch.testing.assert_close(classifier.head(features), classifier(images))
    (gradient,) = torch.autograd.grad(classifier(images).sum(), images)
    assert gradient.abs().sum() > 0
    with classifier.evaluating("bf16"):
        logits = classifier(images)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert not torch.equal(logits, classifier(images))


def test_a_residual_block_by_hand():
    with seeded(0):
        block = Residual(2, [(2, 3), (2, 3)], 1).eval()
    images = torch.rand(1, 2, 4, 4, generator=generator(0, "images"))
    inner = block.bn2(block.conv2(block.bn1(block.conv1(images)).relu()))
    assert torch.equal(block(images), (images + inner).relu())
    assert not list(block.shortcut)
    assert torch.equal(Skip(nn.ReLU())(images - 1), images - 1)


def test_a_padded_shortcut_by_hand():
    """Option A, as pytorch_resnet_cifar10 has it: a quarter of the new channels before, a quarter behind."""
    images = torch.rand(1, 2, 4, 4, generator=generator(0, "images"))
    found = Residual(2, [(4, 3), (4, 3)], 2, is_padded=True).shortcut(images)
    assert torch.equal(found[:, 1:3], images[:, :, ::2, ::2])
    assert not found[:, [0, 3]].any()


def test_weights_begin_as_he_et_al_draw_them():
    with seeded(0):
        network = build("vgg16-bn", channels=3, classes=10, width=16)
    convolution = next(module for module in reversed(list(network.modules())) if isinstance(module, nn.Conv2d))
    deviation = (2 / (9 * convolution.out_channels)) ** 0.5
    assert convolution.weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert not convolution.bias.any()


def test_names_are_those_of_published_weights():
    with torch.device("meta"):
        names = {name: set(build(name, channels=3, classes=10).state_dict()) for name in PUBLISHED}
    expected = {
        "resnet50": {"layer2.0.shortcut.0.weight", "layer4.2.conv3.weight", "bn1.running_var", "linear.bias"},
        "resnet20": {"conv1.weight", "layer3.2.bn2.num_batches_tracked", "layer2.0.conv1.weight", "linear.bias"},
        "wrn28-10": {"block1.layer.0.convShortcut.weight", "block3.layer.3.bn2.bias", "bn1.weight", "fc.bias"},
        "vgg16-bn": {"features.0.bias", "features.41.running_mean", "classifier.weight"},
        "densenet121": {"dense4.15.conv2.weight", "trans3.bn.weight", "bn.bias", "linear.weight"},
    }
    for name, some in expected.items():
        assert some <= names[name]


def test_a_new_classifier_is_made_for_its_images():
    pixels = torch.rand(4, 1, 64, 64, generator=generator(0, "pixels"))
    images = Images(pixels, torch.tensor([0, 1, 0, 1]))
    classifier = new_classifier(Data("d", images, images, ("a", "b")), "resnet18", width=2, precision="fp32")
    assert classifier.network.conv1.stride == (2, 2)
    assert classifier(pixels.to(classifier.device)).shape == (4, 2)


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_cnn_takes_its_images(size, channels, stride):
    with seeded(0):
        network = build("cnn", channels=channels, classes=5, size=size, width=4, features=6, stride=stride)
    assert network(torch.rand(2, channels, size, size)).shape == (2, 5)
    halved = network[0](torch.rand(2, channels, size, size))
    assert halved.shape[2] == size // stride


# What is refused


def test_unknown_architectures_and_options():
    with pytest.raises(InputError, match="must be one of cnn, resnet9,.* Got 'cnm'.*Did you mean 'cnn'"):
        build("cnm", channels=1, classes=2)
    with pytest.raises(InputError, match="'architecture' must be one of .*timm:NAME, torchvision:NAME or MODULE:FUNC"):
        build("transformer", channels=1, classes=2)
    with pytest.raises(InputError, match="'option of resnet18' must be one of width.*Did you mean 'width'"):
        build("resnet18", channels=1, classes=2, widht=8)
    assert list(ARCHITECTURES) == ["cnn", *PUBLISHED]


def test_settings_that_make_no_network(unchecked):
    for settings, name in (
        ({"channels": 0}, "channels"),
        ({"classes": 0}, "classes"),
        ({"size": (8, 0)}, "size"),
        ({"width": 0}, "width"),
    ):
        with pytest.raises(InputError, match=f"'{name}' must"):
            build("resnet18", **({"channels": 1, "classes": 2} | settings))
    with pytest.raises(InputError, match="'size' must be at least 8 pixels a side for cnn with stride 2. Got .7, 7"):
        build("cnn", channels=1, classes=2, size=7, stride=2)


# One's own


OWN = """
import sys
from pathlib import Path
from torch import nn

def make_network(channels, classes, hidden=3):
    import own_parts
    return own_parts.network(channels, classes, hidden)

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))

class Sized(nn.Linear):
    def __init__(self, **images):
        self.images = images
        super().__init__(1, 2)

instance = nn.Linear(2, 2)
words = "words"

def broken(channels):
    raise KeyError("depth")

def nothing():
    return None

def leaves():
    sys.exit(0)
"""
PARTS = """
from torch import nn

def network(channels, classes, hidden):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, hidden), nn.Linear(hidden, classes))
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """A module in the working folder."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / "own_parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_network_of_ones_own(own):
    assert build(f"{own}:make_network", channels=2, classes=5, hidden=7)[2].weight.shape == (5, 7)
    assert build(f"{own}:fixed", channels=1, classes=2)[1].in_features == 16
    sized = build(f"{own}:Sized", channels=1, classes=2, size=9)
    assert sized.images == {"channels": 1, "classes": 2, "size": (9, 9)}


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("missing", r"could not be imported \(AttributeError: .*MODULE:FUNCTION"),
        ("instance", "must name a function in Python, or a class of torch.nn.Module"),
        ("words", "must name a function in Python, or a class of torch.nn.Module.*Got .*words"),
        ("sys.exit", "must name a function in Python, or a class of torch.nn.Module.*Got .*built-in function exit"),
        ("Path", "must name a function in Python, or a class of torch.nn.Module.*Got .*Path"),
        ("leaves", "could not be made: SystemExit: 0"),
        ("broken", "could not be made: KeyError: 'depth'"),
        ("nothing", r"must make a torch\.nn\.Module. Got .*nothing -> NoneType"),
    ],
)
def test_what_is_not_a_network_of_ones_own(own, attribute, message):
    with pytest.raises(InputError, match=message):
        build(f"{own}:{attribute}", channels=1, classes=2)


def test_a_module_that_is_not_there(own):
    with pytest.raises(InputError, match=r"could not be imported \(ModuleNotFoundError: No module named 'nowhere'"):
        build("nowhere:make", channels=1, classes=2)
    with pytest.raises(InputError, match="TypeError.*unexpected keyword argument 'depth'"):
        build(f"{own}:fixed", channels=1, classes=2, depth=3)
