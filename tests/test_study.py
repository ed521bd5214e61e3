"""The whole chain at toy size, killed and resumed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from notbugs import construct, study
from notbugs.__main__ import main
from notbugs.console import TerminalConsole
from notbugs.construct import PAPER_RELABELLING, ConstructedSet
from notbugs.errors import InputError
from notbugs.files import DiskFull, read_json, sha256, write_json
from notbugs.models import load_classifier
from notbugs.report import write_report
from notbugs.report.pictures import read_gallery
from notbugs.search import FMN, fast_relabelling, frames
from notbugs.study import Results, examples, machine, pipeline, runner
from notbugs.study.instruments import INSTRUMENTS
from notbugs.study.sections import Relabelling
from notbugs.study.written import _refuse_other_recipe, read_info, write_info
from notbugs.threat import L2

pytestmark = pytest.mark.whole

TINY = {
    "train_images": 150,
    "test_images": 40,
    "architecture": {"width": 4, "features": 6},
    **{name: {"epochs": 2} for name in ("standard", "robust", "constructed")},
    "matching": {"steps": 5},
    "relabelling": {"steps": 5},
    "evaluation": {"attack": {"steps": 3, "queries": 0}, "pgd": {"steps": 3}, "radii": [0.5, 0.25]},
    "judge": True,
}
QUIET = TerminalConsole(quiet=True)


def tiny(**changes) -> study.Recipe:
    return study.read_recipe("digits", TINY | changes)


def test_the_searches_of_relabelled_sets():
    assert Relabelling(eps=1.5).schedule == fast_relabelling(L2(1.5))
    assert Relabelling(steps=100, step_size=0.1, decay="constant").schedule == PAPER_RELABELLING
    assert Relabelling(method="minimum-norm", steps=50).schedule == FMN(50)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "deep" / "digits"
    study.run(tiny(), folder, QUIET)
    return folder


def test_its_classifiers_say_themselves_what_they_are(finished):
    for file in sorted((finished / "classifiers").iterdir()):
        loaded = load_classifier(file, classes=[str(digit) for digit in range(10)])
        weights = load_file(file)
        assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
        assert loaded.is_channels_last


def read(folder: Path) -> Results:
    return Results.model_validate_json((folder / "results.json").read_text())


def numbers(folder: Path) -> dict:
    """Everything in results.json that must not depend on when and how it was run."""
    found = json.loads((folder / "results.json").read_text())
    del found["checksum"]
    for key in ("created", "stages", "command"):
        del found["study"][key]
    for built in found["sets"]:
        del built["seconds"]
    return found


def test_results_hold_every_classifier_set_and_radius(finished):
    results = read(finished)
    sets = ["D_R", "D_NR", "D_rand", "D_rand_other", "D_rand_min", "D_det"]
    assert [item.name for item in results.sets] == sets
    under = [(None, None), ("strong", 0.25), ("strong", 0.5), ("pgd", 0.25), ("pgd", 0.5)]
    expected = [(name, *at) for name in ("standard", "independent", "robust", *sets) for at in under]
    found = [(row.classifier, row.attack and row.attack.name, row.attack and row.attack.eps) for row in results.rows]
    assert found == expected
    for clean, near, far, *paper in (results.rows[first : first + 5] for first in range(0, len(results.rows), 5)):
        for strong, weak in zip((near, far), paper, strict=True):
            assert strong.accuracy <= weak.accuracy
            assert sum(strong.broken.values()) == round(clean.n * (clean.accuracy - strong.accuracy))
            assert strong.broken["pgd"] == sum(weak.broken.values())
    assert {row.train_set for row in results.rows} == {"D", *sets}
    assert {row.training for row in results.rows if row.classifier == "robust"} == {"adversarial"}
    assert {row.training for row in results.rows if row.classifier != "robust"} == {"standard"}
    for row in results.rows:
        assert row.low <= row.accuracy <= row.high
        assert (row.n, row.test_set, row.seed) == (40, "test", 0)
    attack = results.rows[1].attack
    assert attack is not None
    assert (attack.norm, attack.steps, attack.restarts) == ("l2", 3, 1)
    assert (attack.step_size, attack.decay) == (2 * 0.25, "linear")


def test_results_carry_their_settings_and_hashes(finished):
    info = read(finished).study
    assert info.recipe == tiny().settings()
    assert info.data["train"] == 150
    assert info.versions["torch"]
    assert {stage.name for stage in info.stages} >= {"train-robust", "build-D_det", "evaluate-D_NR", "measure-D_R"}
    for name, digest in info.classifiers.items():
        assert sha256(finished / "classifiers" / f"{name}.safetensors") == digest
    assert info.architecture["features"] == 6
    assert 0 < info.architecture["feature_rank"]["robust"] <= 6


def test_sets_agree_with_their_measured_properties(finished):
    for item in read(finished).sets:
        built = ConstructedSet(finished / item.folder)
        assert len(built) == item.n == 150
        assert built.manifest["properties"]["success_source"] == item.success_source.model_dump()
        assert (item.matching_loss is None) == (item.targets is not None)
        assert (item.perturbation is None) == (item.targets is None)
        assert item.resemblance
        changed = 150 - round(item.kept_label.value * 150)
        assert {item.resemblance.n, *(one.nearer_target.n for one in item.resemblance.measures)} == {changed}
        assert item.settings["threat"]["eps"] == (1.5 if item.targets and item.name != "D_rand_min" else None)
        assert item.resemblance.judge == ("judge" if item.name == "D_R" else "robust")  # had no hand in the set


def test_the_gallery_shows_how_images_were_made(finished):
    arrays = load_file(finished / "gallery.safetensors")
    assert set(read_gallery(finished / "gallery.safetensors") or {}) == set(arrays)
    assert len(arrays["D"]) == 40
    assert torch.bincount(arrays["D.labels"], minlength=10).tolist() == [4] * 10
    for name, matched in (("D_R", True), ("D_NR", True), ("D_rand", False), ("D_rand_other", False), ("D_det", False)):
        image, start, moved = (arrays[f"{name}{part}"] for part in ("", ".start", ".moved"))
        assert arrays[f"{name}.steps"].tolist() == [1, 2, 3, 5]
        assert moved.shape == (40, 4, 1, 8, 8)
        assert torch.equal(moved[:, -1], (image - start).half())
        assert bool((arrays[f"{name}.scores"].diff(dim=1) <= 0).all())
        assert (f"{name}.target" in arrays) == (f"{name}.alike" in arrays) == matched
        if not matched:
            assert torch.equal(start, arrays["D"])
            kept = arrays[f"{name}.labels"] == arrays[f"{name}.start_labels"]
            assert torch.equal(arrays[f"{name}.size"].isnan().all(1), kept)
            assert float(arrays[f"{name}.size"][~kept].min()) > 0
            assert float(moved.float().flatten(2).norm(dim=2).max()) <= 1.5 + 1e-3


def test_a_search_made_again_finds_the_image_of_its_set(finished, monkeypatch):
    found = []
    monkeypatch.setattr(examples, "frames", lambda *args: found.append(frames(*args)) or found[-1])
    (finished / "gallery.safetensors").unlink()
    study.run(tiny(), finished, QUIET)  # mends it
    arrays = load_file(finished / "gallery.safetensors")
    for name, (images, scores) in zip(("D_R", "D_NR", "D_rand", "D_rand_other", "D_det"), found, strict=True):
        # The sets were built in other batches, which may decide the last bits.
        assert torch.allclose(images[:, -1], arrays[name], atol=1e-4)
        assert torch.equal(images[:, 0], arrays[f"{name}.start"])
        assert bool(scores.isfinite().all())


def test_the_schema_describes_every_field_that_a_study_wrote(finished):
    schema = study.json_schema()
    found = json.loads((finished / "results.json").read_text())
    assert set(found) <= set(schema["properties"])
    for name, wrote in (("Row", found["rows"][0]), ("SetProperties", found["sets"][0]), ("StudyInfo", found["study"])):
        assert set(wrote) == set(schema["$defs"][name]["properties"])


@pytest.fixture
def no_work(monkeypatch):
    def fail(*_, **__):
        pytest.fail("work was done again")

    monkeypatch.setattr(pipeline, "feature_rank", fail)
    for name in ("robustify", "relabel"):
        monkeypatch.setattr(construct, name, fail)
    for name in ("train", "outcomes", "set_measured"):
        monkeypatch.setattr(runner, name, fail)


def test_a_finished_study_is_only_read(finished, no_work):
    before = numbers(finished)
    study.run(tiny(), finished, QUIET)
    assert numbers(finished) == before


def test_what_an_older_version_left_of_stages_is_read(finished, tmp_path, no_work):
    """Of training it left the file's hash alone; of a set nothing of what its images are like."""
    folder = shutil.copytree(finished, tmp_path / "study")
    before = read(finished)
    measured = read_json(folder / "stages" / "measure-D_R.json")["value"]
    older = {
        "train-standard": before.study.classifiers["standard"],
        "measure-D_R": {name: measured[name] for name in measured if name not in ("resemblance", "perturbation")},
    }
    for name, value in older.items():
        file = folder / "stages" / f"{name}.json"
        write_json(file, read_json(file) | {"value": value})
    after = study.run(tiny(), folder, QUIET)
    assert after.rows == before.rows
    assert after.study.classifiers == before.study.classifiers
    assert set(before.study.training) - set(after.study.training) == {"standard"}
    assert set(before.study.fits) - set(after.study.fits) == {"standard"}
    assert after.sets[0] == before.sets[0].model_copy(update={"resemblance": None})
    assert after.sets[1:] == before.sets[1:]


