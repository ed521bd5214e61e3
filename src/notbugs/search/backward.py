"""Other backward passes: for a layer that has none, or a wrong one; through rounding; and past the last ReLU.

What a layer returns stays as it is, to the bit; its gradient becomes that of a differentiable substitute: backward pass
differentiable approximation, BPDA (Athalye, Carlini & Wagner 2018, section 4.1).

A ReLU gives no gradient to a unit that is off. Where units are off for a start image and on for its target, a search
that matches features then gets no hint of them from where it stands. With the identity as its backward pass, it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from notbugs import networks
from notbugs.classifier import Classifier
from notbugs.errors import InputError, must
from notbugs.given import checked
from notbugs.search.loop import Objective
from notbugs.shapes import Batch, Features, PerSample


def identity(inputs: Tensor) -> Tensor:
    """The inputs: the straight-through substitute.

    Examples
    --------
    >>> nb.search.identity(inputs) is inputs
    True
    """
    return inputs


@checked
@contextmanager
def replaced_backward(
    classifier: Classifier, layer: str, substitute: Callable[[Tensor], Tensor] = identity
) -> Iterator[Classifier]:
    """Inside the block, gradients pass through `layer` as if it were `substitute`; what it returns stays.

    Everything that searches with the classifier inside the block takes this gradient, `pgd`, `outcomes`, `evaluate`
    and `autoattack` among them. Batch norms are not folded there, so a search is slower.

    Parameters
    ----------
    classifier : Classifier
        The one attacked; it is the same again after the block.
    layer : str
        Name of a module inside `classifier.network`: one of its `named_modules()`.
    substitute : callable
        A differentiable function from the layer's first input to a tensor of the shape of its output. The identity by
        default: the layer's output then must have its input's shape.

    Raises
    ------
    InputError
        If there is no such layer; and in a forward pass, if the layer returns no tensor, or one of another shape than
        the substitute.

    Examples
    --------
    >>> names = [name for name, part in classifier.network.named_modules() if isinstance(part, torch.nn.ReLU)]
    >>> with nb.search.replaced_backward(classifier, names[-1]) as attacked:
    ...     found = nb.pgd(attacked, inputs, labels, nb.L2(0.5))
    """
    module = networks.find_module(networks.unwrapped(classifier.network), layer, "layer")
    approximations: list[Tensor] = []

    def before(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if torch.is_grad_enabled():  # of a copy: the layer may change its input in place
            approximations.append(substitute(networks.snapshot(networks.first_input(inputs, named))))

    def after(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Tensor | None:
        if not torch.is_grad_enabled():
            return None
        approximated = approximations.pop()
        _check_same_shape(layer, output, approximated)
        return _Replaced.apply(output.detach(), approximated.to(output.dtype))

    handles = [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield classifier
    finally:
        for handle in handles:
            handle.remove()


class _Replaced(torch.autograd.Function):
    """The first argument, with the gradient of the second."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, approximated: Tensor) -> Tensor:
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # pyrefly: ignore
        return None, gradient


def _check_same_shape(layer: str, output: Any, approximated: Tensor) -> None:
    if not isinstance(output, Tensor) or output.shape != approximated.shape:
        rule = f"return a tensor of the shape that the layer {layer!r} returns, {tuple(getattr(output, 'shape', ()))}"
        remedy = "Give a substitute whose output has this shape, or name a layer that returns one tensor."
        raise must("substitute", rule, tuple(approximated.shape), remedy)


STEPWISE = {
    *(getattr(torch, name) for name in ("round", "floor", "ceil", "trunc", "fix", "sign", "clamp", "clip")),
    *(getattr(Tensor, name) for name in ("round", "floor", "ceil", "trunc", "fix", "sign", "clamp", "clip")),
    *(getattr(Tensor, name) for name in ("round_", "floor_", "ceil_", "trunc_", "fix_", "sign_", "clamp_", "clip_")),
    *(functional.hardtanh, functional.hardtanh_),
}
"""Functions of a single value whose gradient is zero nearly everywhere, or outside a range."""


def straight_through(objective: Objective) -> Objective:
    """The same loss and score, with a gradient that passes roundings and clamps as if they were the identity.

    The substitute of Athalye, Carlini & Wagner (2018, section 4.1) for networks that quantise what they are given or
    what they return, found by itself: any call of `torch.round`, `floor`, `ceil`, `trunc`, `sign`, `clamp` or
    `hardtanh` in the network's Python code. A network that was compiled or traced keeps its own gradient.
    """

    def passed(images: Batch, *goals: Tensor) -> tuple[PerSample, PerSample]:
        with _StraightThrough():
            return objective(images, *goals)

    return passed


class _StraightThrough(TorchFunctionMode):
    """Inside the block, functions that are flat nearly everywhere have the gradient of the identity."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensor = args[0] if args else (kwargs or {}).get("input")
        if func not in STEPWISE or not isinstance(tensor, Tensor) or not tensor.requires_grad:
            return func(*args, **(kwargs or {}))
        before = tensor.clone()  # of what it may change in place
        result = func(*args, **(kwargs or {}))
        return _Replaced.apply(result.detach(), before) if result.shape == before.shape else result


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
