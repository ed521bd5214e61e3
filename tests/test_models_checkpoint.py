"""Classifiers in one file."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from notbugs import __version__
from notbugs.classifier import Classifier
from notbugs.errors import InputError
from notbugs.models import Blueprint, build, load_classifier, save_classifier
from notbugs.models.checkpoint import KEY
from notbugs.seeds import seeded
from tests.conftest import random_images

SHAPE = (2, 8, 8)
CLASSES = ("cat", "dog", "ship")
PLAN = Blueprint(architecture="resnet18", shape=SHAPE, classes=CLASSES, options={"width": 2})
TINY = {"architecture": "resnet18", "shape": SHAPE, "classes": CLASSES, "width": 2}


def fresh(plan: Blueprint = PLAN, seed: int = 1, **settings) -> Classifier:
    with seeded(seed):
        network = build(
            plan.architecture, channels=plan.shape[0], classes=len(plan.classes), size=plan.shape[1:], **plan.options
        )
    return Classifier(network, **{"mean": (0.4, 0.6), "std": (0.3, 0.2)} | settings).eval()


@pytest.fixture
def saved(tmp_path):
    classifier = fresh()
    for _ in range(3):  # batch norm has seen images
        classifier.train()(random_images(5, SHAPE))
    save_classifier(tmp_path / "robust.safetensors", classifier.eval(), PLAN)
    return tmp_path / "robust.safetensors", classifier


def rewritten(path, change) -> None:
    """The file with another header."""
    with safe_open(path, "pt") as opened:
        values = json.loads(opened.metadata()[KEY])
    change(values)
    save_file(load_file(path), path, {KEY: json.dumps(values)})


def test_a_classifier_comes_back_to_the_bit(saved):
    path, classifier = saved
    state = torch.random.get_rng_state()
    loaded = load_classifier(path)
    assert torch.equal(torch.random.get_rng_state(), state)
    images = random_images(4, SHAPE)
    assert torch.equal(loaded(images), classifier(images))
    assert torch.equal(loaded.features(images), classifier.features(images))
    assert not loaded.training
    assert (loaded.head_name, loaded.precision, loaded.output) == ("linear", "fp32", "auto")


def test_everything_is_in_one_plain_file(saved):
    path, _ = saved
    with safe_open(path, "pt") as opened:
        header = json.loads(opened.metadata()[KEY])
    assert header["notbugs"] == __version__
    assert header["blueprint"] == {
        "architecture": "resnet18",
        "shape": [2, 8, 8],
        "classes": ["cat", "dog", "ship"],
        "outputs": None,
        "options": {"width": 2},
    }
    assert load_file(path)["mean"].flatten().tolist() == pytest.approx([0.4, 0.6])
    assert [file.name for file in path.parent.iterdir()] == ["robust.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_rest_of_a_classifier_comes_back(tmp_path, dtype):
    network = nn.DataParallel(fresh().network.to(dtype))
    classifier = Classifier(network, head="layer4.1", precision="auto").eval()
    save_classifier(tmp_path / "c.safetensors", classifier, PLAN)
    loaded = load_classifier(tmp_path / "c.safetensors")
    assert (loaded.dtype, loaded.head_name, loaded.precision) == (dtype, "layer4.1", "auto")
    assert torch.equal(loaded(random_images(3, SHAPE)), classifier(random_images(3, SHAPE)))
    assert load_classifier(tmp_path / "c.safetensors", precision="bf16").precision == "bf16"


OWN = """
from torch import nn

