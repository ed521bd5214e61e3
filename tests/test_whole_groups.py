"""Images of one patient, or track, are never on two sides of a split, wherever one is made."""

from __future__ import annotations

from dataclasses import replace

import torch

import notbugs as nb
from notbugs.measure._audit import _parts
from notbugs.training import watching
from tests.conftest import random_images

PATIENTS = torch.arange(40).repeat_interleave(5)[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
IMAGES = nb.Images(random_images(200, (1, 4, 4)), torch.arange(200) % 2, PATIENTS)


def shared(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many patients have images on both sides."""
    return len(set(PATIENTS[one].tolist()) & set(PATIENTS[other].tolist()))


def test_they_are_divided_whole():
    drawn, others = IMAGES.divided(32, 0, "test")
    assert shared(drawn, others) == 0
    assert 32 <= len(drawn) <= 36
    assert sorted([*drawn.tolist(), *others.tolist()]) == list(range(200))
    alone, rest = replace(IMAGES, groups=None).divided(32, 0, "test")
    assert (len(alone), len(rest)) == (32, 168)
    one, left = replace(IMAGES, groups=torch.zeros(200, dtype=torch.int64)).divided(32, 0, "test")
    assert (len(one), len(left)) == (32, 168)  # one patient alone cannot be kept apart from others


def test_a_patient_with_more_images_than_are_drawn_stays():
    """Else most of the training images would be held out wherever this patient is drawn first."""
    groups = torch.cat([torch.zeros(120, dtype=torch.int64), PATIENTS[:80] + 1])
    for seed in range(20):
        drawn, others = replace(IMAGES, groups=groups).divided(20, seed, "test")
        assert 20 <= len(drawn) < 40
        assert len(drawn) + len(others) == 200
    large = replace(IMAGES, groups=torch.arange(200) // 100)
    assert [len(part) for part in large.divided(20, 0, "test")] == [100, 100]
    drawn, others = replace(IMAGES, groups=groups).divided(100, 0, "test")
    assert (len(drawn), len(others)) == (80, 120), "all others, and no more"


def test_early_stopping_holds_whole_patients_out():
    kept, held = watching.held_out(IMAGES, None, seed=0, least=20)
    assert shared(kept, held) == 0
    assert len(held) >= 20


def test_an_audit_measures_on_other_patients_than_it_sorts_by():
    sorting, measuring = _parts(IMAGES, 60, 0)
    assert shared(sorting, measuring) == 0
    assert min(len(sorting), len(measuring)) >= 60


def test_a_penalty_is_chosen_on_other_patients(monkeypatch):
    seen = []
    whole = nb.Images.divided

    def divided(images, count, seed, purpose):
        seen.append(whole(images, count, seed, purpose))
        return seen[-1]

    monkeypatch.setattr(nb.Images, "divided", divided)
    classifier = nb.Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Linear(8, 2)))
    nb.measure.refit_head(classifier, IMAGES, torch.ones(8, dtype=torch.bool), classes=2)
    ((held, kept),) = seen
    assert shared(held, kept) == 0
    assert len(held) >= 40
