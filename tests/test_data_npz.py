"""NumPy archives."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch

from notbugs.data import load
from notbugs.errors import InputError
from tests.pictures import noise

IMAGES, LABELS = noise(30, 5, 4, 3), np.arange(30, dtype=np.uint8) % 3
TEST, TEST_LABELS = noise(9, 5, 4, 3, seed=1), np.arange(9, dtype=np.uint8) % 3


def save(folder, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(folder / "set.npz", **arrays)
    return folder / "set.npz"


def medmnist(folder, compressed=False, **changes):
    arrays = {"train_images": IMAGES, "train_labels": LABELS[:, None]}
    arrays |= {"val_images": TEST[:4], "val_labels": TEST_LABELS[:4, None]}
    arrays |= {"test_images": TEST, "test_labels": TEST_LABELS[:, None]}
    arrays |= changes
    return save(folder, compressed, **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize("compressed", [False, True])
def test_the_layout_of_medmnist(tmp_path, compressed, monkeypatch):
    monkeypatch.setattr("notbugs.data.rows.PIECE_BYTES", 7 * 60)
    data = load(medmnist(tmp_path, compressed))
    assert (data.name, data.classes, data.test_name) == ("set", ("0", "1", "2"), "test")
    assert torch.equal(data.train.pixels, torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()))
    assert torch.equal(data.test.pixels, torch.from_numpy(TEST.transpose(0, 3, 1, 2).copy()))
    assert data.train.labels.tolist() == LABELS.tolist()


def test_other_layouts(tmp_path):
    keras = load(save(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=TEST, y_test=TEST_LABELS))
    assert (len(keras.train), len(keras.test), keras.test_name) == (30, 9, "test")
    val = load(medmnist(tmp_path, test_images=None, test_labels=None))
    assert (len(val.test), val.test_name) == (4, "val")
    names = np.array(["cat", "ant", "dog"])[LABELS]
    plain = load(save(tmp_path, images=IMAGES[..., 0] / 255, labels=names))
    assert (plain.classes, len(plain.train), len(plain.test), plain.test_name) == (
        ("ant", "cat", "dog"),
        24,
        6,
        "heldout",
    )
    assert plain.train.pixels.dtype == torch.float32
    named = load(save(tmp_path, images=IMAGES, labels=LABELS, classes=np.array(["x", "y", "z"])))
    assert named.classes == ("x", "y", "z")


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        (np.arange(3), "012"),
        (np.array([7, 8, 9], np.uint8)[:, None], "789"),
        (np.array([b"x", b"y", b"z"]), "xyz"),
        (np.array(["x", "y", "z"])[:, None], "xyz"),
    ],
)
def test_names_of_classes_in_the_forms_that_arrays_have(tmp_path, given, classes):
    data = load(save(tmp_path, images=IMAGES, labels=LABELS, classes=given))
    assert data.classes == tuple(classes)
    assert load(save(tmp_path, images=IMAGES, labels=np.eye(3)[LABELS], classes=given)).classes == tuple(classes)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (3, r"int64 of shape \(\)"),
        (np.eye(3), r"float64 of shape \(3, 3\)"),
        (np.array([0.5, 1.0, 2.0]), r"float64 of shape \(3,\)"),
        (np.array([["x", "y", "z"]]), r"<U1 of shape \(1, 3\)"),
    ],
)
def test_what_are_no_names_of_classes_is_refused(tmp_path, given, got):
    file = save(tmp_path, images=IMAGES, labels=LABELS, classes=given)
    with pytest.raises(InputError, match=rf"'classes in .*set\.npz' must be the names of the classes. Got '{got}'"):
        load(file)


def test_arrays_are_resized_too(tmp_path):
    assert load(medmnist(tmp_path), size=2).train.shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "must hold arrays named train_images, train_labels, test_images.*It holds"),
        ({"train_labels": np.zeros((30, 14), int)}, "'labels in .*' must be 0 or 1 in 14 columns, in both splits"),
        ({"train_labels": LABELS[:29]}, "train_images in .*' must be numbers, one image for each of 29 labels"),
        ({"train_labels": LABELS / 2}, "'labels in .*' must be whole numbers or names"),
        ({"train_labels": LABELS + 1}, "must begin at 0. Got '1 to 3' instead. They begin at 1: give --label-offset 1"),
        (
            {"test_labels": TEST_LABELS + 1},
            "'test labels in .*' must be between 0 and 2, as the training images have 3 classes. Got 3",
        ),
        ({"test_labels": np.array(["a"] * 9)}, "must be names in both splits, or numbers in both"),
        ({"train_labels": LABELS * 0}, "'data' must have at least two classes"),
        ({"train_images": IMAGES * 2.0}, r"train_images in .*' must hold whole numbers in 0\.\.255 or floating point"),
        ({"train_images": noise(30, 8, 8, 8)}, r"train_images in .*' must have shape \(image, height, width\)"),
        ({"train_images": np.asfortranarray(IMAGES)}, r"in column order. Save np\.ascontiguousarray\(train_images\)"),
        ({"test_images": TEST[:, :4]}, r"All images must have one size. test_images\[0\].*is 4x4 pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load(medmnist(tmp_path, **changes))


def test_pickled_objects_are_never_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    file = save(tmp_path, images=np.array([Trap()] * 4, dtype=object), labels=LABELS[:4])
    with pytest.raises(InputError, match="images in .* holds pickled objects, which are never read"):
        load(file)
    file = save(tmp_path, images=IMAGES[:4], labels=np.array([Trap()] * 4, dtype=object))
    with pytest.raises(InputError, match="labels in .* holds pickled objects"):
        load(file)


def test_damaged_files(tmp_path):
    file = tmp_path / "set.npz"
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"set\.npz is not a readable npz file"):
        load(file)
    data = bytearray(medmnist(tmp_path, compressed=True).read_bytes())
    data[300:340] = bytes(40)
    file.write_bytes(data)
    with pytest.raises(InputError, match="is not a readable npz file"):
        load(file)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (30, 5, 4)})
    with zipfile.ZipFile(medmnist(tmp_path, train_images=None), "a") as archive:
        archive.writestr("train_images.npy", header.getvalue() + bytes(100))
    with pytest.raises(InputError, match="train_images promises 600 bytes"):
        load(file)


def test_axes_and_channels_that_are_no_images(tmp_path):
    images, labels = noise(12, 6, 5, 3), np.arange(12) % 2
    np.savez(tmp_path / "matlab.npz", images=np.ascontiguousarray(np.moveaxis(images, 0, -1)), labels=labels)
    with pytest.raises(InputError, match=r"one image for each of 12 labels.*np\.moveaxis\(array, -1, 0\)"):
        load(tmp_path / "matlab.npz")
    opaque = np.concatenate([images, np.full((12, 6, 5, 1), 255, np.uint8)], -1)
    np.savez(tmp_path / "alpha.npz", images=opaque, labels=labels)
    with pytest.raises(InputError, match=r"no alpha channel.*images\[\.\.\., :3\]"):
        load(tmp_path / "alpha.npz")
    np.savez(tmp_path / "infrared.npz", images=noise(12, 6, 5, 4), labels=labels)
    assert load(tmp_path / "infrared.npz").train.shape == (4, 6, 5)
