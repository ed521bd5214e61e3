"""One step of a study at a time, by command: train, evaluate, build, verify, info, export, and back in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import notbugs as nb
from notbugs.__main__ import main
from notbugs.files import only_maker

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parent.parent
DATA = ("--data", "digits", "--train-images", "300", "--test-images", "100", "--precision", "fp32")
NETWORK = ("--arch", "cnn", "--arch.width", "8", "--arch.features", "16")
SHORT = ("--epochs", "4", "--batch", "32")


def quick(kind: str) -> tuple[str, ...]:
    """A short search of this kind of set."""
    return (f"--{'matching' if kind in ('robust', 'nonrobust') else 'relabelling'}.steps", "5", "--batch", "50")


def alone(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "notbugs", *map(str, arguments)]


def together(*arguments: str | Path) -> list[str]:
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    return [sys.executable, *launch, "-m", "notbugs", *map(str, arguments)]


def finished(command: list[str], status: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("model") / "standard.safetensors"
    assert main(["train", "--out", str(file), "--quiet", *DATA, *NETWORK, *SHORT]) == 0
    return file


@pytest.fixture(scope="module")
def built(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "D_rand"
    assert main(["build", "rand", str(model), "--out", str(folder), "--quiet", *DATA, *quick("rand")]) == 0
    return folder


def test_a_trained_classifier_is_one_file_that_says_everything(model, capsys):
    data = nb.load("digits").take(300, 100, seed=0)
    classifier = nb.load_classifier(model, shape=data.train.shape, classes=data.classes)
    clean = nb.evaluate(classifier, data.test)[0]
    assert clean.share.value > 0.5
    assert (
        main(
            ["evaluate", str(model), "--quiet", *DATA, "--radii", "0.5", "--attack.steps", "3", "--attack.queries", "0"]
        )
        == 0
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(clean)
    assert re.fullmatch(r"l2 0\.5: \d+\.\d% \(\d+\.\d to \d+\.\d\), n=100", printed[1])


def test_evaluate_with_autoattack(model, tmp_path, capsys):
    pytest.importorskip("pyautoattack")
    few = (
        "--test-images",
        "20",
        "--radii",
        "0.8",
        "--attack.steps",
        "3",
        "--attack.targeted",
        "1",
        "--attack.queries",
        "0",
        "--autoattack",
    )
    arguments = [*DATA[: DATA.index("--test-images")], *DATA[DATA.index("--test-images") + 2 :], *few]
    assert main(["evaluate", str(model), "--quiet", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line.split(": ")[0] for line in lines]
    assert told[:4] == ["clean", "l2 0.8", "l2 0.8, autoattack", "l2 0.8, worst of both"]
    assert all(line.startswith("! AutoAttack is ") for line in lines[4:])
    fewer = ("--autoattack-images", "8", "--keep", str(tmp_path / "kept"))
    for _ in range(2):
        assert main(["evaluate", str(model), "--quiet", *arguments, *fewer]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition("=")[2] for line in lines[:4]] == ["20", "20", "8", "8"]
    assert len(list((tmp_path / "kept").iterdir())) == 1


@pytest.mark.parametrize("kind", ["robust", "nonrobust", "rand", "rand-other", "det"])
def test_every_kind_is_built(kind, model, tmp_path, capsys):
    out = tmp_path / kind
    assert (
        main(["build", kind, str(model), "--out", str(out), "--quiet", "--dtype", "float16", *DATA, *quick(kind)]) == 0
    )
    assert capsys.readouterr().out == f"{out}\n"
    made = nb.ConstructedSet(out)
    assert len(made) == 300
    assert made.is_matched == (kind in ("robust", "nonrobust"))
    assert main(["verify", str(out), "--model", str(model), *DATA]) == 0
    assert f"No fault found in {out}" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["leakage", "random", "labels", "mislabelled"])
def test_every_control_is_built(kind, model, built, tmp_path, capsys):
    out = tmp_path / kind
    of = () if kind == "mislabelled" else ("--of", str(built))
    assert main(["build", kind, str(model), "--out", str(out), "--quiet", *of, *DATA]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    made = nb.ConstructedSet(out)
    assert torch.equal(made.images.labels, nb.ConstructedSet(built).images.labels) == bool(of)
    assert main(["verify", str(out), "--model", str(model), *DATA]) == 0
    assert main(["info", str(out)]) == 0
    assert "control" in capsys.readouterr().out


def test_a_weak_classifier_and_noise(model, tmp_path, capsys):
    det, leakage, noise = tmp_path / "D_det", tmp_path / "leakage", tmp_path / "noise"
    assert main(["build", "det", str(model), "--out", str(det), "--quiet", *DATA, *quick("det")]) == 0
    job = ["build", "leakage", str(model), "--out", str(leakage), "--quiet", "--of", str(det), *DATA]
    assert main(job) == 2
    assert "The 'weak' must be given" in capsys.readouterr().err
    assert main([*job, "--weak", str(model)]) == 0
    assert (
        main(["build", "rand", str(model), "--out", str(noise), "--quiet", "--start", "uniform", *DATA, *quick("rand")])
        == 0
    )
    assert nb.ConstructedSet(noise).manifest["request"]["start"] == "uniform"
    assert (
        main(["build", "rand", str(model), "--out", str(noise), "--quiet", "--of", str(det), *DATA, *quick("rand")])
        == 2
    )
    assert "The 'of' must be given for leakage, random, labels" in capsys.readouterr().err


def test_verify_names_what_is_wrong_and_build_mends_it(built, model, capsys):
    shard = built / "shard-00000.safetensors"
    before = shard.read_bytes()
    shard.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert main(["verify", str(built), "--quiet"]) == 1
    assert "shard-00000.safetensors" in capsys.readouterr().out
    assert main(["build", "rand", str(model), "--out", str(built), "--quiet", *DATA, *quick("rand")]) == 0
    assert shard.read_bytes() == before


def test_info_shows_it(built, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["info", str(built)]) == 0
    printed = capsys.readouterr().out
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["request"]["source"][:12] in printed
    assert "300" in printed


def read_npz(folder: Path) -> nb.Images:
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        pixels, labels = arrays["train_images"], arrays["train_labels"][:, 0]
    return nb.Images(torch.from_numpy(pixels).reshape(-1, 1, 8, 8), torch.from_numpy(labels).long())


def read_parquet(folder: Path) -> nb.Images:
    table = pyarrow.parquet.read_table(sorted((folder / "data").glob("*.parquet")))
    pixels = np.array(table["pixels"].to_pylist(), dtype=np.float32)
    return nb.Images(torch.from_numpy(pixels).reshape(-1, 1, 8, 8), torch.tensor(table["label"].to_pylist()))


def read_folder(folder: Path) -> nb.Images:
    files = sorted(folder.glob("train/*/*.png"), key=lambda file: file.name)
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files])
    return nb.Images(pixels[:, None], torch.tensor([int(file.parent.name[:2]) for file in files]))


def test_three_exports_train_the_same_classifier(model, tmp_path, capsys):
    """As plain libraries read them: the set's images and labels in its order, and an accuracy within its interval."""
    folder = tmp_path / "D_NR"
    steps = ("--matching.steps", "20")
    assert main(["build", "nonrobust", str(model), "--out", str(folder), "--quiet", *DATA, *steps]) == 0
    capsys.readouterr()
    data, made = nb.load("digits"), nb.ConstructedSet(folder)
    settings = nb.Training(epochs=12, batch=32)

    def accuracy(images: nb.Images) -> nb.measure.Accuracy:
        classifier = nb.new_classifier(data, width=8, features=16, precision="fp32")
        return nb.evaluate(nb.train(classifier, images, settings), data.test)[0]

    own = accuracy(made.images).share
    for form, read in {"npz": read_npz, "parquet": read_parquet, "imagefolder": read_folder}.items():
        out = tmp_path / form
        assert main(["export", str(folder), "--to", form, "--out", str(out), "--quiet"]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        images = read(out)
        assert torch.equal(images.labels, made.images.labels)
        rounding = 0.5 / 255 + 1e-6 if form == "imagefolder" else 0
        assert (images.batch(slice(None))[0] - made.images.pixels[:]).abs().max() <= rounding
        assert own.low <= accuracy(images).share.value <= own.high
    assert own.value > 0.7
    assert main(["export", str(folder), "--to", "npz", "--out", str(tmp_path / "npz")]) == 0  # it is there already
    assert main(["export", str(folder), "--to", "parquet", "--out", str(tmp_path / "npz")]) == 2
    assert "npz" in capsys.readouterr().err


def test_training_on_a_set(built, tmp_path, capsys):
    out = tmp_path / "on.safetensors"
    assert main(["train", "--on", str(built), "--out", str(out), "--quiet", *DATA, *NETWORK, *SHORT]) == 0
    assert capsys.readouterr().out.startswith("clean: ")


def test_a_threat_may_come_before_the_model(model, capsys):
    assert main(["evaluate", "--threat", "l2:0.1", str(model), "--quiet", *DATA, "--attack", "pgd"]) == 0
    assert "l2 0.1, pgd:" in capsys.readouterr().out


def test_another_set_in_the_same_folder_is_another_training(model, tmp_path, capsys):
    out, folder = tmp_path / "on.safetensors", tmp_path / "set"
    for kind in ("rand", "det"):
        shutil.rmtree(folder, ignore_errors=True)
        assert main(["build", kind, str(model), "--out", str(folder), "--quiet", *DATA, *quick(kind)]) == 0
        done = main(["train", "--on", str(folder), "--out", str(out), *DATA, *NETWORK, "--epochs", "1"])
        assert done == (0 if kind == "rand" else 2)
    assert "'out' must not be there yet" in capsys.readouterr().err


def test_an_occupied_folder_is_refused_and_left_as_it_was(model, built, tmp_path, capsys):
    (tmp_path / "cats").mkdir()
    (tmp_path / ".hidden").write_text("")
    for command in (
        ["build", "det", str(model), *DATA, *quick("det")],
        ["run", "digits", *DATA],
        ["audit", str(model), *DATA],
    ):
        assert main([*command, "--out", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "The 'out' must be a new or an empty folder, or one in which this was begun." in error
        assert f"{tmp_path} holds 'cats'" in error
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"cats", ".hidden", ".lock"}


def test_an_accuracy_at_guessing_is_doubted_but_not_of_what_a_set_teaches(built, tmp_path, capsys, caplog):
    untaught = ["--lr", "1e-9", "--quiet", *DATA, *NETWORK, "--epochs", "1"]
    assert main(["train", "--out", str(tmp_path / "a.safetensors"), *untaught]) == 0
    assert "is not above that of naming" in caplog.text
    caplog.clear()
    assert main(["train", "--on", str(built), "--out", str(tmp_path / "b.safetensors"), *untaught]) == 0
    taught = capsys.readouterr().out.splitlines()[-1]
    assert float(taught.split()[1].removesuffix("%")) < 17  # the share of the most frequent class
    assert caplog.text == ""


@pytest.mark.slow  # tests/test_store_kills.py has two builders in the fast part
def test_two_workers_build_the_same_bits(built, model, tmp_path):
    out = tmp_path / "together"
    done = finished(together("build", "rand", model, "--out", out, "--quiet", *DATA, *quick("rand")))
    assert done.stdout == f"{out}\n"
    for file in sorted(built.glob("*.safetensors")):
        assert file.read_bytes() == (out / file.name).read_bytes()


@pytest.mark.slow  # tests/test_together.py has two trainers in the fast part
def test_two_workers_train_one_classifier(model, tmp_path):
    out = tmp_path / "together.safetensors"
    done = finished(together("train", "--out", out, "--quiet", *DATA, *NETWORK, *SHORT))
    assert len(done.stdout.splitlines()) == 1
    data = nb.load("digits").take(300, 100, seed=0)
    one, two = (nb.load_classifier(file, shape=data.train.shape, classes=data.classes) for file in (model, out))
    images, _ = data.test.batch(slice(None))
    assert (one(images).argmax(1) == two(images).argmax(1)).float().mean() > 0.85  # rounding grows as training goes on


def test_options_of_an_architecture_are_numbers(tmp_path, capsys):
    out = tmp_path / "dense.safetensors"
    growth = ("--arch", "densenet121", "--arch.growth", "4")
    assert main(["train", "--out", str(out), "--quiet", *DATA, *growth, "--epochs", "1"]) == 0
    data = nb.load("digits")
    assert nb.load_classifier(out, shape=data.train.shape, classes=data.classes).head.in_features == 128
    capsys.readouterr()


def test_most_commands_are_for_one_process(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", "standard.safetensors"]) == 2
    assert "is for one process" in capsys.readouterr().err


def test_a_set_or_a_study_given_as_data_says_what_to_do(built, capsys, tmp_path):
    assert main(["train", "--data", str(built), "--out", str(tmp_path / "x.safetensors")]) == 2
    error = capsys.readouterr().err
    assert f"The 'data' cannot be {str(built)!r}: it is a constructed set." in error
    assert "`notbugs train` takes one as its 'on'" in error
    assert "`notbugs export` writes one as parquet" in error
    (tmp_path / "study.json").write_text("{}")
    assert main(["train", "--data", str(tmp_path), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "it is the folder of a study. Give the data that it was made with." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "x.pt"], "'out' must end in .safetensors"),
        (["train", "--out", "x.safetensors", "--on", "nowhere"], "no finished constructed set in nowhere"),
        (["train", "--out", "x.safetensors", "--arch", "resnet19"], "Did you mean 'resnet"),
        (["build", "dett", "x.safetensors", "--out", "y"], 'Did you mean "det"'),
        (["build", "det", "x.safetensors", "--out", "y"], "x.safetensors"),
        (["export", "nowhere", "--to", "zip"], "zip"),
        (["verify", "nowhere"], "nowhere"),
        (["verify", "."], "must be that of a constructed set"),
        (["verify", ".", "--model", "x.safetensors"], "'data' must be given with a model"),
        (["info", "nowhere"], "nowhere"),
        (["evaluate", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not printed.out
    assert not list(tmp_path.iterdir())


def test_an_interrupted_training_goes_on_and_other_settings_do_not_take_it_up(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("notbugs.training.loop.CHECKPOINT_SECONDS", -1.0)
    out, whole = tmp_path / "a.safetensors", model.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("notbugs.study.single.save_classifier", _killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # as if killed before the checkpoint went
        with pytest.raises(_Killed):
            main(["train", "--out", str(out), "--quiet", *DATA, *NETWORK, *SHORT])
    (checkpoint,) = tmp_path.glob(".*.unfinished.safetensors")
    assert main(["train", "--out", str(out), "--quiet", *DATA, *NETWORK, *SHORT]) == 0
    assert out.read_bytes() == whole
    assert not checkpoint.exists()
    said = capsys.readouterr().out
    assert main(["train", "--out", str(out), *DATA, *NETWORK, *SHORT]) == 0  # as if killed before it told
    again = capsys.readouterr()
    assert again.out == said
    assert "is done: the same command trained it" in " ".join(again.err.split())
    assert main(["train", "--out", str(out), "--quiet", *DATA, *NETWORK, *SHORT, "--seed", "9"]) == 2
    assert "must not be there yet" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [out]


def test_a_second_training_into_one_file_is_told(tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    with only_maker(out):
        assert main(["train", "--out", str(out), "--quiet", *DATA, *NETWORK, *SHORT]) == 2
    assert "Another process is making" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class _Killed(BaseException):
    pass


def _killed(*_: object, **__: object) -> None:
    raise _Killed
