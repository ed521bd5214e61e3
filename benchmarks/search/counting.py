"""Forwards and backwards a sample: counted where torch runs them, not claimed.

Module hooks miss a library that works on a copy of the network, folds it, or stops its forward early. The first
convolution is run by all of them, once a sample in every pass: it alone takes the image's own channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class PassCounter(TorchDispatchMode):
    """Counts samples that pass the first convolution, forwards and backwards, while it is entered."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.forwards = self.backwards = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default and args[0].shape[1] == self.channels:
            self.forwards += len(args[0])
        if func is torch.ops.aten.convolution_backward.default and args[1].shape[1] == self.channels:
            self.backwards += len(args[1])
        return func(*args, **(kwargs or {}))
