"""Files of weights: the kind of a file, the set of weights asked for, and its tensors in a network."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from notbugs.errors import InputError, in_one_line, must
from notbugs.files import check_file, check_tensors
from notbugs.models.archives import Tensors, read_archive
from notbugs.models.weight_names import COUNTER, SAVE, is_of_normaliser, listed, listed_sets, named_as
from notbugs.networks import unwrapped
from notbugs.normalisation import own_normaliser, stored_normalisers, told
from notbugs.shapes import other_channels

log = logging.getLogger("notbugs")

Kind = Literal["safetensors", "zip", "pickle", "torchscript", "exported"]
"""Tensors alone; what `torch.save` writes, now and before torch 1.6; a program of `torch.jit` or `torch.export`."""

DOWNLOAD = "Download the file itself: a whole one begins with other bytes."
OTHERS: list[tuple[int, bytes, str, str]] = [
    (0, b"version https://git-lfs", "a Git-LFS pointer, not the weights", "Fetch them: git lfs pull."),
    (0, b"\x89HDF", "an HDF5 file, of Keras or h5py", SAVE),
    (0, b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip or tar -xf."),
    (0, b"\xfd7zXZ", "compressed with xz", "Unpack it: unxz or tar -xf."),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it: unzstd."),
    (0, b"7z\xbc\xaf", "a 7z archive", "Unpack it, and give the file of weights inside."),
    (0, b"Rar!", "a RAR archive", "Unpack it, and give the file of weights inside."),
    (257, b"ustar", "a tar archive", "Unpack it (tar -xf), and give the file of weights inside."),
    (0, b"\x93NUMPY", "one NumPy array", SAVE),
    (0, b"GGUF", "a GGUF file", SAVE),
    (0, b"{", "JSON text, an index or an error message", DOWNLOAD),
    (0, b"<", "a web page", f"The server sent it in place of the file. {DOWNLOAD}"),
]
"""Where a known beginning stands, what such a file is, and what to do."""


def kind_of(path: Path) -> Kind:
    """Which of the files of weights `path` is.

    Raises
    ------
    InputError
        If there is no such file, or it is none of them; with what it is, where its beginning is known.
    """
    if path.is_dir():
        remedy = "Give the file of weights in it; save_pretrained's folders have a config.json."
        if (path / "manifest.json").is_file():
            remedy = f"It is a constructed set: train a classifier on it (`notbugs train --on {path}`)."
        if (path / "recipe.toml").is_file():
            remedy = f"It is a study: name one of its classifiers, as {path}:robust."
        raise InputError(f"{path} is a folder, not a file. {remedy}")
    check_file(path)
    if not path.is_file():
        there = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, there, n=1)
        remedy = f"Did you mean {path.parent / near[0]}?" if near else f"Paths begin at {Path.cwd()}."
        raise InputError(f"There is no file {path}. {remedy}")
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"PK\x03\x04":
        return _of_zip(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "pickle"
    if head[8:9] == b"{":
        return "safetensors"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for place, beginning, what, remedy in OTHERS:
        if (head[place:] if place else start).startswith(beginning):
            raise InputError(f"{path} is {what}. {remedy}")
    if not head.strip(b"\0"):
        what = "empty" if not head else "full of zeros: a download or a copy that never ended"
        raise InputError(f"{path} is {what}. {DOWNLOAD}")
    raise InputError(
        f"{path} is no file of weights that notbugs can read: it begins with {head[:8].hex(' ')}. "
        f"It reads safetensors, and what torch.save writes, by any name. {SAVE}"
    )


def _of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InputError(f"{path} is cut off or damaged ({in_one_line(error)}). Download or copy it again.") from error
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return "exported"
    if "data.pkl" in names:
        return "zip"
    if any(name.endswith(".npy") for name in names):
        raise InputError(f"{path} is an npz file of NumPy arrays. {SAVE}")
    raise InputError(f"{path} is a zip archive that torch.save did not write. Unpack it, and give what is inside.")


COUNTS = re.compile(r"(^|\.)total_(ops|params)$")
"""What thop and its like, which count operations, leave in a network and so in its file."""


def chosen(tensors: dict[str, Tensor], weights: str | None, where: str) -> dict[str, Tensor]:
    """The set of weights called `weights` among several in one file; all of them, if it is None.

    Raises
    ------
    InputError
        If there is no such set, with those that there are.
    """
    if weights is None:
        return tensors
    selected = {name: value for name, value in tensors.items() if name.startswith(f"{weights}.")}
    if not selected:
        raise must("weights", f"name a set of weights in {where}", weights, f"It has {listed_sets(tensors)}.")
    return selected


SAVE_THEM = "Open it where it was made, and save the network's state_dict()."


def load_weights(network: nn.Module, file: str | Path, *, weights: str | None = None) -> nn.Module:
    """Load a file of weights into `network`, in place, and return it.

    Safetensors, and all that `torch.save` writes: weights alone, or among options, optimizers and objects of any
    class; a whole network; TorchScript. The name of the file does not matter. Only tensors are read: nothing that the
    file names is imported or called. They may be nested (under `state_dict`, `model`, ...), and their names or those of
    the network may carry a prefix (`module.`, `_orig_mod.`, `net.`, MadryLab's `module.model.`, ...): those under
    which most names and shapes fit are found. The buffers of a normaliser beside them are left out, as the classifier
    owns the normalisation, and told; where the network has such buffers and the file has none, its own values stay.

    Parameters
    ----------
    network : nn.Module
        Of the same architecture.
    file : str or Path
        The file.
    weights : str, optional
        Which set of weights, where the file has several that fit: `state_dict_ema`, for instance.

    Raises
    ------
    InputError
        If the file is damaged or no file of weights, or anything is missing, unexpected, of another shape or of another
        kind of number, or several sets of weights fit. Nothing is loaded then.

    Examples
    --------
    >>> network = torch.nn.Linear(2, 3)
    >>> torch.save({'state_dict': network.state_dict()}, 'weights.pth')
    >>> same = nb.models.load_weights(torch.nn.Linear(2, 3), 'weights.pth')
    >>> torch.equal(same.weight, network.weight)
    True
    """
    tensors = read_weights(Path(file), weights)
    load_tensors(network, tensors, str(file))
    if (stored := stored_normalisers(tensors)) and not own_normaliser(unwrapped(network)):
        name, (mean, std) = next(iter(stored.items()))
        log.warning(
            "%s has a normaliser, %r, which the network has not. If it was trained so, give the classifier mean=(%s,), "
            "std=(%s,).", file, name, *(told(values).replace(" ", ", ") for values in (mean, std)),
        )  # fmt: skip
    return network


def read_weights(file: Path, weights: str | None = None) -> dict[str, Tensor]:
    """Every tensor of a file by its name, nested names joined with dots; with `weights`, those of one set.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or it holds no tensors or no such set.
    """
    kind = kind_of(file)
    if kind == "exported":
        raise InputError(
            f"{file} is a program of torch.export. If you trust it, run it as it is: architecture='exported' "
            f"(--arch exported). {SAVE_THEM.replace('Open it', 'Or open it')}"
        )
    tensors = (
        _of_safetensors(file) if kind == "safetensors" else read_archive(file, "pickle" if kind == "pickle" else "zip")
    )
    if not tensors:
        kinds = sorted(set(tensors.unusable.values())) if isinstance(tensors, Tensors) else []
        what = f"{' and '.join(kinds)} tensors alone, and networks take plain ones" if kinds else "no tensors"
        raise InputError(f"{file} holds {what}. {SAVE_THEM}")
    return chosen(tensors, weights, str(file))


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load named tensors into `network` under the prefix that fits best, all of them or none.

    Raises
    ------
    InputError
        If anything is missing, unexpected, of another shape or of another kind of number, or several sets of weights
        fit; `where` says where the tensors are from.
    """
    network = unwrapped(network)
    own = network.state_dict()
    named = named_as(own, tensors, where)
    counters = {name for name in own if name.endswith(COUNTER)}
    passing = {name for name, _ in network.named_buffers()}  # those that a state_dict leaves out may be in the file
    kept = {name for name in passing & own.keys() - named.keys() if is_of_normaliser(name, own[name])}
    missing = sorted(own.keys() - named.keys() - counters - kept)
    left = named.keys() - own.keys() - passing
    unexpected = sorted(n for n in left if not is_of_normaliser(n, named[n]) and not COUNTS.search(n))
    both = {name: (named[name], value) for name, value in own.items() if name in named}
    shapes = [f"{n} {tuple(f.shape)} in place of {tuple(v.shape)}" for n, (f, v) in both.items() if f.shape != v.shape]
    kinds = [f"{n} {f.dtype} in place of {v.dtype}" for n, (f, v) in both.items() if not _of_one_kind(f, v)]
    if missing or unexpected or shapes or kinds:
        takes = {(v.shape[1], f.shape[1]) for f, v in both.values() if f.shape != v.shape and f.ndim == v.ndim == 4}
        remedy = other_channels(*takes.pop()) if len(takes) == 1 else ""
        unusable = [f"{n} is {k}" for n, k in getattr(tensors, "unusable", {}).items() if n.endswith(tuple(missing))]
        raise InputError(
            f"The weights in {where} do not fit the network. "
            + (f"{unusable[0]}: save it as plain numbers (dequantize() or to_dense()). " if unusable else "")
            + listed("Missing", missing)
            + listed("Unexpected", unexpected)
            + listed("Of another shape", shapes)
            + listed("Of another kind", kinds)
            + f"Check the architecture, its options, the channels and the number of classes.{remedy}"
        )
    if kept:
        log.info("%s has no %s: the network's own values stay.", where, " and ".join(sorted(kept)))
    network.load_state_dict(own | {name: value for name, value in named.items() if name in own})


def _of_one_kind(theirs: Tensor, own: Tensor) -> bool:
    """Whether numbers can take the place of others: whole ones are no weights, and complex ones lose a part."""
    if theirs.is_complex() != own.is_complex():
        return False
    return own.ndim == 0 or theirs.is_floating_point() == own.is_floating_point() or theirs.is_complex()


def _of_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(file)
        check_tensors(file)
        return tensors
    except SafetensorError as error:
        raise InputError(
            f"{file} is a cut off or damaged safetensors file ({in_one_line(error)}). Download or copy it again."
        ) from error
