"""The recipes for CIFAR-10: they resolve in both forms, and run on made images of its shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import unfold

from notbugs.console import TerminalConsole
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.models import build, frozen
from notbugs.models.layers import WhitenedConv2d
from notbugs.report.accuracies import study_accuracies
from notbugs.report.cautions import cautions
from notbugs.seeds import generator
from notbugs.study import read_recipe, run
from notbugs.study.sections import Architecture
from notbugs.training import Training, new_classifier, train

pytestmark = pytest.mark.whole

NAMES = ("cifar10", "cifar10-resnet18", "cifar10-paper")
SHORT = {"epochs": 1, "batch": 16}
TINY = {
    "train_images": 30,
    "test_images": 20,
    "pair": [0, 1],
    "architecture": {"width": 2},
    "standard": SHORT,
    "robust": SHORT | {"adversary": {"steps": 1}},
    "constructed": SHORT,
    "matching": {"steps": 2},
    "relabelling": {"steps": 2},
    "evaluation": {"attack": {"steps": 1, "queries": 0}, "pgd": {"steps": 2}, "radii": [0.5]},
    "storage": {"batch": 30},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An archive of made images in CIFAR-10's shape, in two classes."""
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 2
        pixels = draw.integers(0, 128, (count, 32, 32, 3)) + 100 * labels[:, None, None, None]
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
    file = tmp_path_factory.mktemp("made") / "made.npz"
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize("name", NAMES)
def test_on_an_accelerator_a_recipe_is_whole(name):
    recipe = read_recipe(name, {"device": "cuda"})
    assert not recipe.scaled_down
    assert recipe.train_images is recipe.test_images is None
    assert {item.classifier for item in recipe.expected} >= {"standard", "robust", "D_R", "D_NR", "D_rand", "D_det"}
    assert recipe.departures == ()
    assert "estimated, not run" in recipe.expected_time


@pytest.mark.parametrize("name", NAMES)
def test_on_a_cpu_it_scales_itself_down_and_expects_nothing(name):
    recipe, whole = read_recipe(name, {"device": "cpu"}), read_recipe(name, {"device": "cuda"})
    assert recipe.scaled_down
    assert recipe.settings()["scaled_down"]
    assert recipe.train_images <= 5000
    assert recipe.robust.adversary.eps == whole.robust.adversary.eps
    assert "train_images" in recipe.departures
    own = read_recipe(name, {"device": "cpu", "train_images": 7})
    assert own.train_images == 7, "what is asked for comes before the small form"


def test_a_study_keeps_to_the_form_it_began_in(tmp_path):
    recipe = read_recipe("cifar10", {"device": "cpu"})
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.toml(), encoding="utf-8")
    assert read_recipe(file) == recipe


def test_the_paper_s_recipe_has_the_paper_s_settings():
    recipe = read_recipe("cifar10-paper", {"device": "cuda"})
    assert recipe.architecture.name == "resnet50"
    assert recipe.training("D_rand").lr == 0.01
    assert recipe.training("D_R").lr == recipe.training("D_det").lr == 0.1
    assert recipe.training("D_R").flip
    assert not recipe.training("D_det").flip
    assert recipe.matching.schedule((3, 32, 32)).steps == 1000
    schedule = recipe.robust.adversary.schedule
    assert (schedule.steps, schedule.step_size) == (7, 0.1)
    assert (recipe.relabelling.steps, recipe.relabelling.step_size, recipe.relabelling.eps) == (100, 0.1, 0.5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("cifar10-paper", "cifar10-resnet18") else ())
        for name in NAMES
    ],
)
def test_a_recipe_runs(name, images, tmp_path, capsys):
    trained_on = dict.fromkeys(read_recipe(name).trained_on, SHORT)
    recipe = read_recipe(name, TINY | {"data": str(images), "device": "cpu", "trained_on": trained_on})
    results = run(recipe, tmp_path / "study", TerminalConsole(quiet=False))
    assert {row.classifier for row in results.rows} >= {"standard", "independent", "robust", "D_R", "D_det"}
    assert results.study.recipe["scaled_down"]
    assert "small form" in capsys.readouterr().err
    assert any("no accelerator" in sentence for sentence in cautions(results, study_accuracies(results)))


