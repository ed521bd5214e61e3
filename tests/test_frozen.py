"""A frozen, folded classifier answers as the plain one, and is attacked alike; and which form a long job takes."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import sys
import threading

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, relu
from torch.optim.swa_utils import update_bn

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.construct import fingerprint, relabel, robustify
from notbugs.data import Data, Images, planted
from notbugs.errors import InputError
from notbugs.measure import evaluate
from notbugs.models import ARCHITECTURES, build, execution, fastest, frozen
from notbugs.models.execution import ready
from notbugs.search import FMN, Attack, PGDSteps, fast_matching, match_features, minimum_norm, pgd, targeted_pgd
from notbugs.search.objectives import log_odds
from notbugs.seeds import generator, seeded
from notbugs.threat import L2, l2_norm
from tests.conftest import random_images
from tests.vision import torchvision

SMALL = {"resnet50": {"width": 8}, "wrn28-10": {"width": 16}, "densenet121": {"growth": 4}}
SHAPE = (3, 16, 16)
LIBRARIES = ["timm:test_resnet", "torchvision:resnet18"]
DEEPER = ("resnet32", "resnet44", "resnet56", "resnet110")  # than resnet20, and otherwise the same
LONG = ("resnet34", "resnet50", "densenet121", "wrn28-10", "torchvision:resnet18")  # to search with
NETWORKS = [*(name for name in ARCHITECTURES if name not in DEEPER), *LIBRARIES]


@pytest.fixture(autouse=True)
def _as_users_run_it(unchecked):
    """The checks of shapes refuse the stand-ins for tensors with which torch.fx follows a network."""


def classifier(name: str = "cnn", precision: str = "fp32") -> Classifier:
    """With batch norms that have seen something."""
    if ":" in name:
        torchvision()
        pytest.importorskip("timm")
    with seeded(0):
        size = {} if ":" in name else SMALL.get(name, {"width": 8})
        network = build(name, channels=3, classes=10, size=SHAPE[1], **size)
        return with_statistics(Classifier(network, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), precision=precision))


def with_statistics(made: Classifier) -> Classifier:
    for norm in norms(made):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    made.train()
    with torch.no_grad():
        for seed in range(20):
            made(random_images(16, SHAPE, seed))
    return made.eval()


def norms(made: Classifier) -> list[nn.Module]:
    return [module for module in made.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def gradient(made: Classifier, images: torch.Tensor) -> torch.Tensor:
    leaf = images.clone().requires_grad_()
    made(leaf).logsumexp(1).sum().backward(inputs=[leaf])
    return leaf.grad


def saved_bytes(made: Classifier, images: torch.Tensor) -> int:
    """Memory kept for the backward pass, weights not counted, every storage once."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in made.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = made(images.clone().requires_grad_())
    del output
    return sum(size for pointer, size in kept.items() if pointer not in weights)


