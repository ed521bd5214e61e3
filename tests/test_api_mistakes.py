"""What is easily mixed up in Python: each mistake is one line that says what to give instead, or is none any more."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import notbugs as nb
from notbugs import InputError
from notbugs.__main__ import main
from notbugs.classifier import Classifier
from notbugs.data import Data
from notbugs.given import KINDS
from notbugs.models import build
from notbugs.networks import code_of
from notbugs.search import FMN, PGDSteps
from notbugs.seeds import seeded
from tests.conftest import bars, random_images

SEARCHES = {
    "labels": lambda classifier, images, labels: nb.pgd(classifier, images, labels, nb.L2(0.1), PGDSteps(2)),
    "targets": lambda classifier, images, labels: nb.targeted_pgd(classifier, images, labels, nb.L2(0.1), PGDSteps(2)),
    "classes": lambda classifier, images, labels: nb.minimum_norm(classifier, images, labels, schedule=FMN(5)),
}
BALL, TURNS, STEPS = nb.L2(0.1), nb.Spatial(degrees=20, pixels=1), PGDSteps(2)
OTHERS = {  # and the argument that has the labels
    "alone": (
        "targets",
        lambda one, images, labels: nb.search.targeted_pgd_alone(one, [one], images, labels, LABELS, BALL, STEPS),
    ),
    "kept": (
        "labels",
        lambda one, images, labels: nb.search.targeted_pgd_alone(one, [one], images, LABELS, labels, BALL, STEPS),
    ),
    "spatial": (
        "labels",
        lambda one, images, labels: nb.search.spatial_pgd(one, images, labels, TURNS, STEPS),
    ),
    "appearance": (
        "labels",
        lambda one, images, labels: nb.search.appearance_pgd(one, images, labels, nb.data.Appearance(jpeg=0), STEPS),
    ),
    "worst": (
        "labels",
        lambda one, images, labels: nb.search.worst_of(one, images, labels, TURNS, torch.zeros(8, 2, 3)),
    ),
}
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
ONE_HOT = nn.functional.one_hot(LABELS, 3)


def classifier_that_ends_in(*end: nn.Module) -> Classifier:
    """A linear classifier with 3 classes on 1x3x3 images."""
    with seeded(1):
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(9, 3), *end)).eval()


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (LABELS[:, None], "Got 'shape \\(8, 1\\)' instead. Give {}\\[:, 0\\]."),
        (ONE_HOT, "Give {}.argmax\\(1\\)."),
        (ONE_HOT.float(), "Give {}.argmax\\(1\\)."),
        (LABELS + 1, "from 0 to 2, for the classifier gives 3 logits. Got 3 instead. Number the classes from 0"),
        (LABELS - 1, "Got -1 instead. Number the classes from 0"),
        (LABELS[:3], "of shape \\(8,\\), a class for each image. Got 'shape \\(3,\\)' instead."),
        (LABELS.float(), "be int64. Got 'float32' instead. Give {}.long\\(\\)."),
        (LABELS.int(), "Give {}.long\\(\\)."),
        (torch.ones(8, 2, dtype=torch.int64), "for each of 3 labels, one for each logit. Got 'shape \\(8, 2\\)'"),
        (2 * ONE_HOT, "be 0 or 1 for each of 3 labels"),
        ([0, 1, 2, 0], "Got 'list' instead. Give torch.as_tensor\\({}\\)."),
    ],
)
def test_labels_that_are_none_of_the_classifier_are_refused(name, wrong, remedy, unchecked):
    images = random_images(8, (1, 3, 3))
    with pytest.raises(InputError, match=f"'{name}' must .*{remedy.format(name)}"):
        SEARCHES[name](classifier_that_ends_in(), images, wrong)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("wrong", [LABELS[:, None], LABELS + 1, LABELS[:3], LABELS.float(), LABELS.tolist()], ids=str)
def test_every_search_refuses_labels_that_are_none_of_the_classifier(kind, wrong, unchecked):
    name, search = OTHERS[kind]
    images, classifier = random_images(8, (3, 3, 3)), Classifier(nn.Sequential(nn.Flatten(), nn.Linear(27, 3)))
    search(classifier, images, LABELS)
    with pytest.raises(InputError, match=f"'{name}' must "):
        search(classifier, images, wrong)


def test_what_others_keep_is_asked_of_them():
    images, classifier = random_images(8, (1, 3, 3)), classifier_that_ends_in()
    pair = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(9, 2)))
    with pytest.raises(InputError, match="'labels' must be numbers of classes from 0 to 1"):
        nb.search.targeted_pgd_alone(classifier, [pair], images, LABELS, LABELS, BALL, STEPS)
    with pytest.raises(InputError, match="'others' must be a notbugs.Classifier"):
        nb.search.targeted_pgd_alone(classifier, [nn.Flatten()], images, LABELS, LABELS, BALL, STEPS)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_remedies_of_labels_work(name):
    images, classifier = random_images(8, (1, 3, 3)), classifier_that_ends_in()
    right = SEARCHES[name](classifier, images, LABELS)
    for given in (LABELS[:, None][:, 0], ONE_HOT.argmax(1), LABELS.int().long()):
        assert torch.equal(SEARCHES[name](classifier, images, given).images, right.images)


def test_one_hot_labels_of_a_softmax_are_no_several_labels():
    """Even where a row has two: of a softmax, an image has one class."""
    both = torch.tensor([[1, 1, 0], [0, 1, 0]])
    with pytest.raises(InputError, match=r"of this classifier an image has one class.*labels.argmax\(1\)"):
        nb.pgd(classifier_that_ends_in(nn.Softmax(1)), random_images(2, (1, 3, 3)), both, nb.L2(0.1))


def test_several_labels_are_taken_where_the_network_has_sigmoids_or_a_row_has_not_one_label():
    images, several = random_images(8, (1, 3, 3)), torch.tensor(2 * [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]])
    plain, sigmoids = classifier_that_ends_in(), classifier_that_ends_in(nn.Sigmoid())
    found = [nb.pgd(one, images, several, nb.L2(0.1), PGDSteps(3)) for one in (plain, sigmoids)]
    assert torch.equal(found[0].images, found[1].images)
    assert len(nb.pgd(sigmoids, images, ONE_HOT, nb.L2(0.1), PGDSteps(3)).images) == 8
    view = sigmoids.label(1)
    with pytest.raises(InputError, match=r"for a view of one label' instead. Give labels\[:, 1\]"):
        nb.pgd(view, images, several[:, :2], nb.L2(0.1))
    assert len(nb.pgd(view, images, several[:, 1], nb.L2(0.1), PGDSteps(3)).images) == 8
    few = nn.functional.one_hot(torch.tensor([0, 2]), 3)  # each of two images may well have one finding
    assert len(nb.pgd(plain, images[:2], few, nb.L2(0.1), PGDSteps(3)).images) == 2


def test_only_a_margin_is_printed_as_a_count_of_success():
    images, classifier = random_images(8, (1, 3, 3)), classifier_that_ends_in()
    labels = classifier(images).argmax(1)
    shown = {name: repr(SEARCHES[name](classifier, images, labels)) for name in SEARCHES}
    assert [name for name, text in shown.items() if "misclassified under attack" in text] == ["labels"]
    smallest = nb.minimum_norm(classifier, images, labels, schedule=FMN(20))
    assert f"score from {smallest.score.min():.4g} to {smallest.score.max():.4g}" in repr(smallest)


MADE = """
from torch import nn

