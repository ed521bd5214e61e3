"""The order of classes, the numbers of labels, and one set's classes as another's."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from notbugs import cli, study
from notbugs.console import TerminalConsole
from notbugs.data import Data, Images, load
from notbugs.data.classes import class_list, match_classes
from notbugs.errors import InputError
from tests.pictures import encoded, noise, write_class_folder

pytestmark = pytest.mark.whole

NUMBERS = [str(number) for number in range(1, 13)]


def sizes(data):
    """How many images each class has, by name."""
    labels = torch.cat([data.train.labels, data.test.labels])
    return dict(zip(data.classes, torch.bincount(labels, minlength=len(data.classes)).tolist(), strict=True))


def test_folders_are_in_torchvisions_order(tmp_path):
    write_class_folder(tmp_path, {name: int(name) for name in NUMBERS})
    data = load(tmp_path)
    assert list(data.classes) == sorted(NUMBERS) == ["1", "10", "11", "12", *NUMBERS[1:9]]  # as its `find_classes`
    assert sizes(data) == {name: int(name) for name in NUMBERS}


def files(folder):
    """The same order in every form that a file of classes may have."""
    known = {
        "lines.txt": "\n".join(NUMBERS) + "\n\n",
        "list.json": json.dumps(NUMBERS),
        "index.json": json.dumps({name: index for index, name in enumerate(NUMBERS)}),
    }
    for name, text in known.items():
        (folder / name).write_text(text)
    return [folder / name for name in known]


def test_another_order_is_given_by_names_or_a_file(tmp_path):
    write_class_folder(tmp_path / "set", {name: int(name) for name in NUMBERS})
    for given in (NUMBERS, *files(tmp_path)):
        data = load(tmp_path / "set", classes=given)
        assert (data.classes, sizes(data)) == (tuple(NUMBERS), {name: int(name) for name in NUMBERS})


def test_a_file_as_imagenets_names_folders_by_synset_and_labels_by_name(tmp_path):
    index = {"0": ["n02", "tench"], "1": ["n01", "shark"]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    write_class_folder(tmp_path / "synsets", {"n01": 2, "n02": 3})
    assert sizes(load(tmp_path / "synsets", classes=tmp_path / "index.json")) == {"n02": 3, "n01": 2}
    write_class_folder(tmp_path / "words", {"shark": 2, "tench": 3})
    assert sizes(load(tmp_path / "words", classes=tmp_path / "index.json")) == {"tench": 3, "shark": 2}
    np.savez(tmp_path / "set.npz", images=noise(5, 4, 4), labels=[0, 1, 1, 0, 0])
    assert sizes(load(tmp_path / "set.npz", classes=tmp_path / "index.json")) == {"n02": 3, "n01": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["cat", "dog", "owl"], "and no others. owl has no image there. Leave it out"),
        (["cat", "dig"], "must name every class of .* dog is not among cat, dig"),
        (["cat", "cat", "dog"], "must name each class once. Got 'cat'"),
        (["cat"], "must be two names or more, or a file with them. Got 'cat'"),
        ("nowhere.txt", "must be two names or more, or a file with them. Got 'nowhere.txt'"),
    ],
)
def test_classes_that_do_not_fit(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    write_class_folder(tmp_path / "set", {"cat": 2, "dog": 2})
    with pytest.raises(InputError, match=message):
        load("set", classes=given)


@pytest.mark.parametrize("text", ['{"cat": 1, "dog": 2}', '{"a": "x"}', "[[1], [2]]", "[" * 9999, '["a", '])
def test_files_that_are_no_lists_of_classes(tmp_path, text):
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(InputError, match=r"classes\.json (is not a list of classes|must )"):
        class_list(tmp_path / "classes.json")


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_class_folder(tmp_path / "set", {"b": 4, "a": 4, "c": 3})
    seen = []
    monkeypatch.setattr("notbugs.cli.commands.study.train_one", lambda job, *_: seen.append(job.read()) or [])
    for more in (["--classes", "c", "b", "a"], ["--skip-broken", "--white-level", "255"]):
        cli.app(["train", "--data", "set", "--out", "x.safetensors", *more], result_action="return_value")
    assert [data.classes for data in seen] == [("c", "b", "a"), ("a", "b", "c")]
    with pytest.raises(InputError, match="'splits.train' must be one of"):
        cli.app(["train", "--data", "set", "--out", "x.safetensors", "--splits.train", "x"])


# A classifier's classes and the data's


def test_classes_are_matched_by_name_never_by_number():
    assert match_classes(["owl", "cat", "dog"], ["dog", "cat"]) == [2, 1]
    with pytest.raises(InputError, match="wolf of the data is not among owl, cat, dog"):
        match_classes(["owl", "cat", "dog"], ["dog", "wolf"])


def test_data_in_the_order_of_a_classifier():
    made = Images(torch.rand(6, 1, 2, 2), torch.arange(6) % 3)
    data = Data("x", made, made, ("cat", "dog", "owl"))
    other = data.in_order_of(["owl", "cat", "dog"])
    assert (other.classes, other.train.labels.tolist()) == (("owl", "cat", "dog"), [1, 2, 0, 1, 2, 0])
    with pytest.raises(InputError, match="'classes' must be those of the data"):
        data.in_order_of(["owl", "cat", "dog", "wolf"])


# Tables with class names


def table(file, names, labels):
    file.parent.mkdir(parents=True, exist_ok=True)
    column = [
        {"bytes": encoded(noise(4, 4, seed=label + 10 * row + 1)), "path": None} for row, label in enumerate(labels)
    ]
    made = pa.table({"image": column, "label": pa.array(labels, pa.int64())})
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
    pq.write_table(made.replace_schema_metadata({"huggingface": json.dumps(info)}) if names else made, file)


def test_class_names_of_a_test_table_in_another_order_are_matched(tmp_path):
    table(tmp_path / "train.parquet", ["cat", "dog"], [0, 1] * 5)
    table(tmp_path / "test.parquet", ["dog", "cat"], [0, 0, 0, 0, 1])
    data = load(tmp_path)
    assert dict(zip(data.classes, torch.bincount(data.test.labels).tolist(), strict=True)) == {"cat": 1, "dog": 4}
    table(tmp_path / "test.parquet", ["dog", "wolf"], [0, 1])
    with pytest.raises(InputError, match="among those of the training images; wolf is not"):
        load(tmp_path)


@pytest.mark.parametrize("names", [True, False])
def test_two_configurations_are_refused(tmp_path, names):
    table(tmp_path / "animals" / "train-0.parquet", ["cat", "dog"] if names else None, [0, 1] * 5)
    table(tmp_path / "fruit" / "train-0.parquet", ["apple", "pear"] if names else None, [0, 1] * 5)
    with pytest.raises(InputError, match="holds 2 data sets or configurations: animals, fruit. Name the folder of one"):
        load(tmp_path)
    assert load(tmp_path / "animals").classes == (("cat", "dog") if names else ("0", "1"))


def test_files_of_one_split_with_other_class_names(tmp_path):
    table(tmp_path / "train-0.parquet", ["cat", "dog"], [0, 1])
    table(tmp_path / "train-1.parquet", ["dog", "cat"], [0, 1])
    with pytest.raises(InputError, match=r"train-1\.parquet must have the class names of .*train-0\.parquet"):
        load(tmp_path)


def test_a_test_table_without_labels_gives_way_to_validation(tmp_path):
    table(tmp_path / "train.parquet", ["cat", "dog"], [0, 1] * 3)
    table(tmp_path / "test.parquet", ["cat", "dog"], [-1, -1])
    data = load(tmp_path)
    assert data.test_name == "heldout"
    table(tmp_path / "validation.parquet", ["cat", "dog"], [1, 0, 1])
    data = load(tmp_path)
    assert (data.test_name, data.test.labels.tolist()) == ("validation", [1, 0, 1])
    assert data.notes == ("not measured on: the split test, whose 2 labels are all -1 (no label)",)


# Labels in numbers


def npz(folder, labels, test=None, **more):
    labels = np.asarray(labels)
    arrays = {"train_images": noise(len(labels), 4, 4), "train_labels": labels}
    if test is not None:
        arrays |= {"test_images": noise(len(test), 4, 4, seed=1), "test_labels": np.asarray(test)}
    np.savez(folder / "set.npz", **arrays, **more)
    return folder / "set.npz"


def test_labels_from_one_with_an_offset(tmp_path):
    file = npz(tmp_path, [1, 2, 3] * 3, [1, 2, 3])
    with pytest.raises(
        InputError, match="must begin at 0. Got '1 to 3' instead. They begin at 1: give --label-offset 1"
    ):
        load(file)
    data = load(file, label_offset=1)
    assert (data.classes, data.test.labels.tolist()) == (("0", "1", "2"), [0, 1, 2])
    assert load(file, label_offset=1, classes=["a", "b", "c"]).classes == ("a", "b", "c")
    with pytest.raises(InputError, match="must begin at 0"):
        load(npz(tmp_path, [1, 2, 3] * 3, classes=np.array(["a", "b", "c"])))


def test_one_hot_labels_and_whole_floats(tmp_path):
    data = load(npz(tmp_path, np.eye(3, dtype=np.uint8)[[0, 2, 1, 0]], np.eye(3)[[2, 1]]))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 2, 1, 0], [2, 1])
    assert load(npz(tmp_path, [0.0, 1.0, 1.0])).classes == ("0", "1")


@pytest.mark.parametrize(
    ("labels", "test", "message"),
    [
        ([0, 1, 10**12], None, "must be between 0 and 2, as there are 3 images. Got 1000000000000"),
        ([0, 1, np.iinfo(np.int64).max], None, "must be between 0 and 2, as there are 3 images"),
        (np.array([0, 1, 2**64 - 1], np.uint64), None, r"must be below 2\*\*63. Got 18446744073709551615"),
        ([0, 1, 1e300], None, "must be whole numbers or names. Got '1e\\+300'"),
        ([0, 1, np.nan], None, "must be whole numbers or names. Got 'float64'"),
        ([0, 1, 3, 3], None, "must be 0 to 3, with a training image for each. Got 'none for 2'"),
        ([0, 1, -1], None, "-1 for 1 images.*-1 usually means that an image has no label"),
        ([0, -5, 1], None, "must be between 0 and 2.*Got -5"),
        ([0, 1], [0, -1], "must be between 0 and 1.*Got -1 instead. 1 images have -1, no label: take them out"),
        ([0, 1], [0, 10**12], "must be between 0 and 1, as the training images have 2 classes"),
        ([0, 1], [], "The test split of labels in .* has no images"),
        ([], [0, 1], "The training split of labels in .* has no images"),
    ],
)
def test_numbers_that_are_no_labels_are_refused_at_once(tmp_path, labels, test, message):
    with pytest.raises(InputError, match=message):
        load(npz(tmp_path, labels, test))


def test_a_study_needs_test_images_of_the_pair_that_it_explains(tmp_path):
    file = npz(tmp_path, [0, 1, 2] * 4, [1, 2])
    recipe = study.read_recipe("images", {"data": str(file)})
    with pytest.raises(InputError, match="'pair' must name two classes that have test images.*as --pair 1 2, or take"):
        study.run(recipe, tmp_path / "out", TerminalConsole(quiet=True))
    assert not (tmp_path / "out" / "classifiers").exists()


def test_names_as_bytes_and_names_that_are_no_text(tmp_path):
    assert load(npz(tmp_path, np.array([b"a", b"b", b"b"]))).classes == ("a", "b")
    with pytest.raises(InputError, match="must be names in UTF-8"):
        load(npz(tmp_path, np.array([b"\xff", b"b"])))
    assert load(npz(tmp_path, np.array(["\udcff", "b", "b"]))).classes == ("b", r"\udcff")  # spelt out
