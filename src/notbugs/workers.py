"""Which worker this is, of how many: as `torch.distributed` says where it is initialised, else the only one."""

from __future__ import annotations

from torch import distributed


def rank() -> int:
    """The number of this worker, from 0."""
    return distributed.get_rank() if _many() else 0


def count() -> int:
    """How many workers there are."""
    return distributed.get_world_size() if _many() else 1


def barrier() -> None:
    """Wait until every worker is here."""
    if _many():
        distributed.barrier()


def _many() -> bool:
    return distributed.is_available() and distributed.is_initialized()
