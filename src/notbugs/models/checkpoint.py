"""Classifiers in one file, with everything they are built from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from notbugs._version import __version__
from notbugs.classifier import Classifier, Precision
from notbugs.errors import InputError, must
from notbugs.files import read_tensors, write_tensors
from notbugs.models import zoo
from notbugs.models.kinds import kind_of
from notbugs.models.layout import to_channels_last
from notbugs.models.registry import build, is_own_code
from notbugs.models.weights import load_tensors, read_weights
from notbugs.networks import unwrapped
from notbugs.normalisation import (
    WHITE,
    ChannelOrder,
    Normalisation,
    by_white,
    own_normaliser,
    stored_normaliser,
    told,
    units,
)
from notbugs.outputs import OutputsAre
from notbugs.seeds import seeded

KEY = "notbugs.classifier"
JOB = "notbugs.job"

log = logging.getLogger("notbugs")


class Blueprint(BaseModel):
    """What a network is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field(description="By name, as `build` takes it.")
    shape: tuple[int, int, int] = Field(description="Of an image: (channel, height, width).")
    classes: tuple[str, ...] = Field(min_length=2, description="Their names, in the order of the logits.")
    outputs: int | None = Field(None, ge=1, description="Of the network; one for each class if not given.")
    options: dict[str, bool | int | float | str] = Field({}, description="Of the architecture.")

    def build(self) -> nn.Module:
        """A network for weights to be loaded into; torch's global generator is left as it was."""
        channels, height, width = self.shape
        options = {name: value for name, value in self.options.items() if name != "pretrained"}
        with seeded(0, "blueprint"):
            count = self.outputs or len(self.classes)
            return build(self.architecture, channels=channels, classes=count, size=(height, width), **options)


class _Header(BaseModel):
    """What the file says besides its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    notbugs: str = __version__
    blueprint: Blueprint
    head: str | None
    output: str | int
    outputs_are: OutputsAre = "auto"
    channel_order: Literal["rgb", "bgr"] = "rgb"
    precision: Precision
    dtype: Literal["float64", "float32", "float16", "bfloat16"]
    is_channels_last: bool = Field(True, description="The layout it computed in, which decides the last bits.")


def save_classifier(path: str | Path, classifier: Classifier, blueprint: Blueprint, *, job: str = "") -> None:
    """Write a classifier as one safetensors file that `load_classifier` needs nothing else to read.

    Parameters
    ----------
    path : str or Path
        Ends in `.safetensors`.
    classifier : Classifier
        Its weights, normalisation, head, output and precision are kept.
    blueprint : Blueprint
        What its network was built from.
    job : str, optional
        Names what it was trained by, for `job_of`.

    Raises
    ------
    InputError
        If `path` ends otherwise, or the blueprint builds another network.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise must("path", "end in .safetensors", str(path))
    network = unwrapped(classifier.network)
    state = network.state_dict()
    if {name: value.shape for name, value in blueprint.build().state_dict().items()} != {
        name: value.shape for name, value in state.items()
    }:
        raise must("blueprint", "build the classifier's network", blueprint.architecture, "Give its options, too.")
    tensors = {f"network.{name}": value.clone() for name, value in state.items()}  # clones: tied weights come apart
    header = _Header(
        blueprint=blueprint,
        head=classifier.head_name if classifier.head_is_certain else None,
        output=classifier.output,
        outputs_are=classifier.outputs_are,
        channel_order="bgr" if classifier.channel_order == "bgr" else "rgb",
        precision=classifier.precision,
        dtype=str(classifier.dtype).removeprefix("torch."),  # pyrefly: ignore
        is_channels_last=classifier.is_channels_last,
    )
    about = {KEY: header.model_dump_json()} | ({JOB: job} if job else {})
    write_tensors(path, tensors | {"mean": classifier.mean, "std": classifier.std}, about)


def job_of(path: Path) -> str:
    """What the classifier in a file of `save_classifier` was trained by; empty where the file does not say."""
    try:
        with safe_open(path, "pt") as opened:
            return (opened.metadata() or {}).get(JOB, "")
    except (SafetensorError, OSError):
        return ""


