"""The instruments `controls` and `generalization_gap`, in a study at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from notbugs import study
from notbugs.console import TerminalConsole
from notbugs.construct import ConstructedSet, relabel, robustify, verify
from notbugs.errors import InputError
from notbugs.measure import Difference, evaluate, paired_difference, predictions, relabelled_accuracy, wilson
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments import controls, generalization_gap
from notbugs.study.instruments.controls import controls_section, strongest
from notbugs.study.instruments.generalization_gap import generalization_gap_section
from notbugs.study.runner import Runner
from notbugs.training import Training

pytestmark = pytest.mark.whole

QUIET = TerminalConsole(quiet=True)
TINY = {
    "train_images": 300,
    "test_images": 120,
    "architecture": {"width": 4, "features": 6},
    **{name: {"epochs": 2} for name in ("standard", "robust", "constructed")},
    "trained_on": {"D_det": {"epochs": 1}},
    "architecture_on": {"D_det": {"name": "cnn", "width": 4, "features": 7}},
    "matching": {"steps": 5},
    "relabelling": {"steps": 5},
    "evaluation": {"attack": {"steps": 1, "queries": 0}, "pgd": {"steps": 3}, "radii": [0.5, 0.25]},
    "instruments": {
        "controls": {
            "on": True,
            "leakage": ["D_rand", "D_det"],
            "random": ["D_rand"],
            "labels": ["D_det"],
            "robust_source": ["D_det"],
            "noise": ["D_R", "D_rand"],
            "linf": ["D_rand"],
            "weak_epochs": [1, 3],
        },
        "generalization_gap": {"on": True, "images": 100, "radii": [0.25, 0.5]},
    },
}
TARGETS = {"D_rand": "any", "D_rand_other": "other", "D_det": "next"}


def at_work(path: Path) -> Runner:
    """A runner in which the classifiers and sets of a study are there."""
    recipe = study.read_recipe("digits", TINY)
    runner = Runner(recipe, recipe.read(), StudyFolder(path, QUIET, stages=0), torch.device("cpu"))
    runner.train("standard", runner.data.train)
    runner.train("robust", runner.data.train)
    how = {"schedule": recipe.relabelling.schedule, "threat": recipe.relabelling.threat}
    sets = {
        name: lambda path, progress, targets=targets: relabel(
            runner.classifier("standard"), runner.data, path, targets=targets, **how
        )
        for name, targets in TARGETS.items()
    }
    schedule = recipe.matching.schedule(runner.data.train.shape)
    sets["D_R"] = lambda path, progress: robustify(runner.classifier("robust"), runner.data, path, schedule=schedule)
    for name, work in sets.items():
        runner.train(name, runner.build(name, work).images)
    return runner


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> Runner:
    return at_work(tmp_path_factory.mktemp("runner"))


@pytest.fixture(scope="module")
def measured(runner) -> controls.ControlsResult:
    return controls.ControlsInstrument().run(runner)


def test_a_set_and_its_controls_are_learned_by_the_network_that_the_recipe_says(runner, measured):
    networks = {row.name: runner.classifier(row.name).head.in_features for row in measured.rows}
    assert set(networks) >= {"D_det", "D_det_leakage", "D_det_robust_source", "D_rand", "D_rand_leakage"}
    assert all(features == (7 if name.startswith("D_det") else 6) for name, features in networks.items())
    assert runner.classifier("standard").head.in_features == 6


def test_every_set_that_was_asked_for_stands_beside_its_own(measured):
    assert [(row.of, row.variant) for row in measured.rows] == [
        ("D_R", "itself"),
        ("D_R", "noise"),
        ("D_rand", "itself"),
        ("D_rand", "leakage"),
        ("D_rand", "random"),
        ("D_rand", "noise"),
        ("D_rand", "linf"),
        ("D_det", "itself"),
        ("D_det", "leakage"),
        ("D_det", "leakage"),
        ("D_det", "labels"),
        ("D_det", "robust_source"),
        (None, "mislabelled"),
    ]
    rows = {row.name: row for row in measured.rows}
    assert {row.source for row in measured.rows if row.of == "D_R" or row.variant == "robust_source"} == {"robust"}
    assert rows["mislabelled"].source == "weak"
    assert rows["D_rand_linf"].norm == "linf"
    assert rows["D_rand_noise"].start == rows["D_R_noise"].start == "uniform"
    assert measured.chance == 0.1
    assert controls.ControlsResult.model_validate_json(measured.model_dump_json()) == measured


def test_rows_are_what_their_sets_and_classifiers_say(runner, measured):
    sets, test = runner.folder.path / "sets", runner.data.test
    for row in measured.rows:
        built, classifier = ConstructedSet(sets / row.name), runner.classifier(row.name)
        assert verify(built.folder) == []
        assert row.n == len(built)
        assert row.clean.value == pytest.approx(float((predictions(classifier, test) == test.labels).float().mean()))
        assert row.relabelled == relabelled_accuracy(classifier, test, 10)
        assert row.success.value == pytest.approx(built.manifest["storage"]["success_stored"])
    rows = {row.name: row for row in measured.rows}
    assert rows["D_det_labels"].untouched.value == rows["mislabelled"].untouched.value == 1
    kept = float((ConstructedSet(sets / "D_rand").images.labels == runner.data.train.labels).float().mean())
    assert rows["D_rand_leakage"].untouched.value == pytest.approx(kept)
    said = predictions(runner.classifier("weak"), runner.data.train)
    agreed = float((ConstructedSet(sets / "D_det").images.labels == said).float().mean())
    assert rows["D_det_leakage"].untouched.value == pytest.approx(agreed)
    assert rows["mislabelled"].n == int((said != runner.data.train.labels).sum())


def test_what_stands_beside_a_set_is_trained_as_the_set_is(runner, measured):
    """Else the difference would be that of two ways to train."""
    epochs = {row.name: (row.of, runner.trained[row.name].epochs) for row in measured.rows}
    assert {of for of, count in epochs.values() if count == 1} == {"D_det"}
    assert all(count == (1 if of == "D_det" else 2) for of, count in epochs.values())


def test_a_classifier_that_was_trained_otherwise_is_trained_again(tmp_path):
    """A study of an older version may have it."""
    recipe = study.read_recipe("digits", TINY)
    data = recipe.read()

    def trained(epochs: int) -> Runner:
        runner = Runner(recipe, data, StudyFolder(tmp_path, QUIET, stages=0), torch.device("cpu"))
        runner.train("D_det_leakage", data.train, "D_det", settings=Training(epochs=epochs, batch=100))
        return runner

    first = trained(1)
    known = first.clean("D_det_leakage", "controls")
    same = trained(1)
    assert same.clean("D_det_leakage", "controls") == known
    other = trained(2)
    assert not (tmp_path / "stages" / "controls-D_det_leakage.json").exists()  # it measured the first
    assert not other.outcomes("D_det_leakage")
    assert other.clean("D_det_leakage", "controls") == evaluate(other.classifier("D_det_leakage"), data.test)[0]
    assert first.hashes == same.hashes != other.hashes
    assert other.trained["D_det_leakage"].epochs == 2
    with pytest.raises(InputError, match="'like' must be one of .*Did you mean 'D_det'"):
        first.train("x", data.train, "D_dett")


def test_a_kill_amid_forgetting_leaves_the_reason_for_it(tmp_path, monkeypatch):
    """The classifier's own stage goes last: else what measured it would be kept for good."""
    folder, gone = StudyFolder(tmp_path, QUIET, stages=0), []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: gone.append(path.stem))
    folder.forget("train-weak", "It was trained otherwise.", "controls-weak", "evaluate-weak")
    assert gone == ["controls-weak", "evaluate-weak", "train-weak"]


