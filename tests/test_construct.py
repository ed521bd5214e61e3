from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap

import pytest
import torch
from scipy import stats
from torch import nn

from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, choose_starts, choose_targets, relabel, robustify, storage, store, verify
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.files import DiskFull, sha256
from notbugs.search import FMN, PGDSteps
from notbugs.seeds import generator, seeded
from notbugs.threat import L2, l2_norm

QUICK = PGDSteps(3, 0.1)


@pytest.fixture
def data() -> Data:
    draw = generator(0, "construct")
    images = Images(torch.rand(60, 2, 3, 3, generator=draw), torch.arange(60) % 3)
    return Data("random", images, images, ("a", "b", "c"))


@pytest.fixture
def source() -> Classifier:
    with seeded(3):
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(18, 5), nn.ReLU(), nn.Linear(5, 3))).eval()


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(storage, "SHARD_IMAGES", 16)
    monkeypatch.setattr(storage, "BATCH_IMAGES", 16)


def bits(folder) -> dict[str, str]:
    return {file.name: sha256(file) for file in sorted(folder.glob("shard-*.safetensors"))}


def test_targets_any_is_uniform_over_all_classes():
    labels = torch.arange(9000) % 9
    targets = choose_targets(labels, 9, "any", 0)
    assert stats.chisquare(torch.bincount(targets, minlength=9)).pvalue > 0.001
    assert stats.binomtest(int((targets == labels).sum()), 9000, 1 / 9).pvalue > 0.001


def test_targets_other_is_uniform_over_the_wrong_classes():
    labels = torch.zeros(8000, dtype=torch.int64)
    targets = choose_targets(labels, 9, "other", 0)
    assert (targets != labels).all()
    assert stats.chisquare(torch.bincount(targets, minlength=9)[1:]).pvalue > 0.001


def test_targets_next(unchecked):
    assert choose_targets(torch.tensor([0, 1, 2]), 3, "next", 0).tolist() == [1, 2, 0]
    with pytest.raises(InputError, match="Did you mean 'other'"):
        choose_targets(torch.tensor([0]), 3, "others", 0)


def test_starts_are_other_images_uniformly():
    starts = choose_starts(5000, 0)
    assert (starts != torch.arange(5000)).all()
    assert stats.kstest(((starts - torch.arange(5000)) % 5000) / 5000, "uniform").pvalue > 0.001


def test_a_relabelled_set(data, source, tmp_path):
    built = relabel(source, data, tmp_path, targets="next", threat=L2(0.3), schedule=QUICK)
    assert torch.equal(built.images.labels, (data.train.labels + 1) % 3)
    assert torch.equal(built.start, torch.arange(60))
    assert (l2_norm(built.images.pixels[:] - data.train.pixels) <= 0.3 + 1e-6).all()
    logits = source(built.images.pixels[:])
    loss = nn.functional.cross_entropy(logits, built.images.labels, reduction="none")
    before = nn.functional.cross_entropy(source(data.train.pixels), built.images.labels, reduction="none")
    torch.testing.assert_close(built.loss, loss)
    assert (loss < before).all()
    request = built.manifest["request"]
    assert request["threat"] == {"norm": "l2", "eps": 0.3}
    assert request["data"]["fingerprint"] == data.fingerprint
    assert not built.is_matched


@pytest.mark.parametrize("eps", [math.inf, 0.4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_relabelled_set_of_smallest_perturbations(data, tmp_path, eps, precision):
    """Of two classes by a linear source: every image moves as far as the boundary, and no further."""
    with seeded(1):
        source = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(18, 2)), precision=precision).eval()
    pixels = 0.5 + 0.2 * (data.train.pixels - 0.5)  # far from the walls of the box
    images = Images(pixels, torch.arange(60) % 2)
    two = Data("two", images, images, ("a", "b"))
    built = relabel(source, two, tmp_path, targets="next", threat=L2(eps), schedule=FMN(60))
    with torch.no_grad(), source.evaluating("fp32"):
        logits, difference = source(pixels), source.head.weight[0] - source.head.weight[1]
        hits = source(built.images.pixels[:]).argmax(1) == built.images.labels
    own, other = (logits.gather(1, labels[:, None])[:, 0] for labels in (built.images.labels, images.labels))
    distance = ((other - own) / difference.norm()).clamp_min(0)
    moved = l2_norm(built.images.pixels[:] - pixels)
    assert int((distance > 0).sum()) > 0
    assert torch.equal(hits, distance < eps)
    torch.testing.assert_close(moved, torch.where(hits, distance, 0), rtol=0.02, atol=1e-4)
    request, storage = built.manifest["request"], built.manifest["storage"]
    assert request["objective"] == "smallest perturbation"
    assert request["threat"] == {"norm": "l2", "eps": None if math.isinf(eps) else eps}
    assert request["schedule"] == {"kind": "Shrinking", "steps": 60, "step_size": 1.0, "rate": 0.2}
    assert storage["success_stored"] == pytest.approx(float(hits.float().mean()))
    assert verify(tmp_path, data=two, source=source) == []