def test_the_same_recipe_gives_the_same_numbers_elsewhere(finished, tmp_path):
    study.run(tiny(), tmp_path, QUIET)
    assert numbers(tmp_path) == numbers(finished)


def test_another_seed_gives_other_classifiers(finished, tmp_path):
    study.run(tiny(seed=1), tmp_path, QUIET)
    assert read(tmp_path).study.classifiers["standard"] != read(finished).study.classifiers["standard"]


def test_the_two_standard_classifiers_are_independent(finished):
    classifiers = read(finished).study.classifiers
    assert classifiers["standard"] != classifiers["independent"]


def test_a_layer_that_is_not_there_is_refused_before_any_work(tmp_path):
    asked = {"instruments": {"usefulness": {"on": True, "features": "trunk.9"}}}
    with pytest.raises(InputError, match="trunk.9"):
        study.run(tiny(**asked), tmp_path / "study", QUIET)
    assert not (tmp_path / "study").exists()


def test_a_changed_recipe_is_refused_with_the_difference(finished):
    with pytest.raises(InputError, match=r"(?s)other settings.*-steps = 5.*\+steps = 6"):
        study.run(tiny(matching={"steps": 6}), finished, QUIET)


def test_lists_of_an_instrument_may_grow_and_nothing_else_of_it_may_change(tmp_path):
    def asked(**controls) -> study.Recipe:
        return tiny(instruments={"controls": {"on": True, "leakage": ["D_rand"], "random": [], **controls}})

    def refuse(wanted: study.Recipe) -> None:
        _refuse_other_recipe(tmp_path, asked(), wanted)

    refuse(asked())
    refuse(asked(leakage=["D_rand", "D_det"], random=["D_rand"], weak_epochs=[1, 4]))
    for other, said in (
        ({"leakage": ["D_det"]}, "D_det"),
        ({"leakage": []}, "D_rand"),
        ({"weak_epochs": 2}, "2,"),
        ({"mislabelled": False}, "mislabelled = false"),
    ):
        with pytest.raises(InputError, match=f"(?s)other settings.*{said}"):
            refuse(asked(**other))
    for each in INSTRUMENTS:
        assert all(isinstance(getattr(each.Settings(), name), tuple) for name in each.grows)


