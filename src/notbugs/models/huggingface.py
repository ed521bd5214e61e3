"""Image classifiers of Hugging Face: a folder of `save_pretrained`, or `hf:OWNER/NAME` from the Hub.

The architecture is one of transformers' own; code that comes with a model never runs. Weights are read as any others.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from notbugs.classifier import Classifier, Interpretation
from notbugs.errors import InputError, at_home, in_one_line, must, nearest_path
from notbugs.files import sha256
from notbugs.models.foreign import Outputs, choose
from notbugs.models.registry import torchvision_models
from notbugs.models.weight_names import listed
from notbugs.models.weights import read_weights
from notbugs.seeds import seeded

PREFIX = "hf:"
FILES = ["config.json", "preprocessor_config.json", "model*.safetensors*", "pytorch_model*.bin*"]

log = logging.getLogger("notbugs")

FLIPPED = "do_flip_channel_order"
"""Of a preprocessor: whether the network takes blue first."""
GIVE = "Give --mean and --std, for pixels in [0, 1]; 0 and 1 if it was trained without."


def is_pretrained(file: str | Path) -> bool:
    """Whether a model is a folder of `save_pretrained`, or named on the Hub."""
    return str(file).startswith(PREFIX) or (Path(file) / "config.json").is_file()


def folder_of(file: str | Path) -> Path:
    """The folder of a model, downloaded if it is named on the Hub.

    Raises
    ------
    InputError
        If huggingface_hub is not installed, or the model cannot be had.
    """
    name = str(file).removeprefix(PREFIX)
    if (local := _local(file)) is not None:
        return local
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise _not_installed() from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=FILES[:3]))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # no such model, no connection, no permission: the Hub's library has its own errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The model {name!r} cannot be had from the Hub: {reason.rstrip('.')}. See "
            f"https://huggingface.co/{name} for its name; without a connection, give a folder of save_pretrained."
        ) from error
    log.info("%s is at revision %s.", file, folder.name)
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights, several of a large one; safetensors before others.

    Raises
    ------
    InputError
        If there is none.
    """
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise InputError(f"{folder} has no model.safetensors and no pytorch_model.bin. Save it: save_pretrained(FOLDER).")


def digest(file: str | Path) -> str:
    """The SHA-256 of a model: of its file, or of the hashes of its configuration and of all its files of weights.

    Examples
    --------
    >>> torch.save({}, 'empty.pth')
    >>> len(nb.models.digest('empty.pth'))
    64
    """
    if not is_pretrained(file):
        return sha256(Path(file))
    folder = folder_of(file)
    hashes = [sha256(part) for part in (folder / "config.json", *weight_files(folder))]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def check_pretrained(file: str | Path) -> None:
    """Refuse what can be refused before a model is downloaded or read.

    Raises
    ------
    InputError
        If transformers is not installed, `hf:` has no name behind it, or a folder has no weights.
    """
    if importlib.util.find_spec("transformers") is None:
        raise _not_installed()
    name = str(file).removeprefix(PREFIX)
    if (local := _local(file)) is not None:
        if not (local / "config.json").is_file():
            raise InputError(f"{local} has no config.json, so save_pretrained did not write it. Save it so.")
        weight_files(local)
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        rule = "be hf:OWNER/NAME, as its page of the Hub has it, or a folder of save_pretrained"
        raise must("model", rule, str(file), nearest_path(Path(name)).strip())
    elif Path(name).exists():
        raise InputError(f"A folder {name} here hides {file}. Give ./{name} to read it, or start elsewhere.")


def _local(file: str | Path) -> Path | None:
    """The folder that is meant; None where it is the name of a model on the Hub."""
    name = str(file).removeprefix(PREFIX)
    is_path = name.startswith((".", "/", "~")) or not str(file).startswith(PREFIX)
    is_path = is_path or ("/" not in name.rstrip("/") and Path(name).is_dir())  # models of the Hub have an owner
    return at_home(name) if is_path else None


