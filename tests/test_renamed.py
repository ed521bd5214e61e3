"""Public names of before go on working, and say what they are called now."""

from __future__ import annotations

import pytest
import torch

import notbugs
from notbugs.search import objectives

STEPS = {"Schedule": "PGDSteps", "Shrinking": "FMN", "QuasiNewton": "LBFGS"}
CASES = [
    *((notbugs.search, *names) for names in STEPS.items()),
    (objectives, "towards", "targeted_ce"),
    (objectives, "towards_alone", "targeted_ce_alone"),
]


@pytest.mark.parametrize(("module", "before", "now"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_a_name_of_before_warns_and_is_that_of_now(module, before, now):
    with pytest.warns(DeprecationWarning, match=rf"{before} is now {module.__name__}\.{now}, and will be removed"):
        found = getattr(module, before)
    assert found is getattr(module, now)


def test_the_search_no_longer_hides_its_package():
    images, goal = torch.zeros(1, 1, 2, 2), torch.zeros(1)

    def objective(found, goal):
        return found.sum((1, 2, 3)) - goal, found.detach().sum((1, 2, 3)) - goal

    given = (objective, images, (goal,), notbugs.L2(1.0), notbugs.search.PGDSteps(1))
    with pytest.warns(DeprecationWarning, match=r"notbugs\.search\(\.\.\.\) is now notbugs\.search\.search"):
        found = notbugs.search(*given)
    assert torch.equal(found.images, notbugs.search.search(*given).images)


def test_what_never_was_a_name_is_none():
    with pytest.raises(AttributeError, match="'notbugs' has no attribute 'Scheduler'"):
        _ = notbugs.Scheduler
