"""What is in a folder: every file once, what is passed over is said, and first bytes decide what a file is."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.data import load
from notbugs.errors import InputError
from notbugs.study.machine import surroundings
from tests.pictures import encoded, noise, write_class_folder


def counts(data):
    return torch.bincount(torch.cat([data.train.labels, data.test.labels])).tolist()


@pytest.fixture
def folder(tmp_path):
    write_class_folder(tmp_path / "set", {"a": 3, "b": 3})
    return tmp_path / "set"


def test_names_do_not_decide_what_a_file_is(folder):
    for number, name in enumerate(("x.jfif", "y.jpe", "none", "notes.txt", "archive.npz", "z.JPG", "w.xyz")):
        (folder / "b" / name).write_bytes(encoded(noise(4, 5, seed=900 + number), "PNG" if number else "JPEG"))
    assert counts(load(folder)) == [3, 10]


def test_what_is_passed_over_is_counted_and_goes_into_results(folder, caplog):
    write_class_folder(folder, {"@eaDir/a": 1, "__MACOSX/b": 1, ".cache": 1, "#recycle": 1})
    for name in (".DS_Store", "a/Thumbs.db", "a/desktop.ini", "a/._0.png", "README.md"):
        (folder / name).write_bytes(b"nothing to see here")
    (folder / "beside.png").write_bytes(encoded(noise(4, 5)))
    with caplog.at_level("INFO", "notbugs"):
        data = load(folder)
    assert (data.classes, counts(data)) == (("a", "b"), [3, 3])
    assert data.notes == (
        "passed over: hidden or system files and folders (6, as #recycle)",
        "passed over: files that are no images (3, as README.md)",
        "passed over: images beside the class folders (1: beside.png)",
    )
    assert [record.getMessage() for record in caplog.records] == [f"set: {note}" for note in data.notes]
    assert surroundings("set", data, torch.device("cpu"))["data"]["notes"] == list(data.notes)


def test_links_are_not_followed_twice(folder):
    for name, target in (("a/up", ".."), ("a/up2", "../.."), ("a/up3", "."), ("c", "b"), ("b/a", "../a")):
        (folder / name).symlink_to(target)
    (folder / "a" / "same.png").symlink_to("../b/0.png")
    data = load(folder)
    assert (data.classes, counts(data)) == (("a", "b"), [3, 3])
    assert any(note.startswith("passed over: links to folders that are read where they lie (5") for note in data.notes)
    assert any(note.startswith("passed over: links to files that are read where they lie (1") for note in data.notes)


def test_links_out_of_the_folder_are_asked_about(folder, tmp_path):
    write_class_folder(tmp_path / "elsewhere", {"c": 4}, seed=70)
    (tmp_path / "elsewhere" / "c" / "back").symlink_to(folder)
    (folder / "c").symlink_to(tmp_path / "elsewhere" / "c")
    with pytest.raises(
        InputError, match=r"set/c is a link out of the data folder, to .*elsewhere/c\. .*--follow-links"
    ):
        load(folder)
    assert counts(load(folder, follow_links=True)) == [3, 3, 4]
    (tmp_path / "link").symlink_to(folder)  # the folder that is named may be a link itself
    assert counts(load(tmp_path / "link", follow_links=True)) == [3, 3, 4]


def test_pipes_and_sockets_are_never_opened(folder, monkeypatch):
    os.mkfifo(folder / "a" / "9.png")
    os.mkfifo(folder / "a" / "9")
    monkeypatch.chdir(folder / "a")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")  # the path of a socket has at most 107 characters
        data = load(folder)
    assert counts(data) == [3, 3]
    assert data.notes == ("passed over: pipes, sockets or devices (3, as a/9)",)
    with pytest.raises(InputError, match="it is neither a file nor a folder"):
        load(folder / "a" / "9")


BROKEN = {
    "a/empty.png": (b"", "is empty"),
    "a/page.jpg": (b"<!DOCTYPE html><html>not found</html>", "is a web page, as servers answer"),
    "b/pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "b/cut.png": (encoded(noise(40, 50))[:900], "cannot be decoded"),
}


@pytest.mark.parametrize("memory", [None, 30])
def test_broken_images_are_named_all_at_once_and_can_be_left_out(folder, tmp_path, monkeypatch, memory):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("notbugs.data.assemble.SHARD_BYTES", 50)
    whole = load(folder)
    for name, (data, _) in BROKEN.items():
        (folder / name).write_bytes(data)
    (folder / "a" / "gone.png").symlink_to("/nowhere.png")
    for _ in range(2):  # the second time from what the first one kept
        with pytest.raises(InputError, match="^5 images cannot be read: ") as raised:
            load(folder, memory=memory)
        assert all(name in str(raised.value) and why in str(raised.value) for name, (_, why) in BROKEN.items())
        assert "gone.png is a link to /nowhere.png, which is not there" in str(raised.value)
        assert "--skip-broken" in str(raised.value)
    found = load(folder, memory=memory, skip_broken=True)
    assert found.fingerprint == whole.fingerprint
    assert len(found.left_out) == 5
    assert found.notes[0].startswith("left out: images that cannot be read (5, as ")
    assert surroundings("set", found, torch.device("cpu"))["data"]["left_out"] == list(found.left_out)


def test_of_many_broken_images_some_are_named(folder):
    for number in range(30):
        (folder / "a" / f"x{number}.png").write_bytes(b"")
    with pytest.raises(InputError, match="^30 images cannot be read: .*; and 20 more. "):
        load(folder)


def test_a_class_of_broken_images_alone(folder):
    (folder / "c").mkdir()
    (folder / "c" / "0.png").write_bytes(b"junk")
    with pytest.raises(InputError, match="Every class must have a training image; c has none"):
        load(folder, skip_broken=True)


def test_a_name_of_a_built_in_set_that_is_also_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_class_folder(tmp_path / "digits", {"mine": 2, "yours": 2})
    with pytest.raises(InputError, match=r"Give \./digits to read that, or builtin:digits for the built-in set"):
        load("digits")
    assert load("./digits").classes == ("mine", "yours")
    assert load("builtin:digits").classes == tuple("0123456789")
    (tmp_path / "digits" / "seed-0").mkdir()
    (tmp_path / "digits" / "seed-0" / "study.json").write_text("{}")  # a study of that name is no data
    assert load("digits").classes == tuple("0123456789")


# The value of white


def depth(folder, top, dtype, number=8):
    """Grey images with all values from 0 to `top`."""
    ramp = np.linspace(0, top, 20).astype(dtype).reshape(4, 5)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for count in range(number):
            Image.fromarray(np.roll(ramp, count)).save(folder / name / f"{count}.png")
    return folder


@pytest.mark.parametrize(
    ("top", "dtype", "seen"),
    [(4095, np.uint16, "4095 of 65535"), (1023, np.uint16, "1023 of 65535"), (1, np.uint8, "1 of 255")],
)
def test_white_that_is_not_the_files_is_asked_about(tmp_path, top, dtype, seen):
    folder = depth(tmp_path / "set", top, dtype)
    with pytest.raises(InputError, match=f"is {seen}: white is likely .* Give --white-level {top} if {top} is white"):
        load(folder)
    data = load(folder, white_level=top)
    assert data.train.batch(slice(None))[0].max() == 1
    dark = load(folder, white_level=65535 if dtype == np.uint16 else 255)
    torch.testing.assert_close(dark.train.batch(slice(None))[0].max().item(), top / (65535 if top > 1 else 255))
    with pytest.raises(InputError, match=f"must hold values in 0..{top - 1 or 0.5:g}"):
        load(folder, white_level=top - 1 or 0.5)


@pytest.mark.parametrize("memory", [None, 30])
def test_white_is_part_of_what_decoded_files_are_found_by(tmp_path, monkeypatch, memory):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    folder = depth(tmp_path / "set", 4095, np.uint16)
    tops = [load(folder, white_level=white, memory=memory).train.batch(slice(None))[0].max() for white in (4095, 8190)]
    assert [round(float(top), 6) for top in tops] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("images", "white"),
    [
        (noise(9, 4, 4).astype(np.float32), 255),
        (noise(9, 4, 4).astype(np.uint16) * 16, 4095),
        (noise(9, 4, 4) // 255, 1),
    ],
)
def test_white_of_arrays(tmp_path, images, white):
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(9) % 3)
    with pytest.raises(InputError, match=f"white.*--white-level {white}"):
        load(tmp_path / "set.npz")
    found = load(tmp_path / "set.npz", white_level=white)
    assert found.train.batch(slice(None))[0].max() == pytest.approx(images.max() / white, abs=1e-6)