class Tied(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Linear(128, 128)
        self.second, self.fc = nn.Linear(128, 128), nn.Linear(128, classes)
        self.second.weight = self.first.weight

    def forward(self, images):
        return self.fc(self.second(self.first(images.flatten(1))))
"""


def test_a_network_of_ones_own_with_tied_weights(tmp_path, monkeypatch):
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    plan = Blueprint(architecture=f"{name}:Tied", shape=SHAPE, classes=CLASSES)
    classifier = fresh(plan)
    save_classifier("own.safetensors", classifier, plan)
    with pytest.raises(InputError, match=f"network of your own.*if you trust it, give architecture='{name}:Tied'"):
        load_classifier("own.safetensors")
    loaded = load_classifier("own.safetensors", architecture=f"{name}:Tied")
    assert torch.equal(loaded(random_images(3, SHAPE)), classifier(random_images(3, SHAPE)))
    assert loaded.network.first.weight is loaded.network.second.weight


AUXILIARY = """
from torch import nn

class Auxiliary(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc, self.auxiliary = nn.Linear(128, classes), nn.Linear(128, classes)

    def forward(self, images):
        self.auxiliary(images.flatten(1))
        return self.fc(images.flatten(1))
"""


def test_a_head_that_nobody_checked_is_checked_after_loading(tmp_path, monkeypatch):
    name = f"auxiliary_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(AUXILIARY)
    monkeypatch.chdir(tmp_path)
    plan = Blueprint(architecture=f"{name}:Auxiliary", shape=SHAPE, classes=CLASSES)
    save_classifier("c.safetensors", fresh(plan), plan)
    loaded = load_classifier("c.safetensors", architecture=plan.architecture)
    with pytest.raises(InputError, match="come from the layer 'fc', not from 'auxiliary'"):
        loaded.features(random_images(2, SHAPE))
    save_classifier("c.safetensors", fresh(plan, head="fc"), plan)
    assert load_classifier("c.safetensors", architecture=plan.architecture).head_name == "fc"


def test_what_is_given_must_agree(saved):
    path, _ = saved
    load_classifier(path, architecture="resnet18", shape=(2, 32, 32), classes=("0", "1", "2"))
    for given, message in (
        ({"architecture": "resnet50"}, "'architecture' must be 'resnet18', as .* says"),
        ({"shape": (3, 8, 8)}, "'images' must have 2 channels"),
        (
            {"classes": ("a", "b", "c")},
            r"class 'a' of the data must be one of the 3 .*cat, dog, ship.*--outputs",
        ),
        ({"classes": ("cat", "dog", "boat")}, "class 'boat' of the data"),
        ({"mean": (0.5, 0.5)}, "says itself what 'mean' is. Leave it out"),
        ({"width": 4}, "says itself what 'width' is"),
    ):
        with pytest.raises(InputError, match=message):
            load_classifier(path, **given)


def test_files_that_are_damaged_or_newer(saved):
    path, _ = saved
    whole = path.read_bytes()

    def newer(values):
        values |= {"format": 2, "notbugs": "9.1", "new": "thing"}

    def damaged(values):
        values["blueprint"]["classes"] = ["alone"]

    def another(values):
        values["blueprint"]["options"] = {"width": 3}

    for change, message in (
        (newer, r"is of a newer notbugs \(9\.1\). Upgrade: pip install -U notbugs"),
        (damaged, "is not a classifier that notbugs can read"),
        (another, "do not fit the network. Of another shape"),
        (lambda values: values.pop("head"), "is not a classifier that notbugs can read"),
    ):
        path.write_bytes(whole)
        rewritten(path, change)
        with pytest.raises(InputError, match=message):
            load_classifier(path)
    path.write_bytes(whole)
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    save_file({n: value for n, value in load_file(path).items() if n != "std"}, path, {KEY: metadata[KEY]})
    with pytest.raises(InputError, match="mean or std is missing"):
        load_classifier(path)
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="cut off or damaged safetensors file"):
        load_classifier(path)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(InputError, match=r"'path' must end in \.safetensors"):
        save_classifier(tmp_path / "classifier.pt", fresh(), PLAN)
    wider = PLAN.model_copy(update={"options": {}})
    with pytest.raises(InputError, match="'blueprint' must build the classifier's network. Got 'resnet18'.*options"):
        save_classifier(tmp_path / "classifier.safetensors", fresh(), wider)
    assert not list(tmp_path.iterdir())


# Weights of others


def test_weights_alone(tmp_path):
    classifier = fresh()
    torch.save({"state_dict": classifier.network.state_dict()}, tmp_path / "weights.pt")
    loaded = load_classifier(tmp_path / "weights.pt", mean=(0.4, 0.6), std=(0.3, 0.2), precision="fp32", **TINY)
    images = random_images(3, SHAPE)
    assert torch.equal(loaded(images), classifier(images))
    assert load_classifier(tmp_path / "weights.pt", mean=(0,), std=(1,), head="layer4", **TINY).head_name == "layer4"


def test_a_normaliser_in_the_file_is_taken(tmp_path):
    """As MadryLab's robustness saves it."""
    classifier = fresh()
    tensors = {f"module.model.{name}": value for name, value in classifier.network.state_dict().items()}
    tensors |= {"module.normalizer.new_mean": classifier.mean, "module.normalizer.new_std": classifier.std}
    torch.save({"model": tensors}, tmp_path / "madry.pt")
    loaded = load_classifier(tmp_path / "madry.pt", precision="fp32", **TINY)
    images = random_images(3, SHAPE)
    assert torch.equal(loaded(images), classifier(images))
    told = load_classifier(tmp_path / "madry.pt", mean=(0.5,), std=(0.5,), **TINY)
    assert told.mean.flatten().tolist() == [0.5]


def test_what_weights_alone_do_not_say(tmp_path):
    torch.save(fresh().network.state_dict(), tmp_path / "weights.pt")
    for given, message in (
        ({}, "holds weights alone. Give the 'architecture'"),
        ({"architecture": "resnet18", "shape": SHAPE}, "Give the 'classes'"),
        (TINY, "normalisation that the network was trained with is not in the file. Give its 'mean' and 'std'"),
        (TINY | {"mean": (0.5,)}, "'mean' must be given together with the 'std'"),
        (TINY | {"shape": (2, 8)}, "'shape' must be right for a network"),
        (TINY | {"classes": ("a",)}, "'classes' must be right for a network"),
        (TINY | {"width": 3, "mean": (0.5,), "std": (0.5,)}, "do not fit the network. Of another shape"),
    ):
        with pytest.raises(InputError, match=message):
            load_classifier(tmp_path / "weights.pt", **given)
    with pytest.raises(InputError, match="There is no file"):
        load_classifier(tmp_path / "nowhere.pt", mean=(0.5,), std=(0.5,), **TINY)
