"""The instrument that matches features in other ways: the study's own set beside them, what is known to be better."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from notbugs import study
from notbugs.console import TerminalConsole
from notbugs.errors import InputError
from notbugs.measure import evaluate, wilson
from notbugs.seeds import derive
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments.matching import MatchingInstrument
from notbugs.study.runner import Runner
from notbugs.study.sections import Matching
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
    recipe = study.read_recipe("digits", TINY | {"instruments": {"matching": {"on": True} | settings}})
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
    assert requests["paper"]["schedule"]["steps"] == rows["paper"].steps == 1000
    assert {way: row.fake_relu for way, row in rows.items()} == {"itself": False, "paper": False, "fake_relu": True}
    again = evaluate(runner.classifier("D_R_paper"), runner.data.test)[0].share
    assert rows["paper"].accuracies[0].share == again
    assert [one.attack and one.attack.eps for one in rows["paper"].accuracies] == [None, 0.1, 0.3]
    ours, own = runner.outcomes("D_R_paper"), runner.outcomes("D_R")
    assert rows["paper"].changed == [ours[place].less(own[place]) for place in range(3)]
    assert all(one.paired for one in rows["paper"].changed)
    assert (rows["itself"].changed, rows["itself"].fits) == ([], runner.fits["D_R"])
    left = rows["paper"].model_copy(update={"fits": wilson(1, 100), "success": None})
    (said,) = made.section(found.model_copy(update={"rows": [rows["itself"], left]}), ()).reading
    assert "in place of" in said
    assert "was not learned by a classifier trained on it, which gives 1.0" in said
    learned = [row.model_copy(update={"fits": None}) for row in found.rows]  # in two epochs little is
    section = made.section(found.model_copy(update={"rows": learned}), runner.data.classes)
    assert "D_R, 1,000 gradient steps, true gradient of the last ReLU: median loss" in section.reading[0]
    assert "not learned" not in section.reading[0]
    assert [len(table.rows) for table in section.tables] == [3, 3]
    assert not any("robust features" in name for name in section.tables[0].columns)  # there is no judge of D_R


def test_every_way_begins_with_the_weights_of_the_set_itself(tmp_path):
    runner = at_work(tmp_path)
    alike = runner.train("copy", runner.set("D_R").images, "D_R", drawn_as="D_R").state_dict()
    assert all(torch.equal(tensor, alike[name]) for name, tensor in runner.classifier("D_R").state_dict().items())


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
    assert any("robust features" in name for name in made.section(found, runner.data.classes).tables[0].columns)


def checked(path: Path, changes: dict, **settings) -> None:
    recipe = study.read_recipe("digits", TINY | {"instruments": {"matching": {"on": True} | settings}} | changes)
    folder = StudyFolder(path, TerminalConsole(quiet=True), 0)
    MatchingInstrument().check(Runner(recipe, recipe.read(), folder, torch.device("cpu")))


def test_what_cannot_be_done_is_refused_before_any_work(tmp_path):
    paper = {"matching": {"method": "gradient", "steps": 1000, "step_size": 0.1}}
    with pytest.raises(InputError, match="ways' must be other than what"):
        checked(tmp_path, paper, ways=["paper"])
    checked(tmp_path, {"matching": {"fake_relu": True}})  # the other way is then the true gradient
    with pytest.raises(InputError, match="images' must leave an image of every class"):
        checked(tmp_path, {}, images=2)
    stops = {"constructed": {"epochs": 2, "batch": 20, "lr": 0.1, "patience": 1}, "data": "pneumonia", "pair": [0, 1]}
    with pytest.raises(InputError, match="'patience' must be 0 with fewer than 10 training images"):
        checked(tmp_path, stops, images=8)
    smooth = {"architecture": {"name": "tests.test_matching_study:smooth"}}
    with pytest.raises(InputError, match="needs a ReLU before the features.*Ask for other ways"):
        checked(tmp_path, smooth)
    checked(tmp_path, smooth, ways=["paper"])


def smooth(**_: object) -> nn.Module:
    """A network without a ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


def test_with_the_fake_gradient_the_other_way_is_the_true_one(tmp_path):
    runner = at_work(tmp_path, sets=["D_NR"])
    runner.recipe = runner.recipe.model_copy(update={"matching": Matching(steps=2, fake_relu=True)})
    rows = MatchingInstrument().run(runner).rows
    assert [(row.way, row.fake_relu) for row in rows] == [("itself", True), ("fake_relu", False)]
    assert "fake_relu" not in runner.set("D_NR_fake_relu").manifest["request"]