def test_a_weak_classifier_of_more_epochs_is_another_one():
    """As are the controls that it judged: another instrument may have begun with the first."""
    names = {}
    for epochs in (1, 3):
        names[epochs] = [controls.weak_name(epochs), controls.control_name("D_det", "leakage", epochs)]
    assert names == {1: ["weak", "D_det_leakage"], 3: ["weak_3", "D_det_leakage_weak_3"]}


def test_each_weak_classifier_has_its_control_and_what_teaches_most_counts(runner, measured):
    rows = {row.name: row for row in measured.rows}
    assert [(one.epochs, one.clean) for one in measured.weak] == [
        (epochs, evaluate(runner.classifier(name), runner.data.test)[0].share)
        for epochs, name in ((1, "weak"), (3, "weak_3"))
    ]
    said = predictions(runner.classifier("weak_3"), runner.data.train)
    agreed = float((ConstructedSet(runner.folder.path / "sets/D_det").images.labels == said).float().mean())
    assert rows["D_det_leakage_weak_3"].untouched.value == pytest.approx(agreed)
    epochs = {name: row.weak_epochs for name, row in rows.items() if row.variant in ("leakage", "random")}
    both = ("D_det_leakage", "D_det_leakage_weak_3")
    assert epochs == {"D_rand_leakage": None, "D_rand_random": None, **dict(zip(both, (1, 3), strict=True))}
    hardest = strongest(measured.rows)
    assert hardest["D_rand"] == rows["D_rand_leakage"]  # its own labels say what is consistent
    assert hardest["D_det"].clean.value == max(rows[name].clean.value for name in both)
    learned = [row.model_copy(update={"fits": None}) for row in measured.rows]
    section = controls_section(measured.model_copy(update={"rows": learned}))
    assert [row[0] for row in section.tables[0].rows if "D_det, leakage" in str(row[0])] == [
        "D_det, leakage control (weak classifier of 1 epoch)",
        "D_det, leakage control (weak classifier of 3 epochs)",
    ]
    (sentence,) = (line for line in section.reading if line.startswith("D_det ") and "leakage" in line)
    assert "the strongest of its 2 leakage controls" in sentence
    assert hardest["D_det"].beyond.size in sentence


