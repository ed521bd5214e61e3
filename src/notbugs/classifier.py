"""A classifier: any network from images in [0, 1] to logits, with its normalisation and its features.

The *features* g(x) are the inputs of the final linear layer (the paper, section 3.1). They are found with a hook on
that layer, so the network needs no method of ours, and the forward pass stops there.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from notbugs import networks, outputs
from notbugs.errors import InputError, check_choice, check_count, must
from notbugs.normalisation import ChannelOrder, are_close, check_normalisation, own_normaliser, told
from notbugs.outputs import Meaning, OutputsAre
from notbugs.shapes import Batch, Features, Logits, other_channels

Precision = Literal["auto", "fp32", "bf16"]

log = logging.getLogger("notbugs")


class _FeaturesReached(Exception):
    """Carries the features out of a forward pass that need not go on."""

    def __init__(self, features: Any) -> None:
        self.features = features


def _stop_at_head(head: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
    raise _FeaturesReached(networks.first_input(inputs, named))


class Interpretation(TypedDict):
    """What a file of weights does not say of its network: arguments of `Classifier`, by their names."""

    head: str | None
    output: str | int
    outputs_are: OutputsAre
    channel_order: ChannelOrder
    precision: Precision


class Classifier(nn.Module):
    """A network that owns its normalisation, so that every radius is in pixel units.

    Parameters
    ----------
    network : nn.Module
        Maps normalised images, shape (batch, channel, height, width), to logits, shape (batch, class), or to one
        logit for two classes. It is left as it is: its weights, modes, device, dtype and layout. Images are cast to its
        dtype, and logits back to theirs.
    mean, std : sequence of float, optional
        Per channel, in the network's order, subtracted from and divided into images in [0, 1] before the network sees
        them. Leave them out if it normalises its images itself.
    channel_order : {"auto", "rgb", "bgr"}
        Of the network. Images are red first; for "bgr" they are turned round. "auto" is "rgb", and refuses a mean that
        looks like the other.
    head : str, optional
        The name of the module inside `network` whose inputs, flattened, are the features. By default the last
        `nn.Linear` registered; the first call of `features` checks that the logits come from it. A network without
        one has no features, and everything else still works.
    output : str or int
        Which of the network's outputs are the logits: a key, an attribute or an index. "auto" takes a tensor, the
        part called `logits`, or the element of a tuple of one.
    outputs_are : {"auto", "logits", "probabilities"}
        What they are. "auto" recognises a softmax or sigmoid at the end, by the rule of `outputs.recognise`, from the
        first images that the classifier sees.
    chosen_outputs : sequence of int, optional
        The numbers of the outputs that are the classes, in their order, of a network that knows more; all by default.
    precision : {"auto", "fp32", "bf16"}
        What the network computes in. Images, logits, losses and perturbations stay float32. "auto" takes bf16
        where the device has instructions for it. A network whose weights are not float32 computes in their dtype.
    try_compiled : bool
        Whether long searches compile the network (`torch.compile`, CUDA graphs) and take it so where that is faster.

    Attributes
    ----------
    meaning : Meaning or None
        What the network's outputs are; None until it has seen images. Of probabilities the logits in front of the
        softmax or sigmoid are taken, or their logarithm; of one logit z the pair (0, z).

    Raises
    ------
    InputError
        If `head` names no module; if `mean` and `std` do not fit each other, are not for pixels in [0, 1], look like
        those of another order of channels, or are those by which the network normalises its images itself.

    Examples
    --------
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    >>> mine = nb.Classifier(network, mean=(0.3,), std=(0.35,))
    >>> mine(inputs).shape
    torch.Size([20, 10])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        channel_order: ChannelOrder = "auto",
        head: str | None = None,
        output: str | int = "auto",
        outputs_are: OutputsAre = "auto",
        chosen_outputs: Sequence[int] | None = None,
        precision: Precision = "fp32",
        try_compiled: bool = False,
    ) -> None:
        super().__init__()
        self.channel_order: ChannelOrder = check_choice(  # pyrefly: ignore
            "channel_order", channel_order, ("auto", "rgb", "bgr")
        )
        if not isinstance(network, nn.Module):
            raise must("network", "be a torch.nn.Module", type(network).__name__, "Put the function into a module.")
        check_normalisation(mean, std, self.channel_order)
        mean, std = ([float(value) for value in values] for values in (mean, std))  # of an array or a tensor, too
        networks.check_has_weights(network)
        _check_once(network, mean, std)
        self.network = network
        self.is_channels_last = False  # `models.execution` changes it, of networks that nobody else holds
        self.output = output
        self.outputs_are: OutputsAre = check_choice(  # pyrefly: ignore
            "outputs_are", outputs_are, ("auto", "logits", "probabilities")
        )
        self.meaning: Meaning | None = None
        self.chosen_outputs = None if chosen_outputs is None else list(chosen_outputs)
        self.number: int | None = None  # of one of several labels, of which this is a view
        self.precision: Precision = check_choice("precision", precision, ("auto", "fp32", "bf16"))  # pyrefly: ignore
        self.try_compiled = try_compiled
        self.register_buffer("mean", _per_channel(mean, network))
        self.register_buffer("std", _per_channel(std, network))
        self.head_name = head or next(reversed(networks.linear_layers(self._plain)), None)
        self.head_is_certain = bool(head)  # named, or seen to give the logits
        if self.head_name:
            networks.find_module(self._plain, self.head_name)  # a wrong name fails here, not in the middle of a run

    @property
    def head(self) -> nn.Module:
        """The module whose inputs are the features, most often the final linear layer."""
        if self.head_name is None or isinstance(self._plain, torch.jit.ScriptModule):
            raise networks.no_features(self._plain)
        return networks.find_module(self._plain, self.head_name)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where images go."""
        return next(self.network.parameters(), self.mean).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the first layer's weights, which see the images first; a temperature, say, is no layer's."""
        first = next(self.network.parameters(), self.mean)
        parameter = next((one for one in self.network.parameters() if one.ndim > 1), first)
        return parameter.dtype if parameter.is_floating_point() else torch.float32

    def forward(self, images: Batch) -> Logits:
        """Logits, shape (batch, class), of images in [0, 1].

        Raises
        ------
        InputError
            If the images are on another device or have other channels than the normalisation, or what the network
            returns is not logits.
        """
        raw = self._raw(self._normalise(images))
        meaning = self.meaning or Meaning("logits")
        logits = outputs.read(raw, meaning).to(images.dtype)
        if self.chosen_outputs is not None:
            if max(self.chosen_outputs) >= logits.shape[1]:
                raise must("outputs", f"be below {logits.shape[1]}, the number of outputs", max(self.chosen_outputs))
            logits = logits[:, self.chosen_outputs]
        return logits if self.number is None else outputs.one_of_several(logits, self.number, meaning)

    def features(self, images: Batch) -> Features:
        """The inputs of the head, flattened to shape (batch, feature).

        Raises
        ------
        InputError
            As `forward`; and if the head is unknown, is never called, or is not where the logits come from.
        """
        head = self.head
        inputs = self._found_on_the_way(head, images) if self.head_is_certain else self._found_in_a_whole_pass(images)
        return networks.as_features(inputs, str(self.head_name), len(images)).to(images.dtype)

    def features_and_logits(self, images: Batch) -> tuple[Features, Logits]:
        """What `features` and a call give, from one pass through the network where it can be watched.

        Raises
        ------
        InputError
            As `features`.
        """
        if not self.head_is_certain or self._plain is not self.network:
            return self.features(images), self(images)
        name = str(self.head_name)
        with networks.recorded_calls({name: self.head}) as calls:
            logits = self(images)
        if name not in calls:  # the logits of a subclass need not come from the head
            return self.features(images), logits
        return networks.as_features(calls[name][0], name, len(images)).to(images.dtype), logits

    def train(self, mode: bool = True) -> Classifier:
        """Training mode, or evaluation mode; a program of `torch.export` has one alone, and keeps it."""
        self.training = mode
        networks.set_mode(self.network, mode)
        return self

    def label(self, number: int) -> Classifier:
        """A view of one of several labels: a binary classifier around the same network, with logits (0, z).

        Parameters
        ----------
        number : int
            Of the label. The network gives a logit, or a sigmoid, for each of several labels.
        """
        view = copy.copy(self)
        view._modules = self._modules.copy()
        view.number = check_count("number", number, low=0)
        return view

    @contextmanager
    def evaluating(self, precision: Precision | None = None) -> Iterator[Classifier]:
        """Evaluation mode, and optionally another precision, inside the block; every sub-module's mode is restored."""
        modes = [(module, module.training) for module in self.modules()]
        before = self.precision
        self.eval()
        self.precision = precision or before
        try:
            yield self
        finally:
            self.precision = before
            for module, mode in modes:
                module.training = mode

    @property
    def _plain(self) -> nn.Module:
        return networks.unwrapped(self.network)

    def _found_on_the_way(self, head: nn.Module, images: Batch) -> Any:
        """The inputs of the head, from a forward pass that stops there."""
        normalised = self._normalise(images)
        handle = head.register_forward_pre_hook(_stop_at_head, with_kwargs=True)
        try:
            with self._autocast():
                networks.run(self._plain, normalised)
        except _FeaturesReached as reached:
            return reached.features
        finally:
            handle.remove()
        raise networks.never_called(str(self.head_name))

    def _found_in_a_whole_pass(self, images: Batch) -> Any:
        """The inputs of the head, from a pass that goes on to the logits, to see that they come from it."""
        normalised = self._normalise(images)
        kept = normalised.clone() if self.meaning is None else normalised
        calls, raw = self._recorded_pass(normalised)
        if self._learns(kept, raw):
            calls, raw = self._recorded_pass(kept)
        head = str(self.head_name)
        if not networks.gives_logits(head, calls, raw) and not self._decides(self.head, images):
            raise networks.not_alone(head)
        self.head_is_certain = True
        return calls[head][0]

    def _decides(self, head: nn.Module, images: Batch) -> bool:
        """Whether the logits come from the head alone: with its output for these images, others have their logits."""
        normalised = self._normalise(images)
        with self.evaluating():
            with networks.recorded_calls({"head": head}) as calls:
                logits = self._passed(normalised.clone(), self._plain)
            with networks.replaced_output(head, calls["head"][1]):
                others = self._passed(torch.zeros_like(normalised), self._plain)
                return torch.allclose(others, logits, equal_nan=True)  # that they are no numbers is told elsewhere

    def _recorded_pass(self, normalised: Tensor) -> tuple[dict[str, tuple[Any, Any]], Tensor]:
        with networks.recorded_calls(networks.linear_layers(self._plain)) as calls:
            return calls, self._passed(normalised, self._plain)

    def _raw(self, normalised: Tensor) -> Tensor:
        """What is read as logits, shape (batch, output): the network's outputs, or what is in front of its end."""
        kept = normalised.clone() if self.meaning is None else normalised  # a network may change it in place
        raw = self._passed(normalised)
        return self._passed(kept) if self._learns(kept, raw) else raw

    def _learns(self, normalised: Tensor, raw: Tensor) -> bool:
        """Find out what the outputs are, if that is not known; whether another pass must give them otherwise."""
        if self.meaning is not None or not bool(raw.isfinite().all()):
            return False
        self.meaning = self._recognised(normalised, raw)
        if self.meaning.kind != "logits":
            log.info("%s", self.meaning)
        return self.meaning.kind not in ("logits", "one logit")

    def _passed(self, normalised: Tensor, network: nn.Module | None = None) -> Tensor:
        network = network or self.network
        if isinstance(network, DistributedDataParallel) and not self.training:
            network = network.module  # its gradients are not for the weights, so there is nothing to synchronise
        is_inside = self.meaning is not None and (bool(self.meaning.layer) or self.meaning.is_called)
        if is_inside and not isinstance(network, DistributedDataParallel):
            network = self._plain  # a compiled network calls no hooks
        with outputs.caught(self._plain, self.meaning) as logits, self._autocast():
            raw = networks.as_outputs(networks.run(network, normalised), self.output, len(normalised))
        return logits[-1].reshape(raw.shape) if logits else raw

    def _recognised(self, normalised: Tensor, raw: Tensor) -> Meaning:
        def run(inputs: Tensor) -> Tensor:
            return networks.as_outputs(networks.run(self._plain, inputs), self.output, len(inputs))

        with self.evaluating():
            return outputs.recognise(self._plain, run, normalised, raw, self.outputs_are)

    def _normalise(self, images: Batch) -> Tensor:
        self._check(images)
        layout = torch.channels_last if self.is_channels_last else torch.contiguous_format
        images = (images.flip(1) if self.channel_order == "bgr" else images).contiguous(memory_format=layout)
        return ((images - self.mean.to(images)) / self.std.to(images)).to(self.dtype)

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or not images.is_floating_point():
            rule = "be floating point in [0, 1], of shape (batch, channel, height, width)"
            raise must("images", rule, f"{images.dtype}, {tuple(images.shape)}")
        if images.device != self.device:
            raise must("images", f"be on the network's device, {self.device}", str(images.device), "Move them there.")
        if len(self.mean) not in (1, images.shape[1]):
            rule = f"have {len(self.mean)} channels, as the 'mean' and 'std' of the classifier do"
            remedy = "Give a mean and a std for each channel of the images."
            remedy += other_channels(images.shape[1], len(self.mean))
            raise must("images", rule, tuple(images.shape), remedy)

    def _autocast(self) -> torch.autocast:
        bf16 = self.precision == "bf16" or (self.precision == "auto" and has_bf16(self.device))
        if self.meaning and self.meaning.is_logarithm:
            bf16 = False
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16 and self.dtype == torch.float32)


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and torch.cpu._is_avx512_bf16_supported()
    return False


