"""What a classifier asks of any network: the module inside its wrappers, its head, and the logits it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from notbugs.errors import InputError, in_one_line, must

CODE = "_notbugs_code"
"""Of a network, the attribute with the hash of its code."""
NAME_THE_HEAD = "Name with 'head' (--head) the module whose inputs are the features."


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel` and `torch.compile`, which shares its weights."""
    while True:
        if isinstance(network, DataParallel | DistributedDataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


def mark_code(network: nn.Module, code: str) -> nn.Module:
    """The network, which remembers the hash of the code that it is made of, where that is a user's own."""
    vars(network)[CODE] = code  # past `nn.Module.__setattr__`, which TorchScript has in another form
    return network


def code_of(*networks: nn.Module) -> str:
    """The hash of the users' own code that networks are made of; empty where all of it is of notbugs or a library.

    Weights alone do not say what a network computes: its code may have changed since.
    """
    codes = [vars(unwrapped(network)).get(CODE, "") for network in networks]
    return hashlib.sha256(" ".join(codes).encode()).hexdigest() if any(codes) else ""


def is_exported(network: nn.Module) -> bool:
    """Whether a network is a program of `torch.export`: it has one mode, and checks the shapes of its inputs."""
    return isinstance(network, fx.GraphModule) and "range_constraints" in vars(network)


def set_mode(network: nn.Module, training: bool) -> None:
    """Training or evaluation mode, as `nn.Module.train`; an exported program keeps that in which it was exported."""
    exported = [module for module in network.modules() if is_exported(module)]
    if not exported:
        network.train(training)
    elif network not in exported:
        network.training = training
        for child in network.children():
            set_mode(child, training)


def run(network: nn.Module, images: Tensor) -> Any:
    """What the network returns.

    Raises
    ------
    InputError
        If it is a program of `torch.export` that was exported for images of another shape.
    """
    if not is_exported(network):
        return network(images)
    try:
        return network(images)
    except AssertionError as error:
        raise InputError(
            f"The network was exported for images of another shape than {tuple(images.shape)} "
            f"({in_one_line(error)}). Export it for batches of any size, and images of this one: "
            "torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},))."
        ) from error


def check_has_weights(network: nn.Module) -> None:
    """Refuse a network whose layers do not know their shapes yet."""
    for name, module in network.named_modules():
        if any(is_lazy(parameter) for parameter in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
            raise InputError(
                f"The layer {name or 'of the network'!r} ({type(module).__name__}) has no shape yet. Call the network "
                "once on normalised images, network(images), before you hand it over."
            )


def linear_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every `nn.Linear` by its name, in the order in which they were registered."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}


def find_module(network: nn.Module, name: str, argument: str = "head") -> nn.Module:
    """The module called `name`, which came in as `argument`.

    Raises
    ------
    InputError
        If there is none, with the nearest name.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    if name not in modules or not name:
        near = get_close_matches(name, modules, n=1) or list(linear_layers(network))[-1:]
        raise must(argument, "name a module of the network", name, f"Did you mean {near[0]!r}?" if near else "")
    return modules[name]


def first_input(inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The first argument of a call, by position or by name."""
    return inputs[0] if inputs else next(iter(named.values()), None)


def snapshot(value: Any) -> Any:
    """A copy of a tensor as it is now, with its gradient; anything else as it is."""
    return value.clone() if isinstance(value, Tensor) else value


@contextmanager
def recorded_calls(modules: dict[str, nn.Module]) -> Iterator[dict[str, tuple[Any, Any]]]:
    """Input and output of the first call of each module inside the block, in the order of the calls.

    They are copies, whatever the network does to them in place afterwards; gradients flow through them.
    """
    if scripts := [module for module in modules.values() if isinstance(module, torch.jit.ScriptModule)]:
        raise no_features(scripts[0])
    calls: dict[str, tuple[Any, Any]] = {}

    begun: dict[str, Any] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if name not in begun:
                begun[name] = snapshot(first_input(inputs, named))

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            if name not in calls:
                calls[name] = (begun[name], snapshot(output))

        return hook

    handles = [module.register_forward_pre_hook(before(name), with_kwargs=True) for name, module in modules.items()]
    handles += [module.register_forward_hook(after(name), with_kwargs=True) for name, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def gives_logits(head: str, calls: Mapping[str, tuple[Any, Any]], logits: Tensor) -> bool:
    """Whether the output of a head, found as the last `nn.Linear` registered, is the logits.

    Where no linear layer's is (the network scales them, say), it may be what they are computed from.

    Raises
    ------
    InputError
        If another layer gives the logits, or the head is not the only one whose output has their shape.
    """
    giving = [name for name, (_, output) in calls.items() if _equal(output, logits)]
    fitting = [name for name, (_, output) in calls.items() if getattr(output, "shape", None) == logits.shape]
    if giving and head not in giving:
        raise InputError(
            f"The logits come from the layer {giving[0]!r}, not from {head!r}, the last nn.Linear registered. "
            f"Name it: head={giving[0]!r}."
        )
    if head not in calls:
        raise never_called(head)
    if not giving and fitting != [head]:
        raise InputError(
            f"No nn.Linear gives the logits, so the features are unknown. {NAME_THE_HEAD} "
            f"The linear layers called last are {', '.join(list(calls)[-5:])}."
        )
    return bool(giving)


@contextmanager
def replaced_output(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Inside the block, the first call of a module gives `output`."""
    left = [output]
    handle = module.register_forward_hook(lambda module, inputs, own: left.pop() if left else own)
    try:
        yield
    finally:
        handle.remove()


def not_alone(head: str) -> InputError:
    """The error of a head whose output does not decide the logits alone."""
    return InputError(
        f"The logits do not come from one call of the layer {head!r} alone, so the features are unknown. "
        f"{NAME_THE_HEAD}"
    )


def never_called(head: str) -> InputError:
    """The error of a head that a forward pass does not reach."""
    return InputError(f"The network never called its layer {head!r}. {NAME_THE_HEAD}")


def no_features(network: nn.Module) -> InputError:
    """The error of a network whose features cannot be found."""
    if isinstance(network, torch.jit.ScriptModule):
        return InputError(
            "The network is TorchScript, which does not show what its layers are given, so its features are unknown. "
            "Load its weights into the network that it was made from: load_weights(network, FILE), or --arch NAME in "
            "place of --arch torchscript. Attacks need no features."
        )
    if is_exported(network):
        return InputError(
            "The network is a program of torch.export without its layers, so its features are unknown. Give "
            "torch.export.unflatten(program) with head=NAME; or, from a file, --arch exported --head NAME."
        )
    return InputError(f"The network has no nn.Linear, so its features are unknown. {NAME_THE_HEAD}")


def as_features(inputs: Any, head: str, count: int) -> Tensor:
    """The input of the head, flattened to (batch, feature).

    Raises
    ------
    InputError
        If it has not one row for each of the `count` images.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim < 2 or len(inputs) != count:
        raise InputError(
            f"The inputs of the head {head!r} must have one row for each of the {count} images. "
            f"Got {_describe(inputs)} instead. Name another module with 'head'."
        )
    return inputs.flatten(1)


def as_outputs(output: Any, choice: str | int, count: int) -> Tensor:
    """What is to be read as logits among what a network returned for `count` images, shape (batch, output).

    Raises
    ------
    InputError
        If it is not clear which they are, or they are not floating point of shape (batch, class) or, of one output,
        (batch,).
    """
    logits = _sole(output) if choice == "auto" else _chosen(output, choice)
    if logits is None:
        raise InputError(
            f"The 'output' must say which of the network's outputs are the logits. Got {choice!r}, and the network "
            f"returned {_describe(output)}. Choose one of {', '.join(map(repr, _parts(output))) or 'none: no tensors'}."
        )
    if logits.shape == (count,):
        logits = logits[:, None]
    elif count == 1 and logits.ndim < 2:  # a network that squeezes its outputs does so with a batch of one
        logits = logits.reshape(1, -1)
    if logits.ndim != 2 or len(logits) != count or logits.shape[1] < 1 or not logits.is_floating_point():
        raise InputError(
            "The network must return floating point logits of shape (batch, class), or (batch,) or (batch, 1) for two "
            f"classes. Got {_describe(logits)} for {count} images instead. Put what brings them into this shape behind "
            "it: nn.Sequential(network, nn.Flatten()), for instance."
        )
    return logits


def _sole(output: Any) -> Tensor | None:
    """The only candidate: a tensor, the part called `logits`, or the one element of a tuple."""
    parts = _parts(output)
    if isinstance(output, Tensor):
        return output
    if "logits" in parts:
        return parts["logits"]
    return parts[0] if isinstance(output, tuple | list) and len(output) == 1 and 0 in parts else None


def _chosen(output: Any, choice: str | int) -> Tensor | None:
    return _parts(output).get(choice)


def _parts(output: Any) -> dict[str | int, Tensor]:
    """The tensors of a tuple by index, of a mapping by key, of anything else by attribute."""
    items: dict[str | int, Any] = {}
    if isinstance(output, tuple | list):
        items |= dict(enumerate(output))
    if isinstance(output, Mapping):
        items |= output
    elif isinstance(output, tuple) and hasattr(output, "_asdict"):
        items |= output._asdict()
    elif is_dataclass(output):
        items |= {field.name: getattr(output, field.name) for field in fields(output)}
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        items["logits"] = output.logits
    return {key: value for key, value in items.items() if isinstance(value, Tensor)}


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.')} of shape {tuple(output.shape)}"
    parts = ", ".join(f"{key!r}: {tuple(value.shape)}" for key, value in _parts(output).items())
    return f"{type(output).__name__} ({parts})" if parts else type(output).__name__


def _equal(output: Any, logits: Tensor) -> bool:
    return (
        isinstance(output, Tensor)
        and output.numel() == logits.numel()
        and torch.equal(output.detach().flatten().to(logits.dtype), logits.detach().flatten())
    )
