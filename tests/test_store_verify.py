"""Every harm is found by `verify`, named, and mended by building again; nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, relabel, robustify, storage, verify
from notbugs.construct.manifest import build_id
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.files import read_tensors, sha256, write_json, write_tensors
from notbugs.search import PGDSteps
from notbugs.seeds import generator, seeded
from notbugs.threat import L2

QUICK = PGDSteps(3, 0.1)
SHARD = "shard-00001.safetensors"


@pytest.fixture(scope="module")
def data() -> Data:
    draw = generator(0, "verify")
    images = Images(torch.rand(60, 2, 3, 3, generator=draw), torch.arange(60) % 3)
    return Data("random", images, images, ("a", "b", "c"))


@pytest.fixture(scope="module")
def source() -> Classifier:
    with seeded(3):
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(18, 5), nn.ReLU(), nn.Linear(5, 3))).eval()


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "SHARD_IMAGES", 16)
        patch.setattr(storage, "BATCH_IMAGES", 16)
        yield


@pytest.fixture(scope="module")
def sets(data, source, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    relabel(source, data, folder / "relabelled", schedule=QUICK)
    relabel(source, data, folder / "other", schedule=QUICK, seed=1)
    robustify(source, data, folder / "matched", schedule=QUICK)
    return {name: folder / name for name in ("relabelled", "other", "matched")}


@pytest.fixture
def folder(sets, tmp_path) -> Path:
    return shutil.copytree(sets["relabelled"], tmp_path / "set")


def forge(folder: Path, name: str, mark: str | None = None, **columns: torch.Tensor) -> None:
    """Write a shard with other columns, and put its size and hash into the manifest, as if it were so."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in manifest["shards"] if entry["file"] == name)
    number = manifest["shards"].index(entry)
    own = f"build {build_id(manifest['request'])} shard {number}"
    write_tensors(folder / name, read_tensors(folder / name) | columns, {"notbugs": mark or own})
    entry |= {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
    write_json(folder / "manifest.json", manifest)


@pytest.mark.parametrize("name", ["relabelled", "matched"])
def test_nothing_is_wrong_with_a_set_as_built(sets, name, data, source):
    told = []
    assert verify(sets[name]) == []
    assert verify(sets[name], data=data, source=source, progress=lambda done, total, note="": told.append(done)) == []
    assert told == [16, 32, 48, 60]


@pytest.mark.parametrize("harm", ["flip", "header", "truncate", "empty", "delete", "swap", "other build"])
def test_a_damaged_shard_is_found_and_rebuilt_alone(sets, folder, data, source, harm):
    shard = folder / SHARD
    content = bytearray(shard.read_bytes())
    whole = {file.name: sha256(file) for file in folder.glob("*.safetensors")}
    if harm == "flip":
        content[-3] ^= 1
    elif harm == "header":
        content[1] ^= 1
    shard.write_bytes(content[: {"truncate": 500, "empty": 0}.get(harm)])
    if harm == "delete":
        shard.unlink()
    elif harm == "swap":
        shutil.copy(folder / "shard-00002.safetensors", shard)
    elif harm == "other build":
        shutil.copy(sets["other"] / SHARD, shard)
    (finding,) = verify(folder, data=data, source=source)
    said = {"delete": "is missing", "swap": "belongs to another", "other build": "belongs to another"}
    assert finding.file == SHARD
    assert said.get(harm, "is damaged") in finding.found
    assert "Build the set again" in str(finding)
    with pytest.raises(InputError, match=f"{SHARD} (is missing|is damaged|belongs to another)"):
        ConstructedSet(folder)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    relabel(source, data, folder, schedule=QUICK)
    touched = {file.name for file in folder.iterdir() if file.stat().st_mtime != 1}
    assert touched == {SHARD, "manifest.json"}
    assert {file.name: sha256(file) for file in folder.glob("*.safetensors")} == whole
    assert verify(folder, data=data, source=source) == []


def test_a_whole_set_is_left_alone(folder, data, source):
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    relabel(source, data, folder, schedule=QUICK)
    assert {file.name for file in folder.iterdir() if file.stat().st_mtime != 1} == set()


def test_a_shard_of_another_build_is_recognised_though_its_hash_be_right(sets, folder, data, source):
    forge(folder, SHARD, mark="build 0123456789abcdef shard 1")
    (finding,) = verify(folder)
    assert "belongs to another build or place (marked 'build 0123456789abcdef shard 1'" in finding.found
    relabel(source, data, folder, schedule=QUICK)
    assert sha256(folder / SHARD) == sha256(sets["relabelled"] / SHARD)


def some(folder: Path, column: str) -> torch.Tensor:
    return read_tensors(folder / SHARD)[column].clone()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("labels", 3, "hold labels between 0 and 2. It holds 3"),
        ("labels", -1, "hold labels between 0 and 2. It holds -1"),
        ("start", 60, "hold start between 0 and 59. It holds 60"),
        ("target", 17, "hold target between 0 and 2. It holds 17"),
        ("loss", float("nan"), "hold losses that are numbers. It holds NaN"),
        ("images", float("nan"), "hold pixels in [0, 1]"),
        ("images", 1.5, "hold pixels in [0, 1]"),
        ("images", float("inf"), "hold pixels in [0, 1]"),
    ],
)
def test_values_out_of_range(folder, column, value, said):
    tensor = some(folder, column)
    tensor.view(-1)[5] = value
    forge(folder, SHARD, **{column: tensor})
    (finding,) = verify(folder)
    assert said in str(finding)
    assert finding.file == SHARD


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("images", lambda tensor: tensor.half()),
        ("images", lambda tensor: tensor[:, :, :2]),
        ("labels", lambda tensor: tensor[:-1]),
        ("loss", lambda tensor: tensor.double()),
        ("start", lambda tensor: tensor.int()),
    ],
)
def test_types_and_shapes(folder, column, change):
    forge(folder, SHARD, **{column: change(some(folder, column)).contiguous()})
    (finding,) = verify(folder)
    assert f"hold {column} of" in finding.rule


