"""Shapes in signatures are checked while the tests run; heavy fixtures are made once."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two test workers share two cores

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  the hook finds it by name

with install_import_hook("notbugs", "tests.typecheck.checker"):
    import notbugs.cli  # noqa: F401

import hypothesis
import jaxtyping
import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Data, Images
from notbugs.memory import keep_freed_memory
from notbugs.seeds import generator, seeded

# Deadlines measure the machine, not the code; a fixed seed makes a failure here a failure everywhere.
hypothesis.settings.register_profile("notbugs", deadline=None, derandomize=True)
hypothesis.settings.load_profile("notbugs")
keep_freed_memory()


@pytest.fixture(autouse=True)
def _same_draws():
    """What a test draws without a generator of its own does not depend on the tests before it."""
    torch.default_generator.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As users run it: without the checks of shapes, to see our own errors."""
    with _no_shapes_checked():
        yield


@pytest.fixture(scope="module", autouse=True)
def _whole_commands(request) -> Iterator[None]:
    """Whole commands run without the checks of shapes, which double their time: the tests of their parts have them."""
    whole = any(mark.name == "whole" for mark in request.node.iter_markers())
    with _no_shapes_checked() if whole else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _no_shapes_checked() -> Iterator[None]:
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def linear() -> Classifier:
    """A linear classifier with 3 classes on 1x3x3 images."""
    with seeded(1):
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(9, 3))).eval()


@pytest.fixture
def small() -> Classifier:
    """A convolutional classifier with batch norm and dropout, 2x6x6 images, 4 classes."""
    with seeded(2):
        network = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(288, 4),
        )
    return Classifier(network, mean=(0.4, 0.6), std=(0.3, 0.2))


def random_images(count: int, shape: tuple[int, int, int] = (2, 6, 6), seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *shape, generator=generator(seed, "test images"))


def bars(count: int = 200, seed: int = 0) -> Images:
    """Noisy 1x8x8 images whose class is the half, left or right, that is bright."""
    draw = generator(seed, "bars")
    labels = torch.randint(2, (count,), generator=draw)
    labels[:2] = torch.tensor([0, 1])
    pixels = torch.rand(count, 1, 8, 8, generator=draw) * 0.5
    for half in (0, 1):
        pixels[labels == half, :, :, 4 * half : 4 * half + 4] += 0.4
    return Images(pixels, labels)


@pytest.fixture
def bars_data() -> Data:
    return Data("bars", bars(200, 0), bars(100, 1), ("left", "right"))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # modules and tests stay to the end: not to be searched for garbage again and again
