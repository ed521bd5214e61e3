"""Weights of a network from a file: those of its own kind, and those that others saved in their own ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from notbugs.errors import InputError, in_one_line
from notbugs.files import check_tensors
from notbugs.models.archives import Tensors, read_archive
from notbugs.models.kinds import kind_of
from notbugs.models.naming import COUNTS, NORMALISER, chosen, listed, named_as
from notbugs.networks import unwrapped

SAVE_THEM = "Open it where it was made, and save the network's state_dict()."


def load_weights(network: nn.Module, file: str | Path, *, weights: str | None = None) -> nn.Module:
    """Load a file of weights into `network`, in place, and return it.

    Safetensors, and all that `torch.save` writes: weights alone, or among options, optimizers and objects of any
    class; a whole network; TorchScript. The name of the file does not matter. Only tensors are read: nothing that the
    file names is imported or called. They may be nested (under `state_dict`, `model`, ...) and their names may carry a
    prefix (`module.`, `_orig_mod.`, MadryLab's `module.model.`, ...): the one under which most names and shapes fit is
    found. The buffers of a normaliser beside them are left out, as the classifier owns the normalisation.

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
    """
    load_tensors(network, read_weights(Path(file), weights), str(file))
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
    found = named_as(own, tensors, where)
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # older files have none; nothing uses it
    missing = sorted(own.keys() - found.keys() - counters)
    passing = {name for name, _ in network.named_buffers()}  # those that a state_dict leaves out may be in the file
    left = found.keys() - own.keys() - passing
    unexpected = sorted(name for name in left if not NORMALISER.search(name) and not COUNTS.search(name))
    both = {name: (found[name], value) for name, value in own.items() if name in found}
    shapes = [f"{n} {tuple(f.shape)} in place of {tuple(v.shape)}" for n, (f, v) in both.items() if f.shape != v.shape]
    kinds = [f"{n} {f.dtype} in place of {v.dtype}" for n, (f, v) in both.items() if not _of_one_kind(f, v)]
    if missing or unexpected or shapes or kinds:
        unusable = [f"{n} is {k}" for n, k in getattr(tensors, "unusable", {}).items() if n.endswith(tuple(missing))]
        raise InputError(
            f"The weights in {where} do not fit the network. "
            + (f"{unusable[0]}: save it as plain numbers (dequantize() or to_dense()). " if unusable else "")
            + listed("Missing", missing)
            + listed("Unexpected", unexpected)
            + listed("Of another shape", shapes)
            + listed("Of another kind", kinds)
            + "Check the architecture, its options, the channels and the number of classes."
        )
    network.load_state_dict(own | {name: value for name, value in found.items() if name in own})


def _of_one_kind(found: Tensor, own: Tensor) -> bool:
    """Whether numbers can take the place of others: whole ones are no weights, and complex ones lose a part."""
    if found.is_complex() != own.is_complex():
        return False
    return own.ndim == 0 or found.is_floating_point() == own.is_floating_point() or found.is_complex()


def _of_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        found = load_file(file)
        check_tensors(file)
        return found
    except SafetensorError as error:
        raise InputError(
            f"{file} is a cut off or damaged safetensors file ({in_one_line(error)}). Download or copy it again."
        ) from error
