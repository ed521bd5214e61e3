"""The official archives of CIFAR-10 and CIFAR-100: small ones in the same layout."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from notbugs.data import load
from notbugs.data.download import Published
from notbugs.data.published import ARCHIVES
from notbugs.errors import InputError
from notbugs.files import sha256
from tests.pictures import noise


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "downloads"


def write_archive(folder, name, monkeypatch, *, per_member=8, order=1, leave_out=()):
    """An archive of the layout of `name` in the cache, taken for the published one; its records."""
    layout = ARCHIVES[name]
    classes = 10 if name == "cifar10" else 100
    length = layout.label_bytes + 3072
    records = {}
    for number, member in enumerate([*layout.train, *layout.test]):
        records[member] = noise(per_member * (classes // 10), length, seed=number)
        records[member][:, layout.label_bytes - 1] = np.arange(len(records[member])) % classes
    members = {layout.names: b"\n".join(b"class%d" % index for index in range(classes)) + b"\n\n"}
    members |= {member: data.tobytes() for member, data in records.items()}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / layout.published.file
    with tarfile.open(file, "w:gz") as archive:
        for member in sorted(members)[::order]:
            if member not in leave_out:
                info = tarfile.TarInfo(member)
                info.size = len(members[member])
                archive.addfile(info, io.BytesIO(members[member]))
    published = Published(file.name, sha256(file), file.stat().st_size)
    monkeypatch.setitem(ARCHIVES, name, replace(layout, published=published))
    return [np.concatenate([records[member] for member in members]) for members in (layout.train, layout.test)]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_records_are_read_in_their_order(cache, monkeypatch, name, order):
    monkeypatch.setattr("notbugs.data.rows.PIECE_BYTES", 5 * 3073)
    train, test = write_archive(cache, name, monkeypatch, order=order, per_member=16)
    data = load(name)
    label = 0 if name == "cifar10" else 1
    assert data.title == ("CIFAR-10" if name == "cifar10" else "CIFAR-100")
    assert (len(data.classes), data.classes[:2]) == (10 if name == "cifar10" else 100, ("class0", "class1"))
    for images, records in ((data.train, train), (data.test, test)):
        assert images.labels.tolist() == records[:, label].tolist()
        assert torch.equal(images.pixels, torch.from_numpy(records[:, label + 1 :].reshape(-1, 3, 32, 32).copy()))
    assert load(name, memory=1).fingerprint == data.fingerprint
    assert load(name, size=16).train.shape == (3, 16, 16)


def test_nothing_is_unpacked(cache, monkeypatch):
    write_archive(cache, "cifar10", monkeypatch, per_member=16)
    load("cifar10")
    assert {file.name for file in cache.iterdir()} == {"cifar-10-binary.tar.gz"}


def test_the_published_archives():
    """As several public data libraries have them."""
    ten, hundred = ARCHIVES["cifar10"].published, ARCHIVES["cifar100"].published
    assert (ten.size, hundred.size) == (170052171, 168513733)
    assert ten.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    assert hundred.sha256 == "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"


def test_an_archive_without_a_file(cache, monkeypatch):
    write_archive(cache, "cifar10", monkeypatch, leave_out=("cifar-10-batches-bin/data_batch_3.bin",))
    with pytest.raises(InputError, match=r"cifar-10-binary\.tar\.gz cannot be read .*data_batch_3.*Delete it"):
        load("cifar10")
