"""What the page of a study of medical images says of a classifier of such images."""

from __future__ import annotations

from notbugs.report.accuracies import study_accuracies
from notbugs.report.cautions import meaning
from notbugs.study.results import Results
from tests import fakes
from tests.fakes import row


def said(rows, data="pneumonia"):
    return meaning(study_accuracies(Results(study=fakes.study(), rows=rows, sets=[])), data)


def test_it_follows_from_the_numbers():
    rows = [
        row("D", 0.95), row("D", 0.5, eps=0.25), row("D_NR", 0.9), row("D_NR", 0.3, eps=0.25),
        row("D", 0.9, training="adversarial", classifier="robust"),
        row("D", 0.85, training="adversarial", classifier="robust", eps=0.25),
    ]  # fmt: skip
    first, alone, robust, last = said(rows)
    assert "chest x-rays is right on 95.0" in first
    assert "on 50.0\u00a0% (44.9 to 55.1) of them when an attacker may change them within l2 radius 0.25" in first
    assert "a new classifier reaches 90.0" in alone
    assert "and they still look like those x-rays, features" in alone  # nothing here says that they do
    assert "keeps 85.0" in robust
    assert "nothing here is for a diagnosis" in last


def test_it_says_nothing_of_other_images_and_without_numbers():
    assert said([row("D", 0.95), row("D", 0.5, eps=0.25)], "digits") == []
    assert said([row("D", 0.95)]) == []
    assert len(said([row("D", 0.95), row("D", 0.5, eps=0.25)])) == 2
