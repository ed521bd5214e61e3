"""Goh's two constructions of useful, non-robust features (Distill, 2019), from features that were measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import InputError, check_count, check_number, must
from notbugs.measure.features import FeatureMap, FeatureSource, feature_map
from notbugs.measure.spectrum import KINDS
from notbugs.measure.usefulness import Usefulness
from notbugs.shapes import Features


def ensemble(source: FeatureSource, found: Usefulness, label: int, count: int) -> FeatureMap:
    """One feature made of many: the sum of the standardised non-robust features that are most useful for a class.

    Parameters
    ----------
    source : FeatureMap, Classifier or callable
        What `found` was measured of.
    found : Usefulness
        Says which features are useful and non-robust for class `label`; those of negative rho count negatively.
    label : int
        The class.
    count : int
        How many features are summed.

    Raises
    ------
    InputError
        If there are not so many.
    """
    if not 0 <= label < found.rho.shape[1]:
        raise must("label", f"be a class, 0 to {found.rho.shape[1] - 1}", label)
    rho = found.rho[:, label].where(found.kind[:, label] == KINDS.index("nonrobust"), 0.0)
    if check_count("count", count) > (there := int((rho != 0).sum())):
        raise must("count", f"be at most {there}, the non-robust features of class {label}", count)
    chosen = rho.abs().topk(count).indices
    weight = torch.zeros_like(rho)
    weight[chosen] = rho[chosen].sign()
    return _mixed(source, found, weight, f"ensemble of {count}, class {label}")


def containment(
    source: FeatureSource, found: Usefulness, robust: int, contaminant: int, amount: float = 1.0
) -> FeatureMap:
    """A robust feature contaminated by another one: their standardised sum, `amount` times the second.

    With a second feature that is useless and far from robust, the sum is useful and non-robust, though nothing useful
    in it is non-robust.

    Parameters
    ----------
    source, found
        As in `ensemble`.
    robust, contaminant : int
        Numbers of the two features.
    amount : float
        Above 0.
    """
    check_number("amount", amount, open_low=True)
    for name, number in (("robust", robust), ("contaminant", contaminant)):
        if not 0 <= number < len(found.std) or found.std[number] == 0:
            raise must(name, f"be the number of a feature that varies, below {len(found.std)}", number)
    weight = torch.zeros_like(found.std)
    weight[robust], weight[contaminant] = 1.0, amount
    return _mixed(source, found, weight, f"{robust} with {amount:g} times {contaminant}")


def _mixed(source: FeatureSource, found: Usefulness, standard: Float[Tensor, " f"], name: str) -> FeatureMap:
    """The weighted sum of standardised features, as a map with one feature."""
    inner = feature_map(source)
    if inner.weight is not None and len(inner.weight) != len(standard):
        raise InputError(f"The usefulness is of {len(standard)} features, the map has {len(inner.weight)}.")
    weight = torch.where(found.std > 0, standard / found.std.where(found.std > 0, 1.0), 0.0).float()
    offset = -(weight.double() @ found.mean).float()

    def function(*given: Any) -> Features:
        values = inner.function(*given)
        return (values @ weight.to(values) + offset.to(values))[:, None]

    affine = None if inner.weight is None else torch.einsum("f,fchw->chw", weight, inner.weight)[None]
    return replace(inner, name=name, function=function, names=(name,), weight=affine)
