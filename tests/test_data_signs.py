"""The folders of the German Traffic Sign Recognition Benchmark; groups by names of files; JPEG as a part of data."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.data import JPEG, load
from notbugs.data.decode import fit
from notbugs.data.jpeg import compressed
from notbugs.data.published import GTSRB_CLASSES
from notbugs.errors import InputError
from notbugs.study import read_recipe
from tests.pictures import encoded, noise
from tests.test_data_parquet import write

HEAD = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
TRACKS, FRAMES = 3, 2


def benchmark(folder, classes, *, row="", test_row=""):
    """Tracks of each class, every image of a size of its own; what is cut out of each, with its class and track."""
    draw, signs = np.random.default_rng(0), {}
    for label in range(classes):
        inner = folder / "Final_Training" / "Images" / f"{label:05d}"
        inner.mkdir(parents=True)
        rows = [HEAD] + ([row] if row and not label else [])
        for track in range(TRACKS):
            for frame in range(FRAMES):
                name, side = f"{track:05d}_{frame:05d}.ppm", 10 + track
                pixels = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
                (inner / name).write_bytes(encoded(pixels, "PPM"))
                rows.append(f"{name};{side};{side};2;3;{side - 2};{side - 1};{label}")
                signs[label, track, frame] = pixels[3 : side - 1, 2 : side - 2].transpose(2, 0, 1)
        (inner / f"GT-{label:05d}.csv").write_text("\n".join(rows))
    test = folder / "Final_Test" / "Images"
    test.mkdir(parents=True)
    rows = [HEAD, "00000.ppm;9;9;1;1;7;7;1", "00001.ppm;9;9;1;1;7;7;0", *([test_row] if test_row else [])]
    for number in (0, 1):
        (test / f"0000{number}.ppm").write_bytes(encoded(noise(9, 9, 3, seed=number), "PPM"))
    (test / "GT-final_test.csv").write_text("\n".join(rows))
    return signs


def tracks(images, signs, size):
    """The class and track of each image, by its pixels."""
    known = {fit(sign, size).tobytes(): key[:2] for key, sign in signs.items()}
    return [known[image.numpy().tobytes()] for image in images.pixels]


@pytest.mark.parametrize("pattern", [None, "{group}_*"])
def test_the_benchmarks_own_folders(tmp_path, pattern):
    """PPM files of all sizes in a folder for each class, cut out by semicolon-separated annotation, in tracks."""
    signs = benchmark(tmp_path, 43)
    data = load(tmp_path, size=6, group_pattern=pattern)
    assert (data.classes, len(data.train), data.test_name) == (GTSRB_CLASSES, len(signs), "test")
    assert data.test.labels.tolist() == [1, 0]
    assert "classes are named as GTSRB's" in data.notes
    found = tracks(data.train, signs, 6)
    assert [label for label, _ in found] == data.train.labels.tolist()
    together = {}
    for track, group in zip(found, data.train.groups.tolist(), strict=True):
        assert together.setdefault(track, group) == group
    assert len(set(together.values())) == 43 * TRACKS
    held = data.hold_out(0.3, 0)
    parts = [tracks(part, signs, 6) for part in (held.train, held.test)]
    assert set(parts[0]).isdisjoint(parts[1])
    assert len(parts[1]) == 78  # 30 % of 258, and 39 tracks
    assert load(tmp_path, size=6, classes=[f"sign {number}" for number in range(43)]).classes[42] == "sign 42"


def test_other_signs_in_the_same_form_keep_their_numbers(tmp_path):
    """As BelgiumTS, which has the same tables and 62 classes."""
    benchmark(tmp_path, 2)
    assert load(tmp_path, size=6).classes == ("0", "1")


@pytest.mark.parametrize(
    ("row", "test_row", "message"),
    [
        ("00009_00000.ppm;9;9;1;1;7;7;0", "", r"00009_00000\.ppm in .*GT-00000\.csv is not there"),
        ("stray.ppm;9;9;1;1;19;7;0", "", r"stray\.ppm is 9x9 pixels, and its table wants the part 1, 1 to 19, 7"),
        ("stray.ppm;9;9;7;1;7;7;0", "", r"stray\.ppm is 9x9 pixels, and its table wants the part 7, 1 to 7, 7"),
        ("stray.ppm;9;9;1;a;7;7;0", "", r"corners in row 2 of .*GT-00000\.csv' must be whole numbers. Got .*'a'"),
        ("stray.ppm;9;9;1;1;7;7;5", "", r"must be 0 to 5, with a training image for each. Got 'none for 2, 3, 4'"),
        ("", "00000.ppm;9;9;1;1;7;7;2", r"GT-final_test\.csv lists .*00000\.ppm twice, as 1 and as 2"),
        ("", "third.ppm;9;9;1;1;7;7;2", r"must be between 0 and 1, as the training images have 2 classes. Got 2"),
        ("", "00002.ppm;9;9;1;1;7;7;1", r"00002\.ppm in .*GT-final_test\.csv is not there"),
    ],
)
def test_annotation_that_is_wrong(tmp_path, row, test_row, message):
    """A file that is missing, a part outside its image or of no size, a class out of range."""
    benchmark(tmp_path, 2, row=row, test_row=test_row)
    for inner in ("Final_Training/Images/00000/stray.ppm", "Final_Test/Images/third.ppm"):
        (tmp_path / inner).write_bytes(encoded(noise(9, 9, 3), "PPM"))
    with pytest.raises(InputError, match=message):
        load(tmp_path, size=6)


def named(folder, kind, names, test=()):
    """Images of two classes, of files with these names, in folders or in a parquet file that keeps them."""
    for split, files in (("train", names), ("test", test)):
        pictures = [encoded(np.full((4, 5), 200 - 10 * len(split) - number, np.uint8)) for number in range(len(files))]
        if kind == "parquet" and files:
            column = [{"bytes": data, "path": name} for data, name in zip(pictures, files, strict=True)]
            write(folder / f"{split}.parquet", column, [number % 2 for number in range(len(files))])
        for number, (name, data) in enumerate(zip(files, pictures, strict=True) if kind == "folder" else ()):
            file = folder / split / "ab"[number % 2] / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_groups_by_the_names_of_files(tmp_path, kind):
    """Patients of any class, by what stands before the last line below in a name: P3_left_1.png."""
    people = [f"P{number // 4}_{side}_{number}.png" for number, side in enumerate(["left", "right"] * 8)]
    named(tmp_path, kind, people, ["1.png", "2.png"])
    pattern = "*/{group}_*_*" if kind == "folder" else "{group}_*_*"
    data = load(tmp_path, group_pattern=pattern)
    assert len(data.train.groups.unique()) == 4
    assert data.test.groups is None
    order = [200 - 50 - int(image.max()) for image in data.train.pixels]
    who = {number // 4: group for number, group in zip(order, data.train.groups.tolist(), strict=True)}
    assert [who[number // 4] for number in order] == data.train.groups.tolist()
    assert f"training images are of 4 groups by their names ({pattern}), which are kept together" in data.notes
    held = data.hold_out(0.25, 1)
    assert set(held.train.groups.tolist()).isdisjoint(held.test.groups.tolist())


@pytest.mark.parametrize(
    ("names", "test", "pattern", "message"),
    [
        (["a_1.png", "b_1.png"], [], "a_*", r"must have \{group\} once, and \* up to 3 times: .* Got 'a_\*'"),
        (["a_1.png", "b_1.png"], [], "*{group}*_*_*", r"must have \{group\} once, and \* up to 3 times"),
        (["a_1.png", "b1.png"], [], "{group}_*", r"form of every training image .*'train/b/b1' and 0 more is another"),
        (
            ["a_1.png", "b_1.png", "a_2.png"],
            ["c_1.png", "d.png"],
            "*/{group}_*",
            "form of every test image .*'test/b/d' and 0 more",
        ),
        (
            ["a_1.png", "a_2.png"],
            [],
            "*/{group}_*",
            r"put some of the 2 training .* and others apart. Got .*, with 1 g",
        ),
        (["a_1.png", "b_2.png"], [], "{group}", r"put some of the 2 training .* together, .*Got '\{group\}, with 2 g"),
        (
            ["a_1.png", "b_1.png", "a_3.png"],
            ["a_2.png", "c_1.png"],
            "*/{group}_*",
            "1 groups of .* in the training and in the t",
        ),
    ],
)
def test_patterns_that_are_refused(tmp_path, names, test, pattern, message):
    named(tmp_path, "folder", names, test)
    with pytest.raises(InputError, match=message):
        load(tmp_path, group_pattern=pattern)


def test_a_pattern_of_what_has_no_names_is_refused(tmp_path):
    write(tmp_path / "train.parquet", [encoded(noise(4, 5, seed=one)) for one in range(4)], [0, 1, 0, 1])
    with pytest.raises(InputError, match=r"'group_pattern' must be given with images that have the names of their f"):
        load(tmp_path, group_pattern="{group}_*")
    np.savez(tmp_path / "set.npz", images=noise(4, 8, 8), labels=[0, 1, 0, 1])
    for source in (tmp_path / "set.npz", "digits"):
        with pytest.raises(InputError, match="'group_pattern' must"):
            load(source, group_pattern="{group}_*")
    with pytest.raises(InputError, match="'group_pattern' must be given without a 'group_column'"):
        load(tmp_path, group_pattern="{group}_*", group_column="who")


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16)])
def test_jpeg_as_pillow_has_it(tmp_path, shape, chroma):
    """Of training and test images, before they are given three channels; the same bits where they are on disk."""
    for split, first in (("train", 0), ("test", 8)):
        for number in range(4):
            file = tmp_path / split / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(noise(*shape, seed=first + number)))
    how = JPEG(quality=60, chroma=chroma)
    plain, data = load(tmp_path), load(tmp_path, jpeg=how)
    for before, after in ((plain.train, data.train), (plain.test, data.test)):
        for one, other in zip(before.pixels, after.pixels, strict=True):
            array = one.permute(1, 2, 0).numpy().squeeze()
            file = io.BytesIO()
            Image.fromarray(array).save(file, "JPEG", quality=60, subsampling=chroma)
            assert np.array_equal(np.array(Image.open(file)), other.permute(1, 2, 0).numpy().squeeze())
    assert data.title == f"{tmp_path.name} (through JPEG of quality 60, {chroma})"
    assert data.fingerprint != plain.fingerprint == load(tmp_path).fingerprint
    assert load(tmp_path, jpeg=how, memory=1).fingerprint == data.fingerprint
    assert torch.equal(load(tmp_path, jpeg=how, channels=3).train.pixels[:, :1], data.train.pixels[:, :1])


def test_jpeg_of_the_best_quality_changes_almost_nothing():
    """With colour at every pixel: rounding alone, of a few grey levels. Halved chroma costs noise dearly."""
    colour, grey = noise(3, 32, 32), noise(1, 32, 32)
    assert np.abs(compressed(grey, 100).astype(int) - grey).max() <= 1
    assert np.abs(compressed(colour, 100, "4:4:4").astype(int) - colour).max() <= 4
    assert np.abs(compressed(colour, 100, "4:2:0").astype(int) - colour).mean() > 20
    assert np.array_equal(compressed(grey.astype(np.float32) / 255, 50), compressed(grey, 50))


def test_jpeg_of_data_that_come_with_notbugs():
    plain, data = load("digits"), load("digits", jpeg=JPEG(quality=50))
    assert data.title == "digits (through JPEG of quality 50, 4:2:0)"
    assert data.train.pixels.dtype == torch.uint8
    away = (data.train.batch(slice(100))[0] - plain.train.batch(slice(100))[0]).abs()
    assert 0.005 < float(away.mean()) < 0.1
    assert torch.equal(data.train.labels, plain.train.labels)


def test_the_recipe_reads_signs(tmp_path):
    benchmark(tmp_path, 43)
    recipe = read_recipe("gtsrb", {"data": str(tmp_path), "jpeg": {"quality": 90, "chroma": "4:4:4"}})
    data = recipe.read()
    assert data.title == f"{tmp_path.name} (resized to 32x32, through JPEG of quality 90, 4:4:4)"
    assert len(data.train.groups.unique()) == 43 * TRACKS
    with pytest.raises(InputError, match=r"jpeg\.quality' is wrong: .*less than or equal to 100. Got 200"):
        read_recipe("gtsrb", {"jpeg": {"quality": 200}})
    with pytest.raises(InputError, match=r"jpeg\.chroma' is wrong: .*'4:4:4' or '4:2:0'. Got '4:2:2'"):
        read_recipe("gtsrb", {"jpeg": {"chroma": "4:2:2"}})
    with pytest.raises(
        InputError, match=r"'jpeg' is wrong: it has a quality and a chroma: --jpeg\.quality 75 .*Got 75"
    ):
        read_recipe("gtsrb", {"jpeg": 75})