def test_results_of_older_versions_have_one_weak_classifier(measured):
    rows = [row for row in measured.rows if row.weak_epochs != 3]
    now = measured.model_copy(update={"rows": rows, "weak": measured.weak[:1]})
    older = now.model_dump(mode="json")
    older |= {"weak": older["weak"][0]["clean"], "weak_epochs": 1}
    for row in older["rows"]:
        del row["weak_epochs"]
    assert controls.ControlsResult.model_validate(older) == now
    for broken in ({"rows": 3}, {"rows": [3, {"variant": "leakage", "of": []}]}, {"weak": 3}):
        with pytest.raises(ValidationError):
            controls.ControlsResult.model_validate(older | broken)


def test_a_control_says_how_far_beyond_it_its_set_is(runner, measured):
    """Image by image, as both are measured on the same ones; so are sets that are built again."""
    rows, test = {row.name: row for row in measured.rows}, runner.data.test

    def less(*names: str) -> Difference:
        return paired_difference(*(predictions(runner.classifier(name), test) == test.labels for name in names))

    assert rows["D_rand_leakage"].beyond == less("D_rand", "D_rand_leakage")
    assert rows["D_det_robust_source"].changed == less("D_det_robust_source", "D_det")
    beyond, changed = (
        {row.variant for row in measured.rows if getattr(row, name) is not None} for name in ("beyond", "changed")
    )
    assert (beyond, changed) == ({"leakage", "random", "labels"}, {"robust_source", "noise", "linf"})
    assert "paired shares" in controls_section(measured).tables[0].caption


def test_without_outcomes_the_interval_is_that_of_independent_images(runner, measured, monkeypatch):
    """As in studies of older versions, whose stages are finished."""
    monkeypatch.setattr(runner, "outcomes", lambda name: [])
    rows = {row.name: row for row in controls.ControlsInstrument().run(runner).rows}
    found = rows["D_rand_leakage"].beyond
    assert found == Difference.of(rows["D_rand"].clean, rows["D_rand_leakage"].clean)
    assert not found.paired


def test_a_damaged_file_of_outcomes_is_measured_again(runner, measured):
    file = runner.outcomes_file("D_det_labels")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert controls.ControlsInstrument().run(runner) == measured
    assert file.read_bytes() == whole


def test_nothing_is_done_twice(runner, measured):
    before = {path: path.stat().st_mtime_ns for path in runner.folder.path.rglob("*") if path.is_file()}
    assert controls.ControlsInstrument().run(runner) == measured
    assert {path: path.stat().st_mtime_ns for path in runner.folder.path.rglob("*") if path.is_file()} == before


def test_the_gap_is_taken_apart(runner):
    found = generalization_gap.GeneralizationGapInstrument().run(runner)
    assert [place.images for place in found.places] == ["D_R training", "D_R test", "test"]
    assert [[item.attack and item.attack.eps for item in place.accuracies] for place in found.places] == [
        [None, 0.25, 0.5]
    ] * 3
    assert {item.share.n for place in found.places for item in place.accuracies} == {100}
    for part, (training, new, test) in zip(
        found.parts, zip(*(place.accuracies for place in found.places), strict=True), strict=True
    ):
        assert part.attack == test.attack
        lost = training.share.value - test.share.value
        assert part.generalisation.value + part.shift.value == pytest.approx(lost)
        assert part.shift == Difference.of(new.share, test.share)
    built = runner.set("D_R_test")
    assert sorted(built.images.labels.tolist()) == sorted(runner.data.test.sample(100, 0, "gap test").labels.tolist())
    assert built.is_matched
    assert generalization_gap.GeneralizationGapResult.model_validate_json(found.model_dump_json()) == found


def test_the_page_says_what_follows_from_the_numbers(measured, runner):
    section = controls_section(measured)
    (table,) = section.tables
    assert [row[0] for row in table.rows][2:4] == ["D_rand", "D_rand, leakage control"]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    rows = {row.name: row for row in measured.rows}
    for low, said in (
        (0.1, "D_rand teaches more than its leakage control, by 20.0 (10.0 to 30.0) points"),
        (-0.1, "no evidence"),
    ):
        beyond = Difference(value=0.2, low=low, high=0.3)
        leakage = rows["D_rand_leakage"].model_copy(update={"beyond": beyond, "fits": None})
        changed = measured.model_copy(update={"rows": [rows["D_rand"].model_copy(update={"fits": None}), leakage]})
        (sentence,) = controls_section(changed).reading
        assert said in sentence
    assert sum("robust source" in sentence for sentence in section.reading) == 1
    found = generalization_gap_section(generalization_gap.GeneralizationGapInstrument().run(runner))
    assert [row[0] for row in found.tables[0].rows] == ["clean", "l2 0.25", "l2 0.5"]
    assert "on 100, 100, 100 images of the three kinds" in found.tables[0].caption
    assert len(found.reading) == 2


def test_a_difference_against_newcombes_table():
    """Newcombe 1998, table II, cases a and b, method 10."""
    case_a = Difference.of(wilson(56, 70), wilson(48, 80))
    assert (case_a.low, case_a.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    case_b = Difference.of(wilson(9, 10), wilson(3, 10))
    assert (case_b.low, case_b.high) == (pytest.approx(0.1705, abs=1e-4), pytest.approx(0.8090, abs=1e-4))
