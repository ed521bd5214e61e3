"""What a network's outputs are: one logit, and probabilities that are recognised and attacked through their logits."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from notbugs import L2, Classifier, Images, InputError, evaluate, load_classifier, pgd, save_classifier
from notbugs.measure import masking_signs
from notbugs.models import Blueprint
from notbugs.seeds import seeded
from tests.conftest import bars, random_images

SHAPE = (1, 4, 4)


class Network(nn.Module):
    """A linear network with an end of one's choice; `scale` makes it confident."""

    def __init__(self, end=lambda logits: logits, outputs=3, scale=1.0):
        super().__init__()
        with seeded(1):
            self.fc = nn.Linear(16, outputs)
        self.fc.weight.data *= scale
        self.end = end

    def forward(self, images):
        return self.end(self.fc(images.flatten(1)))


def logits_of(outputs=3, scale=1.0):
    """The right answer: a classifier of the logits in front of every end."""
    plain = Network(outputs=outputs, scale=scale)
    if outputs > 1:
        return Classifier(plain)
    return Classifier(nn.Sequential(plain, Two()))


class Two(nn.Module):
    def forward(self, z):
        return torch.cat([torch.zeros_like(z), z], 1)


SEVERAL = {
    "softmax, a module": nn.Softmax(dim=1),
    "softmax, a function": lambda z: F.softmax(z, dim=1),
    "softmax in float64, as a tuple": lambda z: (z.softmax(1, dtype=torch.float64),),
    "sigmoids": nn.Sigmoid(),
    "sigmoids, in place": lambda z: z.sigmoid_(),
}
ONE = {
    "one logit": lambda z: z,
    "one logit, flat": lambda z: z.squeeze(1),
    "sigmoid, a module": nn.Sigmoid(),
    "sigmoid, a function": lambda z: torch.sigmoid(z).squeeze(1),
    "sigmoid of a flat logit": lambda z: torch.sigmoid(z.squeeze(1)),
}
BY_VALUES = {
    3: lambda z: z.log_softmax(1).exp(),
    2: lambda z: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1),
    1: lambda z: 1 / (1 + (-z).exp()),
}


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize(("outputs", "end"), [(3, name) for name in SEVERAL] + [(1, name) for name in ONE])
def test_the_logits_in_front_of_an_end_are_found(outputs, end, scale):
    """Also where every probability has rounded to 0 or 1, and its logarithm would have no gradient."""
    classifier = Classifier(Network((SEVERAL | ONE)[end], outputs, scale))
    right, images = logits_of(outputs, scale), random_images(20, SHAPE)
    assert torch.equal(classifier(images), right(images))
    labels = right(images).argmax(1)
    found, wanted = (pgd(one, images, labels, L2(0.5)) for one in (classifier, right))
    assert torch.equal(found.images, wanted.images)
    assert torch.equal(classifier.features(images), images.flatten(1))


@pytest.mark.parametrize("outputs", BY_VALUES)
def test_probabilities_by_their_values_alone(outputs):
    classifier = Classifier(Network(BY_VALUES[outputs], outputs))
    images = random_images(20, SHAPE)
    plain = Network(outputs=outputs)
    z = plain(images.contiguous())
    odds = {3: z.log_softmax(1), 2: torch.stack([-z[:, 0], z[:, 0]], 1).sigmoid().log(), 1: None}[outputs]
    found = classifier(images)
    if odds is None:
        odds = torch.stack([0 * z[:, 0], z[:, 0]], 1)
    assert torch.allclose(found, odds, atol=1e-5)
    assert classifier.meaning.is_logarithm
    assert "is the logarithm of its probabilities" in str(classifier.meaning)


