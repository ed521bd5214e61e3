"""Which outputs of a network are the classes of the data: by name, by a file, by number; never by chance."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.measure import evaluate
from notbugs.models import Blueprint, build, load_classifier, save_classifier
from notbugs.models.foreign import choose, read_names
from notbugs.search import Attack, PGDSteps, match_features
from notbugs.seeds import seeded
from tests.conftest import random_images

SHAPE = (3, 8, 8)
NAMES = [
    "n01440764 tench, Tinca tinca",
    "n01443537 goldfish, Carassius auratus",
    "n01530575 brambling",
    "n02123045 tabby, tabby cat",
]
NAMES += ["n02012849 crane", "n03126707 crane", "n02124075 Egyptian cat", "n02123394 Persian cat"]


@pytest.mark.parametrize(
    ("classes", "chosen"),
    [
        (("tabby", "tench"), [3, 0]),
        (("n02123394", "n01530575", "n03126707"), [7, 2, 5]),
        (("Tabby_Cat", "egyptian-cat"), [3, 6]),
        (("carassius auratus", "n02012849 crane"), [1, 4]),
    ],
)
def test_outputs_are_found_by_their_names(classes, chosen):
    assert choose(classes, NAMES, None, "m") == chosen


def test_what_has_no_name_or_several_is_asked_about():
    assert choose(NAMES, NAMES, None, "m") is None
    assert choose(("0", "1"), ("cat", "dog"), None, "m") is None
    assert choose(("dog", "cat"), ("cat", "dog"), None, "m") == [1, 0]
    for classes, message in (
        (("tench", "crane"), r"class 'crane' .*the outputs \[4, 5\] are called so.*--outputs\), by number, from 0"),
        (("tench", "kite"), "class 'kite' .* none is called so. They are n01440764 tench"),
    ):
        with pytest.raises(InputError, match=message):
            choose(classes, NAMES, None, "m")
    assert choose(("tench", "crane"), NAMES, ["tench", 5], "m") == [0, 5]
    assert choose(("tench", "crane"), None, ["0", "5"], "m") == [0, 5]
    for given, message in (
        (["0"], "name one output for each of the 2 classes: tench, crane"),
        (["0", "0"], "name one output for each"),
        (["0", "kite"], "by number, from 0, or by name. Got 'kite'"),
        (["0", "99"], "Got '99'.* has 8"),
    ):
        with pytest.raises(InputError, match=message):
            choose(("tench", "crane"), NAMES, given, "m")


def test_files_of_names(tmp_path):
    file = tmp_path / "names"
    index = {str(number): name.split(" ", 1) for number, name in enumerate(NAMES)}
    config = {"id2label": {str(number): name for number, name in enumerate(NAMES)}}
    for text in ("\n".join(NAMES), json.dumps(NAMES), json.dumps(index), json.dumps(config)):
        file.write_text(text)
        assert read_names(file) == NAMES
    for text in ("", "alone", '{"1": "a"}', "{"):
        file.write_text(text)
        with pytest.raises(InputError, match="names"):
            read_names(file)


@pytest.fixture
def imagenet(tmp_path, monkeypatch) -> Classifier:
    """A network for eight classes, in a file, and the names of its outputs beside it."""
    monkeypatch.chdir(tmp_path)
    with seeded(0):
        network = build("resnet20", channels=3, classes=8, size=8, width=2).eval()
    torch.save({"state_dict": network.state_dict()}, "weights.pth")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return Classifier(network)


HOW = {"architecture": "resnet20", "shape": SHAPE, "mean": (0,), "std": (1,), "width": 2, "precision": "fp32"}


def test_a_network_for_more_classes_on_some_of_them(imagenet):
    images, how = random_images(8, SHAPE), HOW | {"classes": ("tabby", "tench", "goldfish")}
    with pytest.raises(
        InputError, match=r"has 8 outputs, and there are 3 classes: tabby, tench, goldfish.*--outputs FILE"
    ):
        load_classifier("weights.pth", **how)
    wanted = imagenet(images)[:, [3, 0, 1]]
    for outputs in ("names.txt", ("names.txt",), (3, 0, 1), ("3", "0", "1")):
        loaded = load_classifier("weights.pth", outputs=outputs, **how)
        assert torch.equal(loaded(images), wanted)
        assert torch.equal(loaded.features(images), imagenet.features(images))
    labels = wanted.argmax(1)
    assert evaluate(loaded, Images(images, labels), radii=(0.5,), attack=Attack(steps=2))[0].share.value == 1
    match_features(loaded, images, images.flip(0), PGDSteps(2, 0.1))
    with pytest.raises(InputError, match="'outputs' must be below 8, the number of outputs. Got 9"):
        load_classifier("weights.pth", outputs=(3, 0, 9), **how)(images)


def test_a_file_of_ours_on_other_data(imagenet):
    plan = Blueprint(architecture="resnet20", shape=SHAPE, classes=tuple(NAMES), options={"width": 2})
    save_classifier("ours.safetensors", imagenet.eval(), plan)
    images = random_images(3, SHAPE)
    loaded = load_classifier("ours.safetensors", classes=("goldfish", "tabby"), shape=SHAPE)
    assert torch.equal(loaded(images), imagenet(images)[:, [1, 3]])
    chosen = load_classifier("ours.safetensors", classes=("fish", "cat"), outputs=("goldfish", "3"))
    assert torch.equal(chosen(images), loaded(images))
    save_classifier("some.safetensors", loaded, plan)
    assert torch.equal(load_classifier("some.safetensors")(images), loaded(images))


def test_a_network_for_more_classes_is_refused_where_nobody_said_which():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    images = Images(random_images(4, SHAPE), torch.arange(4) % 3)
    chosen = Classifier(network, chosen_outputs=(2, 3, 5))
    assert chosen(random_images(4, SHAPE)).shape == (4, 3)
    evaluate(chosen, images)