def test_whitened_patches_have_the_identity_as_their_covariance():
    draw = generator(0, "whitening")
    smooth = torch.rand(40, 3, 9, 9, generator=draw).cumsum(2).cumsum(3)
    images = smooth.double() @ torch.rand(9, 9, generator=draw).double()
    layer = WhitenedConv2d(3, 27, 3, bias=False).double()
    layer.fit(images, eps=0.0)
    layer.weight.data = torch.eye(27).double().view(27, 3, 3, 3)  # each component by itself
    found = layer(images).transpose(0, 1).flatten(1).detach()
    torch.testing.assert_close(torch.cov(found), torch.eye(27).double(), rtol=0, atol=1e-6)
    assert torch.equal(layer.plain()(images), layer(images))
    patches = unfold(images, 3).transpose(1, 2).flatten(0, 1)
    assert not torch.allclose(torch.cov(patches.T), torch.eye(27).double(), atol=0.1)


def test_a_whitened_resnet9_is_fitted_to_its_data_and_not_trained():
    pixels = torch.randint(256, (30, 3, 32, 32), generator=generator(0, "whitening")).byte()
    made = Images(pixels, torch.arange(30) % 2)
    data = Data("made", made, made, ("a", "b"))
    classifier = new_classifier(data, "resnet9", width=2, whiten=True, precision="fp32")
    layer = next(module for module in classifier.modules() if isinstance(module, WhitenedConv2d))
    assert not torch.equal(layer.components, torch.eye(27))
    assert not any(parameter is layer.components for parameter in classifier.parameters())
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    train(classifier, made, Training(epochs=1, batch=10, lr=0.1))
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in before if "prep.0.0" in name} & changed == {"network.prep.0.0.weight"}
    fast = frozen(classifier, made.shape)
    assert not any(isinstance(module, WhitenedConv2d) for module in fast.modules())  # folded like any other convolution
    images = made.batch(slice(4))[0]
    torch.testing.assert_close(fast(images), classifier.eval()(images), rtol=1e-3, atol=1e-4)
    assert classifier(made.batch(slice(4))[0]).shape == (4, 2)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("True", True), ("false", False)])
def test_a_flag_of_an_architecture_is_what_it_says(text, value):
    assert Architecture.parse(f"resnet9 whiten={text}").options == {"whiten": value}


@pytest.mark.parametrize("given", ["no", "off", 0, 2.5, None])
def test_a_flag_that_is_none_is_refused(given):
    with pytest.raises(InputError, match="'whiten' must be true or false. Got"):
        build("resnet9", channels=3, classes=2, width=2, whiten=given)


def test_without_whitening_a_resnet9_is_what_it_was():
    names = build("resnet9", channels=3, classes=10, width=2).state_dict()
    assert not any("whiten" in name for name in names)
    assert sum(tensor.numel() for tensor in build("resnet9", channels=3, classes=10).parameters()) == 6_573_130


def test_a_further_set_is_trained_as_the_one_beside_which_it_stands():
    recipe = read_recipe("digits", {"trained_on": {"D_det": {"epochs": 3}, "D_det_low": {"epochs": 5}}})
    epochs = {name: recipe.training(name).epochs for name in ("D_det", "D_bugs", "D_det_low", "D_rand")}
    assert epochs == {"D_det": 3, "D_bugs": 3, "D_det_low": 5, "D_rand": recipe.constructed.epochs}


