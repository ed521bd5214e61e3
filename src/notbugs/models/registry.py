"""Architectures by name, of our own, of timm and of torchvision, and what builds one again."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from notbugs.errors import InputError, check_choice, check_count, in_one_line, most_of, must
from notbugs.models.architectures import (
    cnn,
    densenet121,
    resnet9,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet44,
    resnet50,
    resnet56,
    resnet110,
    vgg16_bn,
    wrn28_10,
)
from notbugs.models.layers import Size, height_and_width
from notbugs.models.weight_names import named_as
from notbugs.models.weights import load_tensors
from notbugs.networks import mark_code
from notbugs.normalisation import Normalisation
from notbugs.seeds import seeded
from notbugs.shapes import other_channels


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
    return _network(f"timm:{name}", timm.create_model, name, options, (channels, *size))


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
    models = torchvision_models()
    _check_torchvision_name(models, name)
    if channels != 3:
        remedy = f"Take one of timm: timm:NAME.{other_channels(channels, 3)}"
        raise must("channels", "be 3 for a network of torchvision", channels, remedy)
    if name.startswith("vit_"):
        options.setdefault("image_size", _square(name, size))
    if pretrained and name in TO_HALVES:
        rule = f"be left out for torchvision:{name}: its weights expect other images than they say"
        raise must("pretrained", rule, pretrained)
    options |= {"num_classes": classes, "weights": None}
    network = _network(f"torchvision:{name}", models.get_model, name, options, (channels, *size))
    return _pretrained(network, name, models.get_model_weights(name).DEFAULT) if pretrained else network


def normalisation(architecture: str, **options: Any) -> Normalisation | None:
    """Mean and standard deviation that the published weights of an architecture expect; None for those without."""
    source, _, name = architecture.partition(":")
    if source == "timm":
        config = _timm_config(_timm(), name)
        return tuple(config.mean), tuple(config.std)
    if source == "torchvision":
        models = torchvision_models()
        _check_torchvision_name(models, name)
        if name in TO_HALVES and not options.get("transform_input"):
            return (0.5,) * 3, (0.5,) * 3
        transforms = models.get_model_weights(name).DEFAULT.transforms()
        return tuple(transforms.mean), tuple(transforms.std)
    return None


def _pretrained(network: nn.Module, name: str, weights: Any) -> nn.Module:
    """`network` with the downloaded weights; a last layer for other classes stays as it is."""
    where, own, count = f"torchvision:{name}", network.state_dict(), len(weights.meta["categories"])
    tensors = named_as(own, weights.get_state_dict(progress=False, check_hash=True, weights_only=True), where)
    other = [key for key, value in tensors.items() if key in own and own[key].shape != value.shape]
    if wrong := [key for key in other if tensors[key].shape[0] != count]:
        raise InputError(
            f"The pretrained weights of torchvision:{name} do not fit: {wrong[0]} has shape "
            f"{tuple(tensors[wrong[0]].shape)}, here {tuple(own[wrong[0]].shape)}. Give images of the size, and the "
            "options, that they were trained with, or leave out 'pretrained'."
        )
    load_tensors(network, tensors | {key: own[key] for key in other}, where)
    return network


def _network(title: str, make: Any, name: str, options: dict[str, Any], shape: tuple[int, int, int]) -> nn.Module:
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
    torchvision_models()  # timm needs it
    try:
        import timm
    except ImportError as error:
        raise _not_installed("timm") from error
    return timm


def torchvision_models() -> Any:
    """`torchvision.models`, or an error that says why it is not to be had."""
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


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "resnet9": resnet9,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "wrn28-10": wrn28_10,
    "vgg16-bn": vgg16_bn,
    "densenet121": densenet121,
}
MOST_WEIGHTS = 2_000_000_000
"""Of one of our own networks, unless NOTBUGS_MOST_WEIGHTS in the environment says otherwise."""
TO_HALVES = ("googlenet", "inception_v3")
"""Networks of torchvision that bring normalised images to mean and deviation 0.5, with `transform_input` alone."""
LIBRARIES = {"timm": timm_network, "torchvision": torchvision_network}


def build(name: str, *, channels: int, classes: int, size: Size = 32, **options: Any) -> nn.Module:
    """A freshly initialised network by name.

    Parameters
    ----------
    name : str
        One of `ARCHITECTURES`; `timm:NAME` or `torchvision:NAME`; or `module:attribute`, a function of your own that
        makes a network.
    channels, classes : int
        Of the images and of the labels.
    size : int or (int, int)
        Height and width of the images in pixels. The number of weights of our own architectures does not depend on
        it, only where they halve.
    options
        Passed on to the architecture, for instance `width`.

    Raises
    ------
    InputError
        If there is no such architecture or option, or the library that has it is not installed.

    Examples
    --------
    >>> network = nb.models.build('resnet18', channels=3, classes=10, size=32, width=8)
    >>> network(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    check_count("channels", channels)
    check_count("classes", classes)
    size = height_and_width(size)
    source, separator, rest = name.partition(":")
    if separator and source in LIBRARIES:
        return LIBRARIES[source](rest, channels, classes, size, **options)
    if separator:
        return _own(name, source, rest, {"channels": channels, "classes": classes, "size": size}, options)
    return sized(name, channels, classes, size, **options)()


def sized(name: str, channels: int, classes: int, size: tuple[int, int], **options: Any) -> partial[nn.Module]:
    """What makes one of our own architectures, which is there, has these options and is not too large.

    Raises
    ------
    InputError
        If it is not so.
    """
    if name not in ARCHITECTURES:
        near = get_close_matches(name, ARCHITECTURES, n=1)
        rule = f"be one of {', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME or MODULE:FUNCTION"
        raise must("architecture", rule, name, f"Did you mean {near[0]!r}?" if near else "")
    make = ARCHITECTURES[name]
    allowed = [option for option in inspect.signature(make).parameters if option not in ("channels", "classes", "size")]
    for option in options:
        check_choice(f"option of {name}", option, allowed)
    made = partial(make, channels, classes, size=size, **options)
    _check_size(name, made)
    return made


_COUNTS: dict[str, int] = {}
"""By function and arguments, how many weights a network has."""


def _check_size(name: str, make: partial[nn.Module]) -> None:
    """Count the weights of a network before any memory is taken for them, once in a process."""
    most = most_of("NOTBUGS_MOST_WEIGHTS", MOST_WEIGHTS)
    asked = repr((make.func, make.args, sorted(make.keywords.items())))
    try:
        if asked not in _COUNTS:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                _COUNTS[asked] = sum(weights.numel() for weights in make().parameters())
    except InputError:
        raise
    except (RuntimeError, OverflowError, TypeError) as error:
        raise InputError(
            f"The architecture {name!r} cannot be made with these options: {in_one_line(error)}."
        ) from error
    count = _COUNTS[asked]
    if count > most:
        remedy = "Give a smaller width, or set NOTBUGS_MOST_WEIGHTS in the environment."
        raise must(f"architecture {name}", f"have at most {most:,} weights", f"{count:,}", remedy)


def _own(name: str, module: str, attribute: str, images: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    """The network that the user's own function makes; of `images` it is told what it takes."""
    with _working_folder_first():
        make = _imported(name, module, attribute)
        try:
            taken = inspect.signature(make).parameters
            everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
            network = make(**{key: value for key, value in images.items() if everything or key in taken}, **options)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"The architecture {name!r} could not be made: {type(error).__name__}: {in_one_line(error)}"
            ) from error
    if not isinstance(network, nn.Module):
        raise must("architecture", "make a torch.nn.Module", f"{name} -> {type(network).__name__}")
    return mark_code(network, _code_of(make, module))


_CODES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""By the function or class that was imported: a file that was edited since is not the code that runs."""


def _code_of(make: Callable[..., Any], module: str) -> str:
    """The hash of the code of a function or class, as it was when it was first called."""
    function = getattr(make, "__func__", make)
    try:
        if function not in _CODES:
            _CODES[function] = _hash_of_code(module)
        return _CODES[function]
    except TypeError:  # of what cannot be remembered
        return _hash_of_code(module)


def _hash_of_code(name: str) -> str:
    """SHA-256 over the file of a module and those beside it that it imports, wherever in its code it does so.

    Comments and layout do not count. Empty for what is installed as a library, and for code without a file.
    """
    file = Path(getattr(sys.modules[name], "__file__", None) or "")
    root = _root(name, file.resolve())
    if file.suffix != ".py" or root.name in ("site-packages", "dist-packages"):
        return ""
    files, codes = {name: file}, dict[str, bytes]()
    while files:
        one, file = files.popitem()
        codes[one] = file.read_bytes() if file.suffix == ".py" and file.is_file() else b""
        for other in _imports(codes[one], one if file.stem == "__init__" else one.rpartition(".")[0]):
            place = root.joinpath(*other.split("."))
            found = next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)
            if other and found and other not in codes:
                files[other] = found
    digest = hashlib.sha256()
    for one, code in sorted(codes.items()):
        said = _without_layout(code)
        digest.update(f"{one} {len(said)} ".encode() + said)
    return digest.hexdigest()


def _imports(code: bytes, package: str) -> Iterator[str]:
    """The names of all modules that code in a package imports, and of all that may be some."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):  # of a file that is imported in some cases alone
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _without_layout(code: bytes) -> bytes:
    try:
        return ast.dump(ast.parse(code)).encode()
    except (SyntaxError, ValueError):
        return code


def _root(module: str, file: Path) -> Path:
    """The folder that a module in this file was found in."""
    depth = module.count(".") + (file.stem == "__init__")
    return file.parents[min(depth, len(file.parents) - 1)] if file.parents else file


def _nearest(module: str, attribute: str) -> str:
    """` Did you mean 'MODULE:FUNCTION'?`, where a file was named, or a name that is much like one in the module."""
    if module.endswith(".py"):
        return f" Did you mean {module.removesuffix('.py').replace('/', '.')}:{attribute}?"
    names = vars(sys.modules[module]) if module in sys.modules else {}
    near = get_close_matches(attribute, names, n=1)
    return f" Did you mean {module}:{near[0]}?" if near else ""


def _imported(name: str, module: str, attribute: str) -> Callable[..., Any]:
    try:
        maker: Any = importlib.import_module(module)
        for part in attribute.split("."):
            maker = getattr(maker, part)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        raise InputError(
            f"The architecture {name!r} could not be imported ({reason}). It is MODULE:FUNCTION, with the module in "
            "the folder in which you give the command, or installed; or timm:NAME or torchvision:NAME."
            f"{_nearest(module, attribute)}"
        ) from error
    of = maker.__self__ if inspect.ismethod(maker) else maker
    if not (inspect.isfunction(maker) or (inspect.isclass(of) and issubclass(of, nn.Module))):
        rule = "name a function in Python, or a class of torch.nn.Module, that makes a network"
        raise must("architecture", rule, f"{name} -> {maker!r:.80}")
    return maker


def is_own_code(architecture: str) -> bool:
    """Whether an architecture, by name or as name and options, is a user's own, so that to build it runs their code."""
    source, separator, _ = architecture.split(" ")[0].partition(":")
    return bool(separator) and source not in LIBRARIES


@contextmanager
def _working_folder_first() -> Iterator[None]:
    """Modules are found in the working folder too, also where Python was not started with `-m`."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


TAKEN = frozenset({"name", "channels", "classes", "size"})
"""What a network is told anyway, and no option may be called."""


def check_options(options: dict[str, Any], taken: frozenset[str] = TAKEN) -> None:
    """Refuse options that have the name of something else, with a `ValueError` for pydantic."""
    if clashes := sorted(taken & options.keys()):
        raise ValueError(f"{clashes[0]!r} is no option of an architecture: it follows from the data")


class Blueprint(BaseModel):
    """What a network is built from.

    Examples
    --------
    >>> options = {'width': 4, 'features': 8}
    >>> plan = nb.models.Blueprint(architecture='cnn', shape=(1, 8, 8), classes=data.classes, options=options)
    >>> nb.save_classifier('mine.safetensors', classifier, plan)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field(description="By name, as `build` takes it.")
    shape: tuple[int, int, int] = Field(description="Of an image: (channel, height, width).")
    classes: tuple[str, ...] = Field(min_length=2, description="Their names, in the order of the logits.")
    outputs: int | None = Field(None, ge=1, description="Of the network; one for each class if not given.")
    options: dict[str, bool | int | float | str] = Field({}, description="Of the architecture.")

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        check_options(options)
        return options

    def build(self) -> nn.Module:
        """A network for weights to be loaded into; torch's global generator is left as it was."""
        channels, height, width = self.shape
        options = {name: value for name, value in self.options.items() if name != "pretrained"}
        with seeded(0, "blueprint"):
            count = self.outputs or len(self.classes)
            return build(self.architecture, channels=channels, classes=count, size=(height, width), **options)