class Scaled(nn.Module):
    def __init__(self, channels, classes, size):
        super().__init__()
        self.fc = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, images):
        return {scale} * self.fc(images.flatten(1))

def make(channels, classes, size):
    from made_parts import wrapped
    return wrapped(Scaled(channels, classes, size))
"""
PARTS = "def wrapped(network):\n    return network\n"


def write_code(scale: int, parts: str = PARTS) -> None:
    """The user's code in the working folder, as a new process finds it."""
    Path("made_here.py").write_text(MADE.format(scale=scale))
    Path("made_parts.py").write_text(parts)
    for name in ("made_here", "made_parts"):
        sys.modules.pop(name, None)


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which may be as old, to a second, as the next code
    write_code(1)
    yield
    for name in ("made_here", "made_parts"):
        sys.modules.pop(name, None)


def test_the_hash_of_code_is_that_of_all_files_beside_it_and_of_no_network_of_ours(own_code):
    def code() -> str:
        return code_of(build("made_here:make", channels=1, classes=2, size=8))

    first = code()
    assert code() == first
    Path("made_here.py").write_text(MADE.format(scale=2))
    assert code() == first  # what runs is what was imported
    write_code(2)
    assert code() != first
    write_code(1, PARTS + "\n# a remark\n")
    assert code() == first  # as it computes the same
    write_code(1, PARTS + "\nmore = 1\n")
    assert code() != first
    write_code(1)
    assert code() == first
    assert code_of(build("cnn", channels=1, classes=2, size=8)) == ""


