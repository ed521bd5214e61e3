"""The chest x-rays that come with notbugs."""

from __future__ import annotations

import pytest
import torch

from notbugs.data import built_in, load
from notbugs.errors import InputError


def test_they_are_what_their_notice_says():
    data = load("pneumonia")
    assert (data.name, data.classes, data.train.shape) == ("pneumonia", ("normal", "pneumonia"), (1, 28, 28))
    assert torch.bincount(data.train.labels).tolist() == [1000, 1000]
    assert torch.bincount(data.test.labels).tolist() == [234, 390]
    train, test = (set(map(bytes, part.pixels.flatten(1).numpy())) for part in (data.train, data.test))
    assert len(train) == 2000  # no image twice
    assert not train & test


def test_a_damaged_file_is_refused(monkeypatch):
    monkeypatch.setattr(built_in, "X_RAYS_SHA256", "0" * 64)
    with pytest.raises(InputError, match="Install notbugs again"):
        built_in.pneumonia()


def test_they_come_in_one_size():
    with pytest.raises(InputError, match="'size' must be left out for pneumonia: it is of cifar10"):
        load("pneumonia", size=14)
