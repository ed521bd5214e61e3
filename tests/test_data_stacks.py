"""npy, idx and mat files, another set's test images, and sets by name from a server on loopback."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import savemat

from notbugs.data import load, published
from notbugs.data.download import Published, fetch
from notbugs.data.published import MD5, NAMES
from notbugs.data.rows import Reading
from notbugs.errors import InputError
from notbugs.progress import silent
from tests.pictures import noise
from tests.test_data_download import BYTES, Server, left, server  # noqa: F401

IMAGES, TEST = noise(30, 6, 5, 3), noise(10, 6, 5, 3, seed=1)
LABELS, TEST_LABELS = np.arange(30, dtype=np.uint8) % 3, np.arange(10, dtype=np.uint8) % 3


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def same(images, array):
    return torch.equal(images.pixels[:], torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1))))


def test_npy_pairs_by_their_names(tmp_path):
    for name, array in (("x_train", IMAGES), ("y_train", LABELS), ("x_test", TEST), ("y_test", TEST_LABELS)):
        np.save(tmp_path / f"{name}.npy", array)
    data = load(tmp_path)
    assert same(data.train, IMAGES)
    assert same(data.test, TEST)
    assert (data.train.labels.tolist(), data.test_name) == (LABELS.tolist(), "test")


@pytest.mark.parametrize(("images", "labels"), [("img_data", "img_labels"), ("x_images", "x_labels")])
def test_what_a_name_says_last_is_what_is_in_it(tmp_path, images, labels):
    np.save(tmp_path / f"{images}.npy", IMAGES)
    np.save(tmp_path / f"{labels}.npy", LABELS)
    data = load(tmp_path / f"{images}.npy")
    assert len(data.train) + len(data.test) == len(IMAGES)


def test_classes_have_names_that_differ(tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS, classes=np.array(["cat", "cat", "owl"]))
    with pytest.raises(InputError, match="'classes' must be names that differ. Got 'cat twice'"):
        load(tmp_path / "set.npz")


def test_cifar101_and_cifar10c_are_test_images_of_another_set(tmp_path):
    np.savez(tmp_path / "ten.npz", images=IMAGES, labels=LABELS, classes=np.array(["cat", "dog", "owl"]))
    np.save(tmp_path / "cifar10.1_v6_data.npy", TEST)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", TEST_LABELS.astype(np.int32))
    data = load(tmp_path / "ten.npz", test_data=tmp_path / "cifar10.1_v6_data.npy")
    assert same(data.test, TEST)
    assert (data.test_name, data.classes, len(data.train)) == ("cifar10.1_v6_data", ("cat", "dog", "owl"), 30)
    assert data.notes == ("test images are those of cifar10.1_v6_data, whose labels are numbers and no names",)

    corrupted = tmp_path / "CIFAR-10-C"
    corrupted.mkdir()
    np.save(corrupted / "labels.npy", LABELS)
    for name, seed in (("fog", 5), ("snow", 6)):
        np.save(corrupted / f"{name}.npy", noise(30, 6, 5, 3, seed=seed))
    with pytest.raises(InputError, match=r"several files of images, fog\.npy and snow\.npy. Name the one to read"):
        load(corrupted)
    for severity in (1, 4):
        data = load(tmp_path / "ten.npz", test_data=corrupted / "snow.npy", severity=severity)
        assert same(data.test, noise(30, 6, 5, 3, seed=6)[6 * severity - 6 : 6 * severity])
        assert data.test_name == f"snow (severity {severity})"
    with pytest.raises(InputError, match="'severity' must be 1 to 5"):
        load(corrupted / "snow.npy", severity=6)


def test_the_test_images_of_another_set_are_matched_by_name(tmp_path):
    np.savez(tmp_path / "one.npz", images=IMAGES, labels=LABELS, classes=np.array(["cat", "dog", "owl"]))
    np.savez(tmp_path / "two.npz", images=TEST, labels=TEST_LABELS, classes=np.array(["owl", "cat", "dog"]))
    data = load(tmp_path / "one.npz", test_data=tmp_path / "two.npz")
    assert [data.classes[label] for label in data.test.labels.tolist()][:3] == ["owl", "cat", "dog"]
    np.savez(tmp_path / "two.npz", images=TEST, labels=TEST_LABELS, classes=np.array(["owl", "cat", "wolf"]))
    with pytest.raises(InputError, match="wolf is not. They are cat, dog, owl"):
        load(tmp_path / "one.npz", test_data=tmp_path / "two.npz")


def mnist_files(folder, packed):
    folder.mkdir(parents=True, exist_ok=True)
    for split, images, labels in (("train", IMAGES, LABELS), ("t10k", TEST, TEST_LABELS)):
        for name, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
            file = folder / f"{split}-{name}-ubyte{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_mnists_idx_files(tmp_path, packed, monkeypatch):
    monkeypatch.setattr("notbugs.data.rows.PIECE_BYTES", 7 * 30)
    data = load(mnist_files(tmp_path, packed))
    assert same(data.train, IMAGES[..., :1])
    assert same(data.test, TEST[..., :1])
    assert (data.test.labels.tolist(), data.test_name) == (TEST_LABELS.tolist(), "test")


@pytest.mark.parametrize("damage", ["short", "long header", "object"])
def test_arrays_that_are_refused(tmp_path, damage):
    mnist_files(tmp_path, packed=False)
    file = tmp_path / "train-images-idx3-ubyte"
    if damage == "short":
        file.write_bytes(file.read_bytes()[:-5])
    elif damage == "long header":
        file.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 30, 2**31, 2**31))
    else:
        file.unlink()
        np.save(tmp_path / "train-images.npy", np.array([print] * 30), allow_pickle=True)
    with pytest.raises(InputError, match="ends early|holds pickled objects|is not a readable|pairs of files"):
        load(tmp_path)


def svhn_files(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for split, images in (("train", noise(20, 6, 5, 3)), ("test", noise(10, 6, 5, 3, seed=1))):
        labels = (np.arange(len(images)) % 10 + 1)[:, None].astype(np.uint8)
        savemat(folder / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels}, do_compression=True)
    return folder


def test_svhns_files_where_ten_is_zero(tmp_path):
    data = load(svhn_files(tmp_path))
    assert same(data.train, noise(20, 6, 5, 3))
    assert (data.test.labels.tolist(), data.classes) == ([1, 2, 3, 4, 5, 6, 7, 8, 9, 0], tuple("0123456789"))
    assert data.notes == ("label 10 is the digit 0",)
    (tmp_path / "test_32x32.mat").write_bytes(b"MATLAB 7.3 MAT-file")
    with pytest.raises(InputError, match="is in MATLAB's format 7.3|has no readable"):
        load(tmp_path)


# By name


def test_mnist_by_name_is_downloaded_once_and_checked(tmp_path, monkeypatch, server):  # noqa: F811
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    files = sorted(mnist_files(tmp_path / "made", packed=True).iterdir())
    known = tuple(
        Published(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size) for file in files
    )
    monkeypatch.setitem(published.FILES, "fashion-mnist", known[:1])
    server.body = files[0].read_bytes()
    fetch(known[0], server.base, tmp_path / "cache" / "downloads" / "fashion-mnist", silent)
    for file in files[1:]:
        (tmp_path / "cache" / "downloads" / "fashion-mnist" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setitem(published.FILES, "fashion-mnist", known)
    monkeypatch.setattr(published, "FASHION_CLASSES", ("coat", "bag", "shirt"))
    data = load("fashion-mnist")
    assert (data.name, data.classes, len(data.test)) == ("Fashion-MNIST", ("coat", "bag", "shirt"), 10)
    assert load("fashion-mnist", classes=["bag", "coat", "shirt"]).train.labels[:3].tolist() == [1, 0, 2]


def test_svhn_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    files = svhn_files(tmp_path / "cache" / "downloads" / "svhn")
    known = [
        replace(one, sha256=hashlib.sha256((files / one.file).read_bytes()).hexdigest(), size=None)
        for one in published.FILES["svhn"]
    ]
    monkeypatch.setitem(published.FILES, "svhn", tuple(known))
    assert (load("svhn").name, load("svhn").classes) == ("SVHN", tuple("0123456789"))


def test_medmnist_by_name_is_checked_by_the_md5_its_authors_publish(tmp_path, monkeypatch, server):  # noqa: F811
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    arrays = {
        "train_images": IMAGES,
        "train_labels": LABELS[:, None] % 2,
        "test_images": TEST,
        "test_labels": TEST_LABELS[:, None] % 2,
    }
    np.savez(tmp_path / "made.npz", **arrays)
    server.body = (tmp_path / "made.npz").read_bytes()
    with pytest.raises(InputError, match="is not the published file: got .* MD5 .*, expected MD5 750601b1"):
        published.medmnist("breastmnist", Reading(), silent, base=server.base)
    monkeypatch.setitem(MD5, "breastmnist", hashlib.md5(server.body).hexdigest())
    part = tmp_path / "cache" / "downloads" / "breastmnist.npz.part"
    part.write_bytes(server.body[:900])
    server.asked.clear()
    found = published.medmnist("breastmnist", Reading(), silent, base=server.base)
    assert server.asked == ["bytes=900-"]
    assert found.classes == ("malignant", "normal, benign")
    assert load("breastmnist").test.labels.tolist() == (TEST_LABELS % 2).tolist()


def test_of_a_size_that_nobody_published(server, tmp_path):  # noqa: F811
    right = Published("set.npz", "", None, hashlib.md5(BYTES).hexdigest())
    server.die_after = 300_000
    assert fetch(right, server.base, tmp_path, silent).read_bytes() == BYTES
    assert left(tmp_path) == {"set.npz"}
    assert Server.ranges


def test_the_published_sums():
    """Of retinamnist.npz as its authors' file was seen to have it; every sum is one of MD5's or SHA-256's length."""
    assert MD5["retinamnist"] == "bd4c0672f1bba3e3a89f0e4e876791e4"
    assert {len(md5) for md5 in MD5.values()} == {32}
    assert len(set(MD5.values())) == len(MD5) == 4 * len(NAMES) == 48
    assert {len(one.sha256) for files in published.FILES.values() for one in files} == {64}


def test_chestmnist_by_name_has_fourteen_labels_with_their_names(tmp_path, monkeypatch, server):  # noqa: F811
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    findings = (np.arange(9 * 14).reshape(9, 14) % 5 == 0).astype(np.uint8)
    arrays = {f"{split}_images": noise(9, 6, 6) for split in ("train", "val", "test")}
    np.savez(tmp_path / "made.npz", **arrays | {f"{split}_labels": findings for split in ("train", "val", "test")})
    server.body = (tmp_path / "made.npz").read_bytes()
    monkeypatch.setitem(MD5, "chestmnist", hashlib.md5(server.body).hexdigest())
    found = published.medmnist("chestmnist", Reading(), silent, base=server.base)
    assert (len(found.classes), found.classes[0], found.classes[-1]) == (14, "atelectasis", "hernia")
    data = load("chestmnist")
    assert np.array_equal(data.test.labels.numpy(), findings)
    assert data.label("hernia").classes == ("no hernia", "hernia")
