"""The names of the tensors in a file of weights, held against those of a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from notbugs.errors import InputError
from notbugs.normalisation import CHANNELS

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DataParallel, torch.compile and FSDP put between the names of layers."""
NORMALISER = re.compile(r"(?:.*\.)?((?!weight|bias|running)\w*_)?_?(mean|std|mu|sigma)")
COUNTER = "num_batches_tracked"
"""Of a batch norm; older files and many averages of weights have none, and nothing uses it."""
OPTIMIZER = (".exp_avg", ".momentum_buffer", ".square_avg")
"""How tensors of an optimizer's state end."""
SAVE = "Save the network's state_dict() with torch.save, or as safetensors, and give that file."
PARAMETRISED = {
    "weight_norm": {"g": "original0", "v": "original1"},
    "spectral_norm": {"orig": "original", "u": "0._u", "v": "0._v"},
}
"""What torch.nn.utils calls parts of a weight, as in weight_g, and what torch.nn.utils.parametrizations calls them."""
DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
"""Layers of a DenseNet as torchvision called them first, and as the files that it publishes have them: `norm.1`."""
SHOWN = 4


def named_as(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors of a file by the names of a network, as far as they have any.

    Names of wrappers in between count on neither side, weight norm, spectral norm and the layers of a DenseNet are
    called as the network calls them, and those prefixes are taken off, of the file's names and of the network's, under
    which most names and shapes fit.

    Parameters
    ----------
    own, tensors : mapping of str to Tensor
        Of the network, and of the file.
    where : str
        The file.

    Raises
    ------
    InputError
        If no name fits, or those of two different networks fit equally well.
    """
    candidates, errors = [], []
    if not any(map(DENSE.search, own)):
        tensors = _renamed(tensors, {name: DENSE.sub(r"\1", name) for name in tensors})
    bare = {name: _bare(name) for name in own}
    bare = bare if len(set(bare.values())) == len(own) else {name: name for name in own}
    called = {new: name for name, new in bare.items()}
    plain = {new: own[name] for new, name in called.items()}
    for ours, theirs in ((own, tensors), (plain, _renamed(tensors, {name: _bare(name) for name in tensors}))):
        try:
            named = _without_prefixes(ours, _renamed(theirs, _parametrised(theirs, ours)), where)
            candidates.append(
                named if ours is own else {called.get(name, name): value for name, value in named.items()}
            )
        except InputError as error:
            errors.append(error)
    if not candidates:
        raise errors[0]
    return max(candidates, key=lambda named: (len(own.keys() & named.keys()), -len(named)))


def is_of_normaliser(name: str, value: Tensor) -> bool:
    """Whether a tensor is the mean or the deviation of a normaliser; layers that are called so have more numbers."""
    return value.numel() <= CHANNELS and NORMALISER.fullmatch(name) is not None


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _without_prefixes(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """With the network's prefix in place of the file's: `net.` in place of `model.`, say, or of nothing."""
    needed = {name: value for name, value in own.items() if not name.endswith(COUNTER)}
    ours, scores = max(
        ((ours, _scores(needed, ours, tensors)) for ours in _own_prefixes(needed)),
        key=lambda pair: max(pair[1].values(), default=0),
    )
    inner = {name.removeprefix(ours): value for name, value in needed.items() if name.startswith(ours)}
    theirs = _prefix(inner, tensors, scores, where)
    names = {ours + name.removeprefix(theirs): name for name in tensors if name.startswith(theirs)}
    # A head beside a backbone: with its own name, in the same set of weights.
    for name in [name for name in own if name not in names]:
        for above in _above(theirs):
            beside = tensors.get(above + name)
            if beside is not None and beside.shape == own[name].shape:
                names.pop(ours + (above + name).removeprefix(theirs), None)
                names[name] = above + name
                break
    return {name: tensors[old] for name, old in names.items()}


def _own_prefixes(own: Mapping[str, Tensor]) -> list[str]:
    """What stands before most names of a network, from nothing on: `net.` of one that keeps its layers in `net`."""
    names = [name for name, value in own.items() if not is_of_normaliser(name, value)]
    prefixes, prefix = [""], ""
    while True:
        parts = Counter(name.removeprefix(prefix).partition(".") for name in names if name.startswith(prefix))
        firsts: Counter[str] = Counter()
        for (first, dot, _), count in parts.items():
            firsts[first + dot] += count
        first, count = max(firsts.items(), key=lambda item: item[1], default=("", 0))
        if not first.endswith(".") or 2 * count <= len(names):
            return prefixes
        prefixes.append(prefix := prefix + first)


def _above(prefix: str) -> list[str]:
    """A prefix, and those around it: `a.b.`, `a.`, nothing."""
    parts = prefix.split(".")[:-1]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts), -1, -1)]


def listed_sets(tensors: Mapping[str, Tensor]) -> str:
    """The sets of weights in a file, by the first parts of their names."""
    sets = sorted({name.split(".")[0] for name in tensors if "." in name})
    return ", ".join(sets[:12]) or "no sets"


def listed(title: str, names: Sequence[str]) -> str:
    """Some of the names, with a title; nothing where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{title}: {', '.join(names[:SHOWN])}{more}. "


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """With new names; two that would fall together keep their own."""
    taken = Counter(names.get(name, name) for name in tensors)
    new = {name: names.get(name, name) for name in tensors}
    return {new[name] if taken[new[name]] == 1 else name: value for name, value in tensors.items()}


def _parametrised(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """New names for the parts of normalised weights that the network calls otherwise than the file."""
    names = {}
    ends = {".".join(name.split(".")[-count:]) for name in own for count in (1, 2, 3, 4, 5)}
    for name in tensors:
        layer, _, last = name.rpartition(".")
        weight, _, part = last.rpartition("_")
        for parts in PARAMETRISED.values():
            if part in parts and all(f"{layer}.{weight}_{other}".lstrip(".") in tensors for other in parts):
                new = f"{layer}.parametrizations.{weight}.{parts[part]}"
                names |= {name: new} if _end(new, parts[part]) in ends else {}
        for parts in PARAMETRISED.values():
            for old, part in parts.items():
                if match := re.fullmatch(rf"(.*?)\.?parametrizations\.(\w+)\.{re.escape(part)}", name):
                    new = f"{match[1]}.{match[2]}_{old}".lstrip(".")
                    names |= {name: new} if ".".join(new.split(".")[-2:]) in ends else {}
    return names


def _end(name: str, part: str) -> str:
    """The layer's own name and what follows."""
    return ".".join(name.split(".")[-(4 + part.count(".")) :])


def _scores(own: Mapping[str, Tensor], ours: str, tensors: Mapping[str, Tensor]) -> Counter[str]:
    """How well the names below each prefix in the file fit those below the prefix `ours`: names, and shapes again."""
    inner = {name.removeprefix(ours): value.shape for name, value in own.items() if name.startswith(ours)}
    scores: Counter[str] = Counter()
    for name, value in tensors.items():
        parts = name.split(".")
        for start in range(len(parts)):
            if (end := ".".join(parts[start:])) in inner:
                scores[name.removesuffix(end)] += 1 + (inner[end] == value.shape)
    return scores


def _prefix(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], scores: Counter[str], where: str) -> str:
    """What stands before most names of the network in the file, the first such prefix where copies are equal."""
    if not scores and any(name.endswith(OPTIMIZER) for name in tensors):
        raise InputError(f"{where} holds the state of an optimizer, and no weights. {SAVE}")
    if not scores:
        raise InputError(
            f"The weights in {where} fit no layer of the network. They are called {', '.join(list(tensors)[:SHOWN])}, "
            f"..., those of the network {', '.join(list(own)[:SHOWN])}, ... Check the architecture."
        )
    first, *others = [prefix for prefix, score in scores.items() if score == max(scores.values())]
    held = [name for name in own if first + name in tensors]
    for other in others if 2 * len(held) > len(own) else []:  # blocks of another network are no sets of weights
        if any(not torch.equal(tensors[first + name], tensors.get(other + name, torch.empty(0))) for name in held):
            one, two = sorted(_told_apart(first.rstrip("."), other.rstrip(".")), key=len)
            raise InputError(
                f"{where} holds several sets of weights that fit, {one!r} and {two!r} among them. Say which: "
                f"weights={two!r} (--weights {two})."
            )
    return first


def _told_apart(one: str, two: str) -> tuple[str, str]:
    """Two names of sets, as short as they can be."""
    firsts = one.split(".")[0], two.split(".")[0]
    return firsts if firsts[0] != firsts[1] else (one, two)
