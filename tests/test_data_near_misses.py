"""What nearly fits a rule of the data is understood, or refused with a remedy that works; nothing of it in silence."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from notbugs.data import load
from notbugs.data.images import Data
from notbugs.errors import InputError
from tests.pictures import encoded, noise, write_class_folder

NAMES = [f"{number:03d}.png" for number in range(12)]
LABELS = np.arange(12) % 2
IMAGES = noise(12, 4, 5)


def table(folder, header, row, name="table.csv"):
    """Twelve images and a table beside them."""
    for number, image in enumerate(NAMES):
        (folder / image).write_bytes(encoded(IMAGES[number]))
    lines = [header, *(f"{image},{row(number)}" for number, image in enumerate(NAMES))]
    (folder / name).write_text("\n".join(lines))
    return folder


def npz(folder, **arrays):
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def sizes(data: Data):
    return len(data.train), data.test_name, len(data.test)


def animal(number):
    return ("cat", "dog")[number % 2]


@pytest.mark.parametrize("column", ["split", "dataset", "data_split", "group"])
def test_a_column_of_splits_is_known_by_its_values(tmp_path, column):
    table(tmp_path, f"image,label,{column}", lambda n: f"{animal(n)},{'Train' if n < 8 else 'testing'}")
    assert sizes(load(tmp_path)) == (8, "test", 4)


@pytest.mark.parametrize(
    ("column", "values"),
    [("split", "012"), ("partition", ["train", "test", "unlabeled"]), ("split", ["train", "test", ""])],
)
def test_a_column_that_only_some_splits_are_in_is_asked_about(tmp_path, column, values):
    """As of Waterbirds and CelebA: 0, 1 and 2. They were left aside, and test images were trained on."""
    table(tmp_path, f"image,label,{column}", lambda n: f"{animal(n)},{values[n // 2 % 3]}")
    with pytest.raises(InputError, match="not all are names of splits. Say which are: --splits.train") as error:
        load(tmp_path)
    assert f"--splits.train {values[0]} --splits.test" in str(error.value)
    data = load(tmp_path, splits={"train": values[0], "test": values[1]})
    assert sizes(data) == (4, "test", 4)
    assert data.notes[1:] == ("passed over: images of other splits (4, as 004.png)",)


def test_flags_of_a_split_are_refused(tmp_path):
    table(tmp_path, "image,label,is_train", lambda n: f"{animal(n)},{int(n < 8)}")
    with pytest.raises(InputError, match="one column named 'split', with the values train, test and val"):
        load(tmp_path)


@pytest.mark.parametrize("column", ["participant_id", "Patient No.", "Subject_ID", "slide id", "mrn"])
def test_images_of_one_patient_stay_together_whatever_the_column_is_called(tmp_path, column):
    table(tmp_path, f"image,label,{column}", lambda n: f"{animal(n)},P{n // 3}")
    data = load(tmp_path)
    assert data.notes[1:] == ("images of one patient or group are kept together",)
    assert not set(data.train.groups.tolist()) & set(data.test.groups.tolist())


@pytest.mark.parametrize("blank", ["", "nan", "N/A"])
@pytest.mark.parametrize("split", [lambda n: "train" if n < 9 else "test", lambda n: ""])
def test_images_of_no_patient_are_not_one_patient(tmp_path, blank, split):
    """In both splits, too: a patient who is in both is refused, and nobody is nobody."""
    wanted = ["0.0", "0.0", "1.0", "1.0", "2", "2", *[blank] * 5, "3"]
    header = "image,label,patient_id" + (",split" if split(0) else "")
    table(tmp_path, header, lambda n: f"{animal(n)},{wanted[n]}" + (f",{split(n)}" if split(n) else ""))
    data = load(tmp_path)
    groups = data.train.groups.tolist() + data.test.groups.tolist()
    assert sorted(map(groups.count, set(groups))) == [1] * 6 + [2] * 3
    assert data.notes[-2:] == (
        "images of one patient or group are kept together",
        "5 images name no patient_id, and each counts as a group of its own",
    )


def test_a_patient_whose_number_pandas_wrote_with_a_point_is_the_same_one(tmp_path):
    patients = ["1.0", "", *"2345678", "1", "9", "9"]
    splits = ["train"] * 9 + ["test"] * 3
    table(tmp_path, "image,label,patient_id,split", lambda n: f"{animal(n)},{patients[n]},{splits[n]}")
    with pytest.raises(InputError, match="1 groups of .* both in the training and in the test split, as 1:"):
        load(tmp_path)


def test_where_nobody_is_named_there_are_no_groups(tmp_path):
    data = load(table(tmp_path, "image,label,patient_id", lambda n: f"{animal(n)},"))
    assert data.train.groups is None
    assert data.notes[1:] == ("12 images name no patient_id, and each counts as a group of its own",)


def test_parquet_rows_of_no_patient_are_not_one_patient(tmp_path):
    images = [{"bytes": encoded(image)} for image in IMAGES]
    for patients in ([0, 0, 1, 1, *[None] * 8], [0.0, 0.0, 1.0, 1.0, *[float("nan")] * 8], [*"aabb", *["nan"] * 8]):
        columns = {"image": images, "label": LABELS, "patient_id": pa.array(patients)}
        for name, rows in (("train", slice(0, 8)), ("test", slice(8, 12))):
            pq.write_table(pa.table({key: value[rows] for key, value in columns.items()}), tmp_path / f"{name}.parquet")
        data = load(tmp_path)
        assert data.train.groups.unique(return_counts=True)[1].tolist() == [1, 1, 1, 1, 2, 2]
        assert data.test.groups is None
        assert "8 images name no patient_id, and each counts as a group of its own" in data.notes


def test_a_patients_age_is_no_patient(tmp_path):
    assert load(table(tmp_path, "image,label,patient_age", lambda n: f"{animal(n)},{n}")).train.groups is None


def test_patients_of_parquet_files_stay_together(tmp_path):
    columns = {
        "image": [{"bytes": encoded(image)} for image in IMAGES],
        "label": LABELS,
        "patient_id": np.arange(12) // 3,
    }
    pq.write_table(pa.table(columns), tmp_path / "all.parquet")
    data = load(tmp_path / "all.parquet")
    assert not set(data.train.groups.tolist()) & set(data.test.groups.tolist())
    assert "images of one patient or group are kept together" in data.notes
    for values, remedy in (
        (["train"] * 8 + ["test"] * 4, r"test, train, by its column 'split'.*train\.parquet"),
        (["train"] * 12, ""),
    ):
        pq.write_table(pa.table(columns | {"split": values}), tmp_path / "all.parquet")
        if remedy:
            with pytest.raises(InputError, match=remedy):
                load(tmp_path / "all.parquet")
    assert len(load(tmp_path / "all.parquet").train) < 12  # one split alone is no contradiction


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("image,label", lambda n: ("cat", "dog", "NaN")[n % 3], "must not be empty. Got \"4 of 'NaN'\""),
        ("image,label", lambda n: ("0", "1", "NA")[n % 3], "must not be empty. Got \"4 of 'NA'\""),
        ("image,label", lambda n: 0.37 * n + 0.1, "must be whole numbers or names. Got '0.1'.*make classes"),
        ("image,label", lambda n: 2 * (n % 2) - 1, r"Got '-1 and 1' instead.*labels = \(labels \+ 1\) // 2"),
        ("image,label", lambda n: ("Cat", "cat", "dog")[n % 3], "'Cat' and 'cat' differ only in how.*--classes"),
        ("where,label", animal, r"of the first 12 values in 'where', 12 are.*Name it with --image-column where"),
        ("000.png,cat", animal, "Its first line must name its columns"),
    ],
)
def test_labels_and_tables_that_are_refused(tmp_path, header, row, message):
    table(tmp_path, header, row)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_letters_that_differ_in_case_are_classes(tmp_path):
    """As of EMNIST."""
    write_class_folder(tmp_path, {"A": 2, "a": 2})
    assert load(tmp_path).classes == ("A", "a")


def test_an_image_that_is_listed_twice(tmp_path):
    table(tmp_path, "image,label", animal)
    with (tmp_path / "table.csv").open("a") as file:
        file.write("\n003.png,dog")
    assert load(tmp_path).notes[1:] == ("passed over: rows that list an image again (1: 003.png in table.csv)",)
    with (tmp_path / "table.csv").open("a") as file:
        file.write("\n003.png,cat")
    with pytest.raises(InputError, match=r"lists .*003\.png twice, as dog and as cat"):
        load(tmp_path)


def test_several_findings_in_one_column(tmp_path):
    """As of ChestX-ray14: they were classes of their own, `Mass|Nodule` beside `Mass`."""
    said = ["No Finding", "Mass|Nodule", "Mass"]
    table(tmp_path, "Image Index,Finding Labels", lambda n: said[n % 3], "Data_Entry_2017.csv")
    data = load(tmp_path)
    assert data.classes == ("Mass", "Nodule")  # as everybody counts them: no finding is none of them
    assert (data.train.labels.sum(0) + data.test.labels.sum(0)).tolist() == [8, 4]
    assert "labels for an image are several: Mass, Nodule; 'No Finding' is none" in data.notes


def test_arrays_that_are_not_used_are_named(tmp_path):
    data = load(npz(tmp_path, x_train=IMAGES, y_train=LABELS, x_val=IMAGES[:6], y_val=LABELS[:6], masks=LABELS))
    assert (sizes(data), data.notes[0]) == ((12, "val", 6), "passed over: arrays that are not used (1: masks)")
    assert sizes(load(npz(tmp_path, X_train=IMAGES, y_train=LABELS, X_test=IMAGES, y_test=LABELS))) == (12, "test", 12)
    file = npz(tmp_path, images=IMAGES, labels=LABELS, test_images=IMAGES[:6], test_labels=LABELS[:6])
    with pytest.raises(InputError, match="holds test_images, test_labels beside images and labels"):
        load(file)


def test_npy_files_of_no_pair(tmp_path):
    for name, array in {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert load(tmp_path).notes[0] == "passed over: files of arrays that belong to no pair (1: x_test.npy)"
    np.save(tmp_path / "train_targets.npy", LABELS)
    (tmp_path / "x_train.npy").rename(tmp_path / "train_images.npy")
    (tmp_path / "y_train.npy").rename(tmp_path / "train_labels.npy")
    with pytest.raises(InputError, match=r"two files of labels, train_labels\.npy and train_targets\.npy"):
        load(tmp_path)


def test_white_is_checked_in_the_test_images_too(tmp_path):
    file = npz(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=(IMAGES > 128).astype(np.uint8), y_test=LABELS)
    with pytest.raises(InputError, match="brightest pixel of all test images of set is 1 of 255"):
        load(file)


TWELVE = (IMAGES.astype(np.uint16) * 16).clip(300, 4095)


@pytest.mark.parametrize(
    ("train", "test", "white"),
    [
        *((TWELVE, IMAGES, 4095), (IMAGES, IMAGES.astype(np.float32) / 255, 255), (IMAGES % 2, IMAGES, 255)),
        (IMAGES.astype(np.float32), IMAGES.astype(np.float32) / 255, 255),
    ],
)
def test_splits_in_different_units_are_refused(tmp_path, train, test, white):
    """With a white given for both, one of them was darker by up to 255 times, in silence."""
    arrays = {"train_images": train, "train_labels": LABELS, "test_images": test, "test_labels": LABELS}
    with pytest.raises(InputError, match="likely in other units. Save both splits in the same ones"):
        load(npz(tmp_path, **arrays), white_level=white)


def test_12_bits_among_8_are_seen(tmp_path):
    """In one split: half of the images were all but black. On disk, too."""
    write_class_folder(tmp_path / "set", {"a": 4, "b": 4}, (6, 6))
    for name in ("a", "b"):
        Image.fromarray(noise(1, 6, 6)[0].astype(np.uint16) * 16).save(tmp_path / "set" / name / "more.png")
    for memory in (None, 1):
        with pytest.raises(InputError, match=r"all 16-bit training images of set is \d+ of 65535.*--white-level 4095"):
            load(tmp_path / "set", memory=memory)
    data = load(tmp_path / "set", white_level=4095)
    assert float(data.train.pixels[0].max()) > 0.9


def test_images_of_other_sizes_or_channels_in_the_test_split(tmp_path):
    arrays = {"train_images": IMAGES, "train_labels": LABELS, "test_labels": LABELS}
    with pytest.raises(InputError, match="is 4x4 pixels with 1 channel, the images of the other split are 5x4.*--size"):
        load(npz(tmp_path, test_images=IMAGES[:, :, :4], **arrays))
    four = np.stack([IMAGES] * 4, -1)
    with pytest.raises(InputError, match="Save all with the same channels"):
        load(npz(tmp_path, **arrays | {"train_images": four}, test_images=four[..., :3]))


@pytest.mark.parametrize("option", [{"group_column": "patient"}, {"severity": 1}, {"splits": {"train": "a"}}])
def test_options_that_the_data_have_no_use_for_are_refused(tmp_path, option):
    file = npz(tmp_path, images=IMAGES, labels=LABELS)
    with pytest.raises(InputError, match=rf"'{next(iter(option))}' must be left out for FILE.npz: it is of .* Got "):
        load(file, **option)
    write_class_folder(tmp_path / "folder", {"a1": 2, "b1": 2})
    if "group_column" in option:
        with pytest.raises(InputError, match="must be left out for FOLDER of images: it is of .*TABLE.csv"):
            load(tmp_path / "folder", **option)
        with pytest.raises(InputError, match="'label_offset' must be left out for FOLDER of images"):
            load(tmp_path / "folder", label_offset=1)


def test_a_folder_of_npz_files_is_not_empty(tmp_path):
    npz(tmp_path, images=IMAGES, labels=LABELS)
    with pytest.raises(InputError, match=r"holds .*set\.npz. Give one of them"):
        load(tmp_path)


def test_dark_floats_are_told_what_their_white_is(tmp_path):
    """What is k of 255 is 257 k of 65535, so floats look like 16-bit images; white at 65535 would make them black."""
    images = np.random.default_rng(0).integers(0, 52, (40, 8, 8), dtype=np.uint8) / np.float32(255)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "dark.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(InputError, match=r"--white-level 1 if they are floating point in \[0, 1\] and so dark"):
        load(tmp_path / "dark.npz")
    with pytest.raises(InputError, match="less than one grey level of 255. Give the value that white has in the file"):
        load(tmp_path / "dark.npz", white_level=65535)
    assert float(load(tmp_path / "dark.npz", white_level=1).train.batch(slice(None))[0].max()) == pytest.approx(0.2)
