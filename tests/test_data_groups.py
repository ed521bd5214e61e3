"""Classes made of several, and the recipes that read them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from notbugs import study
from notbugs.console import TerminalConsole
from notbugs.data import load
from notbugs.errors import InputError
from notbugs.study import Results, read_recipe
from tests.pictures import noise, write_class_folder

pytestmark = pytest.mark.whole

COUNTS = {"n01": 2, "n02": 3, "n03": 1, "n05": 2, "lion": 4, "other": 9}
# Of each super-class the first and the last class of its range, and a class just outside two of them.
IMAGENET = [
    "n02085620", "n02113978", "n02123045", "n02124075", "n01641577", "n01644900",
    "n01664065", "n01669191", "n01795545", "n01860187", "n02480495", "n02494079",
    "n02514041", "n02655020", "n01978287", "n01981276", "n02165105", "n02268443",
    "n02114367", "n01440764", "n02268853",
]  # fmt: skip
TINY = {
    **{name: {"epochs": 1, "batch": 16} for name in ("standard", "robust", "constructed")},
    "matching": {"steps": 2},
    "relabelling": {"steps": 2},
    "evaluation": {"attack": {"steps": 1, "queries": 0}, "pgd": {"steps": 2}},
}


def test_groups_are_names_and_ranges_in_the_order_given(tmp_path):
    write_class_folder(tmp_path / "train", COUNTS)
    write_class_folder(tmp_path / "val", {"n02": 1, "lion": 2, "n01": 1}, seed=90)
    with pytest.raises(InputError, match="groups.*each have images"):
        load(tmp_path, groups={"cat": "lion, n01", "dog": "n03"})
    write_class_folder(tmp_path / "val", {"n05": 1}, seed=99)
    data = load(tmp_path, groups={"dog": "n02..n04", "cat": "lion , n01", "ant": "n05"})
    assert (data.classes, data.variant, data.test_name) == (("dog", "cat", "ant"), "3 groups of classes", "val")
    assert torch.bincount(data.train.labels).tolist() == [3 + 1, 4 + 2, 2]
    assert torch.bincount(data.test.labels).tolist() == [1, 3, 1]
    plain = load(tmp_path)
    lions = plain.train.subset(plain.train.labels == plain.classes.index("lion"))
    cats = data.train.subset(data.train.labels == 1)
    assert {row.sum().item() for row in lions.pixels} <= {row.sum().item() for row in cats.pixels}


def test_other_groups_of_the_same_files_are_other_data(tmp_path, monkeypatch):
    """Decoded files are found again by their listing, which says nothing about groups but their order."""
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    write_class_folder(tmp_path / "train", COUNTS)
    one, other = {"a": "n01", "b": "n02"}, {"b": "n02", "a": "n01"}
    for groups in (one, other, {"b": "n01", "a": "n02"}):
        mapped, memory = load(tmp_path / "train", groups=groups, memory=10), load(tmp_path / "train", groups=groups)
        assert mapped.fingerprint == memory.fingerprint


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ({"a": "n01..n05", "b": "n03"}, "no class in common.*n03"),
        ({"a": "n01..n05", "b": "tiger"}, "b = 'tiger' with none"),
        ({"all": "n01..n05"}, "at least two|two or more"),
    ],
)
def test_wrong_groups_are_refused(groups, match, tmp_path):
    write_class_folder(tmp_path, COUNTS)
    with pytest.raises(InputError, match=match):
        load(tmp_path, groups=groups)


def test_groups_are_of_folders():
    with pytest.raises(InputError, match="'groups' must be left out for digits: it is of .*FOLDER of images"):
        load("digits", groups={"a": "0..4", "b": "5..9"})


def test_restricted_imagenet_has_its_nine_classes(tmp_path):
    for split, seed in (("train", 0), ("val", 500)):
        write_class_folder(tmp_path / split, dict.fromkeys(IMAGENET, 2), shape=(9, 7, 3), seed=seed)
    recipe = read_recipe("restricted-imagenet", {"data": str(tmp_path), "size": 8})
    data = recipe.read()
    names = ("dog", "cat", "frog", "turtle", "bird", "primate", "fish", "crab", "insect")
    assert data.classes == names
    assert data.train.labels.tolist() == [label for label in range(9) for _ in range(4)]
    assert (data.train.shape, data.test_name) == ((3, 8, 8), "val")
    stated = read_recipe("restricted-imagenet")
    assert (stated.size, stated.relabelling.eps, stated.robust.adversary.eps) == (224, 3.0, 3.0)
    assert stated.architecture.name == "torchvision:resnet50"


def test_a_study_of_restricted_imagenet_at_tiny_size(tmp_path):
    for split, seed in (("train", 0), ("val", 900)):
        write_class_folder(tmp_path / "data" / split, dict.fromkeys(IMAGENET[:18], 2), shape=(9, 9, 3), seed=seed)
    small = {"data": str(tmp_path / "data"), "size": 8, "architecture": {"name": "cnn", "width": 2, "features": 3}}
    recipe = read_recipe("restricted-imagenet", small | TINY)
    found = finished(recipe, tmp_path / "out")
    assert found.study.data["classes"][0] == "dog"
    assert {"architecture.name", "size"} < set(found.expected.departures)
    assert {row.attack.eps for row in found.rows if row.attack} == {0.5, 3.0}


def test_a_study_of_medmnist(tmp_path):
    """Its npz layout: uint8 images without a channel axis where they are grey, labels in a column."""
    arrays = {}
    for split, count in (("train", 48), ("val", 12), ("test", 24)):
        arrays[f"{split}_images"] = noise(count, 12, 12, seed=count)
        arrays[f"{split}_labels"] = (np.arange(count) % 3).astype(np.uint8)[:, None]
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    small = {"data": str(tmp_path / "pneumoniamnist.npz"), "architecture": {"width": 2, "features": 3}}
    found = finished(read_recipe("medmnist", small | TINY), tmp_path / "out")
    assert (found.study.data["name"], found.study.data["shape"]) == ("pneumoniamnist", [1, 12, 12])
    assert (found.study.data["train"], found.study.data["test"]) == (48, 24)
    assert {row.test_set for row in found.rows} == {"test"}


def finished(recipe, out) -> Results:
    return study.run(recipe, out, TerminalConsole(quiet=True))