def test_settings_that_another_instrument_worked_with_may_not_change_behind_it(tmp_path):
    def asked(**instruments) -> study.Recipe:
        return tiny(instruments=instruments)

    on = {"on": True}
    _refuse_other_recipe(tmp_path, asked(), asked(usefulness={"eps": 3.0, **on}))
    _refuse_other_recipe(tmp_path, asked(shares=on), asked(shares=on, usefulness=on))
    for begun in ({"shares": on}, {"priors": on}):
        with pytest.raises(InputError, match=r"(?s)other settings.*eps = 3\.0"):
            _refuse_other_recipe(tmp_path, asked(**begun), asked(**begun, usefulness={"eps": 3.0, **on}))
    with pytest.raises(InputError, match=r"(?s)other settings.*eps = 3\.0"):
        half = {"sets": ["D_half_R"]}
        _refuse_other_recipe(tmp_path, tiny(**half), tiny(**half, instruments={"usefulness": {"eps": 3.0, **on}}))
    with pytest.raises(InputError, match=r"(?s)other settings.*all = true"):  # then others could change unseen
        _refuse_other_recipe(tmp_path, asked(all=True), asked())


@pytest.mark.parametrize(
    ("name", "settings", "rule"),
    [
        ("generalization_gap", {"radii": [40.0]}, "'eps' must be at most 8 in l2"),
        ("generalization_gap", {"radii": [-1.0]}, "generalization_gap.radii.0' is wrong"),
        ("usefulness", {"eps": 40.0}, "'eps' must be at most 8 in l2"),
        ("transfer", {"eps": 40.0}, "'eps' must be at most 8 in l2"),
        ("strong_attacks", {"radius": 40.0, "autoattack": False}, "'eps' must be at most 8 in l2"),
        ("controls", {"linf": ["D_rand"], "linf_eps": 8.0}, "'eps' must be at most 1 in linf"),
        ("transfer", {"architectures": ["torchvision:nothing"]}, "torchvision"),
    ],
)
def test_what_an_instrument_cannot_do_is_refused_before_any_work(name, settings, rule, tmp_path):
    with pytest.raises(InputError, match=rule):
        study.run(tiny(instruments={name: {"on": True, **settings}}), tmp_path / "study", QUIET)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"constructed": {"shift": 100}}, "'shift' must be below the 8 pixels"),
        ({"trained_on": {"D_det": {"shift": 100}}}, "'shift' must be below the 8 pixels"),
        ({"constructed": {"adversary": {"eps": 1000.0}}}, "'eps' must be at most 8 in l2"),
        ({"sets": ["D_bugs"], "relabelling": {"method": "minimum-norm"}}, "'sets' must name no set that holds other"),
        ({"sets": ["D_rand_high"], "further": {"cutoff": 100.0}}, "'cutoff' must be below 5.657 cycles"),
        ({"matching": {"fake_relu": "nothing"}}, "'fake_relu' must name a module"),
        ({"evaluation": {"attack": {"step_size": 0.0}}}, "step_size' is wrong: Input should be greater than 0"),
        ({"architecture_on": {"D_det": {"options": {"depth": 8}}}}, "'option of cnn' must be one of"),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused_before_any_work(changes, rule, tmp_path):
    with pytest.raises(InputError, match=rule):
        study.run(tiny(**changes), tmp_path / "study", QUIET)
    assert not (tmp_path / "study").exists()


