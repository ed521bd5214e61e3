"""What people write on a command line, what the help shows, and what is said of mistakes."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from rich.text import Text

from notbugs import catalogue
from notbugs.__main__ import main
from notbugs.catalogue import model_file, set_folder, study_of
from notbugs.cli import helping, spelling
from notbugs.cli.catalogue import COMMANDS
from notbugs.errors import InputError


def printed(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return Text.from_ansi(capsys.readouterr().out).plain


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("train --arch resnet18 --arch.width 32", "train --architecture.name resnet18 --architecture.width 32"),
        ("run digits --arch.growth 12", "run digits --architecture.options.growth 12"),
        ("evaluate a --arch=cnn --arch.width=8", "evaluate a --architecture cnn --options.width 8"),
        ("audit a --arch cnn --attack pgd", "audit a --architecture cnn --attack.name pgd"),
        ("run d --attack pgd --attack.steps 3", "run d --evaluation.attack.name pgd --evaluation.attack.steps 3"),
        ("evaluate a --threat l2:0.25 l2:0.5", "evaluate a --norm l2 --radii 0.25 0.5"),
        ("evaluate --threat linf:0.03 a.pth", "evaluate a.pth --norm linf --radii 0.03"),
        ("build D_NR m --out o", "build nonrobust m --out o"),
        ("audit m --threat linf:8/255", f"audit m --threat linf:{8 / 255}"),
        ("train --threat linf:8/255", f"train --adversary.norm linf --adversary.eps {8 / 255}"),
        ("run d --evaluation.radii 2/255 0.5/4", f"run d --evaluation.radii {2 / 255} 0.125"),
        ("train --threat linf:8e-3", "train --adversary.norm linf --adversary.eps 8e-3"),
        ("build det a --threat=l2:1 --out b", "build det a --relabelling.norm l2 --relabelling.eps 1 --out b"),
        ("audit a --threat l2:0.5", "audit a --threat l2:0.5"),
        ("info a -- --arch", "info a -- --arch"),
        ("evaluate --arch=cnn a.pth", "evaluate --architecture cnn a.pth"),
    ],
)
def test_one_spelling_on_every_command(written, meant, capsys):
    assert spelling.canonical(written.split()) == meant.split()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("written", "new"),
    [
        ("train --architecture.name cnn", "arch"),
        ("run d --architecture.options.growth 1", "arch.growth"),
        ("audit a --architecture cnn", "arch"),
        ("evaluate a --options.width 2", "arch.width"),
        ("evaluate a --radii 0.5", "threat"),
    ],
)
def test_an_old_spelling_works_and_says_the_new_one(written, new, capsys):
    assert spelling.canonical(written.split()) == written.split()
    assert f"is now --{new};" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["0.5", "l3:0.5", "l2", "l2:0.5 linf:0.1"])
def test_a_threat_of_another_form_is_refused(written):
    with pytest.raises(InputError, match="l2:0.5 or linf:0.03"):
        spelling.canonical(["evaluate", "a", "--threat", *written.split()])
    with pytest.raises(InputError, match="l2:0.5"):
        spelling.canonical(["train", "--threat", "l2:0.5", "l2:1"])


def test_messages_have_the_names_that_people_write():
    text = "Unknown option: --architecture.widht. Did you mean --architecture.width? --options.a --architecture.name."
    assert spelling.shown(text) == "Unknown option: --arch.widht. Did you mean --arch.width? --arch.a --arch."


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_groups_and_two_examples(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    command = COMMANDS[name]
    module, function = command.path.split(":")
    assert inspect.getdoc(getattr(import_module(module), function)).splitlines()[0] == command.about
    assert len(command.examples) == 2
    short, full = printed(capsys, name, "--help"), printed(capsys, name, "--help-all")
    assert "Examples" in short
    for line, does in command.examples:
        assert line in short
        assert does in short
    known = helping.options(name)
    assert len({option.name for option in known if option.name}) == len([option for option in known if option.name])
    for option in known:
        assert option.about, (name, option)
        assert option.label.split()[0] in full
        assert (option.label.split()[0] in short.split()) >= (option.basic or option.required)
    assert not re.search(r"--architecture\b(?![s-])", full)
    assert "--options." not in full
    assert ("for experts" in short) == any(not option.basic for option in known)
    assert "for experts" not in full


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_name_options_that_there_are(name):
    for line, _ in COMMANDS[name].examples:
        for part in line.split("&&"):
            words = part.split()
            if words[0] != "notbugs":
                continue
            known = {option.name for option in helping.options(words[1])} | {"no-page"}
            assert {word[2:] for word in words if word.startswith("--")} <= known, line
    assert set(COMMANDS[name].basic) <= {option.name for option in helping.options(name)}


def test_notbugs_alone_says_what_to_do_first(capsys):
    text = printed(capsys)
    assert text.index("Start here") < text.index("notbugs run pneumonia") < text.index("Studies")
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"  {name} " in text for name in COMMANDS)
    assert printed(capsys, "--help") == text


def test_recipes_are_a_table_from_their_files(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = printed(capsys, "recipes")
    for row in catalogue.rows():
        assert all(row.values()), row
        assert row["name"] in text
    digits = next(row for row in catalogue.rows() if row["name"] == "digits")
    assert digits["time"] == "about a minute on two CPU cores"
    assert "D_det 48-72 %" in digits["gives"]
    assert "measured: seeds 0, 1, 2" in digits["gives"]
    paper = next(row for row in catalogue.rows() if row["name"] == "cifar10-paper")
    assert "not run yet" in paper["gives"]
    assert printed(capsys, "recipes", "digits") == (catalogue.folder() / "digits.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["evalute"], '"evaluate"'),
        (["evalute", "--help"], "'evaluate'"),
        (["recipes", "digit"], "'digits'"),
        (["run", "digit"], "'digits'"),
        (["run", "digits", "--sed", "1"], "--seed"),
        (["run", "digits", "--arhc", "cnn"], "--arch"),
        (["train", "--out", "x.safetensors", "--arch", "resnet81"], "'resnet18'"),
        (["run", "studdy.toml"], "'study.toml'"),
        (["info", "D_RR"], "'D_R'"),
        (["info", "runs/s:D_RR"], "runs/s:D_R?"),
        (["evaluate", "runs/s:robus"], "runs/s:robust?"),
        (["audit", "run/s:robust"], "'runs/s'"),
        (["evaluate", "mode.pth", "--arch", "cnn"], "model.pth"),
        (["evaluate", "model.pth", "--arch", "cnn", "--data", "scan"], "'scans'"),
    ],
)
def test_a_mistake_gets_the_nearest_name(arguments, near, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("D_R", "scans", "runs/s/classifiers", "runs/s/sets/D_R"):
        (tmp_path / folder).mkdir(parents=True)
    torch.save({"weight": torch.ones(1)}, "model.pth")
    for file in ("study.toml", "runs/s/classifiers/robust.safetensors"):
        (tmp_path / file).touch()
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("notbugs: ")
    assert f"Did you mean {near}" in said
    assert "--architecture" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evaluate", "`notbugs evaluate` needs MODEL. `notbugs evaluate --help` has examples."),
        ("build D_R m.pth --out", "`notbugs build` needs --out. `notbugs build --help` has examples."),
        ("verify D_R m.pth", "`notbugs verify` takes FOLDER and options, and nothing else. Got 'm.pth' besides."),
        ("train --out a.safetensors b c", "`notbugs train` takes options, and nothing else. Got 'b c' besides."),
    ],
)
def test_a_word_too_few_or_too_many(arguments, said, capsys):
    assert main(arguments.split()) == 2
    assert capsys.readouterr().err.startswith(f"notbugs: {said}")


def test_parts_of_a_study_have_names(tmp_path):
    study = tmp_path / "s"
    file = study / "classifiers" / "robust.safetensors"
    for folder in (file.parent, study / "sets" / "D_R"):
        folder.mkdir(parents=True)
    file.touch()
    assert model_file(f"{study}:robust") == file
    assert set_folder(f"{study}:D_R") == study / "sets" / "D_R"
    assert study_of(f"{study}:robust") == study
    assert study_of(file) is None
    odd = tmp_path / "a:b"
    odd.touch()
    assert model_file(odd) == odd
    assert study_of(odd) is None
    assert str(model_file("hf:owner/name")) == "hf:owner/name"
    with pytest.raises(InputError, match="It has robust"):
        model_file(f"{study}:standard")


@pytest.mark.parametrize(
    "shell", ["bash", pytest.param("zsh", marks=pytest.mark.slow), pytest.param("fish", marks=pytest.mark.slow)]
)
def test_completion(shell, capsys):
    script = printed(capsys, "completion", shell)
    assert "notbugs" in script
    assert "evaluate" in script
    dashes = "-l " if shell == "fish" else "--"
    old = "options|radii|arch.options|architecture|architecture.name|scaled-down"
    assert not re.search(rf"(?<![.\w]){dashes}({old})(?![\w.-])", script)
    for word in ("threat", "arch", "device", "no-page", "relabelling.steps"):
        assert re.search(rf"{dashes}{word}(?![\w.-])", script)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["ev"], {"evaluate"}),
        (["evaluate", "m", "--thr"], {"--threat"}),
        (["evaluate", "m", "--rad"], set()),
        (["build", "det", "m", "--matching.method", ""], {"quasi-newton", "gradient"}),
        (["run", "--no-p"], {"--no-page"}),
        (["figures", "--"], {"--out"}),
    ],
)
def test_bash_completes(words, completed, capsys):
    script = printed(capsys, "completion", "bash")
    line = f"COMP_WORDS=(notbugs {shlex.join(words)}); COMP_CWORD={len(words)}; _notbugs; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{line}"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["recipes"], []])
def test_what_needs_no_torch_does_not_import_it(arguments):
    code = (
        "import sys; from notbugs.__main__ import main\n"
        f"try: main({arguments!r})\n"
        "finally: assert not {'torch', 'scipy', 'pyarrow'} & set(sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert "notbugs" in finished.stdout or "0." in finished.stdout
