"""Learning rates and architectures on a study's sets, chosen by what is held out of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from notbugs import construct, files, study
from notbugs.__main__ import main
from notbugs.console import TerminalConsole
from notbugs.errors import InputError
from notbugs.report.shell import render_section
from notbugs.study import TuneJob
from notbugs.study.jobs import tune
from notbugs.study.jobs.tune import Point, Tuned, tune_section
from notbugs.threat import L2
from notbugs.training import new_classifier
from tests.fakes import proportion
from tests.test_study import tiny

pytestmark = pytest.mark.whole

QUIET = TerminalConsole(quiet=True)
SMALL = ("cnn width=2 features=4", "cnn width=4 features=4")
QUICK = ["--epochs", "1", "--learning-rates", "0.01", "0.1", "--architectures", *SMALL, "--sets", "D_det"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What a study leaves that was killed after it had built D_det."""
    made, recipe = tmp_path_factory.mktemp("tune"), tiny()
    (made / "recipe.toml").write_text(recipe.toml())
    data = recipe.read()
    source = new_classifier(data, "cnn", width=4, features=6)
    construct.relabel(source, data, made / "sets" / "D_det", targets="next", threat=L2(0.5))
    return made


def point(heldout: float | None, test: float | None, **where) -> Point:
    shares = [None if share is None else proportion(share, 100) for share in (heldout, test)]
    values = {"train_set": "D_det", "architecture": "cnn", "epochs": 3, "lr": 0.1, "seconds": 1.0} | where
    return Point(**values, heldout=shares[0], test=shares[1])


def tuned(*points: Point) -> Tuned:
    return Tuned(study="a", data="digits", test_set="test", seed=0, share=0.2, points=points)


def test_the_heldout_split_chooses_and_the_test_images_do_not():
    points = point(0.9, 0.1, lr=0.01), point(0.8, 0.7, lr=0.1), point(None, None, lr=3.0)
    found = tuned(*points, point(0.1, 0.9, train_set="D_rand"))
    assert found.chosen("D_det") is points[0]
    assert found.best("D_det") is points[1]
    assert found.sets == ["D_det", "D_rand"]
    assert [line.endswith("<- chosen by the held-out split") for line in found.lines()] == [True, False, False, True]
    reading = tune_section(found).reading
    assert "from 10.0 to 70.0" in reading[0]
    assert "chooses cnn, learning rate 0.01" in reading[1]
    assert "intervals overlap with its: 1, with 70.0 to 70.0" in reading[2]
    assert "Most accurate on the test images, which choose nothing: cnn, learning rate 0.1" in reading[3]
    assert "overlap" not in reading[3]


def test_equal_points_are_chosen_in_their_order():
    assert tuned(point(0.5, 0.1, lr=0.01), point(0.5, 0.9, lr=0.1)).chosen("D_det").lr == 0.01


def test_the_page_has_every_point_and_survives_runs_that_all_diverged():
    page = render_section(
        tune_section(tuned(point(0.9, 0.312, lr=0.01), point(0.8, 0.7, lr=0.1), point(None, None, lr=3.0))),
        "notbugs tune",
    )
    assert page.count("<svg") == 2
    for text in ("31.0", "70.0", "diverged", "<script"):
        assert (text in page) == (text != "<script")
    gone = render_section(tune_section(tuned(point(None, None))), "notbugs tune")
    assert "every training run diverged" in gone
    assert "<svg" not in gone


class Killed(BaseException):
    """What the command does not turn into an error of its own."""


def test_every_combination_is_tried_and_resumed(folder, monkeypatch, capsys):
    kept, calls = tune.train, []

    def killed(*arguments, **options):
        calls.append(arguments[1])
        if len(calls) == 3:
            raise Killed
        return kept(*arguments, **options)

    monkeypatch.setattr(tune, "train", killed)
    with pytest.raises(Killed):
        main(["tune", str(folder), "--quiet", *QUICK])
    assert not (folder / "tune" / "tune.json").exists()
    assert main(["tune", str(folder), "--quiet", *QUICK]) == 0
    assert capsys.readouterr().out == f"{folder / 'tune' / 'tune.html'}\n"
    assert len(calls) == 5
    found = Tuned.model_validate_json((folder / "tune" / "tune.json").read_text())
    assert [(at.architecture, at.lr) for at in found.points] == [(name, lr) for name in SMALL for lr in (0.01, 0.1)]
    assert {at.heldout.n for at in found.points} == {30}
    assert {at.test.n for at in found.points} == {40}
    assert {len(images) for images in calls} == {120}
    monkeypatch.setattr(tune, "train", lambda *_, **__: pytest.fail("trained again"))
    assert study.tune(
        folder, TuneJob(sets=("D_det",), epochs=(1,), learning_rates=(0.1,), architectures=SMALL[:1]), QUIET
    )


def test_what_is_held_out_has_the_labels_of_the_set(folder, monkeypatch):
    built = construct.ConstructedSet(folder / "sets" / "D_det").images
    seen = []

    def look(_, images):
        seen.append(images)
        return proportion(0.5, len(images))

    monkeypatch.setattr(tune, "train", lambda *_, **__: None)
    monkeypatch.setattr(tune, "_accuracy", look)
    study.tune(folder, TuneJob(sets=("D_det",), epochs=(9,), learning_rates=(0.1,)), QUIET)
    images, labels = seen[0].batch(slice(None))
    pixels, marks = built.batch(slice(None))
    where = [int((pixels == image).flatten(1).all(1).nonzero()[0, 0]) for image in images]
    assert labels.tolist() == [int(marks[row]) for row in where]
    assert len(seen[0]) == 30
    assert seen[1].labels.equal(tiny().read().test.labels)


def test_a_learning_rate_that_diverges_is_a_point_without_accuracies(folder):
    job = TuneJob(sets=("D_det",), epochs=(2,), learning_rates=(1e30,), architectures=SMALL[:1])
    (at,) = study.tune(folder, job, QUIET).points
    assert (at.heldout, at.test) == (None, None)
    assert not list((folder / "tune").glob("*.unfinished*"))
    assert json.loads((folder / "tune" / "tune.json").read_text())["points"][0]["heldout"] is None


def test_the_network_is_that_of_the_set_unless_one_is_asked_for(folder, tmp_path):
    shutil.copytree(folder / "sets", tmp_path / "sets")
    other = {"D_det": {"name": "cnn", "width": 2, "features": 4}}
    (tmp_path / "recipe.toml").write_text(tiny(architecture_on=other).toml())
    job = TuneJob(sets=("D_det",), epochs=(1,), learning_rates=(0.1,))
    assert [at.architecture for at in study.tune(tmp_path, job, QUIET).points] == ["cnn width=2 features=4"]


def test_errors_come_before_any_work(folder, tmp_path):
    with pytest.raises(InputError, match="notbugs run"):
        study.tune(tmp_path, TuneJob(), QUIET)
    with pytest.raises(InputError, match="no finished constructed set"):
        study.tune(folder, TuneJob(sets=("D_rand",)), QUIET)
    with pytest.raises(InputError, match="cnn width=8 stride=2"):
        study.tune(folder, TuneJob(sets=("D_det",), architectures=("cnn wide",)), QUIET)
    assert main(["tune", str(folder), "--learning-rates", "0"]) == 2


def test_a_study_that_may_not_be_written_is_to_be_copied(folder, monkeypatch, capsys):
    def refuse(*rest, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    assert main(["tune", str(folder), *QUICK]) == 2
    assert "is not (Permission denied): copy the study to where you may write." in capsys.readouterr().err
