"""Networks of timm and torchvision, the extra `vision`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from notbugs.errors import InputError, in_one_line, must
from notbugs.normalisation import Normalisation


def timm_network(name: str, channels: int, classes: int, size: tuple[int, int], **options: Any) -> nn.Module:
    """A network of timm. One made for one size of images is told the size.

    Raises
    ------
    InputError
        If timm is not installed, has no such network, or cannot make it so; or `pretrained` is asked for.
    """
    timm = _timm()
    config = _timm_config(timm, name)
    if options.pop("pretrained", False) or "checkpoint_path" in options:
        raise InputError(
            "timm does not check a hash of the weights it downloads. Download them yourself as a safetensors file "
            f"and give that file: load_classifier(FILE, architecture='timm:{name}', ...)."
        )
    if config.fixed_input_size and size != tuple(config.input_size[1:]):
        options.setdefault("img_size", size)
    options |= {"num_classes": classes, "in_chans": channels}
    return _made(f"timm:{name}", timm.create_model, name, options, (channels, *size))


def torchvision_network(
    name: str, channels: int, classes: int, size: tuple[int, int], *, pretrained: bool = False, **options: Any
) -> nn.Module:
    """A network of torchvision; `pretrained` takes its default ImageNet weights, whose hash is checked.

    Where there are other classes than ImageNet's 1,000, the last layer stays as it was initialised.

    Raises
    ------
    InputError
        If torchvision is not installed, has no such network, or cannot make it so; or images have not 3 channels.
    """
    models = _torchvision_models()
    _check_torchvision_name(models, name)
    if channels != 3:
        raise must("channels", "be 3 for a network of torchvision", channels, "Take one of timm: timm:NAME.")
    if name.startswith("vit_"):
        options.setdefault("image_size", _square(name, size))
    if pretrained and name in ("googlenet", "inception_v3"):
        rule = f"be left out for torchvision:{name}: its weights expect other images than they say"
        raise must("pretrained", rule, pretrained)
    options |= {"num_classes": classes, "weights": None}
    network = _made(f"torchvision:{name}", models.get_model, name, options, (channels, *size))
    return _pretrained(network, name, models.get_model_weights(name).DEFAULT) if pretrained else network


def normalisation(architecture: str) -> Normalisation | None:
    """Mean and standard deviation that the published weights of an architecture expect; None for those without."""
    source, _, name = architecture.partition(":")
    if source == "timm":
        config = _timm_config(_timm(), name)
        return tuple(config.mean), tuple(config.std)
    if source == "torchvision":
        models = _torchvision_models()
        _check_torchvision_name(models, name)
        transforms = models.get_model_weights(name).DEFAULT.transforms()
        return tuple(transforms.mean), tuple(transforms.std)
    return None


def _pretrained(network: nn.Module, name: str, weights: Any) -> nn.Module:
    """`network` with the downloaded weights; a last layer for other classes stays as it is."""
    tensors: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    own, count = network.state_dict(), len(weights.meta["categories"])
    other = [key for key, value in tensors.items() if key in own and own[key].shape != value.shape]
    if wrong := [key for key in other if tensors[key].shape[0] != count]:
        raise InputError(
            f"The pretrained weights of torchvision:{name} do not fit: {wrong[0]} has shape "
            f"{tuple(tensors[wrong[0]].shape)}, here {tuple(own[wrong[0]].shape)}. Give images of the size, and the "
            "options, that they were trained with, or leave out 'pretrained'."
        )
    network.load_state_dict({key: value for key, value in tensors.items() if key not in other}, strict=False)
    return network


def _made(title: str, make: Any, name: str, options: dict[str, Any], shape: tuple[int, int, int]) -> nn.Module:
    """The network, once it has taken an image of `shape`: many are made for large ones alone."""
    try:
        network = make(name, **options)
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape))
    except Exception as error:
        told = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise InputError(
            f"{title} with {told} cannot be built for images of {shape[1]}x{shape[2]} pixels: "
            f"{type(error).__name__}: {in_one_line(error)}"
        ) from error
    return network.train()


def _square(name: str, size: tuple[int, int]) -> int:
    if size[0] != size[1]:
        raise must("size", f"be square for torchvision:{name}", size, "Take one of timm: timm:NAME.")
    return size[0]


def _timm_config(timm: Any, name: str) -> Any:
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    return timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()


def _check_torchvision_name(models: Any, name: str) -> None:
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)


def _unknown(library: str, name: str, known: Iterable[str]) -> InputError:
    near = get_close_matches(name, known, n=3)
    remedy = f"Did you mean {', '.join(f'{library}:{other}' for other in near)}?" if near else ""
    return must("architecture", f"be a network that {library} has", f"{library}:{name}", remedy)


def _timm() -> Any:
    _torchvision_models()  # timm needs it
    try:
        import timm
    except ImportError as error:
        raise _not_installed("timm") from error
    return timm


def _torchvision_models() -> Any:
    try:
        import torchvision.models
    except ImportError as error:
        raise _not_installed("torchvision") from error
    except RuntimeError as error:  # its compiled half did not load
        raise InputError(
            f"torchvision is installed but does not fit this torch ({str(error).splitlines()[0]}). For a torch without "
            "CUDA: pip install --force-reinstall --no-deps torchvision "
            "--index-url https://download.pytorch.org/whl/cpu"
        ) from error
    return torchvision.models


def _not_installed(library: str) -> InputError:
    return InputError(f"Networks of {library} need {library}, which is not installed. pip install 'notbugs[vision]'")
