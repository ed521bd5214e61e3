"""Small classifiers of digits, and which images survive AutoAttack: what tests compare the strong attack with.

python -m tests.build_strong

Trains them and writes `tests/data/strong.safetensors`: weights, and a survival bit for each of the test images below.
AutoAttack is the standard version of pyautoattack 0.2, with all of its four attacks where the classes allow them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import notbugs as nb
from notbugs.data import Data, Images
from notbugs.search import pgd
from notbugs.seeds import generator, seeded
from notbugs.threat import Threat

STORED = Path(__file__).parent / "data" / "strong.safetensors"
COUNT = 100
ROBUST = 0.5
"""Radius of adversarial training, l2."""


@dataclass(frozen=True)
class Case:
    """What is attacked, and where."""

    name: str
    weights: str
    balls: tuple[Threat, ...]
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network


class Scaled(nn.Module):
    """A network whose logits are multiplied."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.network(images)


# Scaled logits and a softmax change no prediction, so that AutoAttack's number on the plain network is theirs.
CASES = [
    Case("standard", "standard", (nb.L2(0.25), nb.L2(0.5), nb.Linf(0.05))),
    Case("robust", "robust", (nb.L2(0.5), nb.L2(1.0), nb.Linf(0.1))),
    Case("softmax at the end", "robust", (nb.L2(0.5), nb.Linf(0.1)), lambda net: nn.Sequential(net, nn.Softmax(1))),
    Case("logits times 0.001", "robust", (nb.L2(0.5), nb.Linf(0.1)), lambda net: Scaled(net, 1e-3)),
    Case("logits times 1000", "robust", (nb.L2(0.5), nb.Linf(0.1)), lambda net: Scaled(net, 1e3)),
    Case("label smoothing", "smoothed", (nb.L2(0.5), nb.Linf(0.1))),
    Case("2 classes", "two", (nb.L2(0.5), nb.Linf(0.1))),
    Case("100 classes", "hundred", (nb.L2(0.25), nb.Linf(0.05))),
]


def key(weights: str, ball: Threat) -> str:
    """Of a survival tensor in the file."""
    return f"{weights}: {ball.norm} {ball.eps:g}"


def data_of(weights: str) -> Data:
    """The data set that a classifier was trained on."""
    digits = nb.load("digits")
    if weights == "two":
        splits = (Images(part.pixels, (part.labels >= 5).long()) for part in (digits.train, digits.test))
        return Data("two", *splits, ("below 5", "5 and above"))
    if weights == "hundred":
        splits = (_pairs(digits.train, 4000), _pairs(digits.test, 400))
        return Data("pairs", *splits, tuple(f"{number:02d}" for number in range(100)))
    return digits


def images_of(weights: str) -> Images:
    """The test images that are attacked."""
    return data_of(weights).test.sample(COUNT, 0, "strong")


def network_of(data: Data) -> nn.Module:
    """Untrained."""
    _, height, width = data.test.shape
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, 2), nn.ReLU(), nn.Flatten(),
            nn.Linear(12 * ((height - 1) // 2) * ((width - 1) // 2), len(data.classes)),
        )  # fmt: skip


def stored() -> dict[str, Tensor]:
    """Weights and survivors."""
    return load_file(STORED)


def classifier_of(case: Case, tensors: dict[str, Tensor]) -> nb.Classifier:
    """With the stored weights."""
    network = network_of(data_of(case.weights))
    network.load_state_dict({name: tensors[f"{case.weights}.{name}"] for name in network.state_dict()})
    return nb.Classifier(case.wrap(network), precision="fp32").eval()


def _pairs(images: Images, count: int) -> Images:
    """Two digits side by side: a hundred classes."""
    pixels, labels = images.batch(slice(None))
    left, right = torch.randint(len(labels), (2, count), generator=generator(0, "pairs"))
    return Images(torch.cat([pixels[left], pixels[right]], 3), 10 * labels[left] + labels[right])


def _trained(weights: str) -> nn.Module:
    data = data_of(weights)
    classifier = nb.Classifier(network_of(data), precision="fp32")
    epochs = 20
    optimiser = torch.optim.Adam(classifier.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.05, epochs)
    for epoch in range(epochs):
        order = torch.randperm(len(data.train), generator=generator(0, "build", epoch))
        for part in order.split(64):
            inputs, labels = data.train.batch(part)
            if weights != "standard":
                inputs = pgd(classifier, inputs, labels, nb.L2(ROBUST), nb.search.PGDSteps(2)).images
            optimiser.zero_grad()
            smoothing = 0.1 if weights == "smoothed" else 0.0
            cross_entropy(classifier(inputs), labels, label_smoothing=smoothing).backward()
            optimiser.step()
        schedule.step()
    return classifier.network


def _built() -> Iterator[tuple[str, Tensor]]:
    for weights in dict.fromkeys(case.weights for case in CASES):
        network, images = _trained(weights), images_of(weights)
        yield from ((f"{weights}.{name}", value) for name, value in network.state_dict().items())
        classifier = nb.Classifier(network, precision="fp32").eval()
        for ball in dict.fromkeys(ball for case in CASES if case.weights == weights for ball in case.balls):
            found = nb.measure.autoattack(classifier, images, ball)
            print(key(weights, ball), int(found.survived.sum()), "of", len(images), flush=True)
            yield key(weights, ball), found.survived.to(torch.uint8)


if __name__ == "__main__":
    torch.set_num_threads(1)
    save_file(dict(_built()), STORED)