def assert_close(got: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    assert (got - wanted).norm() <= tolerance * wanted.norm()


def assert_same(view: Classifier, plain: Classifier, images: torch.Tensor) -> None:
    """Strictly in float64; in float32 with room for rounding, which is relatively large where features are small."""
    assert_answers(view, plain, images, 1e-3)
    exact = copy.deepcopy(plain).double()
    assert_answers(frozen(exact, images.shape[1:]), exact, images, 1e-6)


def assert_answers(view: Classifier, plain: Classifier, images: torch.Tensor, tolerance: float) -> None:
    assert_close(view(images), plain(images), tolerance)
    assert_close(view.features(images), plain.features(images), tolerance)
    assert_close(gradient(view, images), gradient(plain, images), tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_architecture_answers_the_same_from_less_memory(name):
    plain, images = classifier(name), random_images(4, SHAPE)
    view = frozen(plain, SHAPE)
    assert_same(view, plain, images)
    assert not view.training
    assert not any(parameter.requires_grad for parameter in view.parameters())
    assert len(norms(view)) < len(norms(plain))
    assert saved_bytes(view, images) < saved_bytes(plain, images)


def test_half_the_memory_where_every_convolution_has_its_norm():
    plain, images = classifier("resnet18"), random_images(4, SHAPE)
    assert norms(frozen(plain, SHAPE)) == []
    assert saved_bytes(frozen(plain, SHAPE), images) < 0.6 * saved_bytes(plain, images)


def searched(made: Classifier, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {
        "pgd": pgd(made, images, labels, L2(0.3), PGDSteps(5)),
        "targeted": targeted_pgd(made, images, (labels + 1) % 10, L2(0.5), PGDSteps(5)),
        "matching": match_features(made, images, images.flip(0), fast_matching(SHAPE, 10)),
        "minimum norm": minimum_norm(made, images, labels, schedule=FMN(10)),
    }
    return {name: one.images for name, one in found.items()}


@torch.no_grad()
def judged(plain: Classifier, found: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor):
    """By the plain classifier in fp32: log-odds, distances of features, and lengths, image by image."""
    target = plain.features(images.flip(0))
    lengths = l2_norm(found["minimum norm"] - images)
    return {
        "pgd": log_odds(plain(found["pgd"]), labels),
        "success": (plain(found["pgd"]).argmax(1) != labels).float(),
        "targeted": log_odds(plain(found["targeted"]), (labels + 1) % 10),
        "matching": (plain.features(found["matching"]) - target).norm(dim=1) / target.norm(dim=1),
        "minimum norm": lengths[lengths > 0],  # an image that was not brought over stays as it was
        "brought over": (lengths > 0).float(),
    }


def briefly_trained(name: str, data: Data) -> Classifier:
    """Eight passes over the planted images: enough to tell most classes."""
    made = classifier(name).train()
    images, labels = data.train.batch(slice(None))
    steps = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    for part in torch.arange(len(images)).split(32) * 8:
        steps.zero_grad()
        cross_entropy(made(images[part]), labels[part]).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        steps.step()
    update_bn([images], made)  # a few steps leave the running statistics behind
    return made.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in NETWORKS]
)
def test_every_fast_form_finds_the_same_attack(name):
    """What is reached, in the mean over images: folded, and in bf16; as many successes, but two.

    Single images differ more: a search turns another way wherever a gradient's last bit decides.
    """
    data = planted(classes=10, channels=3, train=240, test=16).data
    plain, (images, _) = briefly_trained(name, data), data.test.batch(slice(None))
    labels = plain(images).argmax(1)
    view = frozen(plain, SHAPE)
    wanted = judged(plain, searched(plain, images, labels), images, labels)
    for precision, odds, more in (("fp32", 0.05, 1.05), ("bf16", 0.15, 1.3)):  # log-odds: share, or absolute
        with view.evaluating(precision):
            found = searched(view, images, labels)
        got = {search: values.mean() for search, values in judged(plain, found, images, labels).items()}
        for search in ("pgd", "targeted"):
            away = (got[search] - wanted[search].mean()).abs()
            assert away <= odds * wanted[search].abs().mean().clamp_min(1), (precision, search)
        for search in ("matching", "minimum norm"):
            assert got[search] <= more * wanted[search].mean(), (precision, search)
        for share in ("success", "brought over"):
            assert (got[share] - wanted[share].mean()).abs() <= 2 / 16, (precision, share)


def test_nothing_of_the_given_classifier_changes():
    plain = classifier(precision="auto").train()
    plain.network[1].eval()
    for parameter in plain.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [module.training for module in plain.modules()]
    weights, state = copy.deepcopy(plain.state_dict()), torch.get_rng_state()
    view = frozen(plain, SHAPE)
    with torch.no_grad():
        for parameter in view.parameters():
            parameter.zero_()
    assert [module.training for module in plain.modules()] == modes
    assert all(torch.equal(weights[name], tensor) for name, tensor in plain.state_dict().items())
    assert all(parameter.requires_grad for parameter in plain.parameters())
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in plain.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert view.precision == "auto"
    assert not plain.head_is_certain


class Branching(nn.Module):
    """What becomes of an image depends on what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.conv(images))
        return self.fc((relu(maps) if images.mean() > 0 else -maps).mean((2, 3)))


class Sharing(Branching):
    """One convolution, called twice."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc((self.norm(self.conv(images)) + relu(self.conv(images))).mean((2, 3)))


class Noisy(Branching):
    """Adds a little noise, which a trace would take for a constant."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc((self.norm(self.conv(images)) + 1e-3 * torch.randn(4, 1, 1)).mean((2, 3)))


class Blind(Branching):
    """No gradient goes through its convolution, which a trace does not see."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            maps = self.norm(self.conv(images))
        return self.fc(maps.mean((2, 3)) + images.mean((2, 3)).sum(1, keepdim=True))


class Locked(Branching):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def hooked() -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    network[0].register_forward_hook(lambda module, inputs, output: output + 1)
    return network


def per_place() -> nn.Module:
    """The batch norm of a sequence is over its second dimension, not over that of the linear layer."""
    return nn.Sequential(nn.Flatten(2), nn.Linear(256, 3), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 3))


