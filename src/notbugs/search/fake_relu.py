"""Features whose last ReLU lets gradients pass unchanged, as in the inversions of the paper's authors (`fake_relu`).

A ReLU gives no gradient to a unit that is off. Where units are off for a start image and on for its target, a search
that matches features then gets no hint of them from where it stands. With the identity as its backward pass, it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from notbugs import networks
from notbugs.classifier import Classifier
from notbugs.errors import InputError, must
from notbugs.shapes import Batch, Features

RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
"""All ways to call one; `nn.ReLU` calls the first."""

FeatureFunction = Callable[[Batch], Features]


def fake_relu_features(classifier: Classifier, images: Batch, relu: str | bool = True) -> FeatureFunction:
    """The features of a classifier, with a gradient that passes one ReLU as if it were the identity.

    Parameters
    ----------
    classifier : Classifier
        In evaluation mode.
    images : Tensor
        A few that it takes: with them it is found out which call of a ReLU is meant.
    relu : bool or str
        True: the last ReLU that is called on the way to the features, as a module or as a function. A name: the last
        call of that `nn.ReLU` of the network.

    Returns
    -------
    callable
        From images to features: equal to `classifier.features`, but for the gradient.

    Raises
    ------
    InputError
        If there is no such ReLU, or the network does not use what a ReLU returns.
    """
    wanted, first = (relu if isinstance(relu, str) else None), images[:1]
    with torch.no_grad():
        calls = _Calls()
        _watched(classifier, first, calls, wanted)
        index = calls.named if wanted else calls.count - 1
        if index is None or index < 0:
            raise _not_found(classifier, wanted)
        number = index  # of the call, in every pass

        def features(images: Batch) -> Features:
            with _Calls(fake=number):
                return classifier.features(images)

        if not torch.equal(features(first), classifier.features(first)):
            raise InputError(
                "The 'fake_relu' cannot replace a ReLU that works in place and whose result the network does not use. "
                "Write x = relu(x) in its forward."
            )
    return features


class _Calls(TorchFunctionMode):
    """Counts the calls of ReLUs inside the block, and fakes the one with the number `fake`."""

    def __init__(self, fake: int | None = None) -> None:
        super().__init__()
        self.fake, self.count = fake, 0
        self.named: int | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in RELUS:
            return func(*args, **(kwargs or {}))
        self.count += 1
        if self.count - 1 != self.fake:
            return func(*args, **(kwargs or {}))
        return _FakeReLU.apply(args[0] if args else (kwargs or {})["input"])


class _FakeReLU(torch.autograd.Function):
    """A ReLU, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyrefly: ignore
        return gradient


def _watched(classifier: Classifier, images: Batch, calls: _Calls, name: str | None) -> None:
    """One pass, in which `calls` counts; with a name it notes the last call inside the module of that name."""
    if name is None:
        with calls:
            classifier.features(images)
        return
    module = networks.find_module(networks.unwrapped(classifier.network), name, "fake_relu")
    if not isinstance(module, nn.ReLU):
        raise must("fake_relu", "name an nn.ReLU of the network", f"{name!r}, a {type(module).__name__}")

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        calls.named = calls.count - 1

    handle = module.register_forward_hook(note)
    try:
        with calls:
            classifier.features(images)
    finally:
        handle.remove()


def _not_found(classifier: Classifier, name: str | None) -> InputError:
    if name:
        return must("fake_relu", "name a ReLU that is called on the way to the features", name)
    kind = type(networks.unwrapped(classifier.network)).__name__
    return InputError(
        f"The 'fake_relu' needs a ReLU before the features, and {kind} calls none. Leave it out: other activations "
        "have a gradient everywhere."
    )