FURTHER = ("D_bugs", "D_rand_uniform", "D_det_low", "D_half_R")


def test_sets_are_added_to_a_finished_study_without_its_work_done_again(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "study")
    stages = {path: path.read_bytes() for path in (folder / "stages").iterdir()}
    first = {"sets": ["D_det_low"], "further": {"others": 1, "cutoff": 1.5}}
    study.run(tiny(**first), folder, QUIET)
    more = {"sets": [*FURTHER], "further": first["further"]}
    before, after = read(finished), study.run(tiny(**more), folder, TerminalConsole())
    assert "lacks sets that were added. It is done again." in capsys.readouterr().err
    assert all(path.read_bytes() == kept for path, kept in stages.items())
    assert after.rows[: len(before.rows)] == before.rows
    assert after.sets[: len(before.sets)] == before.sets
    assert tuple(made.name for made in after.sets[len(before.sets) :]) == FURTHER
    assert {row.classifier for row in after.rows[len(before.rows) :]} == set(FURTHER)
    made = {one.name: one for one in after.sets}
    assert made["D_det_low"].settings["threat"]["band"] == {"side": "low", "cutoff": 1.5}
    assert made["D_det_low"].outside_band
    assert made["D_rand_uniform"].kept_label.value == 0
    assert made["D_half_R"].kind == "matched"
    assert (folder / "classifiers" / "other-1.safetensors").exists()
    assert study.status(folder).left == ()
    page = write_report(folder).read_text()
    assert "Sets beyond the paper" in page
    assert "started from noise" in page
    assert page.count("Nakkiran, 2019") == 1
    for other, said in ((first, "D_bugs"), ({**more, "further": {"others": 2}}, "others = 2"), ({}, "sets")):
        with pytest.raises(InputError, match=f"(?s)other settings.*{said}"):
            study.run(tiny(**other), folder, QUIET)


