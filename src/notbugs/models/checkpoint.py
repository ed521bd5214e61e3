"""Classifiers in one file, with everything they are built from."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from notbugs._version import __version__
from notbugs.catalogue import model_file
from notbugs.classifier import Classifier, Interpretation, Precision
from notbugs.errors import InputError, in_one_line, must
from notbugs.files import read_tensors, write_tensors
from notbugs.given import checked
from notbugs.models.execution import to_channels_last
from notbugs.models.foreign import PROGRAMS, Outputs, check_program, choose, load_foreign, output_names
from notbugs.models.huggingface import check_pretrained, is_pretrained, load_pretrained
from notbugs.models.registry import Blueprint, build, is_own_code, normalisation
from notbugs.models.weights import kind_of, load_tensors
from notbugs.networks import unwrapped
from notbugs.normalisation import ChannelOrder
from notbugs.outputs import OutputsAre
from notbugs.shapes import other_channels

KEY = "notbugs.classifier"
JOB = "notbugs.job"

log = logging.getLogger("notbugs")


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
    chosen_outputs: tuple[int, ...] | None = Field(None, description="Those that are the classes; all by default.")
    precision: Precision
    dtype: Literal["float64", "float32", "float16", "bfloat16"]
    is_channels_last: bool = Field(True, description="The layout it computed in, which decides the last bits.")


@checked
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

    Examples
    --------
    >>> options = {'width': 4, 'features': 8}
    >>> plan = nb.models.Blueprint(architecture='cnn', shape=(1, 8, 8), classes=data.classes, options=options)
    >>> nb.save_classifier('saved.safetensors', classifier, plan)
    >>> same = nb.load_classifier('saved.safetensors')
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
        chosen_outputs=None if classifier.chosen_outputs is None else tuple(classifier.chosen_outputs),
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
    outputs: Outputs | None = None,
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
        Of `save_classifier`, or any weights; or a folder of `save_pretrained`, or `hf:OWNER/NAME` (`notbugs[hf]`).
    architecture : str, optional
        As `build` takes it, with `options`; or "torchscript" or "exported": then the file brings its network itself,
        and its code runs.
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
    outputs : str, Path or sequence, optional
        Which of the network's outputs are the classes: a file with the name of every output, of which those of the
        classes are taken; or the number (from 0) or the name of its output for each class, in order. Where the model
        says the names of its outputs, they are compared by themselves. See `models.foreign.choose`.
    device : torch.device, optional
        Where it goes; the CPU if not given.

    Raises
    ------
    InputError
        If the file is damaged, of a newer notbugs or of another network; or something needed is not given.

    Examples
    --------
    >>> options = {'width': 4, 'features': 8}
    >>> plan = nb.models.Blueprint(architecture='cnn', shape=(1, 8, 8), classes=data.classes, options=options)
    >>> nb.save_classifier('loaded.safetensors', classifier, plan)
    >>> loaded = nb.load_classifier('loaded.safetensors')
    >>> bool((nb.measure.predictions(loaded, images) == nb.measure.predictions(classifier, images)).all())
    True
    """
    to = device or torch.device("cpu")
    file = model_file(file)
    path = Path(file)
    header = check_classifier(
        file, architecture=architecture, weights=weights, outputs=outputs, mean=mean, std=std,
        head=head, output=output, outputs_are=outputs_are, channel_order=channel_order, **options,
    )  # fmt: skip
    interpretation: Interpretation = {
        "head": head, "output": output, "outputs_are": outputs_are, "channel_order": channel_order,
        "precision": precision or "auto",
    }  # fmt: skip
    names = output_names(outputs)
    if names:
        outputs = None
    if is_pretrained(file):
        classifier = load_pretrained(file, shape, classes, mean, std, outputs, names, interpretation)
    elif header is None:
        blueprint = _blueprint(architecture, shape, classes, options, len(names) if names else None)
        chosen = choose(blueprint.classes, names, outputs, str(path))
        classifier = load_foreign(path, blueprint, weights, mean, std, chosen, interpretation)
    else:
        _check_channels(header, shape, path)
        chosen = choose(classes, names or header.blueprint.classes, outputs, str(path)) if classes else None
        classifier = _ours(path, header, precision, chosen)
    return classifier.to(to).eval()


def says_itself(file: str | Path) -> bool:
    """Whether a model needs nothing besides: a file of `save_classifier`, or one of Hugging Face."""
    return is_pretrained(file) or _read_header(Path(file)) is not None