AWKWARD = [Branching, Sharing, Noisy, Blind, Locked, hooked, per_place, lambda: nn.DataParallel(Branching())]
NAMES = [*(make.__name__ for make in AWKWARD[:-1]), "wrapped"]


@pytest.mark.parametrize("make", AWKWARD, ids=NAMES)
def test_a_network_that_cannot_be_folded_works_unfolded(make):
    with seeded(3):
        plain = with_statistics(Classifier(make()))
    images = random_images(4, SHAPE)
    view = frozen(plain, SHAPE)
    assert len(norms(view)) == len(norms(plain)) == 1
    with seeded(1):
        wanted = plain(images), plain.features(images), gradient(plain, images)
    with seeded(1):
        got = view(images), view.features(images), gradient(view, images)
    for one, other in zip(got, wanted, strict=True):
        assert_close(one, other, 1e-6)
    assert view is not plain


def test_images_that_do_not_fit_are_refused_later_as_ever():
    plain = Classifier(build("cnn", channels=3, classes=4, width=8), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InputError, match="3 channels"):
        frozen(plain, (2, 16, 16))(random_images(2, (2, 16, 16)))


def test_the_head_stays_the_same():
    with seeded(4):
        body = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        head = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))
        network = nn.Sequential(nn.Sequential(*body), head)
        named = with_statistics(Classifier(network, head="1"))
    view, images = frozen(named, SHAPE), random_images(4, SHAPE)
    assert (view.head_name, len(norms(view))) == ("1", 1)  # the head itself is left whole
    assert_same(view, named, images)
    last = with_statistics(Classifier(network))
    view = frozen(last, SHAPE)
    assert (view.head_name, norms(view)) == ("1.3", [])
    assert_same(view, last, images)


def test_a_network_without_a_head_folds_too():
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    plain = with_statistics(Classifier(nn.Sequential(*layers)))
    view, images = frozen(plain, SHAPE), random_images(4, SHAPE)
    assert norms(view) == []
    assert_close(view(images), plain(images), 1e-3)
    with pytest.raises(InputError, match=r"no nn\.Linear"):
        view.features(images)


def grouped() -> Classifier:
    with seeded(5):
        layers = nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return Classifier(nn.Sequential(*layers, nn.Linear(6, 3)), precision="auto").eval()


def test_the_fastest_form_is_timed_and_others_that_fail_are_left_out(monkeypatch, caplog):
    monkeypatch.setattr(execution, "SECONDS", 0.0)
    plain = classifier()
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: 1 / 0)
    with caplog.at_level(logging.INFO, "notbugs"):
        choice = fastest(frozen(plain, SHAPE), random_images(4, SHAPE), ("fp32", "bf16", "bf16 compiled"))
    assert set(choice.milliseconds) == {"fp32", "bf16"}
    assert choice.milliseconds[choice.form] == min(choice.milliseconds.values()) > 0
    assert choice.classifier.precision == choice.form
    assert "bf16 compiled does not work here: division by zero" in caplog.text
    with pytest.raises(InputError, match="7 channels"):
        fastest(Classifier(plain.network, mean=(0.5,) * 7, std=(0.5,) * 7), random_images(4, SHAPE))


def timed(monkeypatch, **milliseconds: float) -> list[int]:
    """Make the forms take these times; how many images were timed."""
    counts = []

    def seconds(view: Classifier, images: torch.Tensor) -> float:
        counts.append(len(images))
        return milliseconds[view.precision + "_compiled" * isinstance(view.network, execution._Compiled)] / 1e3

    monkeypatch.setattr(execution, "_seconds", seconds)
    monkeypatch.setattr(execution, "SECONDS", 0.0)
    monkeypatch.setattr(execution, "has_bf16", lambda device: True)
    return counts


def test_only_grouped_convolutions_are_timed_on_a_cpu(monkeypatch, caplog):
    counts = timed(monkeypatch, fp32=1.0, bf16=2.0)
    assert ready(classifier(precision="auto"), SHAPE, batch=64)[1] == "bf16"
    assert ready(classifier(precision="fp32"), SHAPE, batch=64)[1] == "fp32"
    assert counts == []
    with caplog.at_level(logging.INFO, "notbugs"):
        view, form = ready(grouped(), SHAPE, batch=64)
    assert (view.precision, form, set(counts)) == ("fp32", "fp32", {32})
    assert "Searching in fp32 (a gradient of 32 images: bf16 2.0 ms, fp32 1.0 ms)." in caplog.text
    timed(monkeypatch, fp32=1.0, bf16=1.1)  # not worth leaving the rule for
    assert ready(grouped(), SHAPE, batch=64)[1] == "bf16"
    monkeypatch.setattr(workers, "count", lambda: 2)
    timed(monkeypatch, fp32=1.0, bf16=9.0)
    assert ready(grouped(), SHAPE, batch=64)[1] == "bf16"