def test_a_study_goes_on_where_a_later_version_notes_more_of_its_data(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    info = read_info(folder)
    write_info(folder, info | {"data": info["data"] | {"notes": ["what an older version said"]}})
    study.run(tiny(), folder, QUIET)
    assert read_info(folder)["data"] == info["data"]
    write_info(folder, info | {"data": info["data"] | {"fingerprint": "0" * 64}})
    with pytest.raises(InputError, match="holds a study of other data: fingerprint 000000000000 there"):
        study.run(tiny(), folder, QUIET)


def test_held_out_images_replace_the_test_images(tmp_path):
    study.run(tiny(heldout=0.2), tmp_path, QUIET)
    rows = read(tmp_path).rows
    assert {row.test_set for row in rows} == {"heldout"}


DAMAGED = (
    "stages/evaluate-standard.json",
    "stages/measure-D_R.json",
    "stages/build-D_rand.json",
    "stages/train-D_det.json",
    "classifiers/robust.safetensors",
    "outcomes/D_R.safetensors",
    "sets/D_NR/shard-00000.safetensors",
    "sets/D_R/manifest.json",
    "gallery.safetensors",
    "results.json",
)


def flipped(file: Path) -> None:
    """Change one bit of a digit in a JSON file, and of the last byte of any other."""
    data = bytearray(file.read_bytes())
    digits = [place for place, byte in enumerate(data) if file.suffix == ".json" and chr(byte).isdigit()]
    data[digits[0] if digits else -1] ^= 1
    file.write_bytes(data)


def of_bits(folder: Path) -> dict[str, object]:
    """Every file, but for times."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    found: dict[str, object] = {name: path.read_bytes() for name, path in files.items() if path.suffix != ".json"}
    for name in (name for name in files if name.startswith("stages/")):
        found[name] = json.loads(files[name].read_bytes())["value"]
        if name.startswith("stages/build-"):
            del found[name]
    return found | {"numbers": numbers(folder)}


def test_what_is_damaged_is_done_again_to_the_same_bits(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "copy")
    for name in DAMAGED:
        flipped(folder / name)
    in_its_place = folder / "stages" / "rank.json"
    in_its_place.unlink()
    in_its_place.mkdir()
    study.run(tiny(), folder, TerminalConsole())
    said = " ".join(capsys.readouterr().err.split())
    assert of_bits(folder) == of_bits(finished)
    for name in DAMAGED[:-1]:
        if not name.startswith("sets"):
            assert f"{folder / name} is" in said
    assert all(f"repair {name}: started" in said for name in ("D_NR", "D_R"))
    study.run(tiny(), folder, TerminalConsole())
    assert "again" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stages/rank.json", "recipe.toml", "study.json"])
def test_a_folder_in_place_of_a_file_is_not_deleted(finished, tmp_path, name):
    folder = shutil.copytree(finished, tmp_path / "study")
    (folder / name).unlink()
    (folder / name / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match=f"{name} is a folder, where a file is to be written. Move it elsewhere."):
        study.run(tiny(), folder, QUIET)
    assert (folder / name / "mine").exists()


@pytest.mark.parametrize("command", ["report", "figures"])
def test_no_page_passes_over_something_odd_in_place_of_the_gallery(finished, tmp_path, capsys, command):
    shutil.copy(finished / "results.json", tmp_path)
    (tmp_path / "gallery.safetensors").symlink_to("nowhere")
    assert main([command, str(tmp_path)]) == 2
    assert "a link that leads nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["results.json", "study.json", "recipe.toml", "gallery.safetensors"])
@pytest.mark.parametrize("how", ["bit", "cut", "empty", "list"])
def test_no_command_reads_what_is_damaged(finished, tmp_path, capsys, name, how):
    folder = tmp_path / "copy"
    folder.mkdir()
    for kept in ("results.json", "study.json", "recipe.toml", "gallery.safetensors"):
        shutil.copy(finished / kept, folder)
    file = folder / name
    changed = {"cut": file.read_bytes()[: file.stat().st_size // 2], "empty": b"", "list": b"[1]\n"}
    flipped(file) if how == "bit" else file.write_bytes(changed[how])
    read_by = {
        "results.json": ["report", "figures", "compare"],
        "study.json": ["status"],
        "recipe.toml": ["status", "tune"],
        "gallery.safetensors": ["report", "figures"],
    }
    for command in read_by[name]:
        more = [str(finished), "--quiet", "--out", str(tmp_path / "out")] if command == "compare" else []
        assert main([command, str(folder), *more]) == 2, command
        said = capsys.readouterr().err
        assert name in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["recipe.toml", "study.json"])
@pytest.mark.parametrize("how", ["bit", "cut", "empty", "gone", "copy"])
def test_what_says_what_a_study_is_is_put_back(finished, tmp_path, capsys, name, how):
    folder = shutil.copytree(finished, tmp_path / "study")
    file, whole = folder / name, (folder / name).read_bytes()
    copy = folder / (".recipe.copy.toml" if name == "recipe.toml" else ".study.copy.json")
    assert copy.read_bytes() == whole
    if how == "copy":
        copy.unlink()
    elif how == "gone":
        file.unlink()
    else:
        flipped(file) if how == "bit" else file.write_bytes(whole[: len(whole) // 2 * (how == "cut")])
    assert main(["status", str(folder)]) == 0
    study.run(tiny(), folder, TerminalConsole())
    said = " ".join(capsys.readouterr().err.split())
    assert (f"{file} was damaged or gone: it is put back from its copy" in said) == (how != "copy")
    assert of_bits(folder) == of_bits(finished)


@pytest.mark.parametrize("command", ["run", "status", "report", "figures", "compare", "tune"])
@pytest.mark.parametrize("place", ["stages", "sets/D_R/shard-00000.safetensors"])
def test_no_link_out_of_a_study_is_followed(finished, tmp_path, monkeypatch, capsys, command, place):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "study")
    Path("study", place).rename("elsewhere")
    Path("study", place).symlink_to(tmp_path / "elsewhere")
    before = of_bits(tmp_path / "study")
    words = {"run": ["run", "study/recipe.toml", "--out", "study"], "compare": ["compare", "study", str(finished)]}
    assert main(words.get(command, [command, "study"])) == 2
    said = capsys.readouterr().err.splitlines()
    assert f"study/{place} is a link out of study" in said[-1]
    assert not any("Traceback" in line for line in said)
    assert of_bits(tmp_path / "study") == before
    assert not list(tmp_path.rglob("*.part"))


def test_somebody_elses_files_are_not_overwritten(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(InputError, match="holds report.html of no study that is here, which would be overwritten"):
        study.run(tiny(), tmp_path, QUIET)
    assert {path.name for path in tmp_path.iterdir()} <= {"report.html", ".lock"}
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize("command", ["report", "figures", "compare"])
def test_no_page_has_numbers_of_another_classifier(finished, tmp_path, capsys, command):
    folder = shutil.copytree(finished, tmp_path / "study")
    flipped(folder / "classifiers" / "standard.safetensors")
    more = [str(finished), "--quiet"] if command == "compare" else []
    out = [] if command == "report" else ["--out", str(tmp_path / "out")]
    assert main([command, str(folder), *more, *out]) == 2
    assert "standard.safetensors is damaged: the numbers in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (folder / "report.html").exists()


def test_a_study_says_with_what_else_it_went_on(finished, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.setattr(machine, "__version__", "9.9.9")
    study.run(tiny(), folder, TerminalConsole())  # nothing is left to do
    assert read(folder).study.continued == []
    (folder / "stages" / "theory.json").unlink()
    capsys.readouterr()
    study.run(tiny(), folder, TerminalConsole())
    began = read(folder).study.versions["notbugs"]
    said = " ".join(capsys.readouterr().err.split())
    assert f"may differ in its bits: the study began with other versions.notbugs ({began}, now 9.9.9)" in said
    assert [more.versions["notbugs"] for more in read(folder).study.continued] == ["9.9.9"]


def test_a_full_disk_loses_nothing_finished(finished, tmp_path, monkeypatch):
    real, calls = runner.train, []

    def fill_up(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise DiskFull(28, "No room left")
        return real(*arguments, **options)

    monkeypatch.setattr(runner, "train", fill_up)
    with pytest.raises(DiskFull):
        study.run(tiny(), tmp_path, QUIET)
    stages = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "stages").iterdir()}
    assert "train-independent.json" in stages
    monkeypatch.setattr(runner, "train", real)
    study.run(tiny(), tmp_path, QUIET)
    assert all((tmp_path / "stages" / name).stat().st_mtime_ns == when for name, when in stages.items())
    assert numbers(tmp_path) == numbers(finished)


def test_kill_9_at_random_moments_ends_in_the_same_bits(finished, tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny().toml())
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", KILLABLE, str(recipe), str(folder)]
    draw = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 60
        stages = len(list(folder.glob("stages/*.json")))
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(folder.glob("stages/*.json"))) >= stages + 3:
                break
            time.sleep(0.01)
        time.sleep(draw.random() / 10)
        assert process.poll() is None, "the study ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (folder / "results.json").exists()
    study.run(study.read_recipe(str(recipe)), folder, QUIET)
    assert numbers(folder) == numbers(finished)
    for file in finished.glob("sets/*/shard-*"):
        assert sha256(file) == sha256(folder / file.relative_to(finished))


KILLABLE = """
import sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from notbugs import study
from notbugs.__main__ import main
from notbugs.console import TerminalConsole
study.run(study.read_recipe(sys.argv[1]), Path(sys.argv[2]), TerminalConsole(quiet=True))
"""
