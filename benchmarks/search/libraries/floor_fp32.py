"""The same floor in the form that the peers run: fp32, contiguous."""

from __future__ import annotations

from benchmarks.search.libraries.floor import KINDS, passes, training, versions

__all__ = ["ATTACKS", "versions"]

ATTACKS = {kind: {"passes": lambda setting: passes(setting, setting.model)} for kind in KINDS}
ATTACKS["training"] = {"passes": lambda setting: training(setting, setting.model)}