def load_classifier(
    file: str | Path,
    *,
    architecture: str | None = None,
    shape: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    head: str | None = None,
    output: str | int = "auto",
    outputs_are: OutputsAre = "auto",
    channel_order: ChannelOrder = "auto",
    weights: str | None = None,
    precision: Precision | None = None,
    device: torch.device | None = None,
    **options: Any,
) -> Classifier:
    """A classifier from a file, in evaluation mode.

    A file of `save_classifier` says everything itself; what is given besides must agree with it. For any other
    file of weights (see `load_weights`), the architecture and the data's shape and classes are needed, and the
    normalisation that the network was trained with.

    Parameters
    ----------
    file : str or Path
        Of `save_classifier`, or any weights.
    architecture : str, optional
        As `build` takes it, with `options`.
    shape : (int, int, int), optional
        Of the images that it will see: (channel, height, width).
    classes : sequence of str, optional
        Of the labels that it will be held against.
    mean, std : sequence of float, optional
        Of the normalisation. If not given: 0 and 1 where the network normalises its images itself; else those of a
        normaliser in the file; else those that the published weights of a `timm:` or `torchvision:` architecture
        expect. Which of them it was is logged.
    head, output, outputs_are, channel_order, precision
        Of `Classifier`.
    weights : str, optional
        Which set of weights, where the file has several: `state_dict_ema`, for instance.
    device : torch.device, optional
        Where it goes; the CPU if not given.

    Raises
    ------
    InputError
        If the file is damaged, of a newer notbugs or of another network; or something needed is not given.
    """
    path = Path(file)
    header = _read_header(path)
    if header is None:
        blueprint = _given(architecture, shape, classes, options)
        how: dict[str, Any] = {"head": head, "output": output, "outputs_are": outputs_are}
        how |= {"channel_order": channel_order, "precision": precision or "auto"}
        found = _foreign(path, blueprint, weights, mean, std, **how)
    else:
        given = {"mean": mean, "std": std, "head": head, "output": output if output != "auto" else None}
        given |= {"outputs_are": outputs_are if outputs_are != "auto" else None, "weights": weights}
        given["channel_order"] = channel_order if channel_order != "auto" else None
        if told := [name for name, value in (given | options).items() if value is not None]:
            raise InputError(f"{path} says itself what {told[0]!r} is. Leave it out.")
        _check_agreement(path, header.blueprint, architecture, shape, classes)
        found = _ours(path, header, precision)
    return found.to(device or torch.device("cpu")).eval()


def _given(
    architecture: str | None, shape: Sequence[int] | None, classes: Sequence[str] | None, options: dict[str, Any]
) -> Blueprint:
    given = {"architecture": architecture, "shape": shape, "classes": classes}
    if missing := [name for name, value in given.items() if value is None]:
        raise InputError(f"The file holds weights alone. Give the {missing[0]!r} of their network, too.")
    try:
        return Blueprint.model_validate(given | {"options": options})
    except ValidationError as error:
        first = error.errors()[0]
        raise must(str(first["loc"][0]), f"be right for a network ({first['msg']})", first["input"]) from error


def _foreign(
    path: Path,
    blueprint: Blueprint,
    weights: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    **how: Any,
) -> Classifier:
    if (mean is None) != (std is None):
        raise must("mean", "be given together with the 'std', or neither of them", mean)
    tensors = read_weights(path, weights)
    network = _loaded(blueprint, tensors, str(path))
    if mean is None or std is None:
        mean, std = _known_normalisation(network, tensors, blueprint, path)
    return Classifier(network, mean=mean, std=std, **how)


