from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from notbugs.__main__ import main
from notbugs.study import recipe_names
from tests.test_study import TINY, tiny

pytestmark = pytest.mark.whole


def flags(values: dict, prefix: str = "--") -> list[str]:
    """A nested dict as the flags that say the same."""
    found = []
    for key, value in values.items():
        name = prefix + key.replace("_", "-")
        if isinstance(value, dict):
            found += flags(value, name + ".")
        elif isinstance(value, bool):
            found += [name if value else name.replace("--", "--no-", 1)]
        else:
            found += [name, *map(str, value)] if isinstance(value, list) else [name, str(value)]
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "digit"], "There is no recipe 'digit'. Did you mean 'digits'?"),
        (["run", "nothing.toml"], "There is no recipe file nothing.toml"),
        (["run", "digits", "--data", "nowhere"], "There is no 'nowhere'"),
        (["run"], "Data can be given as digits, pneumonia, planted, cifar10"),
        (["run", "digits", "--relabelling.eps", "-1"], "The 'relabelling.eps' is wrong"),
        (["run", "digits", "--relabelling.eps", "nan"], "The 'relabelling.eps' is wrong"),
        (["run", "digits", "--relabelling.eps", "wide"], "wide"),
        (["run", "digits", "--evaluation.radii", "-0.5"], "'eps' must be a number at or above 0"),
        (["run", "digits", "--standard.epochs", "0"], "The 'standard.epochs' is wrong"),
        (["run", "digits", "--standard.epoch", "3"], "Did you mean --standard.epochs?"),
        (["evaluate", "m", "--eps", "0.5"], "Did you mean --threat?"),
        (["evaluate", "m", "--stpes", "40"], "Did you mean --attack.steps?"),
        (["run", "digits", "--gpu"], "Did you mean --device?"),
        (["info", "x", "--eps", "2"], "Unknown option: --eps. `notbugs info"),
        (["run", "digits", "--device", "abacus"], "The 'device' must be one that torch has here"),
        (["run", "digits", "--train-images", "5"], "Every class must have a training image"),
        (["rum", "digits"], "rum"),
        (["report", "nowhere"], "nowhere"),
        (["run", "digits", "--instruments.matching.ways", "fake-relu"], "instead. Did you mean 'fake_relu'?\n"),
        (["run", "digits", "--pair", "3", "3"], "'pair' must name two different classes between 0 and 9"),
        (["theory", "--seed", "1.5"], "give a whole number, not '1.5'"),
        (["run", "digits", "--seeds", "2.5"], "give a whole number, not '2.5'"),
        (["run", "digits", "--seeds", "two"], "give a whole number, not 'two'"),
        (["theory", "--seed", "-1"], "'seed' must be a whole number at or above 0"),
        (["theory", "--out", __file__], "must be a folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2_before_any_work(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.splitlines()[-1].startswith("notbugs: ")
    assert len([line for line in printed.err.splitlines() if not line.startswith("read the data: ")]) == 1
    assert "Traceback" not in printed.err
    assert not printed.out
    assert not list(tmp_path.iterdir())


def test_an_empty_data_folder(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(["run", "digits", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert "is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    for out in ("file", "file/below"):
        assert main(["run", "digits", "--out", str(tmp_path / out)]) == 2
        assert "is a file" in capsys.readouterr().err


def test_an_output_folder_that_is_not_writable(capsys):
    for arguments in (["run", "digits"], ["train"], ["audit", "x.safetensors"]):
        ending = "/x.safetensors" if arguments == ["train"] else ""
        assert main([*arguments, "--out", f"/proc/out{ending}"]) == 2  # where root may not write either
        assert "must be writable" in capsys.readouterr().err
    assert main(["theory", "--out", "/proc/out"]) == 2
    assert "must be writable" in capsys.readouterr().err


def test_whoever_reads_the_output_may_stop():
    command = f"{sys.executable} -m notbugs recipes | true; exit ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert finished.returncode in (0, 141)  # 0 where it was written before the reader went
    assert finished.stderr == ""


def test_a_recipe_file_with_a_mistake(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = [")
    assert main(["run", str(file)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    file.write_text("epochz = 3")
    assert main(["run", str(file)]) == 2
    assert "'epochz'" in capsys.readouterr().err


def test_recipes_are_listed(capsys):
    assert main(["recipes"]) == 0
    found = capsys.readouterr().out.split()
    assert set(recipe_names()) <= set(found)
    assert {"cifar10-small", "digits", "images", "medmnist", "restricted-imagenet"} <= set(found)


@pytest.fixture(scope="module")
def run_by_command(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("command") / "digits"
    folder.mkdir()
    (folder / "theory.html").touch()  # which costs more than the whole study
    command = ["run", "digits", "--out", str(folder), *flags(TINY)]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        status = main(command)
    return folder, subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def test_the_command_runs_a_study_and_its_last_line_is_the_report(run_by_command):
    folder, finished = run_by_command
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == str(folder / "report.html")
    assert (folder / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_flags_override_the_recipe_one_by_one(run_by_command):
    folder, _ = run_by_command
    checksum, settings = (folder / "recipe.toml").read_text().split("\n", 1)
    assert checksum.startswith("# checksum ")
    assert settings == tiny().toml()


def test_a_log_has_no_control_characters(run_by_command):
    _, finished = run_by_command
    assert "\x1b" not in finished.stderr
    assert "\r" not in finished.stderr
    assert " 5/34 train robust classifier: done in" in finished.stderr


def test_a_recipe_written_by_a_study_repeats_it(run_by_command, tmp_path, capsys):
    folder, _ = run_by_command
    assert main(["run", str(folder / "recipe.toml"), "--out", str(folder), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"


def test_without_its_page_a_study_needs_nothing_that_draws(run_by_command, monkeypatch, capsys, tmp_path):
    folder, _ = run_by_command
    shutil.copytree(folder, tmp_path / "there")
    (tmp_path / "there" / "report.html").unlink()
    arguments = ["run", str(folder / "recipe.toml"), "--out", str(tmp_path / "there"), "--quiet"]
    with monkeypatch.context() as patched:
        patched.setattr("notbugs.report.find_spec", lambda name: None)
        assert main([*arguments, "--no-page"]) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'there'}\n"
        assert main(arguments) != 0
    assert not (tmp_path / "there" / "report.html").exists()
    capsys.readouterr()
    assert main(["report", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "report.html").exists()


def test_report_again(run_by_command, capsys):
    folder, _ = run_by_command
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").exists()
