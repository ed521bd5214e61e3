"""What would do nothing is refused before any work, with a remedy that works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import notbugs as nb
from notbugs.__main__ import main
from notbugs.errors import InputError
from notbugs.models import Blueprint, save_classifier
from notbugs.study import EvaluateJob, read_recipe
from notbugs.study.sections import Relabelling, Source, StudyEvaluation
from notbugs.training import AppearanceTraining, Training

pytestmark = pytest.mark.whole

BUILDS = {
    "robust --threat l2:0.5": ("'relabelling' must be left out for robust", "Leave out --threat"),
    "nonrobust --relabelling.method minimum-norm": ("'relabelling' must be left out for nonrobust", "--relabelling"),
    "rand --matching.steps 3": ("'matching' must be left out for rand", "Leave out every --matching option"),
    "rand --weak weak.safetensors": ("'weak' must be left out for rand", "Leave out --weak"),
    "det --cutoff 2": ("'cutoff' must be left out for D_det", ""),
    "random --of SET --weak weak.safetensors": ("'weak' must be left out for random", "--weak"),
    "labels --of SET --dtype uint8": ("'dtype' must be left out for labels", "--dtype"),
    "leakage --of SET --threat linf:0.3": ("'relabelling' must be left out for leakage", "--threat"),
    "mislabelled --start uniform": ("'start' must be left out for mislabelled", "--start"),
    "rand-uniform --start images": ("'start' must be left out for rand-uniform", "--start"),
    "rand-min --threat l2:0.5": ("'relabelling.eps' must be left out for rand-min", "--relabelling.norm"),
    "rand-min --relabelling.decay cosine": ("'relabelling.decay' must be left out for rand-min", "Leave it out"),
    "rand-min --relabelling.steps 3": ("'relabelling.steps' must be at least 30 for rand-min", ""),
}
DATA = ("--data", "digits", "--train-images", "40", "--test-images", "20")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    data = nb.load("digits").take(40, 20, 0)
    options = {"width": 4, "features": 6}
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    blueprint = Blueprint(architecture="cnn", shape=data.train.shape, classes=data.classes, options=options)
    save_classifier(file, nb.new_classifier(data, "cnn", **options), blueprint)
    return file


@pytest.mark.parametrize("words", BUILDS)
def test_a_build_has_a_use_for_all_that_it_is_given(words, model, tmp_path, capsys):
    kind, *options = words.split()
    assert main(["build", kind, str(model), "--out", str(tmp_path / "made"), *DATA, *options]) == 2
    said = capsys.readouterr().err
    for part in BUILDS[words]:
        assert part in said
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("options", [("--relabelling.norm", "linf"), ("--relabelling.steps", "30"), ()])
def test_the_remedies_for_smallest_perturbations_work(options, model, tmp_path):
    assert main(["build", "rand-min", str(model), "--out", str(tmp_path / "made"), "--quiet", *DATA, *options]) == 0


def test_a_weak_classifier_is_of_the_leakage_control_alone(model, tmp_path):
    data = nb.load("digits").take(40, 20, 0)
    classifier = nb.load_classifier(model)
    of = nb.relabel(classifier, data, tmp_path / "of", targets="other", schedule=nb.search.PGDSteps(2))
    with pytest.raises(InputError, match="'weak' must be left out for random"):
        nb.control(classifier, data, tmp_path / "made", of=of, kind="random", weak=classifier)


RECIPES = {
    "scaled_down": ({"scaled_down": True}, "it follows from the device. Got True instead. Give --device cpu"),
    "instrument": ({"instruments": {"leakage": {"eps": 0.5}}}, "that the study has.* Add --instruments.leakage.on"),
    "hyphen": ({"instruments": {"set_radius": {"repeats": 2}}}, "Add --instruments.set-radius.on"),
    "off": ({"instruments": {"all": True, "transfer": {"on": False}}}, "Give --instruments.no-all"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_command_has_an_effect(name):
    given, words = RECIPES[name]
    with pytest.raises(InputError, match=words):
        read_recipe("digits", given)


def test_settings_that_another_instrument_or_set_works_with_have_an_effect():
    radii = {"set_radius": {"on": True}, "controls": {"weak_epochs": 2}}
    assert read_recipe("digits", {"instruments": radii}).instruments.controls.weak_epochs == (2,)
    halves = {"sets": ("D_half_R",), "instruments": {"usefulness": {"steps": 3}}}
    assert read_recipe("digits", halves).instruments.usefulness.steps == 3
    unused = {"sets": ("D_half_R",), "instruments": {"usefulness": {"features": "logits"}}}
    with pytest.raises(InputError, match="instruments.usefulness.features"):
        read_recipe("digits", unused)
    off = {"instruments": {"controls": {"on": False, "weak_epochs": 2}}}
    with pytest.raises(InputError, match=re.escape("--instruments.controls.on")):
        read_recipe("digits", off)
    assert read_recipe("digits", {"sets": ("D_bugs",), "further": {"others": 2}}).further.others == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Relabelling(method="minimum-norm", momentum=0.9), "momentum and decay are of the method 'gradient'"),
        (lambda: Relabelling(method="minimum-norm", decay="cosine"), "momentum and decay are of the method 'gradient'"),
        (lambda: Training(drops=(0.5,), warmup=0.3), "leave it out where there are drops"),
        (lambda: AppearanceTraining(steps=3, tries=9), "leave out one of the two"),
        (
            lambda: Source(heldout=0.2, test_data="digits").read(),
            "'heldout' must be left out where test images are named",
        ),
        (lambda: Source(heldout=0.2, splits={"test": "b"}).read(), "leave out test_data and splits.test"),
        (lambda: StudyEvaluation(pgd={"name": "strong"}), "the attack beside must be pgd"),
        (lambda: StudyEvaluation.model_validate({"steps": 50, "pgd": {"restarts": 3}}), "give them there alone"),
    ],
)
def test_settings_do_not_cancel_each_other(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate MODEL --keep kept", "'keep' must be given with AutoAttack alone"),
        ("train --data digits --threat l2:0.5 --compile --epochs 1 --out made", "Leave out --compile"),
        ("evaluate MODEL --autoattack-images 3", "Add --autoattack"),
        ("verify SET --mean 0.5", "Add --model"),
        ("verify SET --size 3", "Add --data"),
        (
            "train --arch resnet9 --arch.whiten --epochs 1",
            "'arch.whiten' must have a value. Give one, as --arch.whiten true",
        ),
        ("train --arch resnet9 --arch.width", "as --arch.width 32"),
        ("evaluate MODEL --arch", "as --arch resnet18"),
        ("train --threat --epochs 1", "as --threat l2:0.5"),
    ],
)
def test_a_command_refuses_what_it_has_no_use_for(command, words, model, capsys):
    assert main([str(model) if word == "MODEL" else word for word in command.split()]) == 2
    assert words in capsys.readouterr().err


def test_the_attack_of_transfer_is_named_as_everywhere(model, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(model.read_bytes())
    short = ("--attack.steps", "2", "--steps", "2", "--out", str(tmp_path / "out"), *DATA, "--quiet")
    assert main(["transfer", str(model), str(other), "--attack", "pgd", *short]) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c, data: nb.evaluate(c, data.test, norm="l7", radii=(0.5,)), "'norm' must be one of l2, linf"),
        (lambda c, data: nb.evaluate(c, data.test, [nb.L2(0.5)], norm="linf"), "'norm' must be given with radii"),
        (lambda c, data: nb.evaluate(c, data.test, seed=1.5), "'seed' must be a whole number at or above 0"),
        (lambda c, data: nb.new_classifier(data, seed=-1), "'seed' must be a whole number at or above 0"),
        (lambda c, data: nb.relabel(c, data, "made", targets="next", seed=True), "'seed' must be a whole number"),
        (lambda c, data: nb.robustify(c, data, "made", seed="a"), "'seed' must be a whole number"),
        (lambda c, data: data.take(-5, None, 0), "'train' must be a whole number at or above 1"),
        (lambda c, data: data.take(None, 2.5, 0), "'test' must be a whole number"),
        (lambda c, data: data.train.sample(True, 0, "a"), "'count' must be a whole number"),
    ],
)
def test_python_takes_no_more_than_the_command(call, words, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        call(nb.load_classifier(model), nb.load("digits").take(40, 20, 0))
    assert not Path("made").exists()


def test_whole_numbers_of_numpy_are_whole_numbers(model):
    data, classifier = nb.load("digits"), nb.load_classifier(model)
    assert len(data.take(np.int64(40), np.int32(20), np.int64(0)).test) == 20
    few = data.take(40, 20, 0)
    assert nb.evaluate(classifier, few.test, seed=np.int64(1)) == nb.evaluate(classifier, few.test, seed=1)


def test_data_have_a_use_for_what_is_said_of_them(tmp_path):
    for name, values in (("images", np.full((6, 8, 8), 255, np.uint8)), ("labels", np.array([0, 1] * 3))):
        np.save(tmp_path / f"{name}.npy", values)
    with pytest.raises(InputError, match="'splits' must be left out: .* has no splits"):
        nb.load(str(tmp_path), splits={"train": "a", "test": "b"})
    with pytest.raises(InputError, match="'groups' must be left out for .*: it is of .*FOLDER of images"):
        nb.load(str(tmp_path), groups={"x": "0", "y": "1"})
    for name in ("cifar10", "pathmnist", "digits"):
        with pytest.raises(InputError, match="'white_level' must be left out for"):
            nb.load(name, white_level=255)
    assert EvaluateJob(data=str(tmp_path)).read().classes == ("0", "1")