def load_pretrained(
    file: str | Path,
    shape: Sequence[int] | None,
    classes: Sequence[str] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    outputs: Outputs | None,
    known: Sequence[str] | None,
    interpretation: Interpretation,
) -> Classifier:
    """A classifier of transformers, with the normalisation of its preprocessor and the names of its outputs.

    Parameters
    ----------
    file : str or Path
        `hf:OWNER/NAME`, or a folder.
    shape, classes, mean, std, outputs
        As `load_classifier` takes them.
    known : sequence of str, optional
        The names of the outputs, in place of the model's own.
    interpretation : Interpretation
        Arguments of `Classifier`.

    Raises
    ------
    InputError
        If transformers is not installed, the model is no image classifier of its own, or something does not fit.
    """
    folder = folder_of(file)
    config, network = _network(folder)
    known = known or [str(config.id2label[number]) for number in range(len(config.id2label))]
    chosen = choose(classes, known, outputs, str(file)) if classes else None
    preprocessor = _preprocessor(folder)
    try:
        size = _size(preprocessor)
        if mean is None or std is None:
            mean, std = _normalisation(preprocessor, str(file))
    except (TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        reason = in_one_line(error)
        raise InputError(
            f"The preprocessor_config.json or config.json of {file} is damaged: a number in it is none ({reason})."
        ) from error
    if shape is not None and size and tuple(shape[1:]) != size:
        log.info("%s was trained on images of %dx%d pixels; these are %dx%d.", file, *size, *shape[1:])
    if preprocessor.get(FLIPPED) and interpretation["channel_order"] == "auto":
        log.info("%s takes blue first, so the channels of the images are turned.", file)
        interpretation = {**interpretation, "channel_order": "bgr"}
    return Classifier(network, mean=mean, std=std, chosen_outputs=chosen, **interpretation)


def _network(folder: Path) -> tuple[Any, nn.Module]:
    """The network that the configuration names, with the weights, which transformers calls as it calls them today."""
    try:
        import transformers
    except ImportError as error:
        raise _not_installed() from error
    transformers.utils.logging.disable_progress_bar()
    tensors: dict[str, Tensor] = {}
    for part in weight_files(folder):
        tensors |= read_weights(part)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with seeded(0, "huggingface"), torch.device("meta"):
            model = transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=False)
        network, told = type(model).from_pretrained(None, config=config, state_dict=tensors, output_loading_info=True)
    except Exception as error:  # a model of another kind, or one that needs its own code
        if importlib.util.find_spec("torchvision") is not None:
            torchvision_models()  # which transformers imports where it is installed
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"transformers cannot make an image classifier of {folder}: {reason}") from error
    wrong = {kind: sorted(map(str, told[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        listed_wrong = "".join(listed(kind.capitalize(), names) for kind, names in wrong.items())
        raise InputError(f"The weights in {folder} do not fit the network. {listed_wrong}Save the model again.")
    return config, network.eval()


def _preprocessor(folder: Path) -> dict[str, Any]:
    """What is done to images; a model of timm says it in its configuration."""
    values = _values(folder / "preprocessor_config.json")
    timm = {} if values else _values(folder / "config.json").get("pretrained_cfg", {})
    if not isinstance(timm, dict) or not {"mean", "std"} <= timm.keys():
        return values
    size = timm.get("input_size")
    sized = {"size": {"height": size[1], "width": size[2]}} if isinstance(size, list) and len(size) == 3 else {}
    return {"image_mean": timm["mean"], "image_std": timm["std"], **sized}


def _values(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: {in_one_line(error)}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{file} is damaged: it holds no JSON object.")
    return values


def _normalisation(values: dict[str, Any], where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of a preprocessor, for pixels in [0, 1]: it multiplies those from 0 to 255 by its `rescale_factor` first.

    Those of EfficientNet may then take 1 off, and divide by the deviation twice.
    """
    if not values:
        raise must(
            "mean", f"be given with the 'std': {where} has no preprocessor_config.json that says them", None, GIVE
        )
    rescales = values.get("do_rescale", True)
    scale = 255 * float(values.get("rescale_factor", 1 / 255)) if rescales else 255.0
    mean, std = (0.0,), (1.0,)
    normalises = bool(values.get("do_normalize", FLIPPED not in values))  # MobileViT's has an order, and never does
    times = normalises + bool(values.get("include_top"))  # EfficientNet's divides by the deviation once more
    if times:
        if missing := [name for name in ("image_mean", "image_std") if name not in values]:
            rule = f"be given with the 'std': the preprocessor of {where} normalises, and does not say its {missing[0]}"
            raise must("mean", rule, None, GIVE)
        std = tuple(value**times for value in _each(values["image_std"]))
        mean = _each(values["image_mean"]) if normalises else (0.0,) * len(std)
    if rescales and values.get("rescale_offset"):
        mean = tuple(value + 1 for value in mean)
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def _each(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list) else (float(value),)


def _size(values: dict[str, Any]) -> tuple[int, int] | None:
    size = values.get("crop_size") if values.get("do_center_crop") else values.get("size")
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    side = size.get("shortest_edge") if isinstance(size, dict) else size
    return (side, side) if isinstance(side, int) else None


def _not_installed() -> InputError:
    return InputError("Models of Hugging Face need transformers, which is not installed. pip install 'notbugs[hf]'")
