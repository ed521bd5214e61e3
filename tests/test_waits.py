"""How often the work waits for the device: a GPU that is waited for in every step stands idle in between."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from notbugs.data import load
from notbugs.measure import evaluate
from notbugs.search import (
    FMN,
    Attack,
    PGDSteps,
    fast_matching,
    match_features,
    minimum_norm,
    pgd,
    spatial_pgd,
    targeted_pgd,
)
from notbugs.threat import L2, Spatial
from notbugs.training import Adversary, SpatialTraining, Training, new_classifier, train

pytestmark = pytest.mark.whole

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}


class Waits(TorchDispatchMode):
    """Counts what makes the host wait: a number read from a tensor, and shapes that depend on values."""

    def __init__(self, kinds: Collection = WAITS) -> None:
        super().__init__()
        self.kinds, self.count = kinds, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masked = func is aten.index.Tensor and any(item is not None and item.dtype == torch.bool for item in args[1])
        self.count += func in self.kinds or masked
        return func(*args, **(kwargs or {}))


def waits(work, kinds: Collection = WAITS) -> int:
    with Waits(kinds) as counted:
        work()
    return counted.count


@pytest.fixture(scope="module")
def data():
    return load("digits").take(120, 40, seed=0)


@pytest.fixture
def classifier(data):
    return new_classifier(data, width=4, features=6, precision="fp32").eval()


def test_what_is_counted():
    numbers = torch.arange(4)
    assert waits(lambda: numbers.sum() + 1) == 0
    assert waits(lambda: int(numbers.sum())) == 1
    assert waits(lambda: numbers[numbers > 1]) >= 1
    assert waits(lambda: numbers.nonzero()) == 1


@pytest.mark.parametrize("search", ["pgd", "targeted", "matching", "quasi-Newton", "minimum norm"])
def test_a_search_waits_no_more_for_more_steps(classifier, data, search):
    images, labels = data.test.batch(slice(None))
    shape = data.test.shape
    made = {
        "pgd": lambda steps: pgd(classifier, images, labels, L2(0.5), PGDSteps(steps)),
        "targeted": lambda steps: targeted_pgd(classifier, images, (labels + 1) % 10, L2(0.5), PGDSteps(steps)),
        "matching": lambda steps: match_features(
            classifier, images, images.flip(0), PGDSteps(steps, 0.1, momentum=0.8)
        ),
        "quasi-Newton": lambda steps: match_features(classifier, images, images.flip(0), fast_matching(shape, steps)),
        "minimum norm": lambda steps: minimum_norm(classifier, images, labels, schedule=FMN(steps)),
    }[search]
    few = waits(lambda: made(4))
    assert few == waits(lambda: made(16))
    assert few <= 4


def test_a_search_over_rotations_waits_no_more_for_more_steps(classifier, data):
    """Nor for numbers that go to the device: a tensor made of them is copied there, and the copy waited for."""
    images, labels = data.test.batch(slice(None))
    kinds = WAITS | {aten.lift_fresh.default}
    assert waits(lambda: torch.tensor([1.0]), kinds) == waits(lambda: images.new_tensor([1.0]), kinds) == 1

    def found(steps: int) -> int:
        return waits(lambda: spatial_pgd(classifier, images, labels, Spatial(20, 1), PGDSteps(steps)), kinds)

    assert found(4) == found(16) <= 4


def test_standard_training_waits_once_or_twice_an_epoch(classifier, data):
    for batch in (60, 12):
        settings = Training(epochs=3, batch=batch)
        assert waits(lambda settings=settings: train(classifier, data.train, settings)) <= 2 * 3


def test_training_with_rotations_waits_no_more_for_more_batches(classifier, data):
    def found(batch: int) -> int:
        settings = Training(epochs=2, batch=batch, spatial=SpatialTraining(degrees=20, pixels=1, tries=2))
        return waits(lambda: train(classifier, data.train, settings))

    assert found(60) == found(12)


def test_adversarial_training_waits_no_more_for_more_batches_or_steps(classifier, data):
    def found(batch: int, steps: int) -> int:
        adversary = Adversary(eps=0.5, steps=steps, guard=False)
        return waits(lambda: train(classifier, data.train, Training(epochs=2, batch=batch, adversary=adversary)))

    assert found(60, 1) == found(60, 5) == found(12, 1)


def test_measuring_waits_once_in_several_steps(classifier, data):
    few, many = (
        waits(lambda n=n: evaluate(classifier, data.test, radii=(0.001,), attack=Attack(name="pgd", steps=n)))
        for n in (5, 45)
    )
    assert many - few <= 5 * 8  # five numbers, each time that finished images leave: every five steps