def test_one_table_is_of_all_relabelled_sets_that_have_none_of_their_own(tmp_path):
    small = {"name": "cnn", "width": 4}
    recipe = read_recipe(
        "digits",
        {
            "trained_on": {"relabelled": {"epochs": 3}, "D_det": {"lr": 0.3}},
            "architecture_on": {"relabelled": small},
        },
    )
    names = ("D_R", "D_NR", "D_rand", "D_rand_other", "D_rand_min", "D_bugs_other")
    usual, width = recipe.constructed.epochs, recipe.architecture.width
    assert [recipe.training(name).epochs for name in names] == [usual, usual, 3, 3, 3, 3]
    assert [recipe.network(name).width for name in (*names, "D_det")] == [width, width, 4, 4, 4, 4, 4]
    assert (recipe.training("D_det").lr, recipe.training("D_det").epochs) == (0.3, Training().epochs)
    file = tmp_path / "again.toml"
    file.write_text(recipe.toml())
    assert read_recipe(file).settings() == recipe.settings()
    file.write_text('data = "digits"\nrobust = {adversary = {eps = 0.5}}\ntrained_on = {relabelled = {epochs = 0}}\n')
    with pytest.raises(InputError, match="trained_on.relabelled.epochs"):
        read_recipe(file)


def test_a_table_without_a_name_changes_the_architecture_on_some_sets(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        """
        data = "digits"
        robust = {adversary = {eps = 0.5}}
        architecture = {name = "resnet9", width = 8}
        architecture_on = {relabelled = {options = {whiten = true}}, D_NR = {width = 4}, D_R = {name = "cnn"}}
        """
    )
    recipe = read_recipe(file)
    assert str(recipe.network("D_rand")) == "resnet9 width=8 whiten=True"
    assert (str(recipe.network("D_NR")), str(recipe.network("D_R"))) == ("resnet9 width=4", "cnn")
    wider = read_recipe(file, {"architecture": {"width": 16}})
    assert str(wider.network("D_rand")) == "resnet9 width=16 whiten=True"
    other = read_recipe(file, {"architecture": {"name": "cnn"}})  # which has no whitening
    assert (str(other.network("D_rand")), str(other.network("D_R"))) == ("cnn", "cnn")


def test_only_a_set_has_its_own_training_and_network():
    with pytest.raises(InputError, match="trained_on.*D_rnad"):
        read_recipe("cifar10", {"trained_on": {"D_rnad": SHORT}})
    with pytest.raises(InputError, match="architecture_on.*D_rnad"):
        read_recipe("cifar10", {"architecture_on": {"D_rnad": {"name": "cnn"}}})
    with pytest.raises(
        InputError, match="'architecture_on' must name architectures that notbugs knows. Got 'mine:net'"
    ):
        read_recipe("cifar10", {"architecture_on": {"D_det": {"name": "mine:net"}}})


def test_the_judge_may_have_its_own_training_and_network():
    """It is a robust classifier of [robust] and [architecture] without; a standard one would be no judge."""
    robust = {"epochs": 3, "adversary": {"eps": 0.5}}
    recipe = read_recipe("digits", {"architecture_on": {"judge": {"width": 4}}, "trained_on": {"judge": robust}})
    assert (recipe.network("judge").width, recipe.training("judge").epochs) == (4, 3)
    assert recipe.network("robust") == recipe.architecture == read_recipe("digits").network("judge")
    assert recipe.training("robust") == recipe.robust == read_recipe("digits").training("judge")
    with pytest.raises(InputError, match="'trained_on.judge' training must have an adversary"):
        read_recipe("digits", {"trained_on": {"judge": {"epochs": 3}}})


def test_a_further_set_has_the_network_of_the_one_beside_which_it_stands():
    recipe = read_recipe("digits", {"architecture_on": {"D_det": {"name": "cnn", "width": 4}}})
    width = recipe.architecture.width
    assert [recipe.network(name).width for name in ("standard", "D_rand", "D_det", "D_bugs")] == [width, width, 4, 4]
