"""Frozen, folded copies of a network for long searches, in the form that is fastest here.

Not every network takes another memory layout: one with `.view` behind a convolution does not. Only networks that
notbugs made, and its own copies of others, are ever laid out anew.

A folded convolution saves its input for the backward pass and nothing else, where batch norm saves as much again.

What decides bits goes by a rule, so that a job gives the same on every day: bf16 where the device multiplies it. The
rule guesses wrong in one place: grouped convolutions on a CPU are often slower in bf16. Only there is it measured,
once a job, and only a clear gain is taken. Compiled forms, with CUDA graphs, are measured where a classifier's
`try_compiled` asks for it: they cost half a minute to make, are seldom faster on a CPU, and no GPU has run them yet.
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from notbugs import networks, workers
from notbugs.classifier import Classifier, has_bf16
from notbugs.errors import check_choice
from notbugs.given import checked
from notbugs.models.layers import WhitenedConv2d
from notbugs.seeds import generator, seeded

log = logging.getLogger("notbugs")


def to_channels_last(
    classifier: Classifier, shape: Sequence[int], works: Callable[[], bool] | None = None
) -> Classifier:
    """Lay out a network that nobody else holds with channels last, if it runs so; it is tried once, in place.

    Parameters
    ----------
    classifier : Classifier
        Its network was made by notbugs, or is a copy.
    shape : sequence of int
        Of an image: channel, height, width.
    works : callable, optional
        Whether the classifier works, once it is laid out; by default, whether it takes images.
    """
    if not has_images(classifier.network):
        return classifier
    lay_out(classifier, True)
    try:
        is_fine = works() if works else _takes_images(classifier, shape)
    except Exception as error:  # what a network of any kind may raise
        log.debug("The network does not run with channels last: %s: %s", type(error).__name__, error)
        is_fine = False
    if not is_fine:
        lay_out(classifier, False)
    return classifier


@torch.no_grad()
def _takes_images(classifier: Classifier, shape: Sequence[int]) -> bool:
    with classifier.evaluating("fp32"), seeded(0, "layout"):
        classifier(trial_images(classifier, shape))
    return True


def lay_out(classifier: Classifier, is_channels_last: bool) -> None:
    """Change the layout of the weights in place, and of the images that the network is given."""
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    classifier.network.to(memory_format=memory_format)  # pyrefly: ignore
    classifier.is_channels_last = is_channels_last


def has_images(network: nn.Module) -> bool:
    """Whether the layout of images matters: some weight is that of a convolution of images."""
    return any(parameter.ndim == 4 for parameter in network.parameters())


def trial_images(classifier: Classifier, shape: Sequence[int]) -> Tensor:
    """Two random images to try a network on; torch's global generator is left alone."""
    return torch.rand(2, *shape, generator=generator(0, "frozen"), dtype=torch.float32).to(classifier.device)


TOLERANCE = 1e-2
"""Largest relative difference at which a folded network still counts as the same: wrong ones are far beyond it, and
rounding, in TF32 too, far below."""

FOLDS: dict[type[nn.Module], tuple[type[nn.Module], Callable[[Any, Any], nn.Module]]] = {
    nn.BatchNorm2d: (nn.Conv2d, fuse_conv_bn_eval),
    nn.BatchNorm1d: (nn.Linear, fuse_linear_bn_eval),
}
"""By what a batch norm can be taken up, and how."""


@checked
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

    Examples
    --------
    >>> fixed = nb.models.frozen(classifier, data.train.shape)
    >>> any(parameter.requires_grad for parameter in fixed.parameters())
    False
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
            with warnings.catch_warnings():  # torch warns of its own code where it copies an exported program
                warnings.simplefilter("ignore")
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
        is_whole = module_qualified_name == self.head or isinstance(m, WhitenedConv2d)
        return is_whole or super().is_leaf_module(m, module_qualified_name)


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
        is_alone = {layer, norm} <= once and len(before.users) == 1
        layer = layer.plain() if isinstance(layer, WhitenedConv2d) else layer
        if type(layer) is kind and is_alone:
            called[before] = fuse(layer, norm)
            network.set_submodule(str(before.target), called[before])
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def _agree(view: Classifier, candidate: Classifier, images: Tensor, wanted: Sequence[Tensor]) -> bool:
    """Whether logits, features and input gradients are those that are wanted, but for rounding."""
    candidate.head_is_certain = view.head_is_certain
    pairs = zip(_answers(candidate, images), wanted, strict=True)
    return all(bool((got - want).norm() <= TOLERANCE * want.norm()) for got, want in pairs)


def _answers(classifier: Classifier, images: Tensor) -> list[Tensor]:
    leaf = images.clone().requires_grad_()
    with torch.enable_grad(), classifier.evaluating("fp32"), seeded(0, "frozen"):
        logits = classifier(leaf)
        logits.logsumexp(1).sum().backward(inputs=[leaf])
        features = [classifier.features(images)] if classifier.head_name else []
    assert leaf.grad is not None
    return [logits.detach(), leaf.grad, *(part.detach() for part in features)]


FORMS = ("fp32", "bf16", "fp32 compiled", "bf16 compiled")
WARM_UP, ROUNDS, SECONDS = 3, 3, 0.2
"""Passes that are not timed (CUDA graphs are recorded in them); the fewest that are; and how long more are added."""
CLEAR = 0.8
"""Share of the rule's time below which another form is taken."""


