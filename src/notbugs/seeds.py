"""Random numbers that depend on a seed and a purpose, and on nothing that ran before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from notbugs.errors import check_count


def derive(seed: int, *purpose: str | float) -> int:
    """A 63-bit seed for one purpose: equal arguments give equal seeds, different ones unrelated seeds.

    Raises
    ------
    InputError
        If `seed` is no whole number at or above 0.
    """
    check_count("seed", seed, low=0)
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | float) -> torch.Generator:
    """A CPU generator seeded by `derive(seed, *purpose)`.

    Drawing on the CPU makes the numbers the same on every device.
    """
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | float) -> Iterator[None]:
    """Seed torch's global generator inside the block, and put it back as it was afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        number = derive(seed, *purpose)
        if torch.accelerator.is_available():
            torch.manual_seed(number)
        else:  # for every accelerator that there might be, `torch.manual_seed` keeps a note with the whole stack
            torch.default_generator.manual_seed(number)
        yield
