"""A GPU that is not there: tensors that say they are on a device, are kept on the CPU, and mix with none that are.

It computes what a CPU computes. It shows where the code forgets to move a tensor; nothing of what CUDA does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.library import Library, fallthrough_kernel
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretended"
AUTOCAST = "AutocastPrivateUse1"
LOWER = ("conv2d", "linear", "matmul", "mm", "bmm", "addmm")
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
"""What may see tensors of both devices."""


class OnDevice(Tensor):
    """A tensor on the pretended device; `kept` is the real one."""

    kept: Tensor

    @staticmethod
    def __new__(cls, kept: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls,
            kept.shape,
            kept.stride(),
            kept.storage_offset(),
            dtype=kept.dtype,
            layout=kept.layout,
            device=torch.device(NAME, 0),
        )
        made.kept = kept
        return made

    def tolist(self) -> list[Any]:
        """The values; torch itself refuses to tell them of a tensor of another class."""
        return self.kept.tolist()

    def __repr__(self) -> str:
        return f"OnDevice({self.kept!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Device(TorchDispatchMode):
    """Sees what makes new tensors on the device, which no tensor there takes part in."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """For autocast."""
        return [torch.bfloat16]


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Inside the block there is another device. Only for a process of its own: torch keeps it as its accelerator."""
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    others, products = Library("_", "IMPL"), Library("aten", "IMPL")
    others.fallback(fallthrough_kernel, AUTOCAST)
    for name in LOWER:
        products.impl(name, partial(_lower, getattr(torch.ops.aten, name)), AUTOCAST)
    make = torch.tensor
    with (
        patch.object(torch, "tensor", lambda values, device=None, **more: make(values, **more).to(device)),
        torch.autograd.set_multithreading_enabled(False),  # the engine has threads for the devices it began with
        _Device(),
    ):
        yield torch.device(NAME, 0)


def _lower(operation: Any, *args: Any) -> Any:
    """What autocast does to an operation, as on CUDA: float32 becomes bfloat16."""
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, AUTOCAST))):
        return operation(*tree_map_only(Tensor, lambda part: part.bfloat16(), args))


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(leaf, OnDevice) for leaf in leaves)
    if there and func not in MOVES:
        left = [tuple(leaf.shape) for leaf in leaves if not isinstance(leaf, OnDevice) and leaf.dim()]
        if left:
            raise RuntimeError(f"{func} got tensors on the device, and tensors of shape {left} on the CPU.")
    asked = kwargs.get("device")
    on_device = there if asked is None else torch.device(asked).type == NAME
    real = kwargs if asked is None else kwargs | {"device": torch.device("cpu")}
    kept = func(*_unwrapped(args), **_unwrapped(real))
    if not on_device:
        return kept
    found = tree_map_only(Tensor, OnDevice, kept)
    return return_and_correct_aliasing(func, args, kwargs, found)


def _unwrapped(tree: Any) -> Any:
    return tree_map_only(OnDevice, lambda tensor: tensor.kept, tree)
