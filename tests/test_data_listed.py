"""Tables beside images, as the Hub, Kaggle and others have them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.data import load
from notbugs.errors import InputError
from tests.pictures import encoded, noise, write_class_folder


def pictures(folder, names, seed=0):
    """An image for each name, of a brightness of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(encoded(np.full((4, 5), 255 - seed - number, np.uint8)))


def seen(images, data):
    """Brightness and class of each image."""
    tops = (255 - images.pixels.flatten(1).amax(1).int()).tolist()
    return {top: data.classes[label] for top, label in zip(tops, images.labels.tolist(), strict=True)}


def both(data):
    return seen(data.train, data) | seen(data.test, data)


NAMES = [f"{number:03d}.png" for number in range(10)]
ANIMALS = ["cat", "dog"] * 5
EXPECTED = dict(enumerate(ANIMALS))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "tsv"])
def test_metadata_of_the_hubs_image_folders(tmp_path, kind):
    for split, count, seed in (("train", 10, 0), ("test", 4, 100)):
        pictures(tmp_path / split, NAMES[:count], seed)
        if kind == "jsonl":
            lines = [
                json.dumps({"file_name": name, "label": label}) for name, label in zip(NAMES, ANIMALS, strict=True)
            ]
        else:
            separator = "," if kind == "csv" else "\t"
            rows = zip(["file_name", *NAMES], ["label", *ANIMALS], strict=True)
            lines = [separator.join(row) for row in rows]
        head = 0 if kind == "jsonl" else 1
        (tmp_path / split / f"metadata.{kind}").write_text("\n".join(lines[: count + head]) + "\n")
    data = load(tmp_path)
    assert (seen(data.train, data), data.test_name) == (EXPECTED, "test")
    assert seen(data.test, data) == {100: "cat", 101: "dog", 102: "cat", 103: "dog"}
    assert data.notes == (f"labels are from test/metadata.{kind}, train/metadata.{kind}",)


def test_kaggles_tables_without_suffixes_and_a_test_without_labels(tmp_path):
    """As of APTOS 2019: id_code, diagnosis; the test table has no diagnosis, the sample submission an invented one."""
    pictures(tmp_path / "train_images", NAMES)
    pictures(tmp_path / "test_images", NAMES[:3], 100)
    rows = "".join(f"{name[:-4]},{number % 3}\n" for number, name in enumerate(NAMES))
    (tmp_path / "train.csv").write_text("id_code,diagnosis\n" + rows)
    (tmp_path / "test.csv").write_text("id_code\n000\n001\n002\n")
    (tmp_path / "sample_submission.csv").write_text("id_code,diagnosis\n000,0\n001,0\n002,0\n")
    data = load(tmp_path)
    assert both(data) == {number: str(number % 3) for number in range(10)}
    assert (data.test_name, data.classes) == ("heldout", ("0", "1", "2"))
    assert data.notes[1:] == (
        "passed over: tables that are forms for submissions (1: sample_submission.csv)",
        "passed over: tables without labels (1: test.csv)",
        "passed over: images that no table lists with a label (3, as test_images/000.png)",
    )


def test_one_hot_columns_as_isic_has_them(tmp_path):
    pictures(tmp_path / "ISIC_2019_Training_Input", NAMES)
    rows = [f"{name[:-4]},{float(n % 3 == 0)},{float(n % 3 == 1)},{float(n % 3 == 2)}" for n, name in enumerate(NAMES)]
    (tmp_path / "truth.csv").write_text("image,MEL,NV,BCC\n" + "\n".join(rows))
    data = load(tmp_path)
    assert data.classes == ("MEL", "NV", "BCC")
    assert both(data) == {number: data.classes[number % 3] for number in range(10)}


