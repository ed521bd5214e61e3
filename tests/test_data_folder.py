"""A folder of images by class."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.data import load
from notbugs.data.assemble import held_out
from notbugs.data.published import CIFAR10_CLASSES
from notbugs.errors import InputError
from tests.pictures import encoded, noise, write_class_folder


def pixels(file):
    return torch.from_numpy(np.array(Image.open(file)))


def test_a_folder_with_train_and_test(tmp_path):
    write_class_folder(tmp_path / "train", {"cat": 3, "ant": 4})
    write_class_folder(tmp_path / "test", {"cat": 2}, seed=50)
    data = load(tmp_path)
    assert (data.name, data.classes, data.test_name) == (tmp_path.name, ("ant", "cat"), "test")
    assert data.train.labels.tolist() == [0] * 4 + [1] * 3
    assert data.test.labels.tolist() == [1, 1]
    assert torch.equal(data.train.pixels[5, 0], pixels(tmp_path / "train" / "cat" / "1.png"))
    assert torch.equal(data.test.pixels[1, 0], pixels(tmp_path / "test" / "cat" / "1.png"))


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_split_says_its_name(tmp_path, name):
    write_class_folder(tmp_path / "train", {"a": 2, "b": 2})
    write_class_folder(tmp_path / name, {"a": 1, "b": 1}, seed=9)
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test), data.test_name) == (4, 2, name)


@pytest.mark.parametrize("below", ["", "train"])
def test_without_a_test_split_a_fixed_fifth_of_each_class_is_held_out(tmp_path, below):
    counts = {"10": 1, "9": 2, "8": 10, "100": 21}
    write_class_folder(tmp_path / below, counts)
    data = load(tmp_path)
    assert (data.classes, data.test_name) == (("10", "100", "8", "9"), "heldout")  # as text, as torchvision
    assert torch.bincount(data.train.labels).tolist() == [1, 17, 8, 1]
    assert torch.bincount(data.test.labels, minlength=4).tolist() == [0, 4, 2, 1]
    rows = {tuple(row) for split in (data.train, data.test) for row in split.pixels.flatten(1).tolist()}
    assert len(rows) == 34
    assert load(tmp_path).fingerprint == data.fingerprint


def test_the_share_held_out_is_of_every_class():
    labels = torch.arange(1000) % 7
    train, test = held_out(labels)
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(1000))
    assert set(torch.bincount(labels[test]).tolist()) <= {28, 29}
    assert torch.equal(test, test.sort().values)
    with pytest.raises(InputError, match="no class has two images"):
        held_out(torch.arange(5))


def test_files_of_all_kinds_deep_and_hidden(tmp_path):
    write_class_folder(tmp_path, {"a": 2, "b": 2}, shape=(4, 4, 3))
    (tmp_path / "a" / "more").mkdir()
    (tmp_path / "a" / "more" / "x.JPG").write_bytes(encoded(noise(4, 4, 3), "JPEG"))
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"no image")
    (tmp_path / "a" / "._0.png").write_bytes(b"no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "c").symlink_to(tmp_path / "b")
    data = load(tmp_path)
    assert data.classes == ("a", "b")
    assert len(data.train) + len(data.test) == 5
    assert data.notes == (
        "passed over: hidden or system files and folders (3, as .cache)",
        "passed over: files that are no images (2, as README.txt)",
        "passed over: links to folders that are read where they lie (1: c)",
    )


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_a_mix_of_grey_and_colour_is_colour(tmp_path, first):
    grey, colour = noise(4, 4), noise(4, 4, 3)
    for name in ("a", "b"):
        write_class_folder(tmp_path / "train", {name: 1}, shape=(4, 4))
    (tmp_path / "train" / "a" / "0.png").write_bytes(encoded(grey if first == "grey" else colour))
    (tmp_path / "train" / "b" / "0.png").write_bytes(encoded(colour if first == "grey" else grey))
    write_class_folder(tmp_path / "test", {"a": 1})
    (tmp_path / "test" / "a" / "0.png").write_bytes(encoded(grey))
    data = load(tmp_path)
    at = 0 if first == "grey" else 1
    assert data.train.pixels[at].tolist() == [grey.tolist()] * 3
    assert data.train.pixels[1 - at].tolist() == colour.transpose(2, 0, 1).tolist()
    assert data.test.shape == (3, 4, 4)


def test_one_image_of_16_bits_makes_all_floats(tmp_path):
    write_class_folder(tmp_path, {"a": 3, "b": 3})
    eight = noise(4, 5, seed=1)
    deep = noise(4, 5, dtype=np.uint16)
    (tmp_path / "b" / "2.png").write_bytes(encoded(deep))
    data = load(tmp_path)
    images = torch.cat([data.train.batch(slice(None))[0], data.test.batch(slice(None))[0]])
    assert data.train.pixels.dtype == torch.float32
    for array, most in ((eight, 255), (deep, 65535)):
        wanted = torch.from_numpy(array.astype(np.float32) / most)
        assert any(torch.equal(image[0], wanted) for image in images)


def test_images_of_different_sizes_are_named_and_can_be_resized(tmp_path):
    write_class_folder(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "b" / "1.png").write_bytes(encoded(noise(9, 6)))
    message = r"b/1\.png is 6x9 pixels.*5x4 pixels.*a/0\.png.*Give a 'size', as in load\(\.\.\., size=64\)"
    with pytest.raises(InputError, match=message):
        load(tmp_path)
    data = load(tmp_path, size=4)
    assert data.train.shape == (1, 4, 4)
    assert data.title == f"{tmp_path.name} (resized to 4x4)"


def test_a_folder_of_cifar10_is_known_by_its_classes(tmp_path):
    write_class_folder(tmp_path, dict.fromkeys(CIFAR10_CLASSES, 2), shape=(32, 32, 3))
    assert load(tmp_path).title == "CIFAR-10"
    (tmp_path / "cat" / "1.png").unlink()
    (tmp_path / "cat" / "1.jpg").write_bytes(encoded(noise(32, 32, 3), "JPEG"))
    assert load(tmp_path).title == "CIFAR-10 (JPEG copy)"
    assert "CIFAR-10" not in load(tmp_path, size=32).title


def test_progress_is_told(tmp_path):
    write_class_folder(tmp_path / "train", {"a": 30, "b": 30})
    write_class_folder(tmp_path / "test", {"a": 5})
    told = []
    load(tmp_path, progress=lambda done, total, note="": told.append((done, total)))
    assert told[-1] == (65, 65)
    assert told == sorted(told)


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"is empty: it holds no image and no parquet.*Data can be given as digits"):
        load(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(noise(4, 4)))
    with pytest.raises(InputError, match="no images in the folders below .* It must hold a folder for each class"):
        load(tmp_path)
    write_class_folder(tmp_path, {"cat": 2})
    with pytest.raises(InputError, match=r"images for each of two or more classes. Got \['cat'\]"):
        load(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match=r"dog has no images. Remove it"):
        load(tmp_path)
    (tmp_path / "dog" / "x.heic").write_bytes(b"")
    with pytest.raises(InputError, match=r"x\.heic is of a format that is not read. Save it as PNG"):
        load(tmp_path)
    (tmp_path / "dog" / "x.heic").rename(tmp_path / "dog" / "x.png")
    with pytest.raises(InputError, match=r"dog/x\.png cannot be decoded"):
        load(tmp_path)


def test_splits_that_do_not_agree(tmp_path):
    write_class_folder(tmp_path / "test", {"cat": 2, "dog": 1})
    with pytest.raises(InputError, match="has a folder 'test' and none named 'train'"):
        load(tmp_path)
    write_class_folder(tmp_path / "train", {"cat": 2, "ant": 1})
    with pytest.raises(InputError, match="among those of the training images; dog is not"):
        load(tmp_path)


def test_masks_are_no_images_of_a_class(tmp_path):
    """As in the set of breast ultrasound images, whose masks lie beside them."""
    write_class_folder(tmp_path / "beside", {"benign": 4, "malignant": 4})
    for number in range(4):
        (tmp_path / "beside" / "benign" / f"{number}_mask.png").write_bytes(encoded(noise(4, 5, seed=number)))
    (tmp_path / "beside" / "benign" / "2_mask_1.png").write_bytes(encoded(noise(4, 5, seed=9)))
    (tmp_path / "beside" / "malignant" / "face_mask.png").write_bytes(encoded(noise(4, 5, seed=8)))
    data = load(tmp_path / "beside")
    assert len(data.train) + len(data.test) == 9
    assert "passed over: masks beside their images (5, as benign/0_mask.png)" in data.notes
    write_class_folder(tmp_path / "apart", {"images": 4, "masks": 4})
    with pytest.raises(InputError, match="as data for segmentation have.* --classes images masks"):
        load(tmp_path / "apart")
    assert load(tmp_path / "apart", classes=["images", "masks"]).classes == ("images", "masks")
    write_class_folder(tmp_path / "faces", {"mask": 4, "no_mask": 4})
    assert load(tmp_path / "faces").classes == ("mask", "no_mask")


@pytest.mark.parametrize("memory", [None, 1])
def test_an_image_with_two_labels_is_counted(tmp_path, memory):
    write_class_folder(tmp_path / "train", {"cat": 4, "dog": 4})
    write_class_folder(tmp_path / "test", {"cat": 2, "dog": 2}, seed=90)
    assert load(tmp_path, memory=memory).notes == ()
    (tmp_path / "train" / "dog" / "9.png").write_bytes((tmp_path / "train" / "cat" / "1.png").read_bytes())
    (tmp_path / "train" / "cat" / "8.png").write_bytes((tmp_path / "train" / "cat" / "2.png").read_bytes())
    found = load(tmp_path, memory=memory).notes
    assert found == ("contradictions: 2 training images are there more than once, with different labels",)


def test_images_in_a_frame_are_told_of(tmp_path):
    """Two thirds of them were set into the corner of a black square in place of being resized."""
    draw = np.random.default_rng(0)
    for number in range(30):
        image = draw.integers(1, 256, (20, 20, 3), dtype=np.uint8)
        if number % 3:
            image[:, 12:] = 0
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "ab"[number % 2] / f"{number:02}.png")
    (note,) = load(str(tmp_path)).notes
    assert re.match(r"padding: about (5|6|7)\d % of the training images end on one side in rows or columns", note)
    margin = np.zeros((20, 20, 20, 3), np.uint8)
    margin[:, 4:8, 4:8] = draw.integers(1, 256, (20, 4, 4, 3))  # the same all around
    np.savez(tmp_path / "margin.npz", train_images=margin, train_labels=np.arange(20) % 2)
    assert not load(str(tmp_path / "margin.npz")).notes


def test_names_that_are_the_same_in_another_spelling(tmp_path):
    for split, form in (("train", "NFC"), ("test", "NFD")):  # macOS writes é as e and an accent
        write_class_folder(
            tmp_path / "accents" / split, {unicodedata.normalize(form, name): 3 for name in ("café", "thé")}
        )
    assert load(tmp_path / "accents").classes == ("café", "thé")
    assert load(tmp_path / "accents", classes=["thé", unicodedata.normalize("NFD", "café")]).classes == ("thé", "café")
    write_class_folder(tmp_path / "zeros", {"01": 3, "1": 3, "10": 3})
    with pytest.raises(InputError, match="'01' and '1' differ only in how they are written"):
        load(tmp_path / "zeros")
    write_class_folder(tmp_path / "one", {"all": 3})
    (tmp_path / "one" / "Labels.txt").write_text("0.png cat")
    with pytest.raises(InputError, match=r"labels\.csv with the columns file_name and label\. Passed.*: Labels\.txt"):
        load(tmp_path / "one")