@dataclass(frozen=True)
class Choice:
    """What was fastest.

    Attributes
    ----------
    form : {"fp32", "bf16", "fp32 compiled", "bf16 compiled"}
        The fastest.
    classifier : Classifier
        A frozen copy in this form.
    milliseconds : dict of str to float
        Of a forward pass and the gradient of its input, the median, for every form that worked.

    Examples
    --------
    >>> choice = nb.models.fastest(classifier, inputs, forms=('fp32',))
    """

    form: str
    classifier: Classifier
    milliseconds: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{form} {value:.1f} ms" for form, value in self.milliseconds.items())


def ready(
    classifier: Classifier, shape: Sequence[int], *, batch: int, form: str | None = None
) -> tuple[Classifier, str]:
    """A frozen copy for a long search, in its fastest form, and the name of the form.

    Parameters
    ----------
    classifier : Classifier
        Left as it is; a precision other than "auto" is kept, and `try_compiled` adds a compiled form to the choice.
    shape : sequence of int
        Of an image: channel, height, width.
    batch : int
        Images searched at once.
    form : str, optional
        One of `FORMS`, if it is known already: a build that continues keeps what it began with.
    """
    view = frozen(classifier, shape)
    if form is not None:
        return in_form(view, check_choice("form", form, FORMS), batch), form
    rule = _rule(view)
    doubts = _doubts(view, rule)
    if not doubts or workers.count() > 1:  # workers must not choose differently
        log.info("Searching in %s.", rule)
        return in_form(view, rule, batch), rule
    count = batch if view.try_compiled or view.device.type == "cuda" else min(batch, 32)
    images = torch.rand(count, *shape, generator=generator(0, "fastest"), dtype=torch.float32).to(view.device)
    choice = fastest(view, images, (rule, *doubts))
    clear = choice.milliseconds[choice.form] < CLEAR * choice.milliseconds[rule]
    form = choice.form if clear else rule
    log.info("Searching in %s (a gradient of %d images: %s).", form, count, choice)
    return (choice.classifier if clear else in_form(view, rule, batch)), form


@checked
def fastest(classifier: Classifier, images: Tensor, forms: Sequence[str] = ("fp32", "bf16")) -> Choice:
    """The form in which a forward pass and the gradient of its input take the least time.

    Parameters
    ----------
    classifier : Classifier
        Best one that is `frozen`. Left as it is.
    images : Tensor
        In [0, 1], shape (batch, channel, height, width); compiled forms are compiled for this shape.
    forms : sequence of str
        Of `FORMS`. The first must work; another that fails on this device is left out.

    Examples
    --------
    >>> choice = nb.models.fastest(classifier, inputs, forms=('fp32',))
    """
    views, times = {}, {}
    for form in forms:
        try:
            views[form] = in_form(classifier, form, len(images))
            times[form] = [_seconds(views[form], images) for _ in range(WARM_UP)]
        except Exception as error:  # a compiler is missing, or cannot do this network
            if form == forms[0]:
                raise
            log.info("The form %s does not work here: %s", form, error)
            times.pop(form, None)
    began = time.perf_counter()
    while len(times[forms[0]]) < WARM_UP + ROUNDS or time.perf_counter() - began < SECONDS:
        for form, taken in times.items():
            taken.append(_seconds(views[form], images))
    milliseconds = {form: 1e3 * median(taken[WARM_UP:]) for form, taken in times.items()}
    best = min(milliseconds, key=milliseconds.__getitem__)
    return Choice(best, views[best], milliseconds)


def in_form(classifier: Classifier, form: str, batch: int) -> Classifier:
    """The same network in one of the `FORMS`; a compiled one is so for batches of exactly `batch` images."""
    precision, *is_compiled = form.split()
    view = shared(classifier)
    view.precision = check_choice("precision", precision, ("fp32", "bf16"))  # pyrefly: ignore
    if is_compiled:
        view.network = _Compiled(view.network, batch)
    return view


class _Compiled(nn.Module):
    """Replays CUDA graphs for batches of one size; others, and features, take the network as it is."""

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__()
        self._orig_mod, self.batch = network, batch  # the name by which torch.compile, too, keeps what it wraps
        self.replay: Callable[[Tensor], Tensor] = torch.compile(network, mode="reduce-overhead", dynamic=False)

    def forward(self, images: Tensor) -> Tensor:
        # A copy: the next replay writes its logits into the same memory.
        return self.replay(images).clone() if len(images) == self.batch else self._orig_mod(images)


def _rule(view: Classifier) -> str:
    if view.precision != "auto":
        return view.precision
    return "bf16" if has_bf16(view.device) and view.dtype == torch.float32 else "fp32"


def _doubts(view: Classifier, rule: str) -> list[str]:
    """The forms that may be faster than the rule's."""
    compiled = [f"{rule} compiled"] if view.try_compiled else []
    grouped = any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in view.network.modules())
    on_cpu = view.device.type == "cpu"
    plain = ["fp32"] if grouped and on_cpu and rule == "bf16" and view.precision == "auto" else []
    return plain + compiled


def _seconds(view: Classifier, images: Tensor) -> float:
    """Of one forward pass and the gradient of its input."""
    leaf = images.detach().clone().requires_grad_()
    _wait(images.device)
    began = time.perf_counter()
    with torch.enable_grad(), view.evaluating():
        view(leaf).logsumexp(1).sum().backward(inputs=[leaf])
    _wait(images.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
