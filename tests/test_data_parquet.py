"""Parquet files in the Hub's layout, and others."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from notbugs.data import load
from notbugs.data.published import CIFAR10_CLASSES
from notbugs.errors import InputError
from tests.pictures import encoded, noise


def write(file, column, labels, names=None, image="image", label="label", kinds=None, **options):
    table = pa.table({image: column, label: labels})
    features = {label: {"_type": "ClassLabel", "names": list(names)}} if names else {}
    if features or kinds:
        info = {"info": {"features": features | (kinds or {})}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, **options)


def write_cifar_like(folder, *, shape=(32, 32, 3), kind="PNG", struct=True, n=20):
    arrays = [noise(*shape, seed=seed) for seed in range(n)]
    data = [encoded(array, kind) for array in arrays]
    column = [{"bytes": item, "path": None} for item in data] if struct else data
    labels = [index % 10 for index in range(n)]
    for split in ("train", "test"):
        write(folder / f"{split}-00000-of-00001.parquet", column, labels, CIFAR10_CLASSES, image="img")
    return arrays, labels


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("shape", [(32, 32, 3), (5, 7)])
def test_parquet_gives_back_the_pixels(tmp_path, shape, struct):
    arrays, labels = write_cifar_like(tmp_path, shape=shape, struct=struct)
    data = load(tmp_path)
    expected = np.stack([np.atleast_3d(array) for array in arrays]).transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.pixels.numpy(), expected)
    assert data.train.labels.tolist() == labels
    assert data.classes == CIFAR10_CLASSES
    assert data.title == ("CIFAR-10" if len(shape) == 3 else tmp_path.name)


def test_a_jpeg_copy_of_cifar10_is_named_so(tmp_path):
    write_cifar_like(tmp_path, kind="JPEG")
    assert load(str(tmp_path)).title == "CIFAR-10 (JPEG copy)"


GREY = noise(12, 4, 5)
PNGS = [encoded(array) for array in GREY]
LABELS = [0, 1] * 6


def columns():
    """The same images in every form a column may have."""
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(GREY)
    return {
        "bytes": PNGS,
        "large bytes": pa.array(PNGS, pa.large_binary()),
        "struct": [{"bytes": png, "path": "x"} for png in PNGS],
        "lists": GREY.tolist(),
        "lists of uint8": pa.array(GREY.tolist(), pa.list_(pa.list_(pa.uint8()))),
        "fixed lists": pa.array(GREY.tolist(), pa.list_(pa.list_(pa.uint8(), 5), 4)),
        "floats": (GREY.astype(np.float32) / 255).tolist(),
        "tensors": tensor,
    }


@pytest.mark.parametrize("form", list(columns()))
def test_columns_of_every_form(tmp_path, form):
    write(tmp_path / "train.parquet", columns()[form], LABELS, row_group_size=5)
    write(tmp_path / "test.parquet", columns()[form], LABELS)
    data = load(tmp_path)
    images, _ = data.train.batch(slice(None))
    torch.testing.assert_close(images[:, 0], torch.from_numpy(GREY).float() / 255, rtol=0, atol=1e-7)
    assert data.classes == ("0", "1")


@pytest.mark.parametrize("memory", [None, 1])
def test_rows_of_many_files_and_groups_in_their_order(tmp_path, monkeypatch, memory):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("notbugs.data.assemble.SHARD_BYTES", 140)
    for number, rows in enumerate((slice(0, 5), slice(5, 12))):
        name = f"train-0000{number}-of-00002.parquet"
        write(tmp_path / "set" / "data" / name, PNGS[rows], LABELS[rows], row_group_size=3)
    write(tmp_path / "set" / "validation" / "0000.parquet", PNGS, LABELS)
    data = load(tmp_path / "set", memory=memory)
    assert data.test_name == "validation"
    assert torch.equal(data.train.pixels[torch.arange(12)][:, 0], torch.from_numpy(GREY))
    assert data.train.labels.tolist() == LABELS


def test_one_file_is_held_out_from(tmp_path):
    write(tmp_path / "pets.parquet", PNGS, ["cat", "ant"] * 6)
    data = load(tmp_path / "pets.parquet")
    assert (data.name, data.classes, data.test_name) == ("pets", ("ant", "cat"), "heldout")
    assert (len(data.train), len(data.test)) == (10, 2)
    assert load(tmp_path / "pets.parquet", size=3).train.shape == (1, 3, 3)


def test_columns_are_chosen_by_name_or_by_type(tmp_path):
    kinds = {"scan": {"_type": "Image"}}
    write(tmp_path / "train.parquet", PNGS, LABELS, ["x", "y"], image="scan", label="finding", kinds=kinds)
    assert load(tmp_path / "train.parquet").classes == ("x", "y")
    write(tmp_path / "train.parquet", PNGS, LABELS, image="picture")
    with pytest.raises(InputError, match="must have a column named img or image or images. It has picture, label"):
        load(tmp_path)
    write(tmp_path / "train.parquet", PNGS, LABELS, label="y")
    with pytest.raises(InputError, match="must have a column named label or labels or fine_label. It has image, y"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("columns", "option"), [(("image", "label", "labels"), "label_column"), (("image", "img", "label"), "image_column")]
)
def test_two_columns_that_may_be_meant_are_asked_about(tmp_path, columns, option):
    table = {name: [{"bytes": png} for png in PNGS] if name.startswith("im") else LABELS for name in columns}
    pq.write_table(pa.table(table), tmp_path / "set.parquet")
    flag, kind = f"--{option.replace('_', '-')}", "label" if option == "label_column" else "im"
    first, second = sorted((name for name in columns if name.startswith(kind)), key=("img", *columns).index)
    with pytest.raises(InputError, match=f"has the columns {first} and {second}: which is it.*as in {flag} {first}"):
        load(tmp_path / "set.parquet")
    assert len(load(tmp_path / "set.parquet", **{option: first}).train) == 10


def test_the_hubs_cifar100_has_fine_labels(tmp_path):
    table = {"img": [{"bytes": png} for png in PNGS], "fine_label": LABELS, "coarse_label": [0, 1, 2] * 4}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    assert len(load(tmp_path).classes) == 2
    assert len(load(tmp_path, label_column="coarse_label").classes) == 3


def test_labels_that_are_missing_in_one_batch_are_missing(tmp_path):
    """A batch of rows without labels was taken for a split without any, and its rows for a class named -1."""
    write(tmp_path / "train.parquet", [PNGS[0]] * 80, [*[None] * 64, *["cat", "dog"] * 8])
    with pytest.raises(InputError, match="Got 'string with 64 gaps'"):
        load(tmp_path)


def test_a_test_split_whose_labels_are_all_blank_is_not_measured_on(tmp_path):
    write(tmp_path / "train.parquet", PNGS, ["a", "b"] * 6)
    for blank in ("", "nan", None):
        write(tmp_path / "test.parquet", PNGS, pa.array([blank] * 12, pa.string()))
        assert load(tmp_path).test_name == "heldout"


def test_folders_that_cannot_be_read(tmp_path):
    write(tmp_path / "rows.parquet", PNGS, LABELS)
    with pytest.raises(InputError, match=r"No train\*\.parquet in .*a single file can be named itself"):
        load(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match=r"train\.parquet is not a readable parquet file"):
        load(tmp_path)
    write(tmp_path / "train.parquet", PNGS, LABELS)
    write(tmp_path / "train-2.parquet", PNGS, ["a", "b"] * 6)
    with pytest.raises(InputError, match=r"must have the columns of .*train-2\.parquet, image, label, and their types"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("column", "labels", "message"),
    [
        (
            PNGS[:2],
            [0, None],
            r"'label in .*' must be a column of whole numbers or names.*int64 with 1 gap'",
        ),
        (PNGS[:3], ["a", "", "b"], "'label in .*' must be .* without gaps. Got 'string with 1 gap' instead. Take"),
        (PNGS[:4], ["a", "nan", "b", None], "string with 2 gaps, as 'nan'"),
        (PNGS[:3], [0.0, float("nan"), 1.0], "double with 1 gap, as nan"),
        (PNGS[:2], [0.5, 1.0], "'label in .*' must be whole numbers or names"),
        (PNGS[:3], [0, 1, -1], "'training label in .*' must be at or above 0. Got '-1 for 1 images'"),
        (PNGS[:2], [0, 0], "'data' must have at least two classes"),
        ([PNGS[0], b"junk"], [0, 1], r"image in row 1 of .*train\.parquet cannot be decoded"),
        ([PNGS[0], None], [0, 1], r"image in row 1 of .*train\.parquet has no bytes"),
        ([PNGS[0], encoded(noise(4, 6))], [0, 1], r"row 1 of .* is 6x4 pixels.*5x4 pixels.*row 0 of"),
        ([[[1, 2], [3, 4]], [[1, 2]]], [0, 1], "has another size than the others"),
        ([[[1, 2], [3, None]], [[1, 2], [3, 4]]], [0, 1], "has a gap in place of a pixel"),
        (["a.png", "b.png"], [0, 1], "'image in .*' must be encoded images .* or arrays"),
        ([[[1, 2], [3, 400]], [[1, 2], [3, 4]]], [0, 1], r"must hold whole numbers in 0\.\.255"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(tmp_path, column, labels, message):
    write(tmp_path / "train.parquet", column, labels)
    with pytest.raises(InputError, match=message):
        load(tmp_path)
