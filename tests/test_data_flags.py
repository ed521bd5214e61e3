"""Columns of 0 and 1: one-hot, or several labels for an image; what is unsure in them, and what looks like them."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from notbugs.__main__ import main
from notbugs.data import load
from notbugs.errors import InputError
from tests.pictures import encoded, noise
from tests.test_data_near_misses import table

FINDINGS = [[n % 2, int(n % 3 == 0), int(n % 4 == 0)] for n in range(12)]


def bits(number, *rows):
    return ",".join(str(row[number]) for row in rows)


def labels(data):
    """Of all images, by the order of their pixels."""
    every = [
        (pixels.tolist(), row.tolist())
        for images in (data.train, data.test)
        for pixels, row in zip(images.pixels, images.labels, strict=True)
    ]
    return [row for _, row in sorted(every)]


EXPECTED = [row for _, row in sorted(zip(noise(12, 4, 5)[:, None].tolist(), FINDINGS, strict=True))]


def test_three_columns_of_flags_are_labels_and_the_others_are_named(tmp_path):
    header = "image,Edema,Mass,Hernia,sex,fold,age"
    table(tmp_path, header, lambda n: f"{','.join(map(str, FINDINGS[n]))},{n % 2},{n % 5},{20 + n}")
    data = load(tmp_path)
    assert data.classes == ("Edema", "Mass", "Hernia")
    assert labels(data) == EXPECTED
    assert "labels for an image are several: Edema, Mass, Hernia" in data.notes
    assert "columns of table.csv that are not used: sex, fold, age" in data.notes
    two = load(tmp_path, label_column=["Mass", "Edema"])
    assert (two.classes, labels(two)) == (("Mass", "Edema"), [[row[1], row[0]] for row in EXPECTED])
    ordered = load(tmp_path, classes=["Hernia", "Edema", "Mass"])  # as the network has its outputs
    assert (ordered.classes, labels(ordered)) == (
        ("Hernia", "Edema", "Mass"),
        [[row[2], row[0], row[1]] for row in EXPECTED],
    )
    with pytest.raises(InputError, match="'classes' must name every class of .*Hernia is not among"):
        load(tmp_path, classes=["Edema", "Mass", "Fracture"])
    assert load(tmp_path, label_column="Mass").train.labels.ndim == 1
    with pytest.raises(InputError, match="'label_column' must be columns of .*. Got 'Mas' instead"):
        load(tmp_path, label_column=["Edema", "Mas"])


@pytest.fixture
def chexpert(tmp_path):
    """Paths that begin above the folder, -1 where a finding is uncertain, and nothing where it is not mentioned."""
    for split, count in (("train", 8), ("valid", 4)):
        lines = ["Path,Sex,No Finding,Edema,Pleural Effusion,Support Devices"]
        for number in range(count):
            image = f"{split}/patient{number:05d}/study1/view1_frontal.jpg"
            (tmp_path / image).parent.mkdir(parents=True)
            (tmp_path / image).write_bytes(encoded(noise(12, 4, 5)[number]))
            unsure = "-1.0" if split == "train" and number % 4 == 3 else "1.0"
            lines.append(f"CheXpert-v1.0/{image},Male,,{number % 2}.0,{unsure},{'1.0' if number % 3 else ''}")
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
    return tmp_path


def test_what_is_unsure_is_asked_about(chexpert):
    with pytest.raises(
        InputError, match=r"-1 \(uncertain\) for 2 labels \(as 'Pleural Effusion'\) and an empty cell"
    ) as said:
        load(chexpert)
    assert "as --uncertain 0 --blank 0" in str(said.value)
    with pytest.raises(InputError, match="has an empty cell for 3 labels.*as --blank 0,"):
        load(chexpert, uncertain=0)
    for unsure, total in ((0, 6), (1, 8)):
        data = load(chexpert, uncertain=unsure, blank=0)
        assert data.classes == ("Edema", "Pleural Effusion", "Support Devices")
        assert (data.test_name, data.train.labels.sum(0).tolist()) == ("valid", [4, total, 5])
    one = load(chexpert, label_column="Pleural Effusion", uncertain=0)
    assert (one.classes, int(one.train.labels.sum())) == (("0", "1"), 6)
    with pytest.raises(InputError, match="'uncertain' must be 0 or 1"):
        load(chexpert, uncertain=2)
    with pytest.raises(InputError, match="'blank' must be left out for digits: it is of .*TABLE.csv"):
        load("digits", blank=0)
    with pytest.raises(InputError, match="'uncertain' must be given with labels of 0 and 1, and column 'Sex'"):
        load(chexpert, label_column="Sex", uncertain=0)


def test_one_column_of_a_parquet_file_is_decided_like_one_of_a_table(tmp_path):
    images = [{"bytes": encoded(image)} for image in noise(12, 4, 5)[:6]]
    unsure = pa.table({"image": images, "edema": [1, 0, -1, None, 1, 0], "sex": ["m", "f"] * 3})
    pq.write_table(unsure, tmp_path / "some.parquet")
    for uncertain, total in ((0, 2), (1, 3)):
        data = load(tmp_path / "some.parquet", label_column="edema", uncertain=uncertain, blank=0)
        assert int(data.train.labels.sum() + data.test.labels.sum()) == total
    with pytest.raises(InputError, match="an empty cell for 1 labels"):
        load(tmp_path / "some.parquet", label_column="edema", uncertain=0)
    with pytest.raises(InputError, match="'blank' must be given with labels of 0 and 1, and column 'sex'"):
        load(tmp_path / "some.parquet", label_column="sex", blank=0)


def test_a_study_from_the_command_line(chexpert, tmp_path, capsys):
    data = ("--data", str(chexpert), "--label-column", "Edema", "Pleural Effusion", "--uncertain", "0", "--blank", "0")
    small = ("--arch.width", "2", "--arch.features", "4", "--epochs", "1", "--batch", "4", "--quiet")
    assert main(["train", *data, *small, "--out", str(tmp_path / "some.safetensors")]) == 0
    assert "Pleural Effusion, on " in capsys.readouterr().out


def test_one_hot_columns_beside_another_flag_are_asked_about(tmp_path):
    header, kinds = "image,MEL,NV,BCC,smoker", [[int(n % 3 == k) for k in range(3)] for n in range(12)]
    table(tmp_path, header, lambda n: f"{','.join(map(str, kinds[n]))},{n % 2}")
    with pytest.raises(InputError, match="one 1 in each row but for 'smoker'. Say which.*--label-column MEL NV BCC"):
        load(tmp_path)
    data = load(tmp_path, label_column=["MEL", "NV", "BCC"])
    assert (data.classes, data.train.labels.ndim) == (("MEL", "NV", "BCC"), 1)


@pytest.mark.parametrize("both", ["cat dog", "cat;dog", "cat/dog", "['cat']", "dog + cat"])
def test_several_labels_in_other_forms_are_refused(tmp_path, both):
    """They were classes of their own, as `scab complex` of Plant Pathology."""
    table(tmp_path, "image,labels", lambda n: ["cat", "dog", both][n % 3])
    with pytest.raises(InputError, match=r"are these several labels of an image\? Write them with \| between") as said:
        load(tmp_path)
    assert both in str(said.value).replace('"', "")
    assert load(tmp_path, classes=["cat", "dog", both]).classes == ("cat", "dog", both)
    table(tmp_path, "image,labels", lambda n: ["cat", "dog", "cat|dog"][n % 3])
    assert load(tmp_path).classes == ("cat", "dog")


def test_several_labels_in_parquet_files(tmp_path):
    """In columns of their own, or as lists of numbers with names in the metadata, as the Hub has them."""
    pictures = [{"bytes": encoded(image)} for image in noise(12, 4, 5)]
    names = ("Edema", "Mass", "Hernia")
    columns = {name: [row[place] or None for row in FINDINGS] for place, name in enumerate(names)}
    pq.write_table(pa.table({"image": pictures} | columns), tmp_path / "flags.parquet")
    data = load(tmp_path / "flags.parquet", label_column=names, blank=0)
    assert (data.classes, labels(data)) == (names, EXPECTED)
    lists = [[place for place in range(3) if row[place]] for row in FINDINGS]
    feature = {"feature": {"names": list(names), "_type": "ClassLabel"}, "_type": "Sequence"}
    about = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "labels": feature}}})
    made = pa.table({"image": pictures, "labels": lists}).replace_schema_metadata({"huggingface": about})
    pq.write_table(made, tmp_path / "lists.parquet")
    data = load(tmp_path / "lists.parquet")
    assert (data.classes, labels(data)) == (names, EXPECTED)
    assert data.train.labels.dtype == torch.int64