def test_folders_that_are_no_classes_where_a_table_says_so(tmp_path):
    """As of HAM10000: images in two parts, labels in a table."""
    pictures(tmp_path / "part_1", NAMES[:5])
    pictures(tmp_path / "part_2", NAMES[5:], 5)
    rows = "".join(
        f"L{number // 2},{name[:-4]},{label}\n" for number, (name, label) in enumerate(zip(NAMES, ANIMALS, strict=True))
    )
    (tmp_path / "HAM_metadata.csv").write_text("lesion_id,image_id,dx\n" + rows)
    data = load(tmp_path)
    assert both(data) == EXPECTED
    assert data.notes == ("labels are from HAM_metadata.csv", "images of one patient or group are kept together")
    sides = [{number // 2 for number in seen(part, data)} for part in (data.train, data.test)]
    assert sides[0].isdisjoint(sides[1])
    assert sides[1]
    held = data.hold_out(0.4, 3)
    sides = [{number // 2 for number in seen(part, data)} for part in (held.train, held.test)]
    assert sides[0].isdisjoint(sides[1])


def test_a_patient_in_two_splits_is_refused(tmp_path):
    pictures(tmp_path, NAMES)
    rows = [f"{n},{label},{'train' if n < 8 else 'test'},P{n % 9}" for n, label in enumerate(ANIMALS)]
    lines = ["image,label,split,patient_id", *(f"00{row}" for row in rows)]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match="1 groups of .* both in the training and in the test split, as P0: accuracy"):
        load(tmp_path)
    (tmp_path / "all.csv").write_text("\n".join(lines).replace("P0\n009", "P9\n009").replace("test,P0", "test,P9"))
    data = load(tmp_path)
    assert (data.test_name, seen(data.test, data)) == ("test", {8: "cat", 9: "dog"})


def test_columns_by_name(tmp_path):
    pictures(tmp_path / "pics", NAMES)
    rows = "".join(f"x{n};pics\\{name};{label}\n" for n, (name, label) in enumerate(zip(NAMES, ANIMALS, strict=True)))
    (tmp_path / "data.csv").write_text("who;where;what\n" + rows)
    for asked in ({}, {"label_column": "what"}):
        with pytest.raises(InputError, match="does not list the images of .* --image-column where"):
            load(tmp_path, **asked)
    with pytest.raises(InputError, match="'label_column' must be one of who, where, what. Got 'wat' .*'what'"):
        load(tmp_path, image_column="where", label_column="wat")
    with pytest.raises(
        InputError, match="none of its columns is known to hold labels: who, where, what.*--label-column"
    ):
        load(tmp_path, image_column="where")
    assert both(load(tmp_path, image_column="where", label_column="what")) == EXPECTED
    named = load(tmp_path / "data.csv", image_column="where", label_column="what", classes=["dog", "cat"])
    assert (named.name, named.classes, both(named)) == ("data", ("dog", "cat"), EXPECTED)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name,label\n000.png,cat\n001.png,dog\n9.png,cat\n", r"9\.png in .*metadata\.csv is not there"),
        ("file_name,label\n000.png,cat\n001.png\n", "row 3 of .* must have 2 values, as its first line. Got 1"),
        ("file_name,label\n000.png,cat\n001.png,\n", "must not be empty. Got '1 empty ones'"),
        (
            "file_name,label,class\n000.png,cat,1\n",
            "has the columns label and class: which is it.*--label-column label",
        ),
        ("file_name,label,label\n000.png,cat,1\n", "must each have their own name. Got 'label'"),
        ("file_name,label\n../secret.png,cat\n000.png,dog\n001.png,dog\n", r"secret\.png in .* is not there"),
        ("", "is empty: its first line must name its columns"),
    ],
)
def test_tables_that_are_refused(tmp_path, table, message):
    (tmp_path / "secret.png").write_bytes(encoded(noise(4, 5)))
    pictures(tmp_path / "set", NAMES[:3])
    (tmp_path / "set" / "metadata.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "set")


def test_an_image_in_two_tables(tmp_path):
    pictures(tmp_path, NAMES[:4])
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("file_name,label\n000.png,cat\n001.png,dog\n002.png,dog\n003.png,cat\n")
    with pytest.raises(InputError, match=r"000\.png is in two tables, .*Name the one to read"):
        load(tmp_path)
    assert load(tmp_path / "two.csv").classes == ("cat", "dog")


def test_a_table_of_something_else_is_passed_over(tmp_path):
    write_class_folder(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "names.csv").write_text("id,name\n0,a\n1,b\n")
    data = load(tmp_path)
    assert data.classes == ("a", "b")
    assert data.notes == ("passed over: tables that list no images of this folder (1: names.csv)",)


def test_an_exact_duplicate_across_splits_is_counted(tmp_path):
    write_class_folder(tmp_path / "train", {"a": 3, "b": 3})
    write_class_folder(tmp_path / "test", {"a": 2, "b": 1}, seed=50)
    assert load(tmp_path).notes == ()
    picture = Image.open(tmp_path / "train" / "a" / "1.png")
    picture.save(tmp_path / "test" / "a" / "again.bmp")
    picture.save(tmp_path / "test" / "b" / "again.png", optimize=True)
    expected = ("exact duplicates: 2 of 5 test images are training images too, 1 of them with another label",)
    assert load(tmp_path).notes == expected
    assert torch.equal(load(tmp_path).test.labels, torch.tensor([0, 0, 0, 1, 1]))


# Folders of classes, and a table that says otherwise


def classes(root, splits=("",)):
    """Five images of cats and five of dogs, in folders of their names."""
    for place, split in enumerate(splits):
        for number, name in enumerate(NAMES):
            pictures(root / split / ANIMALS[number], [name], 100 * place + number)


def written(file, labels, header="filename,label,confidence", split=""):
    lines = [
        f"{split}{ANIMALS[n]}/{name},{label},0.9" for n, (name, label) in enumerate(zip(NAMES, labels, strict=True))
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *lines]))


