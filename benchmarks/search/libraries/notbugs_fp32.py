"""Ours in fp32: what the automatic precision gains, and the same arithmetic as the peers to compare results with."""

from __future__ import annotations

from benchmarks.search.libraries.notbugs import attacks, versions

__all__ = ["ATTACKS", "versions"]

ATTACKS = attacks("fp32")
