"""Pairs of Gaussians to test with."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from notbugs.theory import TwoGaussians


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pair(seed: int, dim: int, prior: float = 0.5) -> TwoGaussians:
    generator = seeded(seed)
    factor = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    mean = torch.randn(dim, dtype=torch.float64, generator=generator)
    return TwoGaussians(mean, factor @ factor.mT + 0.2 * torch.eye(dim, dtype=torch.float64), prior)


dims = st.integers(2, 6)
seeds = st.integers(0, 10_000)
