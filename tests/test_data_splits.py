"""Which folders, files and values are splits: one rule, and what nearly fits it is refused."""

from __future__ import annotations

import pytest
import torch

from notbugs.data import load
from notbugs.data.rows import split_of
from notbugs.errors import InputError
from tests.pictures import write_class_folder

TWO = {"cat": 3, "dog": 2}


def write(root, **counts):
    for number, (name, inside) in enumerate(counts.items()):
        write_class_folder(root / name, inside, seed=50 * number)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(name, "train") for name in ("train", "Training", "TRAIN", "trn", "seg_train", "train_images", "trainData")],
        *[(name, "train") for name in ("train-00000-of-00005", "TrainSet", "cifar10-train", "Final_Training")],
        *[(name, "test") for name in ("Test", "TESTING", "tst", "seg_test", "testset", "test images", "t10k-images")],
        *[(name, "val") for name in ("val", "Valid", "validation", "dev", "val2017", "eval")],
        *[
            (name, None)
            for name in ("trainer", "attest", "contest", "valley", "devil", "train_test", "trainval", "cat")
        ],
    ],
)
def test_names_of_splits(name, kind):
    split = split_of(name)
    assert (split and split.kind) == kind


@pytest.mark.parametrize(
    ("train", "test", "called"),
    [
        ("Training", "Testing", "test"),
        ("TRAIN", "TEST", "test"),
        ("train", "Test", "test"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("train/images", "Val/images", "val"),
        ("all/data/training", "all/data/dev", "dev"),
    ],
)
def test_splits_without_regard_to_case_and_what_is_around_them(tmp_path, train, test, called):
    write(tmp_path, **{train: TWO, test: {"cat": 1, "dog": 1}})
    data = load(tmp_path)
    assert (data.classes, data.test_name, len(data.train), len(data.test)) == (("cat", "dog"), called, 5, 2)


def test_the_test_split_is_preferred_and_the_others_are_said(tmp_path):
    write(tmp_path, validation=TWO, Train=TWO, test={"cat": 1, "dog": 1}, pred={"": 4})
    data = load(tmp_path)
    assert (data.test_name, len(data.test)) == ("test", 2)
    assert data.notes == (
        "passed over: folders that are no split (1: pred, 4 images)",
        "passed over: validation splits beside the test split (1: validation, 5 images)",
    )
    assert load(tmp_path, splits={"test": "validation"}).test_name == "validation"


@pytest.mark.parametrize("names", [("bus", "train"), ("bus", "train", "test tube"), ("development", "trainer")])
def test_classes_with_such_names_are_classes(tmp_path, names):
    write_class_folder(tmp_path, dict.fromkeys(names, 2))
    assert load(tmp_path).classes == tuple(sorted(names))
    write(tmp_path / "both", train=dict.fromkeys(names, 2), test=dict.fromkeys(names, 1))
    data = load(tmp_path / "both")
    assert (data.classes, data.test_name) == (tuple(sorted(names)), "test")


@pytest.mark.parametrize(
    ("folders", "message", "remedy"),
    [
        ({"train": TWO, "holdup": TWO}, "a folder 'train' beside 'holdup'", {"splits": {"train": "train"}}),
        ({"train": TWO, "test": TWO, "tets": TWO}, "the folder 'tets', with class folders as in 'train'", None),
        ({"train": TWO, "train_old": TWO, "test": TWO}, "which is the training split", {"splits": {"train": "train"}}),
        ({"train": TWO, "test": TWO, "test2": TWO}, "which is the test split", {"splits": {"test": "test2"}}),
        ({"trian": TWO, "tets": TWO}, "with the same folders in each", {"splits": {"train": "trian", "test": "tets"}}),
        ({"trian": TWO, "tets": TWO}, "with the same folders in each", {"classes": ["trian", "tets"]}),
        ({"cat/train": {"": 2}, "cat/test": {"": 2}, "dog/train": {"": 2}}, "has folders for splits in it", None),
        ({"train": {"": 3}, "test": {"": 3}}, "no class folders in them", {"classes": ["train", "test"]}),
        ({"test": TWO, "val": TWO}, "none named 'train'", {"splits": {"train": "val", "test": "test"}}),
    ],
)
def test_what_nearly_fits_is_refused_and_the_remedy_works(tmp_path, folders, message, remedy):
    write(tmp_path, **folders)
    with pytest.raises(InputError, match=message):
        load(tmp_path)
    if remedy:
        data = load(tmp_path, **remedy)
        assert data.classes == tuple(remedy.get("classes", ("cat", "dog")))
        if test := remedy.get("splits", {}).get("test"):
            assert len(data.test) == sum(folders[test].values())


def test_splits_that_are_not_there(tmp_path):
    write(tmp_path, train=TWO, test=TWO)
    with pytest.raises(InputError, match="'splits.test' must be one of 'test', 'train' in"):
        load(tmp_path, splits={"test": "tset"})
    with pytest.raises(InputError, match="'splits' must name 'train' or 'test'. Got 'val'"):
        load(tmp_path, splits={"val": "test"})


def test_images_of_a_held_out_split_are_not_those_of_training(tmp_path):
    write(tmp_path, Training=TWO)
    data = load(tmp_path)
    assert (data.test_name, torch.bincount(data.train.labels).tolist()) == ("heldout", [2, 1])