@pytest.mark.parametrize("outputs", [1, 3])
def test_logits_that_look_like_probabilities_stay_logits(outputs):
    """On every image between 0 and 1, and three of them adding up to 1; a scale hides the linear layer's name."""
    for end in (lambda z: z, lambda z: z * 1.0, lambda z: z.clamp(-9, 9)):
        network = Network(end, outputs)
        network.fc.weight.data.mul_(1e-5)
        network.fc.weight.data.sub_(network.fc.weight.data.mean(0) if outputs > 1 else 0)
        network.fc.bias.data.fill_(1 / outputs if outputs > 1 else 0.5)
        images = random_images(20, SHAPE)
        found = Classifier(network)(images)
        z = network(images)
        assert torch.equal(found[:, -1], z[:, -1])
        assert torch.equal(found[:, 0], z[:, 0] if outputs > 1 else torch.zeros(20))


def test_an_untrained_head_of_zeros_gives_logits():
    network = Network(lambda z: z * 0.125)
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.fc.bias)
    classifier = Classifier(network)
    classifier(random_images(2, SHAPE))
    assert classifier.meaning.kind == "logits"


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_probabilities_that_round_to_0_and_1_are_attacked_through_what_their_end_is_called_with(end):
    """A temperature between the last layer and the softmax: there is no layer to take the logits at."""
    plain, images = logits_of(), random_images(8, (1, 4, 4))

    class Saturated(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain

        def forward(self, images):
            return getattr(1e4 * self.inner(images), end)(*((1,) if end == "softmax" else ()))

    classifier = Classifier(Saturated())
    leaf = images.clone().requires_grad_()
    logits = classifier(leaf)
    assert torch.allclose(logits, 1e4 * plain(images))
    assert "that it is called with" in str(classifier.meaning)
    logits[:, 0].sum().backward()
    assert leaf.grad is not None
    assert bool((leaf.grad.flatten(1).abs().amax(1) > 0).all())


def test_what_was_recognised_is_said_once(caplog):
    caplog.set_level(logging.INFO, "notbugs")
    classifier = Classifier(nn.Sequential(Network(outputs=1), nn.Sigmoid()))
    for _ in range(2):
        classifier(random_images(2, SHAPE))
    assert caplog.messages == [
        "The network ends in a sigmoid. What is attacked is the logit z in front of it, at the input of its layer "
        "'1'. Class 1 is predicted where z is above 0."
    ]


def test_the_user_can_say_what_outputs_are(unchecked):
    images = random_images(4, SHAPE)
    raw = Network(nn.Softmax(1))
    assert torch.equal(Classifier(raw, outputs_are="logits")(images), raw(images))
    half = Network(lambda z: z.clamp(0, 1), 1)
    assert Classifier(half, outputs_are="probabilities")(images).shape == (4, 2)
    with pytest.raises(InputError, match=r"'outputs_are' must fit the outputs.*Say 'logits'"):
        Classifier(Network(scale=9), outputs_are="probabilities")(images)
    with pytest.raises(InputError, match="'outputs_are' must be one of auto, logits, probabilities"):
        Classifier(raw, outputs_are="softmax")


@pytest.mark.parametrize(
    ("end", "words"), [(nn.Softmax(1), "same for every image"), (nn.LogSigmoid(), "Return the logit")]
)
def test_ends_of_one_output_that_are_refused(end, words):
    with pytest.raises(InputError, match=words):
        Classifier(Network(end, 1))(random_images(2, SHAPE))


@pytest.mark.parametrize("confident", [1.0, 200.0])
def test_a_binary_network_with_one_output_is_attacked_as_one_with_two(confident):
    """However its logit is hidden: the robust accuracy is that of the logits, known in closed form (Cauchy-Schwarz)."""
    images = bars(60)
    with seeded(0):
        linear = nn.Linear(64, 1)
    linear.weight.data[:] = torch.tensor([-1.0] * 4 + [1.0] * 4).repeat(8) / 8
    linear.bias.data.zero_()
    z = linear(images.pixels.flatten(1))[:, 0].detach()
    survives = float(((2 * images.labels - 1) * z > 1.6 * float(linear.weight.detach().norm())).float().mean())
    linear.weight.data *= confident
    for end in (nn.Identity(), nn.Sigmoid()):
        classifier = Classifier(nn.Sequential(nn.Flatten(), linear, end))
        clean, robust = evaluate(classifier, images, radii=(1.6,))
        assert clean.share.value == float((z > 0).eq(images.labels == 1).float().mean())
        assert robust.share.value == pytest.approx(survives, abs=1 / 60)
        assert 0.1 < survives < 0.9
        signs = {sign.name: sign for sign in masking_signs(classifier, images, L2(1.6), steps=5, pairs=1)}
        assert signs["vanishing gradients"].numbers["of the log-odds"].value == 0


def test_a_saved_binary_classifier_comes_back(tmp_path):
    blueprint = Blueprint(architecture="cnn", shape=(1, 8, 8), classes=("healthy", "ill"), outputs=1)
    classifier = Classifier(blueprint.build(), mean=(0.5,), std=(0.25,), outputs_are="logits").eval()
    save_classifier(tmp_path / "one.safetensors", classifier, blueprint)
    images = bars(5).pixels
    assert torch.equal(load_classifier(tmp_path / "one.safetensors")(images), classifier(images))
    torch.save(classifier.network.state_dict(), tmp_path / "one.pth")
    how = {"architecture": "cnn", "shape": (1, 8, 8), "mean": (0.5,), "std": (0.25,), "precision": "fp32"}
    loaded = load_classifier(tmp_path / "one.pth", classes=("healthy", "ill"), **how)
    assert torch.equal(loaded(images), classifier(images))
    with pytest.raises(InputError):
        load_classifier(tmp_path / "one.pth", classes=("a", "b", "c"), **how)


def test_labels_beyond_the_pair_are_refused():
    three = Images(random_images(3, SHAPE), torch.arange(3))
    with pytest.raises(InputError, match="'classifier' must give 3 logits"):
        evaluate(Classifier(Network(outputs=1)), three)


class InPlace(Network):
    """A network that normalises the images it is given, where they are."""

    def forward(self, images):
        return super().forward(images.sub_(0.5).div_(0.25))


@pytest.mark.parametrize(("outputs", "end"), [(3, name) for name in SEVERAL] + [(1, name) for name in ONE])
def test_a_network_may_normalise_its_images_in_place(outputs, end):
    plain = Network(outputs=outputs)
    right = Classifier(plain if outputs > 1 else nn.Sequential(plain, Two()), mean=(0.5,), std=(0.25,))
    images = random_images(20, SHAPE)
    before, labels = images.clone(), right(images).argmax(1)
    for first in (lambda one: one(images), lambda one: one.features(images)):
        classifier = Classifier(InPlace((SEVERAL | ONE)[end], outputs))
        first(classifier)
        torch.testing.assert_close(classifier(images), right(images))
        found, wanted = (pgd(one, images, labels, L2(0.5)) for one in (classifier, right))
        torch.testing.assert_close(found.images, wanted.images, atol=1e-4, rtol=0)
        assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("outputs", "end", "kind"),
    [
        (1, nn.Identity(), "one logit"),
        (1, nn.Sigmoid(), "sigmoid"),
        (3, nn.Softmax(1), "softmax"),
        (3, nn.Sigmoid(), "sigmoids"),
        (3, nn.Identity(), "logits"),
    ],
)
@pytest.mark.parametrize("said", ["auto", "probabilities"])
def test_torchscript_of_every_end_is_recognised_without_its_layers(outputs, end, kind, said):
    """Its layers take no hooks; later passes do not show the last operation, either."""
    if said == "probabilities" and kind in ("one logit", "logits"):
        said = "logits"
    layers = nn.Sequential(nn.Flatten(), Network(outputs=outputs).fc, end)
    images = random_images(20, SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.jit.script(layers.eval())
    right = Classifier(layers, outputs_are=said)
    wanted = right(images)
    for _ in range(3):
        classifier = Classifier(program, outputs_are=said)
        found = classifier(images)
        assert classifier.meaning.kind == kind
        if kind == "softmax":
            found, wanted = found.log_softmax(1), wanted.log_softmax(1)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    both = pgd(classifier, images, wanted.argmax(1), L2(0.3)), pgd(right, images, wanted.argmax(1), L2(0.3))
    torch.testing.assert_close(both[0].images, both[1].images, atol=1e-3, rtol=0)