SMALL = ["--data", "digits", "--train-images", "60", "--test-images", "40", "--precision", "fp32", "--quiet"]
BY_HAND = ["--arch", "made_here:make", "--mean", "0", "--std", "1"]
AUDIT = "audit w.pth --images 2 --measured 10 --attack pgd --attack.steps 1 --out A"
BUILD = "build det w.pth --relabelling.steps 1 --out S"
DONE = {
    "train --epochs 1 --out t.safetensors": "'out' must not be there yet",
    AUDIT: "A holds the audit of other code",
    BUILD: "S holds a set built from another request (code: ",
}


@pytest.mark.whole
@pytest.mark.parametrize("command", DONE)
def test_what_was_done_with_other_code_is_not_taken_for_done(command, own_code, capsys, unchecked):
    torch.save(build("made_here:make", channels=1, classes=10, size=(8, 8)).state_dict(), "w.pth")
    asked = [*command.split(), *(BY_HAND[:2] if command.startswith("train") else BY_HAND), *SMALL]
    for scale, status in ((1, 0), (1, 0), (3, 2)):
        write_code(scale)
        assert main(asked) == status, capsys.readouterr().err
    assert DONE[command] in capsys.readouterr().err


@pytest.mark.whole
@pytest.mark.parametrize(
    ("command", "work"),
    [
        ("run digits --arch made_here:make --out R", "notbugs.study.pipeline._Study.run"),
        ("transfer w.pth --architectures made_here:make --out R", "notbugs.study.jobs.transfer._pairs"),
    ],
)
def test_a_study_does_not_go_on_with_other_code(command, work, own_code, capsys, monkeypatch, unchecked):
    """Classifiers before the change and after it would stand in one table."""

    def stopped(*_):
        raise InputError("It has begun.")

    monkeypatch.setattr(work, stopped)
    torch.save(build("made_here:make", channels=1, classes=10, size=(8, 8)).state_dict(), "w.pth")
    asked = [*command.split(), *(BY_HAND if command.startswith("transfer") else []), *SMALL]
    said = []
    for scale, parts in ((1, PARTS), (1, PARTS + "# a remark\n"), (3, PARTS), (1, PARTS)):
        write_code(scale, parts)
        assert main(asked) == 2
        said.append(capsys.readouterr().err)
    began, again, other, undone = said
    assert all("It has begun." in one for one in (began, again, undone))
    assert "R holds a study of other code: that of made_here:make was changed since. Undo the change" in other


@pytest.mark.whole
@pytest.mark.parametrize("command", [AUDIT, BUILD])
def test_what_was_done_with_other_names_of_outputs_is_not_taken_for_done(command, own_code, capsys, unchecked):
    names = [str(number) for number in range(10)]
    torch.save(build("made_here:make", channels=1, classes=10, size=(8, 8)).state_dict(), "w.pth")
    for order, status in ((names, 0), (names, 0), (names[::-1], 2)):
        Path("names.txt").write_text("\n".join(order))
        assert main([*command.split(), *BY_HAND, "--outputs", "names.txt", *SMALL]) == status, capsys.readouterr().err
    assert "outputs" in capsys.readouterr().err


def bars_classifier() -> Classifier:
    """Linear, and better with the half that is bright than with single pixels."""
    with seeded(1):
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    right = (torch.arange(64) % 8 >= 4).float() - 0.5
    classifier.network[1].weight.data.add_(torch.stack([-right, right]))
    return classifier