def check_classifier(
    file: str | Path,
    *,
    architecture: str | None = None,
    weights: str | None = None,
    outputs: Outputs | None = None,
    **given: Any,
) -> _Header | None:
    """Refuse what can be refused of a model before there are images, without reading its weights.

    Parameters
    ----------
    file, architecture, weights, outputs, given
        As `load_classifier` takes them.

    Returns
    -------
    header
        What a file of `save_classifier` says; None for any other.

    Raises
    ------
    InputError
        If there is no such file, it is of no format that is read, it says itself what is given besides, or something
        that it needs is not given.
    """
    file = model_file(file)
    output_names(outputs)
    ours = {"mean", "std", "head", "output", "outputs_are", "channel_order"}
    values = {"weights": weights} | {name: value for name, value in given.items() if value not in (None, "auto")}
    told = [name for name, value in values.items() if value is not None]
    options = {name: value for name, value in given.items() if name not in ours}
    pretrained = is_pretrained(file)
    header = None if pretrained else _read_header(Path(file))
    if header is None and ("mean" in told) != ("std" in told):
        raise must("mean", "be given together with the 'std', or neither of them", given.get("mean"))
    if pretrained:
        told = (["architecture"] if architecture else []) + [name for name in told if name not in ours]
        check_pretrained(file)
    elif header is None:
        _check_architecture(Path(file), architecture, options)
        return None
    else:
        _check_architecture_of(Path(file), header.blueprint.architecture, architecture)
        if not told:
            return header
    if told:
        raise InputError(f"{file} says itself what {told[0]!r} is. Leave it out.")
    return None


def _check_architecture(path: Path, architecture: str | None, options: dict[str, Any]) -> None:
    """Of weights alone, or of a program."""
    kind = kind_of(path)
    if architecture is None and kind in PROGRAMS:
        raise InputError(
            f"{path} is a program ({kind}). A file alone never makes notbugs run code: if you trust it, give "
            f"architecture={kind!r} (--arch {kind})."
            + (" Or name the network that it was made from: its weights alone are then read." * (kind != "exported"))
        )
    if architecture is None:
        raise InputError(
            f"The file {path} holds weights alone. Give the 'architecture' of their network, too (--arch NAME)."
        )
    if architecture in PROGRAMS:
        check_program(path, architecture)
    elif not is_own_code(architecture):
        normalisation(architecture)  # knows the names of the libraries
        if ":" not in architecture:
            with torch.device("meta"):
                build(architecture, channels=3, classes=2, size=224, **options)


def _blueprint(
    architecture: str | None,
    shape: Sequence[int] | None,
    classes: Sequence[str] | None,
    options: dict[str, Any],
    outputs: int | None,
) -> Blueprint:
    needed = {"architecture": architecture, "shape": shape, "classes": classes}
    if missing := [name for name, value in needed.items() if value is None]:
        raise InputError(f"The file holds weights alone. Give the {missing[0]!r} of their network, too.")
    try:
        return Blueprint.model_validate(needed | {"options": options, "outputs": outputs})
    except ValidationError as error:
        first = error.errors()[0]
        raise must(str(first["loc"][0]), f"be right for a network ({first['msg']})", first["input"]) from error


def _check_channels(header: _Header, shape: Sequence[int] | None, path: Path) -> None:
    takes = header.blueprint.shape[0]
    if shape is not None and shape[0] != takes:
        rule = f"have {takes} channel{'s' * (takes > 1)}, as the classifier in {path} does"
        raise must("images", rule, tuple(shape), other_channels(shape[0], takes).strip())


def _ours(path: Path, header: _Header, precision: Precision | None, chosen: Sequence[int] | None) -> Classifier:
    tensors = read_tensors(path)
    if not {"mean", "std"} <= tensors.keys():
        raise InputError(f"{path} is not a classifier that notbugs can read: its mean or std is missing.")
    mean, std = (tensors.pop(name).flatten().tolist() for name in ("mean", "std"))
    network = header.blueprint.build().to(getattr(torch, header.dtype))
    load_tensors(network, tensors, str(path))
    classifier = Classifier(
        network,
        mean=mean,
        std=std,
        head=header.head,
        output=header.output,
        outputs_are=header.outputs_are,
        channel_order=header.channel_order,
        chosen_outputs=chosen if chosen is not None else header.chosen_outputs,
        precision=precision or header.precision,
    )
    return to_channels_last(classifier, header.blueprint.shape) if header.is_channels_last else classifier


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
        raise InputError(f"{path} is not a classifier that notbugs can read ({in_one_line(error)}).") from error
    except Exception as error:
        raise InputError(
            f"{path} is a cut off or damaged safetensors file ({in_one_line(error)}). Download or copy it again."
        ) from error


def _check_architecture_of(path: Path, name: str, architecture: str | None) -> None:
    if architecture not in (None, name):
        raise must("architecture", f"be {name!r}, as {path} says", architecture)
    if architecture is None and is_own_code(name):
        raise InputError(
            f"{path} was made with a network of your own. A file alone never makes notbugs run code: "
            f"if you trust it, give architecture={name!r} (--arch {name})."
        )