def test_predictions_beside_class_folders_are_no_labels_in_silence(tmp_path):
    """Of an earlier model: its mistakes took the place of the classes."""
    root, said = tmp_path / "set", ["cat", "dog"] * 4 + ["dog", "dog"]
    classes(root)
    written(root / "predictions.csv", said)
    with pytest.raises(InputError) as error:
        load(root)
    assert "labels images otherwise than the folders that they lie in, cat/008.png as 'dog'" in str(error.value)
    assert f"Give --data {root / 'predictions.csv'} for those" in str(error.value)
    assert f"move it out of {root} for the folders" in str(error.value)
    assert both(load(root / "predictions.csv")) == dict(enumerate(said))
    assert both(load(root, label_column="label")) == dict(enumerate(said))
    (root / "predictions.csv").rename(tmp_path / "predictions.csv")
    assert both(load(root)) == EXPECTED


@pytest.mark.parametrize("wrong", [["0", "1"] * 4 + ["1", "1"], ["0.0", "1.0"] * 4 + ["1.0", "1.0"]])
def test_predictions_in_numbers_are_no_labels_in_silence_either(tmp_path, wrong):
    classes(tmp_path)
    written(tmp_path / "out.csv", wrong)
    with pytest.raises(InputError, match=r"cat/000.png as '0.*--data .*out.csv for those"):
        load(tmp_path)
    written(tmp_path / "out.csv", wrong, "filename,label,weight")  # of what else 0 and 1 are, cat and dog tell nothing
    assert both(load(tmp_path)) == {n: str(int(float(label))) for n, label in enumerate(wrong)}
    written(tmp_path / "out.csv", ["0", "1"] * 5)
    assert both(load(tmp_path)) == dict(enumerate("01" * 5))


def test_predictions_beside_splits_and_in_a_folder_of_their_own(tmp_path):
    root, said = tmp_path / "set", ["Cat", "Dog"] * 4 + ["Dog", "Dog"]
    classes(root, ("train", "test"))
    for split in ("train", "test"):
        written(root / "results" / "out.csv", said, split=f"{split}/")
        with pytest.raises(InputError, match=rf"{split}/cat/008.png as 'Dog': .* Give --label-column label for those"):
            load(root)
    written(root / "results" / "out.csv", said, split="train/")
    assert both(load(root, label_column="label")) == dict(enumerate(said))
    (root / "results" / "out.csv").rename(tmp_path / "out.csv")
    data = load(root)
    assert (seen(data.train, data), len(data.test)) == (EXPECTED, 10)


def test_a_table_that_says_what_the_folders_say_is_read(tmp_path):
    classes(tmp_path)
    written(tmp_path / "predictions.csv", ["Cat", "Dog"] * 5)
    assert load(tmp_path).classes == ("Cat", "Dog")


@pytest.mark.parametrize("name", ["metadata", "table"])
def test_folders_of_patients_are_no_classes(tmp_path, name):
    """Patients 1 to 5, and labels 0 and 1: that there is a patient 1 makes no class of him."""
    lines = ["image,label,patient"]
    for number, image in enumerate(NAMES):
        pictures(tmp_path / f"{number // 2 + 1}", [image], number)
        lines.append(f"{number // 2 + 1}/{image},{number % 2},{number // 2}")
    (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    assert both(load(tmp_path)) == dict(enumerate("01" * 5))