def measured() -> list[object]:
    """What evaluation, rotations, usefulness and training give, each in a few numbers."""
    images, classifier = bars(40), bars_classifier()
    robust = [one.share.value for one in nb.evaluate(classifier, images, radii=(0.1, 0.3), steps=3)]
    turned = nb.measure.spatial_accuracy(classifier, images, nb.Spatial(10, 1), tries=2).worst.value
    useful = nb.usefulness(classifier, images, images, nb.L2(0.3), classes=2)
    trained = nb.train(bars_classifier(), images, nb.Training(epochs=1, adversary=nb.Adversary(eps=0.1, steps=1)))
    gradients, _ = nb.measure.input_gradients(classifier, images)
    return [robust, turned, useful.gamma.tolist(), trained.network[1].weight.tolist(), gradients.sum().item()]


@pytest.fixture(scope="module")
def as_usual() -> list[object]:
    return measured()


def test_measurements_are_the_same_where_the_caller_wants_no_gradients(as_usual):
    with torch.no_grad():
        assert measured() == as_usual
        assert not torch.is_grad_enabled()


def test_inference_mode_is_refused_with_what_to_do():
    images = bars(8)
    works = (
        lambda: nb.evaluate(bars_classifier(), images),
        lambda: nb.pgd(bars_classifier(), images.pixels, images.labels, nb.L2(0.1)),
        lambda: nb.usefulness(bars_classifier(), images, images, nb.L2(0.3), classes=2),
        lambda: nb.train(bars_classifier(), images, nb.Training(epochs=1)),
    )
    for work in works:
        with torch.inference_mode(), pytest.raises(InputError, match=r"inference_mode\(\) .* Leave that block first"):
            work()


def test_measurements_are_the_same_where_numbers_are_float64_by_default(as_usual, unchecked):
    classifier = bars_classifier()
    before = [one.share for one in nb.evaluate(classifier, bars(40), radii=(0.1, 0.3), steps=3)]
    useful = nb.usefulness(classifier, bars(40), bars(40), nb.L2(0.3), classes=2).gamma
    images = bars(40)
    torch.set_default_dtype(torch.float64)
    try:
        assert [one.share for one in nb.evaluate(classifier, images, radii=(0.1, 0.3), steps=3)] == before
        torch.testing.assert_close(nb.usefulness(classifier, images, images, nb.L2(0.3), classes=2).gamma, useful)
        assert nb.measure.spatial_accuracy(classifier, images, nb.Spatial(10, 1), tries=2).worst.value == as_usual[1]
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.whole
def test_a_set_of_classes_in_another_order_is_not_trained_on(tmp_path, monkeypatch, capsys, unchecked):
    monkeypatch.chdir(tmp_path)
    for number, (bright, split) in enumerate((bright, split) for bright in (0, 1) for split in ("train", "test")):
        folder = Path("data", split, ("dark one", "light")[bright])
        folder.mkdir(parents=True)
        for image, pixels in enumerate(random_images(6, (8, 8, 1), seed=number)):
            grey = (100 * (pixels[..., 0] + bright)).to(torch.uint8).numpy()
            Image.fromarray(grey).save(folder / f"{image}.png")
    data = ["--data", "data", "--precision", "fp32", "--quiet"]
    network = ["--arch.width", "4", "--arch.features", "4", "--epochs", "1"]
    assert main(["train", "--out", "model.safetensors", *data, *network]) == 0
    assert main(["build", "det", "model.safetensors", "--out", "set", *data, "--relabelling.steps", "1"]) == 0
    capsys.readouterr()
    turned = [*data, "--classes", "light", "dark one"]
    assert main(["train", "--on", "set", "--out", "on.safetensors", *turned, *network]) == 2
    error = capsys.readouterr().err
    assert (
        "The 'on' must be a set of the data's classes in their order, light, dark one. Got 'dark one, light'" in error
    )
    assert "--classes 'dark one' light." in error
    assert not Path("on.safetensors").exists()
    remedy = ["--classes", "dark one", "light"]
    assert main(["train", "--on", "set", "--out", "on.safetensors", *data, *remedy, *network]) == 0
    others = ["--groups.night", "dark one", "--groups.day", "light"]
    assert main(["train", "--on", "set", "--out", "other.safetensors", *data, *others, *network]) == 2
    assert "Got 'dark one, light' instead. Give --data as it was when the set was built, of" in capsys.readouterr().err