def default_device() -> torch.device:
    """The accelerator that torch reports, else the CPU."""
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return here or torch.device("cpu")


def _per_channel(values: Sequence[float], network: nn.Module) -> Tensor:
    """The values, shape (channel, 1, 1), on the network's device."""
    device = next((parameter.device for parameter in network.parameters()), None)
    return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)


def _check_once(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse a normalisation that the network does itself."""
    own = own_normaliser(networks.unwrapped(network), len(mean) if len(mean) > 1 else None)
    if own is None:
        return
    if not any(mean) and set(std) == {1}:
        if own.units:
            log.warning("%s", own.in_words)
        return
    if are_close(own.values, (tuple(mean), tuple(std))):
        raise InputError(
            f"The network normalises its images itself, by {own.name!r}, and would be given images that are "
            "normalised already. Leave out 'mean' and 'std' (--mean 0 --std 1)."
        )
    if not any(mean) or own.units == "others":  # a scale, as of pixels from 0 to 255, perhaps from another black
        return
    log.warning(
        "The network has a normaliser of its own, %r (mean %s, std %s), and takes images that are normalised by mean "
        "%s and std %s before. If that is once too often, give --mean 0 --std 1 (mean=(0,), std=(1,)).",
        own.name, *map(told, (*own.values, mean, std)),
    )  # fmt: skip
