"""Adaptive attacks: another backward pass for a layer that has none, or a wrong one.

What a layer returns stays as it is, to the bit; its gradient becomes that of a differentiable substitute: backward pass
differentiable approximation, BPDA (Athalye, Carlini & Wagner 2018, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from notbugs import networks
from notbugs.classifier import Classifier
from notbugs.errors import must


def identity(inputs: Tensor) -> Tensor:
    """The inputs: the straight-through substitute."""
    return inputs


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