def test_compiled_where_it_is_asked_for_and_faster(monkeypatch):
    counts = timed(monkeypatch, bf16=2.0, bf16_compiled=1.0)
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    plain = classifier(precision="auto")
    assert ready(plain, SHAPE, batch=64)[1] == "bf16"
    plain.try_compiled = True
    assert (ready(plain, SHAPE, batch=64)[1], set(counts)) == ("bf16 compiled", {64})
    timed(monkeypatch, bf16=2.0, bf16_compiled=1.9)
    assert ready(plain, SHAPE, batch=64)[1] == "bf16"


def test_compiled_for_batches_of_one_size(monkeypatch):
    """As on a GPU, with a compiler that only counts."""
    replayed = []

    def compiler(network, *, mode, dynamic):
        assert (mode, dynamic) == ("reduce-overhead", False)
        return lambda images: replayed.append(len(images)) or network(images)

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(execution, "_doubts", lambda view, rule: [f"{rule} compiled"])
    timed(monkeypatch, fp32=2.0, fp32_compiled=1.0)
    plain, images = classifier(), random_images(6, SHAPE)
    view, form = ready(plain, SHAPE, batch=6)
    assert form == "fp32 compiled"
    assert_same(view, plain, images)
    assert_same(view, plain, images[:4])
    assert replayed == [6, 6]  # logits and the pass of the gradient
    assert ready(plain, SHAPE, batch=6, form="fp32")[0].network is not view.network


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of torch's own compiler
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
def test_a_search_really_compiled():
    plain, images = classifier(), random_images(4, SHAPE)
    view = execution.in_form(frozen(plain, SHAPE), "fp32 compiled", 4)
    torch._dynamo.utils.counters.clear()
    labels = plain(images).argmax(1)
    found, wanted = (pgd(made, images, labels, L2(0.3), PGDSteps(5)) for made in (view, frozen(plain, SHAPE)))
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    torch.testing.assert_close(found.images, wanted.images, rtol=0, atol=1e-4)


@pytest.fixture
def data() -> Data:
    images = Images(torch.rand(24, *SHAPE, generator=generator(0, "frozen data")), torch.arange(24) % 3)
    return Data("random", images, images, tuple("abc"))


@pytest.mark.parametrize("make", [relabel, robustify])
def test_a_build_keeps_the_form_it_began_with(make, data, tmp_path, monkeypatch):
    counts = timed(monkeypatch, fp32=1.0, bf16=2.0)
    plain = grouped()
    began = make(plain, data, tmp_path / "set", schedule=PGDSteps(2, 0.1))
    request = began.manifest["request"]
    assert request["precision"] == "fp32"
    assert request["source"] == fingerprint(plain)
    assert counts
    shard = tmp_path / "set" / "shard-00000.safetensors"
    before = shard.read_bytes()
    shard.unlink()
    counts = timed(monkeypatch, fp32=2.0, bf16=1.0)
    make(plain, data, tmp_path / "set", schedule=PGDSteps(2, 0.1))
    assert counts == []
    assert shard.read_bytes() == before
    plain.precision = "bf16"
    with pytest.raises(InputError, match="precision: there 'fp32', asked for 'bf16'"):
        make(plain, data, tmp_path / "set", schedule=PGDSteps(2, 0.1))
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["request"]["precision"] == "fp32"


def test_robust_accuracy_is_that_of_the_plain_classifier(data, monkeypatch):
    plain = classifier()
    images = Images(data.train.pixels, plain(data.train.pixels).argmax(1))
    folded = evaluate(plain, images, radii=(0.1, 0.3), attack=Attack(steps=5))
    monkeypatch.setattr(
        sys.modules["notbugs.search.evaluation"], "ready", lambda source, shape, **how: (source, "fp32")
    )
    assert evaluate(plain, images, radii=(0.1, 0.3), attack=Attack(steps=5)) == folded
    assert 0 < folded[-1].share.value < 1
