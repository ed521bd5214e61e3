"""A classifier: any network from images in [0, 1] to logits, with its normalisation and its features.

The *features* g(x) are the inputs of the final linear layer (the paper, section 3.1). They are found with a hook on
that layer, so the network needs no method of ours, and the forward pass stops there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from notbugs.errors import InputError, check_choice
from notbugs.shapes import Batch, Features, Logits

Precision = Literal["auto", "fp32", "bf16"]


class _FeaturesReached(Exception):
    """Carries the features out of a forward pass that need not go on."""

    def __init__(self, features: Tensor) -> None:
        self.features = features


def _stop_at_head(head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    raise _FeaturesReached(inputs[0])


class Classifier(nn.Module):
    """A network that owns its normalisation, so that every radius is in pixel units.

    Parameters
    ----------
    network : nn.Module
        Maps normalised images, shape (batch, channel, height, width), to logits, shape (batch, class).
    mean, std : sequence of float, optional
        Per channel, subtracted from and divided into images in [0, 1] before the network sees them.
    head : str, optional
        The name of the final linear layer inside `network`. By default the last `nn.Linear` registered.
    precision : {"auto", "fp32", "bf16"}
        What the network computes in. Images, logits, losses and perturbations stay float32. "auto" takes bf16
        where the device has instructions for it.

    Raises
    ------
    InputError
        If the network has no `nn.Linear` and none is named, or the named one is not there.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        head: str | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # pyrefly: ignore
        self.head_name = head or _last_linear(network)
        self.precision: Precision = check_choice("precision", precision, ("auto", "fp32", "bf16"))  # pyrefly: ignore
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.head  # noqa: B018  a wrong name fails here, not in the middle of a run

    @property
    def head(self) -> nn.Linear:
        """The final linear layer: features to logits."""
        layer = dict(self.network.named_modules()).get(self.head_name)
        if not isinstance(layer, nn.Linear):
            raise InputError(f"The 'head' must name an nn.Linear of the network. Got {self.head_name!r} instead.")
        return layer

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where images go."""
        return self.mean.device

    def forward(self, images: Batch) -> Logits:
        """Logits, shape (batch, class), of images in [0, 1]."""
        with self._autocast():
            logits = self.network(self._normalise(images))
        return logits.to(images.dtype)

    def features(self, images: Batch) -> Features:
        """The inputs of the final linear layer, shape (batch, feature)."""
        with self._stopping_at_head(), self._autocast():
            try:
                self.network(self._normalise(images))
            except _FeaturesReached as reached:
                return reached.features.to(images.dtype)
        raise InputError(f"The network never called its layer {self.head_name!r}. Name its final layer with 'head'.")

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

    def _normalise(self, images: Batch) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)

    def _autocast(self) -> torch.autocast:
        bf16 = self.precision == "bf16" or (self.precision == "auto" and has_bf16(self.device))
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    @contextmanager
    def _stopping_at_head(self) -> Iterator[None]:
        handle = self.head.register_forward_pre_hook(_stop_at_head)
        try:
            yield
        finally:
            handle.remove()


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and torch.cpu._is_avx512_bf16_supported()
    return False


def default_device() -> torch.device:
    """The accelerator that torch reports, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _last_linear(network: nn.Module) -> str:
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise InputError("The network has no nn.Linear, so its features are unknown. Name its final layer with 'head'.")
    return names[-1]
