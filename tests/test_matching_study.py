"""The instrument that matches features in other ways: the study's own set beside them, what is known to be better."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from notbugs import study
from notbugs.console import TerminalConsole
from notbugs.errors import InputError
from notbugs.measure import evaluate
from notbugs.seeds import derive
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments.matching import MatchingInstrument
from notbugs.study.runner import Runner
from notbugs.study.sets import BY_NAME

TINY = {
    "architecture": {"width": 4, "features": 6},
    **{name: {"epochs": 2, "batch": 20, "lr": 0.1} for name in ("standard", "robust", "constructed")},
    "robust": {"epochs": 1, "batch": 50, "adversary": {"eps": 0.2, "steps": 1, "step_size": 0.1, "guard": False}},
    "matching": {"steps": 2},
    "evaluation": {"attack": {"name": "pgd", "steps": 2}, "pgd": {"steps": 2}, "radii": [0.1, 0.3]},
    "train_images": 120,
    "test_images": 40,
}


def at_work(path: Path, **settings) -> Runner:
    """A study of which the sources are trained, and D_R and D_NR built and trained on."""
    recipe = study.read_recipe("digits", TINY | {"instruments": {"matching": settings}})
    runner = Runner(recipe, recipe.read(), StudyFolder(path, TerminalConsole(quiet=True), 0), torch.device("cpu"))
    for name in ("standard", "independent", "robust"):
        runner.train(name, runner.data.train)
    for name in ("D_R", "D_NR"):
        built = runner.construct(name, BY_NAME[name], seed=derive(runner.seed, "set", name))
        runner.train(name, built.images)
    return runner


def test_the_papers_thousand_steps_match_better_than_two(tmp_path):
    runner, made = at_work(tmp_path, ways=["paper", "fake_relu"], sets=["D_R"]), MatchingInstrument()
    made.check(runner)
    found = made.run(runner)
    rows = {row.way: row for row in found.rows}
    assert list(rows) == ["itself", "paper", "fake_relu"]
    assert rows["paper"].loss.median < 0.5 * rows["itself"].loss.median
    own = runner.set("D_R")
    assert rows["itself"].loss.mean == pytest.approx(float(own.loss.mean()))
    requests = {way: runner.set(f"D_R_{way}").manifest["request"] for way in ("paper", "fake_relu")}
    assert requests["fake_relu"] == own.manifest["request"] | {"fake_relu": True}
    assert requests["paper"]["schedule"]["steps"] == 1000
    again = evaluate(runner.classifier("D_R_paper"), runner.data.test)[0].share
    assert rows["paper"].accuracies[0].share == again
    assert [one.attack and one.attack.eps for one in rows["paper"].accuracies] == [None, 0.1, 0.3]
    section = made.section(found, runner.data.classes)
    assert "by the paper's 1000 steps of 0.1: median loss" in section.reading[0]
    assert [len(table.rows) for table in section.tables] == [3, 3]


def test_a_part_of_the_images_is_the_same_in_every_way(tmp_path):
    runner, made = at_work(tmp_path, images=50), MatchingInstrument()
    made.check(runner)
    found = made.run(runner)
    assert [(row.of, row.way, row.n) for row in found.rows] == [
        (of, way, 50) for of in ("D_R", "D_NR") for way in ("itself", "fake_relu")
    ]
    one, other = (runner.set(f"D_NR_{way}_50") for way in ("itself", "fake_relu"))
    assert torch.equal(one.start, other.start)
    assert torch.equal(one.target, other.target)
    assert torch.equal(one.images.labels, other.images.labels)


def test_what_the_recipe_has_already_is_no_other_way(tmp_path):
    runner = at_work(tmp_path)
    runner.recipe = runner.recipe.model_copy(
        update={"matching": runner.recipe.matching.model_copy(update={"fake_relu": True})}
    )
    with pytest.raises(InputError, match="ways' must be without fake_relu where"):
        MatchingInstrument().check(runner)
    runner = at_work(tmp_path / "few", images=2)
    with pytest.raises(InputError, match="class"):
        MatchingInstrument().check(runner)
