"""rho and gamma of every pair of feature and class, their errors, and their kinds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from notbugs.measure.spectrum import KINDS
from notbugs.measure.standard import Values
from notbugs.measure.statistics import Z95

Table = Float[Tensor, "f c"]
Searched = Float[Tensor, "searched f"]


@dataclass(frozen=True)
class Pairs:
    """Estimates for every pair of feature and class, with their standard errors; tables of shape (feature, class)."""

    rho: Table
    rho_error: Table
    gamma: Table
    gamma_error: Table

    def intervals(self) -> dict[str, Table]:
        """Each estimate with the ends of its 95 % interval, by name."""
        found = {"rho": (self.rho, self.rho_error), "gamma": (self.gamma, self.gamma_error)}
        return {
            f"{name}{end}": value + shift * error
            for name, (value, error) in found.items()
            for end, shift in (("", 0.0), ("_low", -Z95), ("_high", Z95))
        }

    def sorted(self, z: float, min_rho: float) -> Int[Tensor, "f c"]:
        """The kind of every pair, as its number in `KINDS`, by intervals of `z` standard errors."""
        useful = self.rho.abs() - z * self.rho_error > min_rho
        kind = torch.full_like(self.rho, KINDS.index("useless"), dtype=torch.int64)
        kind[useful] = KINDS.index("undecided")
        kind[useful & (self.gamma - z * self.gamma_error > 0)] = KINDS.index("robust")
        kind[useful & (self.gamma + z * self.gamma_error < 0)] = KINDS.index("nonrobust")
        return kind


def pairs(
    values: Values,
    low: Searched,
    high: Searched,
    signs: Float[Tensor, "image c"],
    index: Int[Tensor, " searched"],
    train: int,
) -> Pairs:
    """rho over all images; gamma as |rho| plus the mean change over those at `index`.

    `values` are standardised features of all images, `low` and `high` their extremes for those at `index`, and `signs`,
    shape (image, class), the labels one against all others; `train` is the number of images that
    they were standardised on.

    Var = Var(worst) / n + Var(change) (1 / m - 1 / n) + E[y]^2 / train, the searched m being a random part
    of all n (two-phase sampling; Cochran 1977, section 12.6).
    """
    n, m = len(values), len(index)
    # Features have mean 0 over the training images, not over all that there could be; where E[y] is not 0, it shows.
    square = values.square().mean(0)[:, None]
    drift = square * signs.mean(0).square() / train
    rho = values.T @ signs / n
    rho_error = ((square - rho.square()).clamp_min(0) / (n - 1) + drift).sqrt()
    gamma, gamma_error = torch.empty_like(rho), torch.empty_like(rho)
    flips = torch.where(rho < 0, -1.0, 1.0).to(rho)
    for label, sign in enumerate(signs[index].T):
        turned = sign[:, None] * flips[:, label]
        worst = torch.where(turned > 0, low, -high)
        change = worst - turned * values[index]
        gamma[:, label] = rho[:, label].abs() + change.mean(0)
        gamma_error[:, label] = (worst.var(0) / n + change.var(0) * (1 / m - 1 / n) + drift[:, label]).sqrt()
    return Pairs(rho, rho_error, gamma, gamma_error)