def plain_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def frozen_classifier() -> Classifier:
    return bars_classifier().requires_grad_(False)


A_CLASSIFIER = r"must be a notbugs.Classifier. Got 'Sequential' .* nb.Classifier\(network, mean=..., std=...\)"
IMAGES = "'images' must be notbugs.Images. Got 'Data' instead. Give data.test or data.train."
A_THREAT = r"'threat' must be a threat model, .* Got 'l2:0.25' instead. Give nb.L2\(0.25\)."


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda data: nb.evaluate(plain_network(), data.test), A_CLASSIFIER),
        (lambda data: nb.audit(plain_network(), data, nb.L2(0.5)), A_CLASSIFIER),
        (lambda data: nb.train(plain_network(), data.train), A_CLASSIFIER),
        (lambda data: nb.relabel(plain_network(), data, "set"), A_CLASSIFIER),
        (lambda data: nb.transfer({"a": plain_network()}, data.test, nb.L2(0.5)), A_CLASSIFIER),
        (lambda data: nb.pgd(plain_network(), data.test.pixels, data.test.labels, nb.L2(0.5)), A_CLASSIFIER),
        (lambda data: nb.match_features(plain_network(), data.test.pixels, data.test.pixels), A_CLASSIFIER),
        (lambda data: nb.evaluate(bars_classifier(), data), IMAGES),
        (lambda data: nb.train(bars_classifier(), data), IMAGES),
        (lambda data: nb.transfer({"a": bars_classifier()}, data, nb.L2(0.5)), IMAGES),
        (lambda data: nb.usefulness(bars_classifier(), data, data, nb.L2(0.5)), "'train' must be .* Give data.train"),
        (lambda data: nb.audit(bars_classifier(), data.test, nb.L2(0.5)), "'data' must be notbugs.Data. Got 'Images'"),
        (lambda data: nb.new_classifier(data.train), "'data' must be notbugs.Data. Got 'Images'"),
        (lambda data: nb.audit(bars_classifier(), data, "l2:0.25"), A_THREAT),
        (lambda data: nb.evaluate(bars_classifier(), data.test, ["l2:0.25"]), A_THREAT),
        (lambda data: nb.relabel(bars_classifier(), data, "set", threat="l2:0.25"), A_THREAT),
        (lambda data: nb.pgd(bars_classifier(), data.test.pixels, data.test.labels, "l2:0.25"), A_THREAT),
        (lambda data: nb.evaluate(bars_classifier(), data.test, nb.L2(0.5)), "'threats' .*Put it into a list"),
        (lambda data: nb.evaluate(bars_classifier(), data.test, radii=0.5), r"'radii' .*Give \(0.5,\)"),
        (lambda data: nb.Classifier(plain_network(), mean=0.5, std=0.25), r"Give mean=\(0.5,\), std=\(0.25,\)."),
        (lambda data: nb.Classifier(lambda images: images), "'network' must be a torch.nn.Module. Got 'function'"),
        (lambda data: nb.train(frozen_classifier(), data.train), r"Call requires_grad_\(\) of it, to train"),
        (lambda data: nb.train(bars_classifier(), data.train, {"epochs": 1}), "'settings' must be notbugs.Training"),
    ],
)
def test_what_is_mixed_up_is_one_line_with_a_remedy(work, message, bars_data, tmp_path, monkeypatch, unchecked):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        work(bars_data)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_the_remedies_of_what_is_mixed_up_work(bars_data):
    classifier = nb.Classifier(plain_network(), mean=(0.5,), std=(0.25,))
    assert len(nb.evaluate(classifier, bars_data.test, [nb.L2(0.25)], attack="pgd", steps=1)) == 2
    nb.train(frozen_classifier().requires_grad_(), bars_data.train, nb.Training(epochs=1))
    arrays = nb.Classifier(plain_network(), mean=torch.tensor([0.5]), std=torch.tensor([0.25]))
    assert torch.equal(arrays.mean, classifier.mean)


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (2, 28, 28, 1), (2, 9, 5, 4)])
def test_channels_last_are_refused_and_the_remedy_works(shape):
    pixels, labels = torch.zeros(shape, dtype=torch.uint8), torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"channels before the .*Give torch.permute\(pixels, \(0, 3, 1, 2\)\)"):
        nb.Images(pixels, labels)
    assert nb.Images(pixels.permute(0, 3, 1, 2), labels).shape == (shape[3], *shape[1:3])
    assert nb.Images(torch.zeros(2, 16, 4, 4), labels).shape == (16, 4, 4)  # few rows: many channels are what is meant


