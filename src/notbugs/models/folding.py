"""A classifier made ready for a long search: frozen, and its batch norms folded into the layers before them.

A folded convolution saves its input for the backward pass and nothing else, where batch norm saves as much again.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from notbugs import networks
from notbugs.classifier import Classifier
from notbugs.models.layout import lay_out, to_channels_last, trial_images
from notbugs.seeds import seeded

TOLERANCE = 1e-2
"""Largest relative difference at which a folded network still counts as the same: wrong ones are far beyond it, and
rounding, in TF32 too, far below."""

FOLDS: dict[type[nn.Module], tuple[type[nn.Module], Callable[[Any, Any], nn.Module]]] = {
    nn.BatchNorm2d: (nn.Conv2d, fuse_conv_bn_eval),
    nn.BatchNorm1d: (nn.Linear, fuse_linear_bn_eval),
}
"""By what a batch norm can be taken up, and how."""

log = logging.getLogger("notbugs")


def frozen(classifier: Classifier, shape: Sequence[int]) -> Classifier:
    """A copy for long searches, in evaluation mode, whose weights take no gradients and whose batch norms are folded.

    It answers as `classifier` does in evaluation mode, but for rounding; head and features are the same. It is checked
    on two random images. A network that `torch.fx` cannot follow, with hooks, wrapped, or that answers otherwise once
    it is folded, stays unfolded; one that cannot run with channels last keeps its layout; one that cannot be copied is
    shared, with the modes and gradients it has.

    Parameters
    ----------
    classifier : Classifier
        Left as it is.
    shape : sequence of int
        Of an image: channel, height, width.
    """
    view = copied(classifier)
    if view.network is classifier.network:
        return view
    try:
        images = trial_images(view, shape)
        wanted = _answers(view, images)
        if not view.is_channels_last:
            to_channels_last(view, shape, lambda: _agree(view, view, images, wanted))
        folded = _folded(view)
        if folded is not None and _agree(view, folded, images, wanted):
            return folded
    except Exception as error:  # what a network of any kind may do when it is tried or traced; it works unfolded
        log.debug("The network stays unfolded: %s: %s", type(error).__name__, error)
    return view


def copied(classifier: Classifier) -> Classifier:
    """A frozen copy in evaluation mode; of a network that is wrapped or cannot be copied, a view that shares it."""
    if networks.unwrapped(classifier.network) is classifier.network:
        try:
            return copy.deepcopy(classifier).eval().requires_grad_(False)
        except Exception as error:  # it holds a lock, a file, a tensor with a history
            log.debug("The network is shared, not copied: %s: %s", type(error).__name__, error)
    return shared(classifier)


def shared(classifier: Classifier) -> Classifier:
    """Another classifier around the same network: its precision and its network can be changed on their own."""
    view = copy.copy(classifier)
    view._modules = view._modules.copy()
    return view


class _Tracer(fx.Tracer):
    """Follows a network down to torch's own layers and the head, which stay modules with their names."""

    def __init__(self, head: str | None) -> None:
        super().__init__()
        self.head = head

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self.head or super().is_leaf_module(m, module_qualified_name)


def _folded(view: Classifier) -> Classifier | None:
    """The same with its batch norms folded, or None where there are none or hooks want to see them."""
    modules = list(view.network.modules())
    if not any(isinstance(module, _BatchNorm) for module in modules) or any(map(_has_hooks, modules)):
        return None
    if networks.unwrapped(view.network) is not view.network:
        return None
    graph = _Tracer(view.head_name).trace(view.network)
    if any(str(node.target).startswith("_tensor_constant") for node in graph.nodes):
        return None  # a tensor made on the way, perhaps a random one, became a constant
    network = fx.GraphModule(view.network, graph)
    _fold(network)
    folded = shared(view)
    folded.network = network.eval().requires_grad_(False)
    lay_out(folded, view.is_channels_last)
    return folded


def _fold(network: fx.GraphModule) -> None:
    """Put every batch norm into the layer whose output it alone sees, where each of the two is called once."""
    called = {node: network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"}
    once = {module for module, count in Counter(called.values()).items() if count == 1}
    for node, norm in called.items():
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before not in called or type(norm) not in FOLDS:
            continue
        layer, (kind, fuse) = called[before], FOLDS[type(norm)]
        if type(layer) is kind and {layer, norm} <= once and len(before.users) == 1:
            called[before] = fuse(layer, norm)
            network.set_submodule(str(before.target), called[before])
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def _agree(view: Classifier, made: Classifier, images: Tensor, wanted: Sequence[Tensor]) -> bool:
    """Whether logits, features and input gradients are those that are wanted, but for rounding."""
    made.head_is_certain = view.head_is_certain
    pairs = zip(_answers(made, images), wanted, strict=True)
    return all(bool((got - want).norm() <= TOLERANCE * want.norm()) for got, want in pairs)


def _answers(classifier: Classifier, images: Tensor) -> list[Tensor]:
    leaf = images.clone().requires_grad_()
    with torch.enable_grad(), classifier.evaluating("fp32"), seeded(0, "frozen"):
        logits = classifier(leaf)
        logits.logsumexp(1).sum().backward(inputs=[leaf])
        features = [classifier.features(images)] if classifier.head_name else []
    assert leaf.grad is not None
    return [logits.detach(), leaf.grad, *(part.detach() for part in features)]