def _known_normalisation(
    network: nn.Module, tensors: Mapping[str, Tensor], blueprint: Blueprint, path: Path
) -> Normalisation:
    """The normalisation that nobody gave: the network's own, a normaliser's in the file, or a library's."""
    if own := own_normaliser(network):
        if own.is_of_bytes:
            raise InputError(
                f"The network normalises its images itself, by {own.name!r}, whose values {told(own.values[0])} are "
                "for pixels from 0 to 255; notbugs has them in [0, 1]. If it takes images from 0 to 255, give --mean 0 "
                f"--std {1 / WHITE:.6g} (mean=(0,), std=(1/255,)); if it multiplies by 255 itself, --mean 0 --std 1."
            )
        log.info("The network normalises its images itself, by %r, so the classifier does not.", own.name)
        return (0.0,), (1.0,)
    if found := stored_normaliser(tensors):
        name, (mean, std) = found
        if units(mean, std) == "bytes":
            raise InputError(
                f"The normaliser in {path}, {name!r}, is for pixels from 0 to 255, and notbugs has pixels in [0, 1]. "
                f"Divided by 255 its values are --mean {told(by_white(mean))} --std {told(by_white(std))}: give them."
            )
        log.info("The normalisation is that of %r in the file: mean %s, std %s.", name, told(mean), told(std))
        return mean, std
    if known := zoo.normalisation(blueprint.architecture):
        expected = (blueprint.architecture, told(known[0]), told(known[1]))
        log.info("The normalisation is what %s expects: mean %s, std %s.", *expected)
        return known
    raise InputError(
        "The normalisation that the network was trained with is not in the file. Give its 'mean' and 'std' (--mean, "
        "--std), one value for each channel, for pixels in [0, 1]; 0 and 1 if it was trained without."
    )


def _loaded(blueprint: Blueprint, tensors: dict[str, Tensor], origin: str) -> nn.Module:
    """The network with its weights; of two classes one with a single logit where only that takes them."""
    network = blueprint.build()
    try:
        load_tensors(network, tensors, origin)
    except InputError:
        if len(blueprint.classes) != 2 or blueprint.outputs is not None:
            raise
        single = blueprint.model_copy(update={"outputs": 1}).build()
        try:
            load_tensors(single, tensors, origin)
        except InputError:
            single = None
        if single is None:
            raise
        return single
    return network


def _ours(path: Path, header: _Header, precision: Precision | None) -> Classifier:
    tensors = read_tensors(path)
    if not {"mean", "std"} <= tensors.keys():
        raise InputError(f"{path} is not a classifier that notbugs can read: its mean or std is missing.")
    mean, std = (tensors.pop(name).flatten().tolist() for name in ("mean", "std"))
    network = header.blueprint.build().to(getattr(torch, header.dtype))
    load_tensors(network, tensors, str(path))
    found = Classifier(
        network,
        mean=mean,
        std=std,
        head=header.head,
        output=header.output,
        outputs_are=header.outputs_are,
        channel_order=header.channel_order,
        precision=precision or header.precision,
    )
    return to_channels_last(found, header.blueprint.shape) if header.is_channels_last else found


def _read_header(path: Path) -> _Header | None:
    """What a file of `save_classifier` says; None for any other file."""
    if kind_of(path) != "safetensors":
        return None
    try:
        with safe_open(path, "pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
        if text is None:
            return None
        values = json.loads(text)
        if isinstance(values, dict) and values.get("format") != 1:
            raise InputError(f"{path} is of a newer notbugs ({values.get('notbugs')}). Upgrade: pip install -U notbugs")
        return _Header.model_validate(values)
    except InputError:
        raise
    except (ValidationError, ValueError) as error:
        raise InputError(f"{path} is not a classifier that notbugs can read ({error}).") from error
    except Exception as error:
        raise InputError(
            f"{path} is a cut off or damaged safetensors file ({error}). Download or copy it again."
        ) from error


def _check_agreement(
    path: Path, found: Blueprint, architecture: str | None, shape: Sequence[int] | None, classes: Sequence[str] | None
) -> None:
    name = found.architecture
    if architecture not in (None, name):
        raise must("architecture", f"be {name!r}, as {path} says", architecture)
    if architecture is None and is_own_code(name):
        raise InputError(
            f"{path} was made with a network of your own. A file alone never makes notbugs run code: "
            f"if you trust it, give architecture={name!r} (--architecture {name})."
        )
    if shape is not None and shape[0] != found.shape[0]:
        raise must("shape", f"have {found.shape[0]} channels, as the classifier in {path} does", tuple(shape))
    if classes is None or tuple(classes) == found.classes:
        return
    if len(classes) != len(found.classes) or sorted(classes) == sorted(found.classes):
        rule = f"be the {len(found.classes)} of the classifier in {path}, in its order: {', '.join(found.classes[:12])}"
        raise must("classes", rule, tuple(classes)[:12])