def takes(function) -> list[str]:
    """The arguments of a function that are a classifier, data, images or a batch of them."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if str(one.annotation).removesuffix(" | None") in KINDS]


def public() -> dict[str, Any]:
    """By name, the public functions that take such arguments."""
    modules = (nb, nb.measure, nb.search, nb.models, nb.construct, nb.data, nb.training, nb.theory, nb.study)
    found = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules
        for name in getattr(module, "__all__", dir(module))
        if not name.startswith("_") and inspect.isfunction(getattr(module, name))
    }
    return {name: function for name, function in found.items() if takes(function)}


def test_every_public_function_refuses_what_is_no_classifier_data_or_images(unchecked):
    functions = public()
    assert len(functions) > 50
    for name, function in functions.items():
        needed = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty and parameter.kind not in (2, 4)
        ]
        for wrong in takes(function):
            right = {other: fitting(function, other) for other in {*needed} - {wrong}}
            for value in (3, nn.Flatten(), [0.5]):
                with pytest.raises(InputError, match=f"The '{wrong}' must be "):
                    function(**right, **{wrong: value})
                    pytest.fail(f"{name} takes {value!r} as {wrong}")


def fitting(function, name: str):
    """Something of the kind that an argument has; where it has none of them, something that nothing may touch."""
    annotation = str(inspect.signature(function).parameters[name].annotation).removesuffix(" | None")
    images = bars(4, 0)
    return {
        "Classifier": classifier_that_ends_in(),
        "Images": images,
        "Data": Data("bars", images, images, ("left", "right")),
        "Batch": images.pixels,
    }.get(annotation, object())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pixels": [[0.5]]}, r"The 'pixels' must be a tensor. Got 'list' instead. Give torch.as_tensor\(pixels\)."),
        ({"pixels": torch.zeros(2, 1, 4, 4).numpy()}, "'pixels' must be a tensor. Got 'ndarray'"),
        ({"labels": [0, 1]}, r"The 'labels' must be a tensor. Got 'list' instead. Give torch.as_tensor\(labels\)."),
        ({"groups": [0, 1]}, "The 'groups' must be a tensor. Got 'list'"),
        ({"groups": torch.zeros(3, dtype=torch.int64)}, r"The 'groups' must be int64 of shape \(2,\)"),
    ],
)
def test_images_of_something_else_than_tensors_are_refused(given, said, unchecked):
    right = {"pixels": torch.zeros(2, 1, 4, 4), "labels": torch.tensor([0, 1])}
    nb.Images(**right)
    with pytest.raises(InputError, match=said):
        nb.Images(**right | given)


def test_data_of_something_else_than_images_are_refused(unchecked):
    images = bars(4, 0)
    with pytest.raises(InputError, match=r"The 'test' must be notbugs.Images. Got 'Tensor' instead. Give nb.Images\("):
        Data("bars", images, images.pixels, ("left", "right"))
    with pytest.raises(InputError, match="The 'classes' must be the names of the classes. Got 'ab' instead."):
        Data("bars", images, images, "ab")


def test_a_target_for_each_start(unchecked):
    images = random_images(8, (1, 3, 3))
    with pytest.raises(InputError, match=r"The 'target' must have the shape of the start, \(8, 1, 3, 3\). Got"):
        nb.match_features(classifier_that_ends_in(), images, images[:3])
