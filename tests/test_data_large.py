"""Data larger than memory: decoded once to files, resumed, and the same to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from notbugs.data import Data, Images, Mapped, load
from notbugs.data.assemble import held_out
from notbugs.data.download import available_memory, cache_folder, in_words
from notbugs.errors import InputError
from notbugs.training import Training, new_classifier, train
from tests.pictures import encoded, noise, write_class_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("notbugs.data.assemble.SHARD_BYTES", 100)
    return tmp_path / "cache" / "decoded"


def shards(cache):
    return sorted(cache.rglob("*.safetensors"))


@pytest.fixture
def folder(tmp_path):
    write_class_folder(tmp_path / "set" / "train", {"a": 23, "b": 20})
    write_class_folder(tmp_path / "set" / "test", {"a": 7}, seed=90)
    return tmp_path / "set"


def test_on_disk_and_in_memory_are_the_same(folder, cache):
    here, there = load(folder), load(folder, memory=100)
    assert isinstance(there.train.pixels, Mapped)
    assert len(shards(cache)) == 9 + 2
    assert here.fingerprint == there.fingerprint
    assert here.channel_statistics == there.channel_statistics
    settings = Training(epochs=1, batch=20)
    weights = [train(new_classifier(data, width=2), data.train, settings).state_dict() for data in (here, there)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not list(cache.rglob("*.part"))


def test_what_is_decoded_is_not_decoded_again(folder, cache, monkeypatch):
    first = load(folder, memory=100)
    times = [shard.stat().st_mtime_ns for shard in shards(cache)]
    monkeypatch.setattr("notbugs.data.assemble.write_tensors", None)
    assert load(folder, memory=100).fingerprint == first.fingerprint
    assert [shard.stat().st_mtime_ns for shard in shards(cache)] == times


def test_a_killed_reading_goes_on(folder, cache, monkeypatch):
    whole = load(folder).fingerprint
    told = []

    def kill(done, total, note=""):
        told.append(done)
        if len(told) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(folder, memory=100, progress=kill)
    kept = shards(cache)
    assert len(kept) == 6
    times = [shard.stat().st_mtime_ns for shard in kept]
    assert load(folder, memory=100, progress=lambda done, total, note="": told.append(done)).fingerprint == whole
    assert [shard.stat().st_mtime_ns for shard in kept] == times
    assert told == sorted(told)
    assert told[-1] == 50


def test_changed_files_are_decoded_again(folder, cache):
    before = load(folder, memory=100).fingerprint
    (folder / "train" / "a" / "3.png").write_bytes(encoded(noise(4, 5, seed=200)))
    assert load(folder, memory=100).fingerprint == load(folder).fingerprint != before
    assert load(folder, memory=100, size=3).train.shape == (1, 3, 3)


def test_colour_found_late_begins_again(folder, cache):
    (folder / "train" / "b" / "9.png").write_bytes(encoded(noise(4, 5, 3)))
    there = load(folder, memory=100)
    assert there.train.shape == (3, 4, 5)
    assert there.fingerprint == load(folder).fingerprint
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_without_test_split(tmp_path, compressed):
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "set.npz", images=noise(40, 5, 5), labels=np.arange(40) % 2)
    here, there = load(tmp_path / "set.npz"), load(tmp_path / "set.npz", memory=100)
    assert isinstance(there.test.pixels, Mapped)
    assert (here.fingerprint, here.test_name) == (there.fingerprint, there.test_name)


def test_a_disk_without_room(folder, cache, monkeypatch):
    monkeypatch.setattr("notbugs.data.download.shutil.disk_usage", lambda path: SimpleNamespace(free=999))
    with pytest.raises(InputError, match=r"1\.1 kB are needed in .*, and 999 bytes are free.*NOTBUGS_CACHE"):
        load(folder, memory=100)
    assert not shards(cache)


def test_labels_are_checked_before_the_work(tmp_path, cache):
    np.savez(tmp_path / "set.npz", images=noise(40, 5, 5), labels=np.arange(40) % 2 + 1)
    with pytest.raises(InputError, match="They begin at 1"):
        load(tmp_path / "set.npz", memory=100)
    assert not shards(cache)


def test_the_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("NOTBUGS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "notbugs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "notbugs"


def test_available_memory_is_the_least_of_all(tmp_path):
    def put(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    put("proc/meminfo", "MemTotal: 99999 kB\nMemAvailable: 9000 kB\n")
    assert available_memory(tmp_path) == 9000 * 1024
    put("proc/self/cgroup", "0::/a/b\n")
    put("sys/fs/cgroup/a/b/memory.max", "max\n")
    put("sys/fs/cgroup/a/memory.max", "5000000\n")
    put("sys/fs/cgroup/a/memory.current", "4000000\n")
    put("sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 1000\n")
    assert available_memory(tmp_path) == 1_001_000
    put("proc/self/cgroup", "4:cpu,memory:/c\n")
    put("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "300000\n")
    put("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "100000\n")
    put("sys/fs/cgroup/memory/c/memory.stat", "total_inactive_file 50\n")
    assert available_memory(tmp_path) == 200_050
    assert available_memory() > 0
    assert [in_words(count) for count in (5, 1500, 2 * 10**9)] == ["5 bytes", "1.5 kB", "2.0 GB"]


SCRIPT = """
import json, resource, sys
from dataclasses import replace
import torch
import notbugs as nb
from notbugs.data.download import _table as table

def vm(name):
    return table(__import__("pathlib").Path("/proc/self/status"))[name] * 1024

torch.set_num_threads(1)
nb.load("planted")
left = int(sys.argv[2]) * 10**6
limit = vm("VmData") + left
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
before = vm("VmData")
data = nb.load(sys.argv[1])
network = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(32 * 32, len(data.classes)))
classifier = nb.Classifier(network, mean=data.channel_statistics[0], std=data.channel_statistics[1])
nb.train(classifier, data.train, nb.Training(epochs=1, batch=8))
one_of_each = torch.stack([(data.train.labels == label).nonzero()[0, 0] for label in range(3)])
few = replace(data, train=data.train.subset(one_of_each))
built = nb.relabel(classifier, few, sys.argv[3], targets="next", schedule=nb.search.PGDSteps(steps=3, step_size=0.1))
print(json.dumps({
    "kind": type(data.train.pixels).__name__,
    "fingerprint": data.fingerprint,
    "bytes": sum(len(split) * 512 * 512 for split in (data.train, data.test)),
    "built": len(built),
    "data_at_the_end": vm("VmData") - before,
    "resident": vm("VmHWM"),
}))
"""


@pytest.mark.slow
def test_ten_times_the_memory_is_trained_on(tmp_path):
    """1.5 GB of images with 150 MB to spare."""
    count, left = 6000, 150
    images = np.zeros((count, 512, 512), np.uint8)
    images[np.arange(count), 5] = (np.arange(count) % 251)[:, None]
    np.savez(tmp_path / "large.npz", images=images, labels=np.arange(count) % 3)
    labels = torch.arange(count) % 3
    kept, test = (torch.from_numpy(images)[:, None][index] for index in held_out(labels))
    kept_labels, test_labels = (labels[index] for index in held_out(labels))
    expected = Data("", Images(kept, kept_labels), Images(test, test_labels), tuple("012")).fingerprint
    del images, kept, test
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, tmp_path / "large.npz", str(left), tmp_path / "D_det"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert finished.returncode == 0, finished.stderr
    seen = json.loads(finished.stdout)
    assert (seen["kind"], seen["built"]) == ("Mapped", 3)
    assert seen["bytes"] >= 10 * left * 10**6
    print(seen)
    assert seen["fingerprint"] == expected
