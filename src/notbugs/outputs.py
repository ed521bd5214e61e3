"""What a network's outputs are: logits, one logit, or the probabilities of a softmax or of sigmoids.

Everything else here needs logits, one for each class. Probabilities are recognised, and turned into logits: where the
layer in front of the softmax or sigmoid is found, its output is taken, which has gradients where a probability has
rounded to 0 or 1; else what the softmax or sigmoid is called with; and where that cannot be seen, the logarithm.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from notbugs import networks
from notbugs.errors import InputError, must
from notbugs.seeds import generator

OutputsAre = Literal["auto", "logits", "probabilities"]
Kind = Literal["logits", "one logit", "softmax", "sigmoid", "sigmoids"]

log = logging.getLogger("notbugs")

SLACK = 1e-3
"""How far probabilities may be from adding up to 1, or beyond 0 and 1: float16 and bfloat16 round."""
PROBED = 8
"""Images that are looked at closely."""
SCALES = (-100.0, -10.0, 0.0, 10.0, 100.0)
"""Multiples of the images at which probabilities still are probabilities, and logits grow."""
SHAPING = {"Alias", "Clone", "Expand", "Permute", "Select", "Slice", "Squeeze", "T", "ToCopy", "Transpose"}
SHAPING |= {"UnsafeView", "Unsqueeze", "View"}
"""Operations that leave values as they are, by the names that autograd gives them."""
ENDS = {
    "softmax": {torch.softmax, torch.special.softmax, functional.softmax, Tensor.softmax},
    "sigmoid": {
        torch.sigmoid,
        torch.sigmoid_,
        torch.special.expit,
        functional.sigmoid,
        Tensor.sigmoid,
        Tensor.sigmoid_,
    },
}
"""The functions by which code that is no module ends in probabilities."""
UNSEEN = (
    "The network is TorchScript, which does not show its last operation: whether its outputs are probabilities is "
    "judged by their values. If that is wrong, say it: outputs_are='logits' or 'probabilities' (--outputs-are)."
)
PLAIN = {"Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "LogSoftmax", "NativeBatchNorm", "CudnnBatchNorm"}
"""Last operations of a network that gives logits."""


@dataclass(frozen=True)
class Meaning:
    """What the outputs of a network are, and where its logits come from.

    Attributes
    ----------
    kind : {"logits", "one logit", "softmax", "sigmoid", "sigmoids"}
        A sigmoid is of one output, sigmoids are of several, each on its own.
    layer : str
        The module at which the logits of probabilities are taken; empty where they are not taken at a module.
    side : {"input", "output"}
        Of that module.
    is_called : bool
        Whether they are taken as the network calls its last softmax or sigmoid; else, without a layer, they are the
        logarithms.
    """

    kind: Kind
    layer: str = ""
    side: Literal["input", "output"] = "output"
    is_called: bool = False

    def __str__(self) -> str:
        pair = " Class 1 is predicted where z is above 0." if self.kind in ("one logit", "sigmoid") else ""
        if self.kind == "logits":
            return "The network gives logits."
        if self.kind == "one logit":
            return f"The network gives one logit z, which stands for the logits (0, z).{pair}"
        z = "the logit z" if pair else "the logits"
        end = f"The network ends in {'sigmoids' if self.kind == 'sigmoids' else f'a {self.kind}'}"
        if self.layer:
            where = "in front of it" if self.kind != "sigmoids" else "in front of them"
            return f"{end}. What is attacked is {z} {where}, at the {self.side} of its layer {self.layer!r}.{pair}"
        if self.is_called:
            return f"{end}. What is attacked is {z} that it is called with.{pair}"
        limit = "Where a probability has rounded to 0 or 1 it gives no gradient: return logits to be sure."
        return f"{end}. What is attacked is the logarithm of its probabilities, in fp32. {limit}{pair}"

    @property
    def is_logarithm(self) -> bool:
        """Whether the logits are computed from probabilities, which reduced precision rounds to 1 too early."""
        return self.kind not in ("logits", "one logit") and not self.layer and not self.is_called


def read(raw: Tensor, meaning: Meaning) -> Tensor:
    """The logits, shape (batch, class), of a network's outputs, shape (batch, output); of one output the pair (0, z).

    Parameters
    ----------
    raw : Tensor
        As the network gave them, or caught in front of its end.
    meaning : Meaning
        What they are.
    """
    if meaning.is_logarithm:
        raw = _logarithms(raw.float() if raw.dtype != torch.float64 else raw, meaning.kind)
    return pair(raw[:, 0]) if raw.shape[1] == 1 else raw


def pair(logit: Tensor) -> Tensor:
    """The logits (0, z) of a binary classifier with the logit z, shape (batch,); their softmax is the sigmoid of z."""
    return torch.stack([torch.zeros_like(logit), logit], 1)


def one_of_several(logits: Tensor, number: int, meaning: Meaning) -> Tensor:
    """The pair (0, z) of one label, where each output is the logit of a label of its own.

    Raises
    ------
    InputError
        If there are too few outputs, or they are a softmax: then an image has one of them, and not several.
    """
    if meaning.kind == "softmax" or number >= logits.shape[1] or logits.shape[1] < 2:
        got = "a softmax" if meaning.kind == "softmax" else f"{logits.shape[1]} outputs"
        rule = f"give a logit or a sigmoid for each label, and label {number} is asked for"
        raise must("classifier", rule, got, "Take one that was made for these labels.")
    return pair(logits[:, number])


def _logarithms(share: Tensor, kind: Kind) -> Tensor:
    tiny, most = torch.finfo(share.dtype).tiny, 1 - torch.finfo(share.dtype).eps / 2
    logarithm = share.clamp_min(tiny).log()
    return logarithm if kind == "softmax" else logarithm - torch.log1p(-share.clamp_max(most))


@contextmanager
def caught(network: nn.Module, meaning: Meaning | None) -> Iterator[list[Tensor]]:
    """Inside the block, what each pass of the network has at the place that `meaning` names, before it is changed."""
    tensors: list[Tensor] = []
    if meaning is not None and meaning.is_called:
        with _Called(meaning.kind, tensors):
            yield tensors
        return
    if meaning is None or not meaning.layer:
        yield tensors
        return
    module = networks.find_module(network, meaning.layer, "layer")

    def before(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors.append(networks.first_input(inputs, named).clone())

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        tensors.append(output.clone())

    if meaning.side == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield tensors
    finally:
        handle.remove()


def recognise(
    network: nn.Module,
    run: Callable[[Tensor], Tensor],
    inputs: Tensor,
    raw: Tensor,
    outputs_are: OutputsAre = "auto",
) -> Meaning:
    """What the outputs of a network are.

    Outputs that are negative, above 1, or (several) do not add up to 1 on any of the images are no probabilities. Of
    the others, the network's last operation decides, where it is a sigmoid, a softmax or one that gives logits; else
    they are probabilities if they still are, and change, for inputs far outside the range of images.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    run : callable
        From the network's inputs to its outputs, shape (batch, output), by a pass through `network`.
    inputs, raw : Tensor
        What the network sees of real images, and what it gives for them.
    outputs_are : {"auto", "logits", "probabilities"}
        Whether they are probabilities, where the user says so.

    Raises
    ------
    InputError
        If they are said to be probabilities and are not, or end in a softmax over one output or a log-sigmoid.
    """
    kind = _possible(raw)
    plain = Meaning("one logit" if raw.shape[1] == 1 else "logits")
    if outputs_are == "probabilities" and kind is None:
        got = [round(float(value), 3) for value in torch.aminmax(raw.detach().float())]
        raise must("outputs_are", "fit the outputs: probabilities are between 0 and 1", got, "Say 'logits', or 'auto'.")
    if outputs_are == "logits" or (kind is None and raw.shape[1] > 1):
        return plain
    inputs = inputs[:PROBED].detach()

    def passed(inputs: Tensor) -> Tensor:
        return run(inputs.clone())  # a network may change its inputs in place, and what is no leaf alone

    with torch.enable_grad(), _recorded(network) as calls:
        last = _behind_shaping(passed(inputs.clone().requires_grad_()).grad_fn)
    operation = _name(last)
    _refuse(operation, raw.shape[1])
    if kind is None or (outputs_are == "auto" and operation in PLAIN):
        return plain
    if operation in ("Sigmoid", "Softmax"):
        kind = "softmax" if operation == "Softmax" else "sigmoid" if raw.shape[1] == 1 else "sigmoids"
        return _before_the_end(network, passed, inputs, last, calls, kind)
    if outputs_are == "auto" and isinstance(network, torch.jit.ScriptModule):
        log.info("%s", UNSEEN)
    if outputs_are == "auto" and not _stays_so(passed, inputs, kind):
        return plain
    return Meaning(kind)


def _possible(raw: Tensor) -> Kind | None:
    """As which probabilities outputs, shape (batch, output), can be read; None if they are none."""
    low, high = torch.aminmax(raw.detach().float())
    if not bool((low >= -SLACK) & (high <= 1 + SLACK)):
        return None
    if raw.shape[1] == 1:
        return "sigmoid"
    is_one = (raw.detach().float().sum(1) - 1).abs() <= SLACK * raw.shape[1]
    return "softmax" if bool(is_one.all()) else "sigmoids"


def _stays_so(run: Callable[[Tensor], Tensor], inputs: Tensor, kind: Kind) -> bool:
    """Whether outputs stay probabilities of a kind, and change, for multiples of the images and for noise."""
    noise = torch.randn(inputs.shape, generator=generator(0, "outputs"), dtype=torch.float32).to(inputs)
    with torch.no_grad():
        answers = torch.cat([run(probe) for probe in (*(inputs * scale for scale in SCALES), noise, 100 * noise)])
    finite = answers[answers.isfinite().all(1)]
    return len(finite) > 1 and _possible(finite) == kind and float(finite.std(0).max()) > SLACK


def _before_the_end(
    network: nn.Module,
    run: Callable[[Tensor], Tensor],
    inputs: Tensor,
    last: Any,
    calls: list[tuple[str, nn.Module, Any]],
    kind: Kind,
) -> Meaning:
    """Where the logits are found: at the layer whose output the softmax or sigmoid takes, or in front of that layer."""
    below = last.next_functions[0][0]
    wanted = [below]
    while _name(below) in SHAPING:
        wanted.append(below := below.next_functions[0][0])
    once = [call for call in calls if sum(other[1] is call[1] for other in calls) == 1]
    ending = [Meaning(kind, name, "input") for name, module, node in once if node is last and _is_end(module)]
    giving = [Meaning(kind, name) for name, _, node in once if node is not None and any(node is one for one in wanted)]
    for meaning in [*ending, *giving, Meaning(kind, is_called=True)]:
        with torch.no_grad(), caught(network, meaning) as candidates:
            raw = run(inputs)
        if candidates and (meaning.is_called or len(candidates) == 1) and candidates[-1].numel() == raw.numel():
            logits = candidates[-1].reshape(raw.shape)
            share = logits.float().softmax(1) if kind == "softmax" else logits.float().sigmoid()
            if torch.allclose(share, raw.float(), atol=SLACK):
                return meaning
    return Meaning(kind)


class _Called(TorchFunctionMode):
    """Notes what every softmax, or every sigmoid, is called with."""

    def __init__(self, kind: Kind, tensors: list[Tensor]) -> None:
        super().__init__()
        self.functions, self.found = ENDS["softmax" if kind == "softmax" else "sigmoid"], tensors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.functions:
            self.found.append((args[0] if args else kwargs["input"]).clone())
        return func(*args, **(kwargs or {}))


def _is_end(module: nn.Module) -> bool:
    return isinstance(module, nn.Softmax | nn.Softmax2d | nn.Sigmoid)


@contextmanager
def _recorded(network: nn.Module) -> Iterator[list[tuple[str, nn.Module, Any]]]:
    """Name, module and last operation of every call of a module in the block, whatever is done in place afterwards."""
    calls: list[tuple[str, nn.Module, Any]] = []

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            calls.append((name, module, output.grad_fn if isinstance(output, Tensor) else None))

        return hook

    # TorchScript takes no hooks: what they would tell of its layers stays unknown.
    modules = {name: one for name, one in network.named_modules() if not isinstance(one, torch.jit.ScriptModule)}
    handles = [module.register_forward_hook(record(name)) for name, module in modules.items() if name]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _behind_shaping(node: Any) -> Any:
    """The last operation that computed values."""
    while _name(node) in SHAPING:
        node = node.next_functions[0][0]
    return node


def _name(node: Any) -> str:
    """As autograd calls an operation, without its ending."""
    return re.sub(r"Backward\d*$", "", node.name()) if node is not None else ""


def _refuse(operation: str, count: int) -> None:
    if operation == "LogSigmoid" and count == 1:
        raise InputError("The network ends in a log-sigmoid of one output. Return the logit in front of it instead.")
    if count == 1 and operation in ("Softmax", "LogSoftmax"):
        raise InputError(
            "The network ends in a softmax over one output, which is the same for every image. "
            "Return the logit in front of it, or put a sigmoid in its place."
        )
