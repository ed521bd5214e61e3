"""What is exported is what others read: the same images, labels and order."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from notbugs.classifier import Classifier
from notbugs.construct import FORMATS, ConstructedSet, choose_targets, export, exporters, relabel, robustify
from notbugs.construct.card import quoted
from notbugs.construct.exporters import class_folders
from notbugs.data import Data, Images, load
from notbugs.errors import InputError
from notbugs.files import DiskFull, read_json, write_json
from notbugs.search import PGDSteps
from notbugs.seeds import generator, seeded

ROOT = Path(__file__).parents[1]
QUICK = PGDSteps(3, 0.1)
HOSTILE = (
    "../../etc/passwd",
    "a: [b] # c",
    'quote " and \\ back',
    "line\nbreak\ttab",
    "```\n---\n<script>",
    "naïve 日本 😀\u2028\x7f",
    "",
    "." * 300,
    "é" * 300,
    "{x}",
    "- null",
    "10",
)


def make(folder: Path, classes: tuple[str, ...], dtype: str, channels: int = 3, count: int = 96) -> ConstructedSet:
    draw = generator(0, "export")
    labels = torch.arange(count) % len(classes)
    images = Images(torch.rand(count, channels, 6, 5, generator=draw), labels)
    with seeded(3):
        source = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(30 * channels, len(classes))))
    data = Data("ra*ndom | set", images, images, classes)
    return relabel(source, data, folder, targets="next", schedule=QUICK, dtype=dtype)  # pyrefly: ignore


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> ConstructedSet:
    return make(tmp_path_factory.mktemp("sets") / "float16", HOSTILE, "float16")


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> ConstructedSet:
    return make(tmp_path_factory.mktemp("sets") / "grey", tuple("abcd"), "uint8", channels=1)


@pytest.fixture(scope="module")
def exported(built, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporters, "CHUNK_BYTES", 7 * 4 * 90)  # 7 images
        patch.setattr(exporters, "FILE_CHUNKS", 4)
        return {name: export(built.folder, folder / name, name) for name in FORMATS}


def read(folder: Path, name: str) -> dict:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.read_export", str(folder), name],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "hub")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def eight_bit(built: ConstructedSet) -> np.ndarray:
    return built.images.batch(slice(None))[0].mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def test_an_image_folder_is_read_by_torchvision_and_datasets(built, exported):
    found = read(exported["imagefolder"], "imagefolder")
    labels, total = built.images.labels.tolist(), int(eight_bit(built).astype(np.int64).sum())
    assert found["torchvision"]["labels"] == labels
    assert found["torchvision"]["classes"] == class_folders(list(HOSTILE))
    assert found["torchvision"]["sum"] == total
    for way in ("folder", "builder"):
        assert found[way]["labels"] == sorted(labels)  # `datasets` goes through the folders one by one
        assert found[way]["classes"] == class_folders(list(HOSTILE))
        assert found[way]["sum"] == total


def test_the_files_of_an_image_folder(built, exported):
    folder = exported["imagefolder"]
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [int(row["label"]) for row in table] == built.images.labels.tolist()
    assert [int(row["start"]) for row in table] == built.start.tolist()
    assert [float(row["loss"]) for row in table] == built.loss.tolist()
    pictures = np.stack([np.asarray(Image.open(folder / row["file"])) for row in table])
    assert np.array_equal(pictures, eight_bit(built))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "manifest.json", "rows.csv", "train"]
    assert not list((folder / "train").rglob("metadata.*"))


def test_parquet_is_read_by_datasets(built, exported):
    folder = exported["parquet"]
    assert len(list((folder / "data").iterdir())) == 4  # 14 chunks, 4 in a file
    found = read(folder, "parquet")
    exact = built.images.pixels[:].numpy()
    for way in ("folder", "builder"):
        assert found[way]["labels"] == built.images.labels.tolist()
        assert found[way]["classes"] == list(HOSTILE)
        assert found[way]["features"]["pixels"] == "Array3D(shape=(3, 6, 5), dtype='float16')"
        assert found[way]["features"]["image"].startswith("Image(")
        assert found[way]["pixels"] == [exact.astype(np.float64).sum(), [96, 3, 6, 5]]
        assert found[way]["sum"] == int(eight_bit(built).astype(np.int64).sum())


@pytest.mark.parametrize("which", ["built", "grey"])
def test_a_hub_folder_goes_round_and_its_loader_checks_it(request, tmp_path, which):
    made = request.getfixturevalue(which)
    folder = export(made.folder, tmp_path / "hub-set", "hub-folder", license="cc-by-4.0")
    assert "\nlicense: cc-by-4.0\n" in (folder / "README.md").read_text(encoding="utf-8")
    assert "license_name" not in (folder / "README.md").read_text(encoding="utf-8")
    ask = (
        "import json, sys, numpy as np; sys.path.insert(0, sys.argv[1]); from load_checked import data; "
        "pixels = np.asarray(data['pixels'][:]); "
        "print(data['label'][:] == json.loads(sys.argv[2]), pixels.shape, float(pixels.astype(float).sum()))"
    )
    command = [sys.executable, "-c", ask, str(folder), str(made.images.labels.tolist())]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "PYTHONDONTWRITEBYTECODE": "1"}
    how: dict[str, Any] = {"env": offline, "capture_output": True, "text": True, "timeout": 120}
    found = subprocess.run(command, **how)
    exact = made.images.pixels[:].numpy()
    assert found.stdout == f"True {exact.shape} {float(exact.astype(float).sum())}\n", found.stderr
    summed = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    assert summed.returncode == 0
    assert len((folder / "load_checked.py").read_text().split("\n\n", 1)[1].splitlines()) <= 12
    if which == "grey":  # once is enough
        return
    file = next((folder / "data").iterdir())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    broken = subprocess.run(command, **how)
    assert broken.returncode == 1
    assert f"data/{file.name} is not as it was written" in broken.stderr


def test_another_licence_is_another_export(grey, tmp_path):
    export(grey.folder, tmp_path / "out", "npz")
    with pytest.raises(InputError, match="'out' must not exist yet"):
        export(grey.folder, tmp_path / "out", "npz", license="mit")
    with pytest.raises(InputError, match="'license' must be one of the Hub's names"):
        export(grey.folder, tmp_path / "other", "npz", license="MIT License\nx: y")


def test_a_flipped_bit_of_a_label_in_parquet_is_noticed(exported, tmp_path):
    from pyarrow.parquet import read_metadata

    folder = shutil.copytree(exported["parquet"], tmp_path / "flipped")
    file = min((folder / "data").iterdir())
    group = read_metadata(file).row_group(0)
    column = next(group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == "label")
    content = bytearray(file.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=file.name):
        load(str(folder)).train.batch(slice(None))


def test_parquet_is_read_by_pyarrow(built, exported):
    from pyarrow.parquet import read_table

    table = read_table(exported["parquet"] / "data")
    pixels = np.array(table["pixels"].to_pylist(), dtype=np.float16)
    assert np.array_equal(pixels, built.images.pixels[:].numpy())
    for name in ("start", "target", "loss"):
        assert table[name].to_pylist() == getattr(built, name).tolist()
    assert table["image"][3].as_py()["path"] == "000003.png"


def test_npz_is_read_by_numpy(built, exported):
    with np.load(exported["npz"] / "data.npz", allow_pickle=False) as file:
        assert np.array_equal(file["train_images"], built.images.pixels[:].permute(0, 2, 3, 1).numpy())
        assert file["train_images"].dtype == np.float16
        assert file["train_labels"].shape == (96, 1)
        assert file["train_labels"][:, 0].tolist() == built.images.labels.tolist()
        for name in ("start", "target", "loss"):
            assert file[f"train_{name}"].tolist() == getattr(built, name).tolist()
        assert file["classes"].tolist() == list(HOSTILE)


def test_grey_8_bit_images(grey, tmp_path):
    for name in FORMATS:
        export(grey.folder, tmp_path / name, name)
    with np.load(tmp_path / "npz" / "data.npz", allow_pickle=False) as file:
        assert file["train_images"].shape == (96, 6, 5)
        assert np.array_equal(file["train_images"], grey.images.pixels[:][:, 0].numpy())
    picture = Image.open(tmp_path / "imagefolder" / "train" / "01_b" / "000000.png")
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), grey.images.pixels[:][0, 0].numpy())
    found = read(tmp_path / "parquet", "parquet")
    assert found["folder"]["pixels"] == [float(grey.images.pixels[:].double().sum()), [96, 1, 6, 5]]


def test_images_of_other_channels(tmp_path):
    built = make(tmp_path / "set", ("a", "b"), "float32", channels=2)
    with pytest.raises(InputError, match="'images' must have 1 or 3 channels.*Export as parquet or npz"):
        export(built.folder, tmp_path / "png", "imagefolder")
    assert not (tmp_path / "png").exists()
    found = read(export(built.folder, tmp_path / "parquet", "parquet"), "parquet")
    assert list(found["folder"]["features"]) == ["label", "start", "target", "loss", "pixels"]
    assert found["folder"]["features"]["pixels"] == "Array3D(shape=(2, 6, 5), dtype='float32')"


def without_seconds(manifest):
    shards = [{name: value for name, value in shard.items() if name != "seconds"} for shard in manifest["shards"]]
    return {name: value for name, value in manifest.items() if name != "seconds"} | {"shards": shards}


@pytest.mark.parametrize("name", FORMATS)
def test_the_card(built, exported, name):
    text = (exported[name] / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license"] == "other"
    assert head["size_categories"] == ["n<1K"]
    if name == "npz":
        assert head["viewer"] is False
    else:
        named = {feature["name"]: feature["dtype"] for feature in head["dataset_info"]["features"]}
        names = list(HOSTILE) if name in ("parquet", "hub-folder") else class_folders(list(HOSTILE))
        assert list(named["label"]["class_label"]["names"].values()) == names
    storage = built.manifest["storage"]
    assert (
        f"| l2 distance to the start, rounded to 8 bits | mean {storage['l2_norm_8bit']['mean']:.4g}, largest" in body
    )
    assert ("l2 error of the pictures here" in body) == (name != "npz")
    assert "@inproceedings{ilyas2019adversarial" in body
    assert "@software{notbugs" in body
    assert built.manifest["request"]["source"] in body
    assert "ra_ndom _ set" in body
    manifest = body.split("```json\n")[1].split("\n```")[0]
    assert json.loads(manifest) == without_seconds(built.manifest)
    assert json.loads((exported[name] / "manifest.json").read_text(encoding="utf-8")) == built.manifest


def test_a_card_of_a_measured_matched_set(tmp_path):
    images = Images(torch.rand(20, 1, 4, 4, generator=generator(0, "card")), torch.arange(20) % 2)
    with seeded(0):
        source = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    built = robustify(source, Data("d", images, images, ("a", "b")), tmp_path / "set", schedule=QUICK)
    built.record({"success_independent": {"value": 0.5, "low": 0.3, "high": 0.7, "n": 20}})
    text = (export(built.folder, tmp_path / "npz", "npz") / "README.md").read_text()
    assert "| success independent | 0.5 [0.3, 0.7] |" in text
    assert "threat model: free" in text


def test_names_of_folders():
    folders = class_folders(list(HOSTILE))
    assert folders[:4] == ["00_.._.._etc_passwd", "01_a_b_c", "02_quote_and_back", "03_line_break_tab"]
    assert folders == sorted(folders)
    assert all(Path(name).name == name and len(name.encode()) < 256 for name in folders)
    assert class_folders([str(n) for n in range(101)])[100] == "100_100"


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "\x00\x1b[31m", "﻿bom", "~", "yes"])
def test_any_text_is_a_yaml_string(text):
    assert yaml.safe_load(f"name: {quoted(text)}") == {"name": text}


def test_an_image_folder_without_an_image_of_a_class_is_refused(tmp_path):
    images = Images(torch.rand(3, 3, 6, 5, generator=generator(0, "few")), torch.arange(3))
    with seeded(0):
        source = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(90, 3)))
    draws = ((seed, choose_targets(images.labels, 3, "any", seed)) for seed in range(99))
    seed, targets = next((seed, drawn) for seed, drawn in draws if 1 not in drawn)
    data = Data("few", images, images, ("a", "b", "c"))
    built = relabel(source, data, tmp_path / "set", schedule=QUICK, seed=seed)
    with pytest.raises(InputError, match="must have an image of every class.*'b' has none.*Export as parquet or npz"):
        export(built.folder, tmp_path / "png", "imagefolder")
    assert read(export(built.folder, tmp_path / "p", "parquet"), "parquet")["folder"]["labels"] == targets.tolist()


def test_an_export_appears_whole_or_not_at_all(built, tmp_path, monkeypatch):
    (tmp_path / ".npz.part").mkdir()
    (tmp_path / ".npz.part" / "left over").write_text("x")
    (tmp_path / ".npz.part" / "folder").mkdir()

    def fill_up(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules[export.__module__], "card", fill_up)
    with pytest.raises(DiskFull, match="No room left to export"):
        export(built.folder, tmp_path / "npz", "npz")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / "npz").mkdir()  # an empty folder is as good as none
    told = []
    export(built.folder, tmp_path / "npz", "npz", progress=lambda done, total, note="": told.append((done, total)))
    assert told == [(96, 96)]
    assert sorted(path.name for path in (tmp_path / "npz").iterdir()) == ["README.md", "data.npz", "manifest.json"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_finished_export_is_left_as_it_is_and_has_the_same_bytes_anywhere(built, tmp_path, name, caplog):
    export(built.folder, tmp_path / "a", name)
    first = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "a").rglob("*") if path.is_file()
    }
    with caplog.at_level("INFO", "notbugs"):
        export(built.folder, tmp_path / "a", name)
    assert "a is done: the same command wrote it." in caplog.text
    assert first == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first}
    for other in set(FORMATS) - {name}:
        with pytest.raises(InputError, match="'out' must not exist yet"):
            export(built.folder, tmp_path / "a", other)
    slower = shutil.copytree(built.folder, tmp_path / "slower")  # the same set, which took longer to build
    manifest = read_json(slower / "manifest.json")
    manifest |= {"seconds": 99.0, "shards": [shard | {"seconds": 9.0} for shard in manifest["shards"]]}
    write_json(slower / "manifest.json", manifest)
    with pytest.raises(InputError, match="'out' must not exist yet"):
        export(slower, tmp_path / "a", name)
    export(slower, tmp_path / "b", name)
    differ = [
        path.name
        for path, (_, data) in first.items()
        if (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() != data
    ]
    assert differ == ["manifest.json"]


def test_what_is_there_is_not_overwritten(built, tmp_path, unchecked):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(InputError, match="'out' must (not exist yet, or be an empty folder|be a folder)"):
            export(built.folder, tmp_path / name, "npz")
    assert (tmp_path / "full" / "mine").read_text() == "x"
    with pytest.raises(
        InputError, match="'format' must be one of imagefolder, parquet, npz, hub-folder.*Did you mean 'parquet'"
    ):
        export(built.folder, tmp_path / "out", "parket")  # pyrefly: ignore
    with pytest.raises(InputError, match="no finished constructed set"):
        export(tmp_path / "full", tmp_path / "out", "npz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("package", "name"), [("PIL", "imagefolder"), ("pyarrow.parquet", "parquet")])
def test_a_missing_package_is_named(built, tmp_path, monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'notbugs\[data\]'"):
        export(built.folder, tmp_path / "out", name)
    assert not list(tmp_path.iterdir())