def test_a_column_that_is_missing(folder):
    tensors = read_tensors(folder / SHARD)
    manifest = json.loads((folder / "manifest.json").read_text())
    del tensors["start"]
    mark = {"notbugs": f"build {build_id(manifest['request'])} shard 1"}
    write_tensors(folder / SHARD, tensors, mark)
    manifest["shards"][1] |= {"sha256": sha256(folder / SHARD), "bytes": (folder / SHARD).stat().st_size}
    write_json(folder / "manifest.json", manifest)
    (finding,) = verify(folder)
    assert finding.rule == "hold images, labels, start, target, loss"


def test_a_perturbation_outside_the_threat_model(folder, data):
    images = some(folder, "images")
    images[3] = images[3].sub(0.5).abs()
    forge(folder, SHARD, images=images)
    assert verify(folder) == []  # without the data nobody can know
    findings = verify(folder, data=data)
    assert "hold perturbations of l2 norm at most 0.5" in findings[0].rule


def test_another_success_than_recorded(folder, source):
    labels = (some(folder, "labels") + 1) % 3
    forge(folder, SHARD, labels=labels, target=labels.clone())
    assert verify(folder) == []
    (finding,) = verify(folder, source=source)
    assert "record the success on the source" in finding.rule


def test_labels_that_are_not_the_targets(sets, folder, data, tmp_path):
    labels = (some(folder, "labels") + 1) % 3
    forge(folder, SHARD, labels=labels)
    assert [finding.rule for finding in verify(folder)] == ["hold labels equal to the targets"]
    matched = shutil.copytree(sets["matched"], tmp_path / "matched")
    forge(matched, SHARD, labels=(some(matched, "labels") + 1) % 3)
    assert verify(matched) == []
    assert [finding.rule for finding in verify(matched, data=data)] == ["hold the labels of the target images"]


def test_records_that_do_not_fit(folder, data):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["storage"]["l2_norm"]["max"] = 0.1
    write_json(folder / "manifest.json", manifest)
    rules = [finding.rule for finding in verify(folder, data=data)]
    assert rules[0] == "record what its shards record"
    assert rules[1].startswith("record the largest l2_norm, 0.")


def test_manifests(folder, tmp_path):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for text, said in (
        ("{", "is damaged: it is not JSON"),
        ("[]", "is damaged: it holds no JSON object"),
        (json.dumps(manifest | {"seconds": 1}), "is damaged: it does not say what was written"),
        (json.dumps({**manifest, "schema": 1, "checksum": None}), "must have schema 2. Got 1"),
        (json.dumps({"schema": 2}), "breaks a rule at"),
    ):
        path.write_text(text)
        (finding,) = verify(folder)
        assert finding.file == "manifest.json"
        assert said in finding.found
        assert finding.remedy.startswith("Build the set again" if "damaged" in said else "Delete the folder")
    write_json(path, manifest | {"shards": manifest["shards"][:2]})
    assert {finding.rule for finding in verify(folder) if finding.file == "manifest.json"} == {
        "list all 4 shards",
        "count as many images as the request, 60",
    }
    path.unlink()
    assert (
        str(verify(folder)[0])
        == "manifest.json must be there. It is missing. Delete the folder and build the set again."
    )
    with pytest.raises(InputError, match="'folder' must be the folder of a constructed set"):
        verify(tmp_path / "nowhere")


def test_stray_files(folder):
    for name in ("notes.txt", "shard-00004.safetensors", ".shard-00001.safetensors.part", "shard-00001.json"):
        (folder / name).write_text("x")
    found = {finding.file: finding.found for finding in verify(folder)}
    assert found == {
        "notes.txt": "is no part of it",
        "shard-00004.safetensors": "is left over from a build that was killed",
        ".shard-00001.safetensors.part": "is left over from a build that was killed",
        "shard-00001.json": "is left over from a build that was killed",
    }


def test_an_unfinished_set(data, source, tmp_path):
    def kill(done, total, note=""):
        if done > 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relabel(source, data, tmp_path, schedule=QUICK, progress=kill)
    (finding,) = verify(tmp_path, data=data, source=source)
    assert str(finding) == (
        "manifest.json must be of a finished set. It has 2 of 4 shards. Build the set again to finish it."
    )


def test_other_data_or_another_source_is_refused(sets, data, source):
    with pytest.raises(InputError, match="'data' must be what the set was built with"):
        verify(sets["relabelled"], data=data.take(50, 20, 0))
    with seeded(4):
        other = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(18, 3)))
    with pytest.raises(InputError, match="'source' must be what the set was built with"):
        verify(sets["relabelled"], source=other)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_every_type_verifies(data, source, tmp_path, dtype):
    relabel(source, data, tmp_path, threat=L2(0.05), schedule=QUICK, dtype=dtype)
    assert verify(tmp_path, data=data, source=source) == []
