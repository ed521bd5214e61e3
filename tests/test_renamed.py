"""Public names of before go on working, and say what they are called now."""

from __future__ import annotations

import json
import logging

import pytest
import torch

import notbugs
from notbugs import instrument
from notbugs.cli.spelling import canonical
from notbugs.console import TerminalConsole
from notbugs.errors import InputError
from notbugs.files import write_json
from notbugs.search import objectives
from notbugs.study import runner
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments import FORMER
from notbugs.study.recipe import read_recipe
from notbugs.study.results import Measured

STEPS = {"Schedule": "PGDSteps", "Shrinking": "FMN", "QuasiNewton": "LBFGS"}
CASES = [
    *((notbugs.search, *names) for names in STEPS.items()),
    (objectives, "towards", "targeted_ce"),
    (objectives, "towards_alone", "targeted_ce_alone"),
    (runner, "Lab", "Runner"),
    (instrument, "Found", "InstrumentResult"),
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


def test_instruments_had_other_names():
    assert FORMER == {"gap": "generalization_gap", "trust": "strong_attacks"}


def test_a_recipe_with_a_former_name_is_read_and_told_of(tmp_path, caplog):
    file = tmp_path / "old.toml"
    file.write_text(
        'robust.adversary.eps = 1.0\ndata = "digits"\ndevice = "cpu"\n'
        "[instruments.gap]\non = true\n[instruments.trust]\nautoattack = false\nimages = 7\n"
        "[small]\ninstruments = { trust = { images = 5 } }\n"
    )
    with caplog.at_level(logging.WARNING, "notbugs"):
        recipe = read_recipe(file, {"instruments": {"trust": {"on": True}}})
    assert (recipe.instruments.strong_attacks.images, recipe.instruments.strong_attacks.on) == (5, True)
    assert recipe.instruments.generalization_gap.on
    assert not recipe.instruments.strong_attacks.autoattack
    assert [message.split(": ")[1].split(";")[0] for message in caplog.messages] == [
        f"[instruments.{former}] is now [instruments.{name}]" for former, name in FORMER.items()
    ]
    assert "trust" not in recipe.toml()
    with pytest.raises(InputError, match="trust is now strong_attacks: give one of the two"):
        read_recipe("digits", {"instruments": {"trust": {}, "strong_attacks": {}}})


def test_an_option_with_a_former_name_is_understood(capsys):
    assert canonical(["run", "digits", "--instruments.trust.images", "7"])[2:] == [
        "--instruments.strong-attacks.images",
        "7",
    ]
    assert "--instruments.trust.images is now --instruments.strong-attacks.images" in capsys.readouterr().err


def test_results_with_a_former_name_are_read():
    assert Measured.model_validate({"trust": None, "gap": None}).strong_attacks is None
    with pytest.raises(ValueError, match="no instrument 'other' is installed"):
        Measured.model_validate({"other": None})


def test_a_stage_finished_under_a_former_name_is_not_done_again(tmp_path):
    folder = StudyFolder(tmp_path, TerminalConsole(quiet=True), stages=0)
    write_json(tmp_path / "stages" / "trust-robust.json", {"name": "trust-robust", "seconds": 1.5, "value": [1]})
    assert folder.stage("strong_attacks-robust", "attack robust", lambda _: [2]) == [1]
    assert folder.done["strong_attacks-robust"]["seconds"] == 1.5
    (tmp_path / "stages" / "trust-robust.json").write_text("{}")
    assert folder.stage("strong_attacks-robust", "attack robust", lambda _: [2]) == [2]
    assert json.loads((tmp_path / "stages" / "strong_attacks-robust.json").read_text())["value"] == [2]
