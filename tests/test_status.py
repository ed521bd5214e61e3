"""Where a study stands: running, killed, finished; and what is no study."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import notbugs as nb
from notbugs import files, study
from notbugs.__main__ import main
from notbugs.console import TerminalConsole, show
from notbugs.errors import InputError
from notbugs.files import read_json, write_json
from notbugs.measure import Proportion, wilson
from notbugs.study._status import _go_on
from notbugs.study.folder import UNDER_WAY, StudyFolder, write_recipe
from notbugs.study.recipe import read_recipe
from notbugs.study.sets import stage_names
from tests.test_study import KILLABLE, QUIET, tiny

pytestmark = pytest.mark.whole

STAGE_NAMES = stage_names(judge=True)  # of `tiny`


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "digits"
    study.run(tiny(), folder, QUIET)
    return folder


def printed(found: study.Status, capsys, monkeypatch, width: int = 100) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    for table in study.status_tables(found):
        show(table)
    return capsys.readouterr().out


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_where_a_study_or_a_set_stands_is_read_without_torch(finished):
    code = (
        "import sys; from notbugs.__main__ import main\n"
        "assert main(['status', sys.argv[1]]) == main(['info', f'{sys.argv[1]}:D_R']) == 0\n"
        "assert not {'torch', 'scipy', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(finished)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "digits: finished" in done.stdout
    assert "matched, complete" in done.stdout


def named(row) -> str | None:
    return row.attack.name if row.attack else None


def test_a_finished_study(finished, capsys, monkeypatch):
    before = snapshot(finished)
    found = study.status(finished)
    assert snapshot(finished) == before
    assert (found.state, found.now, found.left, found.report) == ("finished", None, (), None)
    assert list(found.seconds) == list(STAGE_NAMES)
    results = study.Results.model_validate_json((finished / "results.json").read_text())
    rows = {(row.classifier, row.attack.eps if row.attack else 0, named(row)): row.accuracy for row in results.rows}
    for name, items in found.accuracies.items():
        under = [(0, None), *((eps, attack) for attack in ("strong", "pgd") for eps in (0.25, 0.5))]
        assert [item.share.value for item in items] == [rows[name, eps, attack] for eps, attack in under]
    assert set(found.sets) == {made.name for made in results.sets}
    text = printed(found, capsys, monkeypatch, width=500)
    assert "digits: finished" in text
    assert f"notbugs report {finished}" in " ".join(text.split())
    assert "34 of 34 stages" in text
    assert re.search(r"images/s +build +measure +train +evaluate", text)
    assert f"{100 * rows['robust', 0.25, 'strong']:.1f} " in text


def test_images_a_second_count_every_epoch_and_every_image_once_a_measurement(finished):
    results, found = study.read_results(finished / "results.json"), study.status(finished)
    images = {stage.name: stage.images for stage in results.study.stages}
    trained = results.study.training["D_R"]
    assert images["train-D_R"] == trained.epochs * trained.images > 0
    fits, built = results.study.fits, nb.ConstructedSet(finished / "sets" / "D_R").images
    assert fits.keys() == results.study.classifiers.keys()
    classifier = nb.load_classifier(finished / "classifiers" / "D_R.safetensors")
    assert fits["D_R"] == nb.evaluate(classifier, built)[0].share
    assert images["build-D_R"] == images["measure-D_R"] == trained.images
    assert images["evaluate-D_R"] == results.rows[0].n
    assert images["theory"] is None
    assert found.speeds["train-D_R"] == images["train-D_R"] / found.seconds["train-D_R"]
    assert set(found.speeds) == {name for name, count in images.items() if count}


def test_seconds_of_a_stage_count_what_stopped_processes_spent_on_it(tmp_path):
    folder = StudyFolder(tmp_path, TerminalConsole(quiet=True), stages=0)

    def stop(progress):
        progress(1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.stage("x", "x", stop)
    noted = read_json(tmp_path / UNDER_WAY)
    write_json(tmp_path / UNDER_WAY, noted | {"at": noted["began"] + 40.0})
    with pytest.raises(KeyboardInterrupt):
        folder.stage("x", "x", stop)
    assert read_json(tmp_path / UNDER_WAY)["spent"] == 40.0
    folder.stage("x", "x", lambda _: 1, images=lambda value: 100 * value)
    assert 40.0 <= folder.done["x"]["seconds"] < 60.0
    assert folder.done["x"]["images"] == 100
    folder.stage("y", "y", lambda _: 1)
    assert folder.done["y"]["seconds"] < 20.0
    assert "images" not in folder.done["y"]


@pytest.mark.parametrize("text", ["{}", '{"name": "x", "seconds": "long", "value": 3}', "[1]", ""])
def test_a_file_among_the_stages_that_is_none_of_them_counts_for_nothing(finished, tmp_path, capsys, text):
    folder = shutil.copytree(finished, tmp_path / "study", ignore=shutil.ignore_patterns("sets", "outcomes"))
    (folder / "stages" / "x.json").write_text(text)
    assert main(["status", str(folder)]) == 0
    assert "34 of 34 stages" in capsys.readouterr().out


def test_its_report_is_named(finished, capsys):
    page = finished / "report.html"
    page.touch()
    assert main(["status", str(finished)]) == 0
    page.unlink()
    assert str(page) in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("width", [30, 60, 160])
def test_no_line_is_wider_than_the_terminal(finished, capsys, monkeypatch, width):
    text = printed(study.status(finished), capsys, monkeypatch, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    accuracies = [item.share for items in study.status(finished).accuracies.values() for item in items]
    assert all(f"{100 * share.low:.1f}-{100 * share.high:.1f}" in text for share in accuracies)


def killed(folder: Path, recipe: Path, stage: str) -> dict:
    """A study killed in the middle of a stage; what `status` said of it as it ran."""
    process = subprocess.Popen([sys.executable, "-c", KILLABLE, str(recipe), str(folder)], start_new_session=True)
    seen, deadline = {}, time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < deadline and not seen:
            try:
                found = study.status(folder)
            except InputError:  # nothing there yet
                time.sleep(0.02)
                continue
            time.sleep(0.02)
            if found.now and found.now.name == stage:
                seen = {"state": found.state, "done": list(found.seconds)}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return seen


def test_a_running_study_and_the_same_when_it_was_killed(tmp_path, capsys, monkeypatch):
    recipe, folder = tmp_path / "tiny.toml", tmp_path / "a study"
    recipe.write_text(tiny(robust={"epochs": 400}).toml())
    assert killed(folder, recipe, "train-robust") == {"state": "running", "done": STAGE_NAMES[:4]}
    found = study.status(folder)
    assert found.state == "stopped"
    assert found.now
    assert found.now.name == "train-robust"
    assert found.left == tuple(STAGE_NAMES[5:])
    assert not found.sets
    text = " ".join(printed(found, capsys, monkeypatch, width=500).split())
    assert "killed at train robust" in text
    assert f"notbugs run '{folder}/recipe.toml' --out '{folder}'" in text
    assert "4 of 34 stages" in text


def test_the_command_that_goes_on_names_code_of_ones_own(tmp_path):
    """A file alone never runs it."""
    for own, flags in (("mine:net", " --arch mine:net"), ("timm:resnet10t", ""), ("cnn", "")):
        recipe = read_recipe("digits", {"architecture": {"name": own}})
        (tmp_path / "recipe.toml").write_text(recipe.toml())
        assert _go_on(tmp_path) == f"notbugs run {tmp_path}/recipe.toml{flags} --out {tmp_path}"


def test_what_a_killed_run_keeps(finished, tmp_path):
    """Epochs of a training, shards of a set."""
    folder = copied(finished, tmp_path, upto="train-D_NR")
    under_way(folder, "train-D_NR")
    files.write_tensors(folder / "classifiers" / "D_NR.unfinished.safetensors", {"epoch": study_tensor(1)})
    assert study.status(folder).now.kept == "epoch 1 of 2"  # pyrefly: ignore
    folder = copied(finished, tmp_path / "b", upto="build-D_rand")
    under_way(folder, "build-D_rand")
    assert study.status(folder).now.kept == "1 of 1 shards, 150 of 150 images"  # pyrefly: ignore
    under_way(folder, "measure-D_rand", done=1, total=5, left=3.0, note="loss 0.5")
    now = study.status(folder).now
    assert now
    assert (now.done, now.total, now.left, now.note, now.kept) == (1, 5, 3.0, "loss 0.5", "")


def copied(finished: Path, to: Path, upto: str) -> Path:
    """The folder as it was before a stage ended."""
    folder = to / "copy"
    (folder / "stages").mkdir(parents=True)
    for name in ("recipe.toml", "study.json"):
        (folder / name).write_bytes((finished / name).read_bytes())
    for name in STAGE_NAMES[: STAGE_NAMES.index(upto)]:
        (folder / "stages" / f"{name}.json").write_bytes((finished / "stages" / f"{name}.json").read_bytes())
    shutil.copytree(finished / "sets", folder / "sets")
    (folder / "classifiers").mkdir()
    return folder


def under_way(folder: Path, name: str, **fields) -> None:
    note = {"name": name, "began": 0, "done": 0, "total": 0, "left": None, "note": "", "at": time.time()}
    (folder / UNDER_WAY).write_text(json.dumps(note | fields))


def study_tensor(value: int):
    import torch

    return torch.tensor(value)


def test_instruments_that_are_left_are_named(finished, tmp_path):
    folder = copied(finished, tmp_path, upto="theory")
    recipe = tiny(instruments={"usefulness": {"on": True}, "leakage": {"on": True}, "spatial": {"on": True}})
    write_recipe(folder, recipe)
    assert study.status(folder).left == ("theory", "usefulness", "leakage", "spatial")
    for name in ("theory", "leakage"):
        (folder / "stages" / f"{name}.json").write_text(json.dumps({"name": name, "seconds": 1, "value": None}))
    assert study.status(folder).left == ("leakage", "spatial")
    results = json.loads((finished / "results.json").read_text())
    results["instruments"] |= {"usefulness": {}, "leakage": {}}
    del results["checksum"]
    (folder / "results.json").write_text(json.dumps(results))
    assert study.status(folder).left == ("spatial",)
    assert study.status(folder).state == "stopped"


def test_a_stage_notes_how_far_it_is_and_takes_the_note_away(tmp_path, monkeypatch):
    monkeypatch.setattr("notbugs.study.folder.NOTE_SECONDS", -1)
    folder = StudyFolder(tmp_path, TerminalConsole(quiet=True), 0)
    seen = []

    def work(progress):
        for done in (1, 2):
            progress(done, 4, "loss 1.0" if done == 1 else "")
            seen.append(json.loads((tmp_path / UNDER_WAY).read_text()))
        return 7

    assert folder.stage("train-x", "train x", work) == 7
    assert [(note["name"], note["done"], note["total"], note["note"]) for note in seen] == [
        ("train-x", 1, 4, "loss 1.0"),
        ("train-x", 2, 4, "loss 1.0"),
    ]
    assert seen[0]["left"] is None
    assert seen[1]["left"] >= 0
    assert not (tmp_path / UNDER_WAY).exists()


def test_a_stage_gives_back_values_of_its_kind_and_does_others_again(tmp_path, capsys):
    folder, share, kind = StudyFolder(tmp_path, TerminalConsole(), 0), wilson(1, 4), dict[str, tuple[Proportion, ...]]
    file = tmp_path / "stages" / "x.json"
    for unlike in ([], {"a": [{"value": 2.0}]}):
        write_json(file, {"name": "x", "seconds": 1.0, "value": unlike})
        assert folder.stage("x", "x", lambda _: {"a": (share,)}, kind=kind) == {"a": (share,)}
        assert read_json(file)["value"] == {"a": [share.model_dump()]}
    said = capsys.readouterr().err
    assert said.count("x.json is not what this stage leaves") == 2
    assert "The 'a.0.value' is wrong: Input should be less than or equal to 1. Got 2.0 instead" in " ".join(
        said.split()
    )
    assert folder.stage("x", "x", lambda _: pytest.fail("done again"), kind=kind) == {"a": (share,)}


def test_looking_does_not_lock_a_writer_out(tmp_path):
    """As many looks as there is time for, while another process of the same kind takes and gives back the folder."""
    stop = threading.Event()

    def look():
        while not stop.is_set():
            files.has_writer(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            with files.only_writer(tmp_path):
                pass
    finally:
        stop.set()
        looking.join()
    assert not files.has_writer(tmp_path)
    with files.only_writer(tmp_path):
        assert files.has_writer(tmp_path)
        with pytest.raises(InputError, match="Another process is writing"), files.only_writer(tmp_path):
            pass


def test_every_seed_of_a_run_is_told_of(finished, tmp_path, capsys):
    for seed in (2, 10):
        copied(finished, tmp_path, upto="theory").rename(tmp_path / f"seed-{seed}")
    assert study.studies_in(tmp_path) == [tmp_path / "seed-2", tmp_path / "seed-10"]
    assert main(["status", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("digits: stopped") == 2
    assert study.studies_in(finished) == [finished]
    for seed in (2, 10):  # of several labels and seeds, each label has a study
        labels = tmp_path / "both" / f"seed-{seed}"
        labels.mkdir(parents=True)
        (tmp_path / f"seed-{seed}").rename(labels / "label-one")
    assert study.studies_in(tmp_path / "both") == [tmp_path / f"both/seed-{seed}/label-one" for seed in (2, 10)]
    assert main(["status", str(tmp_path / "both")]) == 0
    assert capsys.readouterr().out.count("digits: stopped") == 2


@pytest.mark.parametrize("what", ["nowhere", "empty", "file"])
def test_what_is_no_study_is_refused(what, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert main(["status", str(tmp_path / what)]) == 2
    error = capsys.readouterr().err
    assert "The 'folder' must hold a study: a recipe.toml and a study.json" in error
    assert "notbugs info" in error


@pytest.mark.parametrize("command", ["status", "report", "tune", "export --to npz"])
def test_a_folder_of_another_spelling_gets_the_nearest_name(command, tmp_path, capsys):
    (tmp_path / "digits").mkdir()
    word, *more = command.split()
    assert main([word, str(tmp_path / "digit"), *more]) == 2
    assert f"Did you mean '{tmp_path / 'digits'}" in capsys.readouterr().err


def test_a_study_of_somebody_else(finished, monkeypatch, capsys):
    def denied(folder):
        raise PermissionError(13, "Permission denied", str(folder / ".lock"))

    # root may read everything
    monkeypatch.setattr(sys.modules["notbugs.study._status"], "has_writer", denied)
    assert main(["status", str(finished)]) == 2
    assert ".lock may not be read" in capsys.readouterr().err


def test_a_damaged_study_is_one_line(finished, tmp_path, capsys):
    folder = copied(finished, tmp_path, upto="theory")
    (folder / "study.json").write_text("{")
    assert main(["status", str(folder)]) == 2
    assert "study.json is damaged" in capsys.readouterr().err