def test_a_relabelled_set_by_default_has_the_fast_schedule(data, source, tmp_path):
    schedule = relabel(source, data, tmp_path, threat=L2(0.4)).manifest["request"]["schedule"]
    assert schedule == {"kind": "Schedule", "steps": 20, "step_size": 0.8, "momentum": 0.0, "decay": "linear"}


def test_a_matched_set(data, source, tmp_path):
    schedule = PGDSteps(60, 0.2, momentum=0.8, decay="linear")
    built = robustify(source, data, tmp_path, schedule=schedule, seed=4)
    assert torch.equal(built.images.labels, data.train.labels)
    assert torch.equal(built.target, torch.arange(60))
    with torch.no_grad():
        found, wanted = source.features(built.images.pixels[:]), source.features(data.train.pixels)
    relative = (found - wanted).norm(dim=1) / wanted.norm(dim=1)
    torch.testing.assert_close(built.loss, relative)
    assert relative.median() < 0.05
    assert built.is_matched


def test_resumes_what_is_missing_and_nothing_else(data, source, tmp_path, small_shards):
    whole = bits(relabel(source, data, tmp_path / "whole", schedule=QUICK).folder)
    assert len(whole) == 4
    folder = tmp_path / "set"

    class Killed(Exception):
        pass

    def kill(done, total, note=""):
        if done > 32:
            raise Killed

    with pytest.raises(Killed):
        relabel(source, data, folder, schedule=QUICK, progress=kill)
    with pytest.raises(InputError, match="no finished constructed set"):
        ConstructedSet(folder)
    told = []
    relabel(source, data, folder, schedule=QUICK, progress=lambda done, total, note="": told.append(done))
    assert told == [48, 60]
    assert bits(folder) == whole


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "swap"])
def test_a_damaged_shard_is_found_and_rebuilt_alone(data, source, tmp_path, small_shards, harm):
    built = relabel(source, data, tmp_path, schedule=QUICK)
    whole, shard = bits(tmp_path), tmp_path / "shard-00001.safetensors"
    content = bytearray(shard.read_bytes())
    if harm == "flip":
        content[-3] ^= 1
        shard.write_bytes(content)
    elif harm == "truncate":
        shard.write_bytes(content[:100])
    elif harm == "delete":
        shard.unlink()
    else:
        shard.write_bytes((tmp_path / "shard-00002.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"shard-00001.safetensors (is missing|is damaged|belongs to another)"):
        ConstructedSet(built.folder)
    told = []
    relabel(source, data, tmp_path, schedule=QUICK, progress=lambda done, total, note="": told.append(done))
    assert told == [60]
    assert bits(tmp_path) == whole


def test_another_request_in_the_same_folder_is_refused(data, source, tmp_path):
    relabel(source, data, tmp_path, threat=L2(0.3), schedule=QUICK)
    with pytest.raises(InputError, match=r"another request \(threat: there .*0.3.*asked for .*0.4"):
        relabel(source, data, tmp_path, threat=L2(0.4), schedule=QUICK)
    with torch.no_grad():
        source.head.bias += 1
    with pytest.raises(InputError, match="source"):
        relabel(source, data, tmp_path, threat=L2(0.3), schedule=QUICK)


def test_a_second_builder_is_refused(tmp_path):
    holder = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from notbugs.files import only_writer
        with only_writer(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="Another process is writing"):
            store.build(tmp_path, {}, lambda first, last, tell: ({}, {}))
        process.stdin.close()


def test_a_full_disk_keeps_what_is_finished(data, source, tmp_path, small_shards, monkeypatch):
    real, written = storage.write_tensors, []

    def fill_up(path, tensors, metadata=None, **how):
        if len(written) == 2:
            from notbugs import files

            files.write_atomically(path, lambda part: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        written.append(path)
        real(path, tensors, metadata, **how)

    monkeypatch.setattr(storage, "write_tensors", fill_up)
    with pytest.raises(DiskFull, match="Everything finished so far is kept"):
        relabel(source, data, tmp_path, schedule=QUICK)
    monkeypatch.setattr(storage, "write_tensors", real)
    assert len(bits(tmp_path)) == 2
    assert not list(tmp_path.glob("*.part"))
    told = []
    relabel(source, data, tmp_path, schedule=QUICK, progress=lambda done, total, note="": told.append(done))
    assert told == [48, 60]


def test_a_manifest_is_json_without_infinities(data, source, tmp_path):
    robustify(source, data, tmp_path, schedule=QUICK)
    text = (tmp_path / "manifest.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["request"]["threat"]["eps"] is None
    assert math.isinf(L2(math.inf).eps)
