"""Pixels on disk are the pixels in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notbugs.data import Data, Images, Mapped
from notbugs.errors import InputError
from notbugs.files import write_tensors
from notbugs.seeds import generator
from notbugs.training import Training, new_classifier, train

COUNT = 60


@pytest.fixture(scope="module", params=[torch.uint8, torch.float16, torch.float32], ids=str)
def both(request, tmp_path_factory):
    """A tensor, and the same in three files of unequal length."""
    folder = tmp_path_factory.mktemp("mapped")
    wide = torch.rand(COUNT, 1, 8, 8, generator=generator(0, "mapped"))
    tensor = wide.mul(255).to(torch.uint8) if request.param is torch.uint8 else wide.to(request.param)
    files = [folder / f"{number}.safetensors" for number in range(3)]
    for file, part in zip(files, tensor.split([10, 49, 1]), strict=True):
        write_tensors(file, {"labels": torch.zeros(3), "pixels": part})
    return tensor, Mapped(files, "pixels")


@given(index=st.lists(st.integers(0, COUNT - 1), max_size=9), low=st.integers(0, COUNT), size=st.integers(0, COUNT))
def test_indexing_is_a_tensors(both, index, low, size):
    tensor, mapped = both
    assert (mapped.shape, mapped.dtype, len(mapped)) == (tensor.shape, tensor.dtype, len(tensor))
    chosen = torch.tensor(index, dtype=torch.int64)
    assert torch.equal(mapped[chosen], tensor[chosen])
    assert torch.equal(mapped[low : low + size], tensor[low : low + size])
    assert torch.equal(mapped.subset(slice(low, None))[:size], tensor[low:][:size])


def test_data_on_disk_is_the_data_in_memory(both):
    """The same fingerprint, statistics, subsets, and the same training to the bit."""
    tensor, mapped = both
    labels = torch.arange(COUNT) % 2
    there = Data("bars", Images(mapped, labels), Images(mapped.subset(slice(7)), labels[:7]), ("a", "b"))
    here = Data("bars", Images(tensor, labels), Images(tensor[:7], labels[:7]), ("a", "b"))
    assert there.fingerprint == here.fingerprint
    assert there.channel_statistics == here.channel_statistics
    taken = [data.take(30, 5, seed=3).hold_out(0.3, seed=1) for data in (there, here)]
    assert isinstance(taken[0].train.pixels, Mapped)
    assert taken[0].fingerprint == taken[1].fingerprint
    settings = Training(epochs=1, batch=20)
    weights = [train(new_classifier(data, width=2), data.train, settings).state_dict() for data in (there, here)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_pass_over_the_statistics_is_in_chunks(both, monkeypatch):
    tensor, mapped = both
    labels = torch.arange(COUNT) % 2
    whole = Data("bars", Images(tensor, labels), Images(tensor, labels), ("a", "b"))
    monkeypatch.setattr("notbugs.data.images.CHUNK_BYTES", 7 * 64 * tensor.dtype.itemsize)
    parts = replace(whole, train=Images(mapped, labels))
    assert [len(part) for part in parts.train.chunks()] == [7] * 8 + [4]
    assert parts.fingerprint == whole.fingerprint
    pixels = tensor.double() / (255 if tensor.dtype == torch.uint8 else 1)
    mean, std = parts.channel_statistics
    assert mean[0] == pytest.approx(float(pixels.mean()), rel=1e-12)
    assert std[0] == pytest.approx(float(pixels.std()), rel=1e-9)


def test_what_is_not_there_is_said(tmp_path):
    file = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"a\.safetensors cannot be mapped"):
        Mapped([file], "pixels")
    write_tensors(file, {"pixels": torch.zeros(2, 1, 4, 4), "whole": torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(InputError, match="no readable tensor 'images'"):
        Mapped([file], "images")
    with pytest.raises(InputError, match="no readable tensor 'whole'"):
        Mapped([file], "whole")
    file.write_bytes(file.read_bytes()[:90])
    with pytest.raises(InputError, match="cannot be mapped"):
        Mapped([file], "pixels")
    write_tensors(tmp_path / "b.safetensors", {"pixels": torch.zeros(2, 1, 4, 4)})
    write_tensors(tmp_path / "c.safetensors", {"pixels": torch.zeros(2, 1, 4, 5)})
    with pytest.raises(InputError, match=r"pixels of .*c\.safetensors' must be float32"):
        Mapped([tmp_path / "b.safetensors", tmp_path / "c.safetensors"], "pixels")
