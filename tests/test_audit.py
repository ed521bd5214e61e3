"""The audit: its rules, a model whose features are known, and what is kept of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import notbugs as nb
from notbugs.__main__ import main
from notbugs.errors import InputError
from notbugs.measure._audit import RADII, _parts, audit
from notbugs.measure.audit_result import LEVELS, Kept, Measured, verdict
from notbugs.measure.feature_visualization import FAR, drive
from notbugs.measure.features import feature_values, penultimate
from notbugs.measure.statistics import wilson
from notbugs.models import Blueprint, save_classifier
from notbugs.study import AuditJob, audit_one
from notbugs.study.jobs.audit import command, read_threat
from tests.planted_classifiers import projecting

pytestmark = pytest.mark.whole

DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "audit.md"
EPS = 0.5


@pytest.fixture(scope="module")
def made() -> nb.data.Planted:
    return nb.planted()


@pytest.fixture(scope="module")
def of_truth(made):
    """The audit of a classifier whose features are the planted ones."""
    return audit(projecting(made), made.data, nb.L2(EPS), images=200)


# What was planted


def test_it_recovers_which_features_were_planted_as_robust(made, of_truth):
    found = {row.feature: row for row in of_truth.spectrum}
    assert [found[number].kind for number in range(8)] == list(made.kinds)
    assert [found[number].best_class for number in range(8)] == made.codes.tolist()


def test_usefulness_is_that_of_the_closed_form(made, of_truth):
    """Classes are as frequent as in the half of the test images that sorts features."""
    rho, gamma = made.usefulness.tolist(), made.robust_usefulness(EPS).tolist()
    labels = made.data.test.subset(_parts(made.data.test, len(made.data.test), 0)[0]).labels
    shares = (labels.bincount() / len(labels)).tolist()
    for row in of_truth.spectrum:
        share = shares[row.best_class]
        useful = rho[row.feature] * share * (1 - share) / (0.25 * 0.75)  # four equally frequent classes
        robust = useful - (rho[row.feature] - gamma[row.feature])
        slack = 0.02  # means and deviations come from the training images; 16 intervals of 95 %
        assert row.rho_low - slack <= useful <= row.rho_high + slack
        assert row.gamma_low - slack <= robust <= row.gamma_high + slack
    assert [row.gamma for row in of_truth.spectrum] == sorted((row.gamma for row in of_truth.spectrum), reverse=True)


@pytest.mark.parametrize("kind", ["robust", "nonrobust"])
def test_each_kind_alone_keeps_what_it_holds(made, of_truth, kind):
    group = of_truth.group(kind)
    clean, *attacked = [item.share for item in group.accuracies]
    assert group.features == 4
    assert clean.low <= made.accuracy(kind) <= clean.high
    at_eps = attacked[RADII.index(1.0)]
    assert at_eps.value > 0.5 if kind == "robust" else at_eps.value == 0


def test_sorting_and_measuring_images_are_different_and_counted(of_truth):
    assert (of_truth.sizes.fitted, of_truth.sizes.sorted, of_truth.sizes.measured) == (4000, 500, 500)
    assert {item.share.n for group in of_truth.groups for item in group.accuracies} == {500}
    assert [item.attack.eps for item in of_truth.model[1:]] == [share * EPS for share in RADII]
    assert of_truth.guessing == 0.25


def test_the_verdict_on_a_model_of_both_kinds(of_truth):
    judged = of_truth.verdict
    assert judged.robust.low > 0.8
    assert judged.nonrobust.low > 0.98
    assert len(judged.sentences) == 3
    assert "4 robustly useful features" in judged.sentences[0]
    assert "4 useful non-robust features" in judged.sentences[1]
    said = (of_truth.group("robust").accuracies, of_truth.group("nonrobust").accuracies, of_truth.model)
    for sentence, (clean, *_) in zip(judged.sentences, said, strict=True):
        share = clean.share
        assert f"{100 * share.value:.1f}% ({100 * share.low:.1f} to {100 * share.high:.1f})" in sentence


def trained(made: nb.data.Planted, adversary: nb.Adversary | None) -> nb.Classifier:
    data = made.data.take(1000, None, 0)
    classifier = nb.new_classifier(data, "cnn", seed=0, width=8, features=16)
    return nb.train(classifier, data.train, nb.Training(epochs=5, batch=50, adversary=adversary))


def test_a_robust_classifier_keeps_more_on_its_robust_features(made):
    found, fast = {}, nb.search.Attack(steps=10, targeted=0, queries=0)
    for name, adversary in (("standard", None), ("robust", nb.Adversary(eps=EPS, guard=False))):
        found[name] = audit(trained(made, adversary), made.data.take(1000, 300, 0), nb.L2(EPS), images=20, attack=fast)
    standard, robust = (found[name].group("robust") for name in ("standard", "robust"))
    assert robust.features > standard.features
    assert robust.accuracies[0].share.low > standard.accuracies[0].share.high
    assert found["robust"].verdict.held.low > found["standard"].verdict.held.high
    assert found["robust"].verdict.basis == "robust"


# What drives a feature


def test_drivers_are_the_extremes_and_the_search_raises_the_feature(made):
    classifier, images = projecting(made), made.data.test.subset(slice(60))
    features = feature_values(penultimate(classifier), made.data.train)
    mean, std = features.mean(0), features.std(0, correction=0)
    drivers, pictures = drive(classifier, images, [0, 7], nb.L2(EPS), mean=mean, std=std)
    values = (feature_values(penultimate(classifier), images) - mean) / std
    for row, number in enumerate((0, 7)):
        driver = drivers[row]
        assert driver.feature == number
        assert driver.top == values[:, number].topk(4).indices.tolist()
        assert driver.start == int(values[:, number].abs().argmin())
        # A step of eps along a template of length 1; less where a pixel meets the wall of the box.
        gain = driver.near_value - driver.start_value
        assert gain == pytest.approx(EPS / float(std[number]), rel=0.02)
        assert driver.far_value > driver.near_value
    assert pictures["top"].shape == (2, 4, 1, 16, 16)
    assert float((pictures["near"] - pictures["start"]).flatten(1).norm(dim=1).max()) <= EPS * 1.0001
    assert float((pictures["far"] - pictures["start"]).flatten(1).norm(dim=1).max()) <= FAR * EPS * 1.0001


# The verdict


def measured(features: int, clean: float, attacked: float, n: int = 1000) -> Measured:
    return Measured(features=features, clean=wilson(round(clean * n), n), attacked=wilson(round(attacked * n), n))


@pytest.mark.parametrize(
    ("robust", "nonrobust", "model", "basis", "words"),
    [
        ((0.85, 0.7), (0.6, 0.0), (0.9, 0.7), "robust", "rests on features that survive"),
        ((0.8, 0.6), (0.89, 0.0), (0.9, 0.1), "unused", "it has robust features, which alone would leave 60.0%"),
        ((0.8, 0.1), (0.89, 0.0), (0.9, 0.1), "unused", "it has robust features, but others decide"),
        ((0.2, 0.1), (0.89, 0.0), (0.9, 0.1), "nonrobust", "rests on features whose sign such a change flips"),
        ((0.2, 0.1), (0.2, 0.0), (0.9, 0.1), "open", "do not decide"),
        ((0.8, 0.6), (0.89, 0.0), (0.9, 0.5), "open", "do not decide"),
        ((0.85, 0.7), (0.6, 0.0), (0.9, 0.05), "unused", "which alone would leave 70.0%"),
        ((0.5, 0.4), (0.89, 0.0), (0.9, 0.1), "open", "do not decide"),
    ],
)
def test_the_verdict_follows_from_the_numbers(robust, nonrobust, model, basis, words):
    found = verdict(
        measured(30, *model),
        measured(30, 0.9, 0.1),
        measured(10, *robust),
        measured(20, *nonrobust),
        guessing=0.1,
        threat="l2 0.5",
    )
    assert found.basis == basis
    assert words in found.sentences[2]
    assert all(sentence.endswith(".") and ". " not in sentence for sentence in found.sentences)


def test_words_of_both_ends_where_they_differ():
    assert Kept(value=0.95, low=0.92, high=0.97).words == "nearly all"
    assert Kept(value=0.88, low=0.85, high=0.92).words == "most or nearly all"
    assert Kept(value=-0.02, low=-0.05, high=0.03).words == "next to nothing"


def test_shares_are_of_what_lies_above_guessing():
    kept = Kept.of(wilson(500, 1000), wilson(900, 1000), 0.1)
    assert kept.value == pytest.approx(0.5)
    assert kept.low < 0.5 < kept.high
    assert Kept.of(wilson(10, 100), wilson(12, 100), 0.1) is None


def test_a_model_that_only_guesses_has_no_verdict():
    guess = measured(8, 0.11, 0.1)
    found = verdict(guess, guess, measured(0, 0.1, 0.1), guess, guessing=0.1, threat="l2 0.5")
    assert found.basis == "open"
    assert "cannot be told from guessing" in found.sentences[0]
    assert found.robust is None


def test_without_features_of_a_kind_it_says_so():
    every = measured(8, 0.9, 0.1)
    found = verdict(every, every, measured(0, 0.1, 0.1), every, guessing=0.1, threat="l2 0.5")
    assert found.sentences[0].startswith("None of its 8 features is robustly useful")
    found = verdict(every, every, every, measured(0, 0.1, 0.1), guessing=0.1, threat="l2 0.5")
    assert found.sentences[1] == "It has no useful non-robust feature."


# Wrong input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat": nb.L2(0.0)}, "'eps' must be a number above 0"),
        ({"images": 1}, "'images' must be a whole number at or above 2"),
        ({"fit_images": 1}, "'fit_images' must be a whole number at or above 2"),
    ],
)
def test_wrong_numbers_fail_before_work(made, change, message):
    given = {"threat": nb.L2(EPS)} | change
    with pytest.raises(InputError, match=message):
        audit(projecting(made), made.data, **given)


def test_a_classifier_of_other_classes_is_refused(made, linear):
    with pytest.raises(InputError, match="cannot take images of shape"):
        audit(linear, made.data, nb.L2(EPS))


@pytest.mark.parametrize("text", ["0.5", "l2", "l3:0.5", "l2:", "l2:x", "l2:-1", "l2:0", "l2:inf", "l2:nan", ""])
def test_a_threat_that_cannot_be_read(text):
    with pytest.raises(InputError, match=r"The 'threat' must be a norm, l2 or linf, a colon, and a radius above 0"):
        read_threat(text)
    with pytest.raises(ValueError, match="a norm, l2 or linf, a colon"):
        nb.study.AuditJob(threat=text)


def test_threats():
    assert read_threat("l2:0.5") == nb.L2(0.5)
    assert read_threat("linf:0.03") == nb.Linf(0.03)


# The command


QUICK = [
    "--data",
    "planted",
    "--images",
    "20",
    "--measured",
    "80",
    "--attack.steps",
    "3",
    "--attack.queries",
    "0",
    "--precision",
    "fp32",
]
QUICK += ["--fit-images", "400"]


@pytest.fixture(scope="module")
def model(made, tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "small.safetensors"
    blueprint = Blueprint(
        architecture="cnn", shape=made.data.train.shape, classes=made.data.classes, options={"width": 4, "features": 6}
    )
    data = made.data.take(1000, None, 0)
    classifier = nb.new_classifier(data, "cnn", seed=0, width=4, features=6)
    save_classifier(file, nb.train(classifier, data.train, nb.Training(epochs=2)), blueprint)
    return file


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "out"
    assert main(["audit", str(model), "--out", str(out), "--quiet", *QUICK]) == 0
    return out


def test_the_command_prints_table_verdict_and_path(model, folder, capsys):
    assert main(["audit", str(model), "--out", str(folder), *QUICK]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = json.loads((folder / "audit.json").read_text())
    assert printed[-1] == str(folder / "audit.html")
    assert printed[-4:-1] == found["audit"]["verdict"]["sentences"]
    clean = found["audit"]["model"][0]["share"]
    assert re.search(rf"the model .* {100 * clean['value']:.1f}%", "\n".join(printed))
    assert printed[0].split() == ["features", "used", "clean", *["l2", "0.125", "l2", "0.25", "l2", "0.5", "l2", "1"]]


def test_audit_json_says_where_it_comes_from(model, folder):
    found = json.loads((folder / "audit.json").read_text())
    assert found["model"] == "small.safetensors"
    assert found["data"]["name"] == "planted"
    assert found["settings"]["threat"] == "l2:0.5"
    assert set(found["seconds"]) >= {"usefulness", "accuracy-model", "head-all", "head-robust", "head-nonrobust"}
    asked = AuditJob(
        data="planted",
        images=20,
        measured=80,
        fit_images=400,
        attack=nb.search.Attack(steps=3, queries=0),
        precision="fp32",
    )
    assert found["command"] == command(model, asked)
    assert "--fit-images 400" in found["command"]


@pytest.mark.parametrize(
    "settings",
    [
        {"jpeg": {}},
        {"jpeg": {"chroma": "4:4:4"}, "classes": ("a cat", "dog's"), "skip_broken": True},
        {"label_column": ("one", "two"), "uncertain": 0, "splits": {"train": "a b"}, "groups": {"pet": "cat, dog"}},
        {
            "architecture": "resnet9",
            "options": {"width": 4, "whiten": True},
            "mean": (0.5,),
            "std": (0.2,),
            "compile": True,
        },
        {"threat": "linf:0.03", "attack": {"name": "pgd", "steps": 7}, "seed": 3, "heldout": 0.1, "size": 32},
    ],
)
def test_the_command_repeats_the_same_audit(settings, monkeypatch):
    given = AuditJob.model_validate({"data": "planted"} | settings)
    asked = []

    def take(model, job, out, console):
        asked.append((str(model), str(out), job))
        return iter(())

    monkeypatch.setattr("notbugs.study.audit_labels", take)
    monkeypatch.setattr("notbugs.cli.commands.write_audit_page", lambda folder: folder)
    assert main(shlex.split(command(Path("a model.pt"), given))[1:]) == 0
    assert asked == [("a model.pt", "NEW_FOLDER", given)]


def killed_after(console, stages):
    """A console that dies in the middle of a stage."""

    class Dying(console):
        def stage(self, title):
            if title.startswith(f"{stages + 1:2}/"):
                raise KeyboardInterrupt
            return super().stage(title)

    return Dying(quiet=True)


def test_a_killed_audit_goes_on_and_ends_in_the_same_numbers(model, folder, tmp_path):
    from notbugs.console import TerminalConsole

    job = AuditJob(
        data="planted",
        images=20,
        measured=80,
        fit_images=400,
        attack=nb.search.Attack(steps=3, queries=0),
        precision="fp32",
    )
    for done in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            audit_one(model, job, tmp_path, killed_after(TerminalConsole, done))
        assert len(list((tmp_path / "stages").glob("*.json"))) == done
        assert not (tmp_path / "audit.json").exists()
    first = (tmp_path / "stages" / "usefulness.json").read_bytes()
    found = audit_one(model, job, tmp_path, TerminalConsole(quiet=True))
    assert (tmp_path / "stages" / "usefulness.json").read_bytes() == first
    assert found.audit.model_dump(mode="json") == json.loads((folder / "audit.json").read_text())["audit"]
    assert (tmp_path / "pictures.safetensors").read_bytes() == (folder / "pictures.safetensors").read_bytes()


def test_a_folder_of_another_audit_is_refused(model, folder, capsys):
    assert main(["audit", str(model), "--out", str(folder), *QUICK, "--threat", "l2:1"]) == 2
    assert "holds the audit of other threat. Name another folder with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threat", "0.5"], "The 'threat' must be a norm, l2 or linf"),
        (["--data", "digitz"], "Did you mean 'digits'?"),
        (["--data", "digits"], "must have 1 channels|must have shape|cannot take|must be"),
        (["--images", "0"], "images"),
    ],
)
def test_mistakes_are_one_line(model, tmp_path, arguments, message, capsys):
    assert main(["audit", str(model), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.json"))


def test_a_missing_model(tmp_path, capsys):
    assert main(["audit", str(tmp_path / "no.safetensors"), "--data", "planted", "--out", str(tmp_path / "out")]) == 2
    assert "no.safetensors" in capsys.readouterr().err


def test_the_extra_of_the_page_is_asked_for_before_work(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("notbugs.report.find_spec", lambda name: None)
    assert main(["audit", str(model), "--out", str(tmp_path / "out"), *QUICK]) == 2
    assert "notbugs[report]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_default_folder_has_the_models_name(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "runs/audit-small")
    assert main(["audit", str(model), "--quiet", *QUICK]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs/audit-small/audit.html"


def test_the_classifier_is_left_alone(made):
    classifier = projecting(made).train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    audit(classifier, made.data.take(200, 40, 0), nb.L2(EPS), attack=nb.search.Attack(steps=2, queries=0))
    assert classifier.training
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_every_block_of_the_guide_runs(monkeypatch, tmp_path):
    """As it stands there, but with fewer images."""
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    less = "train=300, test=60"
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 2
    for block in blocks:
        code = "\n" * (text.count("\n", 0, block.start()) + 1) + block[1].replace("train=1500, test=600", less)
        exec(compile(code, str(DOCS), "exec"), names)  # noqa: S102


def test_the_guide_names_every_word_and_conclusion():
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    for _, word in LEVELS:
        assert f'"{word}"' in text
    for conclusion in ("rests on features that survive", "has robust features, but others decide"):
        assert conclusion in text
